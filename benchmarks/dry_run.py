"""Dry run of surveys of growing area beside bare Snakemake on the same graph with trivial rules.

The survey is a list of visits: a square of fields, one CCD each, at a fixed depth, so that jobs grow with
the area as it does for a real survey.  Ours and the bare graph run in turn.
"""

import argparse
import csv
import json
import statistics
import tempfile
from pathlib import Path

import yaml
from measure import PYTHON, ROOT, cpu_and_memory, result

from diaflow.run import plan as planning
from diaflow.run.config import validated

ROUNDS = 3
FIELD, STEP = (150.0, 0.0), 0.2  # ra, dec of the first field, and from field to field [deg]
SIDE = {2_000: 6, 20_000: 17, 200_000: 54}  # jobs, about -> fields along a side
DEPTH = {"template": 3, "science": 7}  # visits of each field and band
CONFIG = {
    "run": "large",
    "images": "visits.csv",
    "camera": {"detectors": [1, 1], "size": [4096, 4096], "pixel_scale": 0.2},
    "refcat": {"path": "stars.csv", "bands": {"g": "g", "r": "r"}},
    "skymap": {"patch_size": 4000},
    "template": {"mjd": [60000, 60400], "model_fwhm": 8.0},
    "science": {"mjd": [60400, 62000]},
}

BARE = """
import json

graph = json.load(open("graph.json"))

wildcard_constraints: visit=r"\\d+", tract=r"\\d+", patch=r"\\d+_\\d+", band=r"[a-z]"

rule all:
    input: "report"
"""
RULE = """
rule {name}:
    input: {inputs}
    output: {outputs}
    shell: "touch {{output}}"
"""
RULES = {
    "ingest": ('"visits.csv"', '"exposures"'),
    "refcat": ('"stars.csv"', '"refcat"'),
    "jointcal": ('"visits.csv", "refcat"', '"camera", "stars"'),
    "calexp": (
        'lambda w: graph["images_of"][w.visit], "refcat", "camera", "stars"',
        '"calexp/{visit}", "source/{visit}", "summary/{visit}"',
    ),
    "visit_summary": ('graph["summaries"]', '"visit_summary"'),
    "skymap": ('"exposures"', '"skymap", "overlaps"'),
    "select": ('"exposures", "overlaps", "visit_summary"', '"selection"'),
    "warp": ('"calexp/{visit}"', '"warp/{tract}/{visit}"'),
    "warp_matched": ('"warp/{tract}/{visit}"', '"warp_matched/{tract}/{visit}"'),
    "coadd": ('lambda w: graph["coadd"][f"{w.tract}/{w.patch}/{w.band}"]', '"coadd/{tract}/{patch}/{band}"'),
    "diffim": (
        '"calexp/{visit}", "source/{visit}", "summary/{visit}", lambda w: graph["diffim"][w.visit]',
        '"diffim/{visit}", "dia_source/{visit}", "diffim_summary/{visit}"',
    ),
    "associate": (
        'lambda w: graph["associate"][f"{w.tract}/{w.patch}"]',
        '"dia_object/{tract}/{patch}", "dia_link/{tract}/{patch}"',
    ),
    "forced": (
        '"calexp/{visit}", "diffim/{visit}", "diffim_summary/{visit}", lambda w: graph["forced"][w.visit]',
        '"forced/{visit}"',
    ),
    "tables": ('graph["collected"], "exposures", "visit_summary", "selection"', '"tables"'),
    "report": ('"tables"', '"report"'),
}


