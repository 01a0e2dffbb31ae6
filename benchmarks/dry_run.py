"""Dry run of a large survey beside bare Snakemake on the same graph with trivial rules."""

import json
import statistics
import tempfile
from pathlib import Path

import yaml
from measure import PYTHON, ROOT, cpu_and_memory, result

from diaflow import plan as planning
from diaflow.config import validated

ROUNDS = 3
CONFIG = {
    "run": "large",
    "images": "simulated",
    "refcat": {"path": "demo/refcat.parquet", "bands": {"g": "g_mag", "r": "r_mag"}},
    "skymap": {"patch_size": 600},
    "template": {"mjd": [60000, 60400]},
    "science": {"mjd": [60400, 62000]},
    "simulate": {"template_visits": 20, "science_visits": 400},
}

BARE = """
import json
graph = json.load(open("graph.json"))
wildcard_constraints: visit=r"\\d+", tract=r"\\d+", patch=r"\\d+_\\d+", band=r"[a-z]"
rule all:
    input: graph["targets"]
rule simulate:
    output: graph["images"]
    shell: "touch {output}"
rule calexp:
    input: lambda w: graph["calexp"][w.visit]
    output: directory("calexp/{visit}"), "source/{visit}", "summary/{visit}"
    shell: "touch {output}"
rule warp:
    input: "calexp/{visit}"
    output: directory("warp/{tract}/{visit}")
    shell: "touch {output}"
rule warp_matched:
    input: "warp/{tract}/{visit}", lambda w: graph["model"][w.visit]
    output: directory("warp_matched/{tract}/{visit}")
    shell: "touch {output}"
rule coadd:
    input: lambda w: graph["coadd"][f"{w.tract}/{w.patch}/{w.band}"]
    output: "coadd/{tract}/{patch}/{band}"
    shell: "touch {output}"
rule diffim:
    input: "calexp/{visit}", "source/{visit}", "summary/{visit}", lambda w: graph["diffim"][w.visit]
    output: directory("diffim/{visit}"), "dia_source/{visit}", "diffim_summary/{visit}"
    shell: "touch {output}"
rule associate:
    input: lambda w: graph["associate"][f"{w.tract}/{w.patch}"]
    output: "dia_object/{tract}/{patch}", "dia_link/{tract}/{patch}"
    shell: "touch {output}"
rule forced:
    input: "calexp/{visit}", "diffim/{visit}", "diffim_summary/{visit}", lambda w: graph["forced"][w.visit]
    output: "forced/{visit}"
    shell: "touch {output}"
"""


def graph(plan: planning.Plan) -> dict:
    """Inputs of every job of the plan, by wildcards."""
    visits = {
        band: sorted({v for key, vs in plan.template.items() if key[2] == band for v in vs})
        for _, _, band in plan.template
    }
    patches = plan.science_patches()
    objects = {v: [f"dia_object/{t}/{p}" for t, p in plan.patches[v]] for v in plan.science}
    return {
        "images": plan.exposures["path"].tolist(),
        "calexp": {v: plan.images[v] for v in plan.visits},
        "model": {v: [f"summary/{other}" for other in visits[plan.bands[v]]] for v in sum(visits.values(), [])},
        "coadd": {
            "/".join(map(str, key)): [f"{kind}/{key[0]}/{v}" for kind in ("warp", "warp_matched") for v in chosen]
            for key, chosen in plan.template.items()
        },
        "diffim": {v: ["coadd/" + "/".join(map(str, key)) for key in plan.template_patches(v)] for v in plan.science},
        "associate": {f"{t}/{p}": [f"dia_source/{v}" for v in plan.science_visits(t, p)] for t, p in patches},
        "forced": objects,
        "targets": [f"forced/{v}" for v in plan.science],
    }


def main() -> list[dict]:
    """Interleaved dry runs of ours and the bare graph."""
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Path(folder, "ours"), Path(folder, "bare")
        ours.mkdir()
        bare.mkdir()
        (ours / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        plan = planning.make(validated(CONFIG), ours / "absent.parquet")
        (bare / "graph.json").write_text(json.dumps(graph(plan)))
        (bare / "Snakefile").write_text(BARE)
        dry = [PYTHON, "-m", "snakemake", "--dry-run", "--quiet", "all", "--cores", "1"]
        commands = {
            "ours": ([*dry, "--snakefile", ROOT / "Snakefile", "--configfile", "config.yaml"], ours),
            "bare": ([*dry, "--snakefile", "Snakefile"], bare),
        }
        runs = [{key: cpu_and_memory(*command) for key, command in commands.items()} for _ in range(ROUNDS)]
    n_jobs = len(plan.visits) + 2 * len(plan.science) + len(plan.template)
    cpu = {key: statistics.median(run[key][0] for run in runs) for key in commands}
    peak = max(run["ours"][1] for run in runs)
    return [
        result(
            f"dry run of {len(plan.visits)} visits ({n_jobs}+ jobs)",
            cpu["ours"],
            peak,
            "bare Snakemake, same graph",
            cpu["bare"],
        )
    ]


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
