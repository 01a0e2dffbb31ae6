"""The tiny survey on a real SLURM cluster: same tables as at home, although memory is short and a node dies on the way.

One run carries all faults.  While the partition is still down, SLURM is told to give one waiting job less memory than
Snakemake asked for; later a node is killed while it calibrates images.
"""

import importlib.util
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cluster import Cluster, Unavailable

TABLES = ["visit", "source", "dia_source", "dia_object", "dia_forced_source"]
PLUGIN = "snakemake_executor_plugin_slurm"
STARVED, SMALL_MB = "rule_refcat", 100  # every job's two Snakemake processes need more
SITE = ["--max-threads", "2", "--cores", "2", "--latency-wait", "10"]
IMPATIENT = ["--slurm-init-seconds-before-status-checks", "1", "--max-status-checks-per-second", "10"]
LIMIT = 1200  # a run that takes so long hangs [s]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if not importlib.util.find_spec(PLUGIN):
        pytest.skip(f"{PLUGIN.replace('_', '-')} is not installed")
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    cluster = None
    try:
        cluster = Cluster(folder / "c")
        yield cluster
    except Unavailable as reason:
        pytest.skip(f"no SLURM here: {reason}")
    finally:
        if cluster:
            cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Run:
    """A run on the cluster that has ended: where it was, what it said, and every job that SLURM has seen."""

    folder: Path
    returncode: int
    output: str
    jobs: list[dict[str, str]]
    on_killed_node: list[str]


@pytest.fixture(scope="module")
def workflow(root):
    """The module that knows the tiny survey and the command line of a run."""
    spec = importlib.util.spec_from_file_location("workflow_conftest", root / "tests/workflow/conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def at_home(tmp_path_factory, root, workflow) -> Path:
    """The survey processed without SLURM."""
    return workflow.completed_tiny_run(tmp_path_factory, root)


@pytest.fixture(scope="module")
def run(cluster, at_home, tmp_path_factory, root, workflow) -> Run:
    folder = tmp_path_factory.mktemp("on_slurm")
    shutil.copytree(at_home / "demo", folder / "demo")
    log = folder / "output.txt"
    profile = ["--profile", str(root / "profiles/slurm")]
    # jobs of two visits, as a site has them: starting a job costs more than its work here
    targets = [f"results/tiny/tables/{name}.parquet" for name in TABLES]
    words = workflow.command(root, folder, workflow.TINY | {"visits_per_job": 2}, *targets, *profile, *IMPATIENT)
    cluster.control("PartitionName=main", "State=DOWN")
    with open(log, "w") as out:
        process = subprocess.Popen([*words, *SITE], cwd=folder, stdout=out, stderr=subprocess.STDOUT)
    try:
        starved = waited_for(process, lambda: [job for job in cluster.jobs() if job.get("Comment") == STARVED])
        cluster.control(f"JobId={starved[0]['JobId']}", f"MinMemoryNode={SMALL_MB}")
        cluster.control("PartitionName=main", "State=UP")
        lost = waited_for(process, lambda: calibrating(cluster, "n2"))
        cluster.kill_node("n2")
        process.wait(LIMIT)
    finally:
        process.terminate()
        process.wait()
    return Run(folder, process.returncode, log.read_text(), cluster.jobs(), lost)


def waited_for(process: subprocess.Popen, found):
    """What ``found()`` gives once it gives something, while the run goes on."""
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        if result := found():
            return result
        time.sleep(0.2)
    raise AssertionError("the run ended or hung before the fault could be injected")


def calibrating(cluster: Cluster, node: str) -> list[str]:
    """Ids of the calexp jobs that run on a node."""
    running = cluster.jobs_on(node)
    return [job["JobId"] for job in cluster.jobs() if job["JobId"] in running and "calexp" in job.get("Comment", "")]


def test_run_completes_to_the_same_tables_as_without_slurm(run, at_home):
    assert run.returncode == 0, run.output[-5000:]
    for name in TABLES:
        table = f"results/tiny/tables/{name}.parquet"
        assert (run.folder / table).read_bytes() == (at_home / table).read_bytes(), name


def test_job_killed_by_memory_is_retried_with_more(run):
    attempts = [job for job in run.jobs if job.get("Comment") == STARVED]
    assert "exceeded memory limit" in Path(attempts[0]["StdOut"]).read_text()
    assert attempts[1]["JobState"] == "COMPLETED"
    # twice the 1000 MB of the first attempt, before SLURM was told to give it less
    assert [job["MinMemoryNode"] for job in attempts] == [f"{SMALL_MB}M", "2000M"]


def test_jobs_of_a_killed_node_are_run_on_another(run):
    lost = [job for job in run.jobs if job["JobId"] in run.on_killed_node]
    assert lost and {job["JobState"] for job in lost} == {"NODE_FAIL"}
    for job in lost:
        again = [other for other in run.jobs if other.get("Comment") == job["Comment"] and other is not job]
        assert [other["JobState"] for other in again] == ["COMPLETED"]
        assert again[0]["NodeList"] != job["NodeList"]


def test_small_jobs_share_an_allocation_and_logs_are_where_the_profile_says(run):
    submitted = re.findall(r"submitted with SLURM jobid \d+ \(log: (\S+)\)", run.output)
    assert all(path.startswith(f"{run.folder}/logs/slurm/") for path in submitted)
    assert 1 <= sum("group_coadd" in path for path in submitted) < run.output.count("rule coadd_template:")
    assert all((run.folder / f"logs/tiny/{name}.log").exists() for name in ("refcat", "calexp/1", "tables"))
