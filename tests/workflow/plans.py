"""What the planner says, what was then made, and the jobs that would run: for the tests of plans."""

import base64
import json
import multiprocessing
import subprocess
import sys
from pathlib import Path

import yaml

from planner import cost, graph


def outputs_made(folder: Path, since: float = 0) -> set[tuple[str, str]]:
    """(rule, product) of all jobs that Snakemake recorded as finished; batches of visits under the rule of one."""
    made = set()
    for path in (folder / ".snakemake/metadata").rglob("*"):
        if path.is_file():
            record = json.loads(path.read_text())
            name = str(path.relative_to(folder / ".snakemake/metadata")).replace("@", "").replace("/", "")
            if record["starttime"] >= since:
                made.add((cost.rule_of(record["rule"]), base64.urlsafe_b64decode(name).decode()))
    return made


def ask(root: Path, folder: Path, config: dict, *arguments: str) -> tuple[dict, str]:
    """The planner's answer and its text."""
    (folder / "my.yaml").write_text(yaml.safe_dump(config))
    words = [sys.executable, "-m", "planner", "--directory", folder, "--configfile", folder / "my.yaml"]
    words += ["--json", folder / "plan.json", "--html", folder / "plan.html", *arguments]
    done = subprocess.run(list(map(str, words)), cwd=root, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "plan.json").read_text()), done.stdout


def products(answer: dict) -> set[tuple[str, str]]:
    return {(job["rule"], path) for job in answer["jobs"] for path in job["output"]}


def planned(root: Path, folder: Path, config: dict, targets: list[str] = ()) -> list[graph.Job]:
    """The jobs that would run, planned in a process of its own."""
    path = folder / "asked.yaml"
    path.write_text(yaml.safe_dump(config))
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_jobs, (root / "Snakefile", folder, targets, path))


def _jobs(snakefile: Path, folder: Path, targets: list[str], configfile: Path) -> list[graph.Job]:
    return graph.planned(snakefile, folder, targets, [configfile])[0]


def rules(jobs: list[graph.Job]) -> set[str]:
    return {job.rule for job in jobs}
