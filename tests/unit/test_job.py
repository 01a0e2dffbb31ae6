"""Scripts end with one clear line on bad input; the runner sets up their process and no other, and notes its usage."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from diaflow.run import job, usage

THREADS = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]

SCRIPT = """
from types import SimpleNamespace
from diaflow.run import job
from diaflow.errors import InputError

def main(snakemake):
    raise {error}

job.run(main, SimpleNamespace(rule="step", log=[{log!r}], input=[], params={{}}, threads=1, config={{"run": "demo"}}))
"""


@pytest.mark.parametrize(("error", "traced"), [("InputError('stars.fits: no band g')", False), ("KeyError('g')", True)])
def test_error_ends_the_job_with_code_1_and_its_reason_in_the_log(tmp_path, error, traced):
    log = tmp_path / "step.log"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(error=error, log=str(log))], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert log.read_text().splitlines()[0].startswith("step: error: ")
    assert ("Traceback" in log.read_text()) == traced
    assert ("Traceback" in done.stderr) == traced


def test_scripts_do_without_pandas_and_whoever_asks_for_it_is_not_disturbed(tmp_path):
    script = f"""
import sys
from types import SimpleNamespace
from diaflow.run import job

def main(snakemake):
    from astropy.table import Table
    from diaflow.store import tables
    from diaflow.validate import scores
    tables.write("dia_link", tables.empty("dia_link", 2), {str(tmp_path / "links.parquet")!r})
    print("pandas" in sys.modules)

job.run(main, SimpleNamespace(rule="step", log=[], input=[], params={{}}, threads=1, config={{"run": "demo"}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip() == "False", done.stderr


def test_hook_ends_with_the_job_also_where_it_fails(tmp_path):
    script = """
import sys
from types import SimpleNamespace
from diaflow.run import job

def fail(snakemake):
    raise KeyError("g")

before = list(sys.meta_path)
for main in (print, fail):
    try:
        job.run(main, SimpleNamespace(rule="step", log=[], input=[], params={}, threads=1, config={"run": "demo"}))
    except SystemExit:
        pass
    assert sys.meta_path == before
import pandas
"""
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)


def environment(code: str) -> dict:
    """What a process whose caller asks for four threads prints as JSON."""
    four = os.environ | dict.fromkeys(THREADS, "4")
    done = subprocess.run([sys.executable, "-c", code], env=four, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_runner_sets_one_thread_before_numpy_is_loaded():
    code = f"""
import json, os, sys
from diaflow.run import job
print(json.dumps([{{name: os.environ[name] for name in {THREADS}}}, "numpy" in sys.modules]))
"""
    assert environment(code) == [dict.fromkeys(THREADS, "1"), False]


def test_importing_the_library_changes_nothing_in_the_process():
    code = """
import gc, importlib, json, os, pkgutil, sys
before = dict(os.environ)
import diaflow
for module in pkgutil.walk_packages(diaflow.__path__, "diaflow."):
    if module.name != "diaflow.run.job":
        importlib.import_module(module.name)
ours = [str(finder) for finder in sys.meta_path if type(finder).__module__.startswith("diaflow")]
print(json.dumps([os.environ == before, ours, gc.get_freeze_count(), "diaflow.run.job" in sys.modules]))
"""
    assert environment(code) == [True, [], 0, False]


def test_products_of_a_job_of_visits_are_told_by_their_names(tmp_path):
    assert job.by_visit(["run/src/17.parquet", "run/src/3.parquet"]) == {
        17: Path("run/src/17.parquet"),
        3: Path("run/src/3.parquet"),
    }
    folders = job.folders([f"{tmp_path}/calexp/17", f"{tmp_path}/calexp/3"])
    assert set(folders) == {17, 3} and all(folder.is_dir() for folder in folders.values())


def test_log_of_a_job_that_is_done_ends_with_what_it_used_and_a_file_beside_it_says_the_same(tmp_path):
    log = tmp_path / "step.log"
    script = f"""
from types import SimpleNamespace
from diaflow.run import job
import numpy as np

job.run(
    lambda snakemake: np.ones(25_000_000).sum(),
    SimpleNamespace(rule="step", log=[{str(log)!r}], input=[], params={{}}, threads=1, config={{"run": "demo"}}),
)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    last = log.read_text().splitlines()[-1]
    assert last.startswith("step: used ") and 200 < int(last.split()[-2]) < 600  # 200 MB and the interpreter
    used = json.loads((tmp_path / "step.json").read_text())
    assert used == usage.read(log) and used["rule"] == "step" and used["threads"] == 1
    assert last == f"step: used {used['cpu_s']:.1f} CPU s, at most {used['max_mb']} MB"


def test_job_whose_usage_cannot_be_written_is_done_all_the_same(tmp_path):
    script = f"""
from types import SimpleNamespace
from diaflow.run import job

log = {str(tmp_path / "step.log")!r}
job.run(print, SimpleNamespace(rule="step", log=[log], input=[], params={{}}, threads=1, config={{"run": "demo"}}))
"""
    (tmp_path / "step.json/in_the_way").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert "used" in (tmp_path / "step.log").read_text()


def test_log_without_a_file_beside_it_tells_nothing(tmp_path):
    assert usage.read(tmp_path / "step.log") == {}
