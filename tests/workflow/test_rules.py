"""The rules that Snakemake makes of the workflow, and what the workflow needs of Snakemake beyond its documents."""

import functools
import inspect
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import forked
import pandas as pd
import pytest
import snakemake.script
import yaml
from conftest import SNAKEMAKE, command
from plans import planned, snakemake_rules
from snakemake import cli
from snakemake.api import WorkflowApi
from snakemake.checkpoints import CheckpointsProxy
from snakemake.jobs import Reason
from snakemake.persistence.file import FilePersistence
from snakemake.scheduling.job_scheduler import JobScheduler
from snakemake.settings.types import ResourceSettings
from snakemake.workflow import Workflow

from diaflow.forced import request
from diaflow.run.batches import rule_of
from planner.graph import Job

PATCHES = "rules/snakemake_9_27.smk"
# Where private names of Snakemake are used, and what has them.
PRIVATE = {
    PATCHES: {
        "_parsed_overwrite_resources": ResourceSettings,
        "_parsed_overwrite_threads": ResourceSettings,
        "_schedule_reevalutation": JobScheduler,
        "_io_read": FilePersistence,
    },
    "planner/graph.py": {
        "_workflow": WorkflowApi,
        "_executor_plugin": Workflow,
        "_prepare_dag": Workflow,
        "_build_dag": Workflow,
        "_incomplete_output": Reason,
    },
}


ADES = dict.fromkeys(("station", "submitter", "catalogue"), "X05") | {
    "observers": ["A. Observer"],
    "measurers": ["A. Observer"],
    "telescope": {"design": "Reflector", "aperture": 1.0, "detector": "CCD"},
    "bands": {"g": "g"},
}


@pytest.fixture(scope="module")
def rules_of(tmp_path_factory, root, tiny) -> dict[str, list[dict]]:
    """Rules of a simulated survey, of the same in batches, with measured seeing and all forced; of raw frames."""
    folder = tmp_path_factory.mktemp("rules")
    rows = ["visit,band,mjd,ra,dec,rotation,seeing", "1,r,60000,10,0,0,0.8", "2,r,60400,10,0,0,0.8"]
    (folder / "visits.csv").write_text("\n".join(rows))
    visits = {key: tiny[key] for key in ("run", "template", "science")} | {"images": "visits.csv"}
    forced = {"variants": list(request.TABLES), "positions": {"path": "visits.csv"}}
    configs = {
        "simulated": tiny,
        "exported": tiny | {"lightcurves": {"formats": ["csv"], "ades": ADES}, "associate": {"max_rate": 60}},
        "batches": tiny | {"visits_per_job": 2},
        "measured": tiny | {"template": tiny["template"] | {"best": 2}},
        "objects": tiny | {"objects": True, "deep": {"seeing": [0.5, 2.0]}},
        "forced": tiny | {"forced": forced, "associate": {"known": {"path": "visits.csv"}}},
        "raw": visits | {"instrument": "cafos"},
        "raw batches": visits | {"instrument": "cafos", "visits_per_job": 2},
    }
    return {name: snakemake_rules(root, folder, config) for name, config in configs.items()}


def test_every_rule_has_a_script_a_log_and_an_environment(root, rules_of):
    scripts = set()
    for rule in (rule for rules in rules_of.values() for rule in rules):
        assert rule["log"] and rule["conda"] and rule["script"], rule
        assert (root / "rules" / rule["conda"]).resolve() == root / "envs/diaflow.yaml", rule
        scripts.add((root / "rules" / rule["script"]).resolve())
    assert scripts == set((root / "scripts").glob("*.py"))


def test_rules_of_batches_are_those_of_visits_by_another_name(rules_of):
    for visits, batches in (("simulated", "batches"), ("raw", "raw batches")):
        names = [{rule["name"] for rule in rules_of[each]} for each in (visits, batches)]
        assert names[0] == {rule_of(name) for name in names[1]} != names[1]


def test_selection_is_a_checkpoint_only_where_the_seeing_is_measured(rules_of):
    checkpoints = {name: [rule["name"] for rule in rules if rule["checkpoint"]] for name, rules in rules_of.items()}
    expected = {"measured": ["select_template"], "objects": ["select_deep"]}
    assert checkpoints == dict.fromkeys(rules_of, []) | expected