def write_survey(folder: Path, side: int) -> None:
    """Visits of side x side fields, two bands, two seasons; a catalogue of one star; the configuration."""
    nights = [60000 + k for k in range(DEPTH["template"])] + [60400 + k for k in range(DEPTH["science"])]
    with open(folder / "visits.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["visit", "band", "mjd", "ra", "dec", "rotation", "seeing"])
        fields = [(FIELD[0] + STEP * i, FIELD[1] + STEP * j) for i in range(side) for j in range(side)]
        visits = [(band, night, *field, 0, 0.9) for field in fields for band in "gr" for night in nights]
        writer.writerows([number, *visit] for number, visit in enumerate(visits, start=1))
    (folder / "stars.csv").write_text("id,ra,dec,g,r\n1,150.0,0.0,18.0,18.0\n")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))


def graph(plan: planning.Plan) -> dict:
    """Inputs of every job of the plan, by wildcards."""
    patches = [f"{tract}/{patch}" for tract, patch in plan.science_patches()]
    per_science_visit = ("diffim_summary", "dia_source", "forced")
    return {
        "images_of": {v: plan.images[v] for v in plan.visits},
        "summaries": [f"summary/{v}" for v in plan.visits],
        "coadd": {
            "/".join(map(str, key)): [f"{kind}/{key[0]}/{v}" for kind in ("warp", "warp_matched") for v in visits]
            for key, visits in plan.template.items()
        },
        "diffim": {v: ["coadd/" + "/".join(map(str, key)) for key in plan.template_patches(v)] for v in plan.science},
        "associate": {
            f"{t}/{p}": [f"dia_source/{v}" for v in plan.science_visits[t, p]] for t, p in plan.science_patches()
        },
        "forced": {v: [f"dia_object/{t}/{p}" for t, p in plan.patches[v]] for v in plan.science},
        "collected": [f"source/{v}" for v in plan.visits]
        + [f"{kind}/{v}" for kind in per_science_visit for v in plan.science]
        + [f"{kind}/{patch}" for kind in ("dia_object", "dia_link") for patch in patches],
    }


def bare_snakefile() -> str:
    """The same graph with rules that do nothing."""
    return BARE + "".join(RULE.format(name=name, inputs=i, outputs=o) for name, (i, o) in RULES.items())


def n_jobs(plan: planning.Plan) -> int:
    """Jobs of the graph that grow with the survey."""
    template_visits = {visit for visits in plan.template.values() for visit in visits}
    per_visit = len(plan.visits) + 2 * len(template_visits) + 2 * len(plan.science)
    return per_visit + len(plan.template) + len(plan.science_patches())


def measure(side: int, rounds: int) -> dict:
    """Interleaved dry runs of ours and the bare graph."""
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Path(folder, "ours"), Path(folder, "bare")
        for path in (ours, bare):
            path.mkdir()
            write_survey(path, side)
        config = validated(CONFIG) | {"images": str(ours / "visits.csv")}
        plan = planning.make(config, ours / "absent.parquet")
        (bare / "graph.json").write_text(json.dumps(graph(plan)))
        (bare / "Snakefile").write_text(bare_snakefile())
        dry = [PYTHON, "-m", "snakemake", "--dry-run", "--quiet", "all", "--cores", "1"]
        commands = {
            "ours": ([*dry, "--snakefile", ROOT / "Snakefile", "--configfile", "config.yaml"], ours),
            "bare": ([*dry, "--snakefile", "Snakefile"], bare),
        }
        runs = [{key: cpu_and_memory(*command) for key, command in commands.items()} for _ in range(rounds)]
    cpu = {key: statistics.median(run[key][0] for run in runs) for key in commands}
    name = f"dry run of {len(plan.visits)} visits ({n_jobs(plan)} jobs)"
    return result(name, cpu["ours"], max(run["ours"][1] for run in runs), "bare Snakemake, same graph", cpu["bare"])


def main(jobs: tuple[int, ...] = (2_000, 20_000), rounds: int = ROUNDS) -> list[dict]:
    """One row for each size."""
    return [measure(SIDE[size], rounds) for size in jobs]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="+", choices=SIDE, default=(2_000, 20_000))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    print(json.dumps(main(options.jobs, options.rounds), indent=1))
