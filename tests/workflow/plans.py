"""What the planner says, what was then made, and the jobs that would run: for the tests of plans."""

import base64
import json
import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import forked
import yaml

import planner.__main__
from diaflow.run.batches import rule_of
from planner import graph


def outputs_made(folder: Path, since: float = 0) -> set[tuple[str, str]]:
    """(rule, product) of all jobs that Snakemake recorded as finished; batches of visits under the rule of one."""
    outputs = set()
    for path in (folder / ".snakemake/metadata").rglob("*"):
        if path.is_file():
            record = json.loads(path.read_text())
            name = str(path.relative_to(folder / ".snakemake/metadata")).replace("@", "").replace("/", "")
            if record["starttime"] >= since:
                outputs.add((rule_of(record["rule"]), base64.urlsafe_b64decode(name).decode()))
    return outputs


def ask(root: Path, folder: Path, config: dict, *arguments: str) -> tuple[dict, str]:
    """The planner's answer and its text."""
    (folder / "my.yaml").write_text(yaml.safe_dump(config))
    words = ["--json", folder / "plan.json", "--html", folder / "plan.html", *arguments]
    done = run_planner(root, folder, *words)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "plan.json").read_text()), done.stdout


def run_planner(root: Path, folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    """``python -m planner`` with the configuration in `folder`."""
    forked.know_code(folder)
    words = ["planner", "--directory", folder, "--configfile", folder / "my.yaml", *arguments]

    def program() -> None:
        sys.argv = list(map(str, words))
        planner.__main__.main()

    return forked.run(program, root)


def products(answer: dict) -> set[tuple[str, str]]:
    return {(job["rule"], path) for job in answer["jobs"] for path in job["output"]}


def planned(root: Path, folder: Path, config: dict, targets: list[str] = ()) -> list[graph.Job]:
    """The jobs that would run, planned in a process of its own."""
    return _in_own_process(_jobs, root, folder, config, targets)


def snakemake_rules(root: Path, folder: Path, config: dict) -> list[dict]:
    """Name, script, logs and environment of every rule that Snakemake makes of the workflow; without `all`."""
    return _in_own_process(_rules, root, folder, config)


def _in_own_process(function: Callable, root: Path, folder: Path, config: dict, *arguments):
    path = folder / "asked.yaml"
    path.write_text(yaml.safe_dump(config))
    forked.know_code(folder)
    # no pool that ends its workers by a signal: Snakemake catches it
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        return pool.submit(function, root / "Snakefile", folder, path, *arguments).result()


def _jobs(snakefile: Path, folder: Path, configfile: Path, targets: list[str]) -> list[graph.Job]:
    return graph.planned(snakefile, folder, targets, [configfile]).jobs


def _rules(snakefile: Path, folder: Path, configfile: Path) -> list[dict]:
    with graph.built(snakefile, folder, configfiles=[configfile]) as workflow:
        return [
            {
                "name": rule.name,
                "script": rule.script and str(rule.script),
                "log": [str(path) for path in rule.log],
                "conda": rule.conda_env and str(rule.conda_env),
                "checkpoint": rule.is_checkpoint,
            }
            for rule in workflow.rules
            if rule.name != "all"
        ]


def rules(jobs: list[graph.Job]) -> set[str]:
    return {job.rule for job in jobs}
