"""What each rule costs, and each choice over the defaults: simulated fields are run for planner/costs.json.

The fields are the demo, the sky `north` and one image of 4k x 4k a visit.  What a rule takes of all three is a part for
each job (the start, which is measured alone, too), one for each image or patch and one for each unit of its work, none
of them negative.  Then two of them, or all, are run with every choice in turn.  Jobs note themselves what they used.
It takes half an hour of a core.

Usage: benchmarks/costs.py FOLDER                  runs what is not there, writes planner/costs.json
       benchmarks/costs.py FOLDER --check CONFIG   the figures beside what the run of a configuration took
"""

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import startup
import yaml
from measure import PYTHON, ROOT, cpu_and_memory
from scipy.optimize import nnls

from diaflow.run import usage
from diaflow.run.batches import rule_of
from planner import cost
from planner.earlier import size_on_disk

NORTH = ROOT / "config/skies/north.yaml"  # images of 600 x 600 pixels, four visits to a job
DEMO = ROOT / "config.yaml"  # of 1024 x 1024 pixels, a visit to a job
# Observatories from which the fields are well up at the dates of their images [deg].
OBSERVATORIES = {"north": {"latitude": 75, "longitude": 0}, "large": {"latitude": -30, "longitude": -30}}
WAVELENGTHS = {"r": [552, 691]}  # [nm]
LARGE = {
    "run": "large",
    "images": "simulated",
    "refcat": {"path": "demo/refcat.parquet", "bands": {"r": "r_mag"}},
    "skymap": {"patch_size": 5000},
    "template": {"mjd": [60000, 60400]},
    "science": {"mjd": [60400, 61000]},
    "simulate": {
        "bands": ["r"],
        "template_visits": 3,
        "science_visits": 1,
        "detectors": 1,
        "size": 4096,
        "pixel_scale": 0.2,
        "seeing": [0.7, 0.9],
        "stars": 85000,
        "galaxies": 170000,
    },
}
# What runs only when it is asked for; forced photometry at the stars of the reference catalogue.
ASKED_FOR = {
    "associate": {"max_rate": 10},
    "forced": {"variants": ["diffim", "calexp", "dia_source_on_template", "dia_object_on_template"]},
    "lightcurves": {"formats": ["csv"]},
    "objects": True,
    "pictures": {"coadds": ["deep"]},
}
TWO_SIZES = "north", "large"  # tell what a megapixel adds
# Fields that each is run on: only the demo with its 16 visits tells what a visit adds to a patch.
# Upstream last: what a choice makes anew, the next ones have not to make again.
CHOICES = {
    "subtract.algorithm": TWO_SIZES,
    "subtract.mode": TWO_SIZES,
    "subtract.basis": TWO_SIZES,
    "template.method": TWO_SIZES,
    "associate.algorithm": ("demo", "north", "large"),
    "storage.compress": TWO_SIZES,
    "calexp.cosmic_rays": TWO_SIZES,
}
TOLERANCE = 0.25  # of a prediction
LITTLE = {"cpu_s": 5.0, "mb": 0.0, "bytes": 1e6}  # what is not compared below


