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
    input: "tables"
"""
RULE = """
rule {name}:
    input: {inputs}
    output: {outputs}
    shell: "touch {{output}}"
"""
RULES = {
    "simulate": ("[]", 'graph["images"]'),
    "ingest": ('graph["images"]', '"exposures"'),
    "calexp": (
        'lambda w: graph["images_of"][w.visit], "exposures"',
        '"calexp/{visit}", "source/{visit}", "summary/{visit}"',
    ),
    "visit_summary": ('graph["summaries"]', '"visit_summary"'),
    "skymap": ('"exposures"', '"skymap", "overlaps"'),
    "select": ('"exposures", "overlaps", "visit_summary"', '"selection"'),
    "warp": ('"calexp/{visit}", "skymap"', '"warp/{tract}/{visit}"'),
    "warp_matched": ('"warp/{tract}/{visit}", lambda w: graph["model"][w.visit]', '"warp_matched/{tract}/{visit}"'),
    "coadd": ('lambda w: graph["coadd"][f"{w.tract}/{w.patch}/{w.band}"], "skymap"', '"coadd/{tract}/{patch}/{band}"'),
    "diffim": (
        '"calexp/{visit}", "source/{visit}", "summary/{visit}", lambda w: graph["diffim"][w.visit]',
        '"diffim/{visit}", "dia_source/{visit}", "diffim_summary/{visit}"',
    ),
    "associate": (
        'lambda w: graph["associate"][f"{w.tract}/{w.patch}"], "skymap"',
        '"dia_object/{tract}/{patch}", "dia_link/{tract}/{patch}"',
    ),
    "forced": (
        '"calexp/{visit}", "diffim/{visit}", "diffim_summary/{visit}", lambda w: graph["forced"][w.visit]',
        '"forced/{visit}"',
    ),
    "tables": ('graph["collected"], "exposures", "visit_summary", "selection"', '"tables"'),
}


def graph(plan: planning.Plan) -> dict:
    """Inputs of every job of the plan, by wildcards."""
    template_visits = {}
    for (_, _, band), chosen in plan.template.items():
        template_visits.setdefault(band, set()).update(chosen)
    patches = [f"{tract}/{patch}" for tract, patch in plan.science_patches()]
    model = {v: [f"summary/{u}" for u in sorted(group)] for group in template_visits.values() for v in group}
    per_science_visit = ("diffim_summary", "dia_source", "forced")
    return {
        "images": plan.exposures["path"].tolist(),
        "images_of": {v: plan.images[v] for v in plan.visits},
        "summaries": [f"summary/{v}" for v in plan.visits],
        "model": model,
        "coadd": {
            "/".join(map(str, key)): [f"{kind}/{key[0]}/{v}" for kind in ("warp", "warp_matched") for v in chosen]
            for key, chosen in plan.template.items()
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
    template_visits = {visit for chosen in plan.template.values() for visit in chosen}
    return len(plan.visits) + 2 * len(template_visits) + len(plan.template) + 2 * len(plan.science)


def main() -> list[dict]:
    """Interleaved dry runs of ours and the bare graph."""
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Path(folder, "ours"), Path(folder, "bare")
        ours.mkdir()
        bare.mkdir()
        (ours / "config.yaml").write_text(yaml.safe_dump(CONFIG))
        plan = planning.make(validated(CONFIG), ours / "absent.parquet")
        (bare / "graph.json").write_text(json.dumps(graph(plan)))
        (bare / "Snakefile").write_text(bare_snakefile())
        dry = [PYTHON, "-m", "snakemake", "--dry-run", "--quiet", "all", "--cores", "1"]
        commands = {
            "ours": ([*dry, "--snakefile", ROOT / "Snakefile", "--configfile", "config.yaml"], ours),
            "bare": ([*dry, "--snakefile", "Snakefile"], bare),
        }
        runs = [{key: cpu_and_memory(*command) for key, command in commands.items()} for _ in range(ROUNDS)]
    cpu = {key: statistics.median(run[key][0] for run in runs) for key in commands}
    peak = max(run["ours"][1] for run in runs)
    return [
        result(
            f"dry run of {len(plan.visits)} visits ({n_jobs(plan)} jobs)",
            cpu["ours"],
            peak,
            "bare Snakemake, same graph",
            cpu["bare"],
        )
    ]


if __name__ == "__main__":
    print(json.dumps(main(), indent=1))
