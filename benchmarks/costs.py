"""What each rule costs, and each choice over the defaults: two simulated fields are run for planner/costs.json.

The fields are the demo and one of 4k x 4k pixels: what a rule takes of both is a part for each job and one for each
unit of its work, never negative.  Then the larger field is run with every choice in turn.  Jobs note themselves what
they used.  It takes half an hour of a core.

Usage: benchmarks/costs.py FOLDER                   runs what is not there, writes planner/costs.json
       benchmarks/costs.py FOLDER --check CONFIG   the figures beside what a run in the folder took
"""

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import yaml
from measure import PYTHON, ROOT, cpu_and_memory
from scipy.optimize import nnls

from diaflow.run import usage
from diaflow.run.batches import rule_of
from planner import cost
from planner.earlier import size_on_disk

DEMO = ROOT / "config.yaml"
LARGE = {
    "run": "large",
    "images": "simulated",
    "refcat": {"path": "demo/refcat.parquet", "bands": {"r": "r_mag"}},
    "skymap": {"patch_size": 5000},
    "template": {"mjd": [60000, 60400], "dcr": {"latitude": -30, "longitude": -30, "bands": {"r": [552, 691]}}},
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
# Upstream last: what a choice makes anew, the next ones have not to make again.
CHOICES = (
    "subtract.algorithm",
    "subtract.mode",
    "subtract.basis",
    "template.method",
    "associate.algorithm",
    "storage.compress",
    "calexp.cosmic_rays",
)
TOLERANCE = 0.25  # of a prediction
SMALL = {"cpu_s": 5.0, "mb": 0.0, "bytes": 1e6}  # what is not compared below


def run(folder: Path, config: Path, *arguments: str) -> tuple[float, float]:
    """The workflow; its CPU time with that of all jobs, and its peak memory."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [PYTHON, "-m", "snakemake", "--cores", "1", "--snakefile", ROOT / "Snakefile", "--configfile", config]
    return cpu_and_memory([*words, *arguments], folder)


def run_once(folder: Path, config: Path) -> float:
    """CPU time of the first run in a folder [s]; a later call finds it there."""
    note = folder / "cpu_s.json"
    if not note.exists():
        cpu_s, _ = run(folder, config)
        note.write_text(json.dumps(cpu_s))
    return json.loads(note.read_text())


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


def parts(rows: list[tuple[float, float]], values: list[float]) -> list[float]:
    """The two parts, not negative, that give the values with the least relative error."""
    rows, values = np.array(rows, float), np.maximum(values, 1e-9)
    return [float(f"{part:.3g}") for part in nnls(rows / values[:, None], np.ones(len(values)))[0]]


def figures(rule: str, fields: list[tuple[list[dict], dict]]) -> dict:
    """The cost of a rule from the jobs and what they took, field by field."""
    jobs = [([job for job in planned if job["rule"] == rule], took[rule]) for planned, took in fields if rule in took]
    works = [[cost.Work(**job["work"]) for job in group] for group, _ in jobs]
    took = {what: [taken[what] for _, taken in jobs] for what in ("cpu_s", "mb", "bytes")}
    units = [(len(group), sum(cost.amount(rule, work) for work in group)) for group in works]
    areas = [(sum(work.visits for work in group), sum(work.area for work in group)) for group in works]
    images = [(1, max(work.image for work in group)) for group in works]
    names = "start", "seconds", "size", "size_per_area", "memory", "memory_per_image"
    fitted = parts(units, took["cpu_s"]) + parts(areas, took["bytes"]) + parts(images, took["mb"])
    return dict(zip(names, fitted))


def choice(folder: Path, name: str, value: object, usual: dict[str, dict], start: dict[str, float]) -> dict:
    """By rule, what a job takes over one with the defaults."""
    section, key = name.split(".")
    path = folder / "choice.yaml"
    path.write_text(yaml.safe_dump(LARGE | {section: LARGE.get(section, {}) | {key: value}}))
    rules = [rule for rule, names in cost.CHOICES.items() if name in names]
    run(folder, path, "--until", *rules)
    took = measured(folder, path)
    return {
        rule: {
            "seconds": round((took[rule]["cpu_s"] - start[rule]) / (usual[rule]["cpu_s"] - start[rule]), 2),
            "size": round(took[rule]["bytes"] / usual[rule]["bytes"], 2),
            "memory": round(took[rule]["mb"] / usual[rule]["mb"], 2),
        }
        for rule in rules
    }


def write(folder: Path) -> None:
    """Run the fields and the choices, and write planner/costs.json."""
    configs = {"demo": DEMO, "large": folder / "large.yaml"}
    configs["large"].write_text(yaml.safe_dump(LARGE))
    cpu_s = {name: run_once(folder / name, config) for name, config in configs.items()}
    plans = {name: plan(config) for name, config in configs.items()}
    took = {name: measured(folder / name, config) for name, config in configs.items()}
    rules = {rule: figures(rule, [(plans[name], took[name]) for name in configs]) for rule in took["demo"]}
    start = {rule: rules[rule]["start"] * sum(job["rule"] == rule for job in plans["large"]) for rule in took["large"]}
    launch = (cpu_s["demo"] - sum(rule["cpu_s"] for rule in took["demo"].values())) / len(plans["demo"])
    content = {"launch": round(launch, 3), "rules": rules, "choices": {}}
    for name in CHOICES:
        for value in cost.values(name)[1:]:
            content["choices"][f"{name}={value}"] = choice(folder / "large", name, value, took["large"], start)
    cost.PATH.write_text(json.dumps(content, indent=1) + "\n")


def check(folder: Path, config: Path) -> None:
    """Print the figures beside what a run took, rule by rule; what is off by more than the tolerance is marked."""
    took, expected = measured(folder, config), predicted(config)
    print(f"{'rule':16s} {'CPU [s]':>17s} {'memory [MB]':>17s} {'disk [MB]':>17s}   predicted, measured")
    for rule in expected:
        words = []
        for what, unit in (("cpu_s", 1), ("mb", 1), ("bytes", 1e6)):
            ours, theirs = expected[rule][what], took[rule][what]
            off = abs(ours - theirs) > TOLERANCE * theirs and max(ours, theirs) > SMALL[what]
            words.append(f"{ours / unit:8.1f} {theirs / unit:7.1f}{'*' if off else ' '}")
        print(f"{rule:16s} {' '.join(words)}")


def main() -> None:
    """Measure, or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", type=Path, help="configuration of a run that was made in the folder")
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    if asked.check:
        check(folder, asked.check.resolve())
    else:
        folder.mkdir(parents=True, exist_ok=True)
        write(folder)


if __name__ == "__main__":
    main()