def run(folder: Path, config: Path, *arguments: str) -> float:
    """The workflow; its CPU time with that of all jobs [s]."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [PYTHON, "-m", "snakemake", "--cores", "1", "--snakefile", ROOT / "Snakefile", "--configfile", config]
    return cpu_and_memory([*words, *arguments], folder)[0]


def run_once(folder: Path, config: Path) -> tuple[float, dict[str, dict]]:
    """CPU time of the run in a folder [s] and what its rules took; a later call, after other runs there, finds both."""
    note = folder / "took.json"
    if not note.exists():
        cpu_s = run(folder, config)
        note.write_text(json.dumps([cpu_s, measured(folder, config)]))
    return tuple(json.loads(note.read_text()))


def plan(config: Path) -> list[dict]:
    """The jobs of a run of which nothing is there, with their work and the figures for them."""
    with tempfile.TemporaryDirectory() as empty:
        answer = Path(empty, "plan.json")
        words = [PYTHON, "-m", "planner", "--directory", empty, "--configfile", config, "--json", answer]
        subprocess.run([*map(str, words), "--cores", "1"], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return json.loads(answer.read_text())["jobs"]


def measured(folder: Path, config: Path) -> dict[str, dict]:
    """What the jobs of each rule took together: CPU [s], disk [byte], and the most memory [MB]."""
    name = yaml.safe_load(config.read_text())["run"]
    total: dict = defaultdict(lambda: {"cpu_s": 0.0, "mb": 0.0, "bytes": 0.0})
    for log in folder.glob(f"logs/{name}/**/*.log"):
        if used := usage.read(log):
            rule = total[rule_of(used["rule"])]
            rule["cpu_s"] += used["cpu_s"]
            rule["mb"] = max(rule["mb"], used["max_mb"])
    for job in plan(config):
        total[job["rule"]]["bytes"] += sum(size_on_disk(folder / path) for path in job["output"])
    return dict(total)


def predicted(config: Path) -> dict[str, dict]:
    """The same by planner/costs.json."""
    total: dict = defaultdict(lambda: {"cpu_s": 0.0, "mb": 0.0, "bytes": 0.0})
    for job in plan(config):
        rule = total[job["rule"]]
        rule["cpu_s"] += job["core_seconds"]
        rule["mb"] = max(rule["mb"], job["memory_mb"])
        rule["bytes"] += job["bytes"]
    return dict(total)


def parts(rows: list[tuple[float, ...]], values: list[float]) -> list[float]:
    """The parts, not negative, that give the values with the least relative error; of parts that say the same, one."""
    rows, values = np.array(rows, float), np.array(values)
    ranks = [np.linalg.matrix_rank(rows[:, : k + 1]) for k in range(rows.shape[1])]
    told = np.diff(ranks, prepend=0) > 0
    found = np.zeros(rows.shape[1])
    found[told] = nnls(rows[:, told] / values[:, None], np.ones(len(values)))[0]
    return [float(f"{part:.3g}") for part in found]


def figures(rule: str, fields: list[tuple[list[dict], dict]], start_up: float) -> dict:
    """The cost of a rule from the jobs and what they took, field by field, and from the CPU time of its start [s]."""
    jobs = [([job for job in planned if job["rule"] == rule], took[rule]) for planned, took in fields if rule in took]
    works = [[cost.Work(**job["work"]) for job in group] for group, _ in jobs]
    took = {what: [taken[what] for _, taken in jobs] for what in ("cpu_s", "mb", "bytes")}
    pieces = [sum(work.pieces for work in group) for group in works]
    units = [(len(group), n, sum(cost.amount(rule, work) for work in group)) for group, n in zip(works, pieces)]
    areas = [(sum(work.visits for work in group), sum(work.area for work in group)) for group in works]
    images = [(1, max(work.area / work.pieces for work in group)) for group in works]
    names = "start", "each", "seconds", "size", "size_per_area", "memory", "memory_per_image"
    # What a rule does for the survey as a whole, whatever its images are, is a part of its start.
    starts = [] if rule in cost.OF_SURVEY else [((1, 0, 0), start_up)]
    rows, seconds = zip(*starts, *zip(units, took["cpu_s"]))
    return dict(zip(names, parts(rows, seconds) + parts(areas, took["bytes"]) + parts(images, took["mb"])))


def changed(folder: Path, field: str, config: Path, sections: dict) -> Path:
    """The configuration of a field with keys of some sections changed, or what is no section itself."""
    usual, path = yaml.safe_load(config.read_text()), folder / f"{field}_changed.yaml"
    of_sections = {name: usual.get(name, {}) | keys for name, keys in sections.items() if isinstance(keys, dict)}
    path.write_text(yaml.safe_dump(usual | sections | of_sections))
    return path


def asked_for(folder: Path, fields: dict[str, Path], usual: set[str], starts: dict[str, float]) -> dict:
    """The costs of the rules that are not among the usual ones, by rule."""
    runs = []
    for field, config in fields.items():
        stars = str(folder / field / yaml.safe_load(config.read_text())["refcat"]["path"])
        forced = ASKED_FOR["forced"] | {"positions": {"path": stars, "id": "id", "ra": "ra", "dec": "dec"}}
        path = changed(folder, field, config, ASKED_FOR | {"forced": forced})
        run(folder / field, path)
        runs.append((plan(path), measured(folder / field, path)))
    rules = {job["rule"] for jobs, _ in runs for job in jobs} - usual - cost.ALIKE.keys()
    return {rule: figures(rule, runs, starts[f"{rule}.py"]) for rule in sorted(rules)}


def choice(folder: Path, fields: dict[str, Path], name: str, value: object, starts: dict[str, float]) -> dict:
    """The costs of the rules that a choice is one of, by rule."""
    section, key = name.split(".")
    rules = [rule for rule, names in cost.CHOICES.items() if name in names]
    runs = []
    for field, config in fields.items():
        options = {"dcr": OBSERVATORIES[field] | {"bands": WAVELENGTHS}} if value == "dcr" else {}
        path = changed(folder, field, config, {section: options | {key: value}})
        jobs = plan(path)
        run(folder / field, path, "--", *(output for job in jobs if job["rule"] in rules for output in job["output"]))
        runs.append((jobs, measured(folder / field, path)))
    return {rule: figures(rule, runs, starts[f"{rule}.py"]) for rule in rules}


def write(folder: Path) -> None:
    """Run the fields and the choices, and write planner/costs.json."""
    large = folder / "large.yaml"
    large.write_text(yaml.safe_dump(LARGE))
    fields = {"demo": DEMO, "north": NORTH, "large": large}
    noted = {name: run_once(folder / name, config) for name, config in fields.items()}
    took = {name: rules for name, (_, rules) in noted.items()}
    plans = {name: plan(config) for name, config in fields.items()}
    starts = {row["name"].split()[-1]: row["ours_cpu_s"] for row in startup.main()}
    of_fields = [(plans[name], took[name]) for name in fields]
    launch = (noted["demo"][0] - sum(rule["cpu_s"] for rule in took["demo"].values())) / len(plans["demo"])
    rules = {rule: figures(rule, of_fields, starts[f"{rule}.py"]) for rule in took["large"]}
    rules |= asked_for(folder, fields, set(rules), starts)
    content: dict = {"launch": round(launch, 3), "rules": rules, "choices": {}}
    for name, places in CHOICES.items():
        some = {place: fields[place] for place in places}
        for value in cost.values(name)[1:]:
            content["choices"][f"{name}={value}"] = choice(folder, some, name, value, starts)
    cost.PATH.write_text(json.dumps(content, indent=1) + "\n")


def check(folder: Path, config: Path) -> None:
    """Print the figures beside what a run took, rule by rule; what is off by more than the tolerance is marked."""
    folder = folder / yaml.safe_load(config.read_text())["run"]
    took, expected = run_once(folder, config)[1], predicted(config)
    print(f"{'rule':16s} {'CPU [s]':>17s} {'memory [MB]':>17s} {'disk [MB]':>17s}   predicted, measured")
    for rule in expected:
        words = []
        for what, unit in (("cpu_s", 1), ("mb", 1), ("bytes", 1e6)):
            ours, theirs = expected[rule][what], took[rule][what]
            off = abs(ours - theirs) > TOLERANCE * theirs and max(ours, theirs) > LITTLE[what]
            words.append(f"{ours / unit:8.1f} {theirs / unit:7.1f}{'*' if off else ' '}")
        print(f"{rule:16s} {' '.join(words)}")


def main() -> None:
    """Measure, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", type=Path, help="configuration of a run to compare with")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if asked.check:
        check(folder, asked.check.resolve())
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)


if __name__ == "__main__":
    main()