def test_every_rule_gets_more_memory_on_slurm_when_it_is_tried_again(root, rules_of):
    """A new rule needs a line in profiles/slurm/config.yaml."""
    profile = yaml.safe_load((root / "profiles/slurm/config.yaml").read_text())
    rules = {rule_of(rule["name"]) for rules in rules_of.values() for rule in rules}
    assert rules == set(profile["set-resources"])
    assert set(profile["groups"]) | set(profile["set-threads"]) <= rules
    assert all("attempt" in entry["mem_mb"] for entry in profile["set-resources"].values())


@pytest.mark.parametrize("path", PRIVATE)
def test_private_names_of_snakemake_exist(path):
    for name, owner in PRIVATE[path].items():
        assert hasattr(owner, name) or f"self.{name} = " in inspect.getsource(owner), (owner, name)


def test_functions_that_are_replaced_take_what_ours_take():
    functions = [snakemake.script.get_source, vars(JobScheduler)["_schedule_reevalutation"]]
    parameters = [list(inspect.signature(function).parameters) for function in functions]
    assert parameters == [["path", "sourcecache", "basedir", "wildcards", "params"], ["self", "delay"]]
    assert "self.job_rate_limiter = " in inspect.getsource(JobScheduler)


def test_a_rule_becomes_a_checkpoint_as_by_the_keyword():
    """rules/skymap.smk does what Snakemake does for the keyword `checkpoint`."""
    lines = inspect.getsource(Workflow.rule)
    assert "rule.is_checkpoint = checkpoint" in lines and '["checkpoints"].register(rule' in lines
    assert callable(CheckpointsProxy.register)


def test_private_names_of_snakemake_are_used_nowhere_else(root):
    files = [root / "Snakefile", *(root / "rules").glob("*.smk"), *(root / "planner").glob("*.py")]
    used = {str(path.relative_to(root)): set(re.findall(r"\w\.(_[a-z]\w*)", path.read_text())) for path in files}
    assert {path: names for path, names in used.items() if names} == {path: set(PRIVATE[path]) for path in PRIVATE}


@pytest.fixture
def without_patches(tmp_path, root) -> Path:
    """The workflow without the file that reaches into Snakemake."""
    folder = tmp_path / "workflow"
    for name in ("rules", "scripts", "envs"):
        shutil.copytree(root / name, folder / name)
    (folder / PATCHES).unlink()
    lines = (root / "Snakefile").read_text().splitlines(keepends=True)
    (folder / "Snakefile").write_text("".join(line for line in lines if PATCHES not in line))
    return folder


def in_any_order(jobs: list[Job]) -> dict[tuple, tuple]:
    """All that is said of each job by its outputs; the jobs that it waits for by theirs."""
    outputs = [tuple(job.output) for job in jobs]
    return {
        output: (replace(job, after=[]), {outputs[other] for other in job.after}) for output, job in zip(outputs, jobs)
    }


def test_without_the_patches_the_same_jobs_are_planned(tmp_path, root, without_patches, tiny):
    (tmp_path / "run").mkdir()
    for config in (tiny, tiny | {"visits_per_job": 2}):
        plans = [in_any_order(planned(each, tmp_path / "run", config)) for each in (root, without_patches)]
        assert plans[0] == plans[1] != {}


def test_without_the_patches_the_same_is_made(tmp_path, without_patches, tiny_run, tiny):
    folder, target = tmp_path / "run", "results/tiny/src/4.parquet"
    shutil.copytree(tiny_run / "demo", folder / "demo")
    words = command(without_patches, folder, tiny | {"visits_per_job": 2}, target)
    done = subprocess.run(words, cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[-5000:]
    # But for the records of what made them: a batch has other parameters.
    assert pd.read_parquet(folder / target).equals(pd.read_parquet(tiny_run / target))


def become_another_version(words: list[str]) -> None:
    """Run Snakemake, and see that nothing in it is replaced."""
    snakemake.__version__ = "9.28.0"
    before = vars(JobScheduler)["_schedule_reevalutation"]
    try:
        cli.main(words)
    finally:
        assert vars(JobScheduler)["_schedule_reevalutation"] is before


def test_another_version_of_snakemake_is_told_once_that_the_patches_are_off(tmp_path, root, tiny):
    words = command(root, tmp_path, tiny, "--dry-run", "results/tiny/skymap.json")[len(SNAKEMAKE) :]
    done = forked.run(functools.partial(become_another_version, words), tmp_path)
    assert done.returncode == 0, done.stderr
    assert (done.stdout + done.stderr).count(f"Snakemake 9.28.0: {PATCHES} is for 9.27, switched off") == 1
