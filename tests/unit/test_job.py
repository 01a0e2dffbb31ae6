"""Scripts end with one clear line on bad input, and keep the traceback of anything else in their log."""

import subprocess
import sys
from pathlib import Path

import pytest

from diaflow.run import job

SCRIPT = """
from types import SimpleNamespace
from diaflow.run import job
from diaflow.errors import InputError

def main(snakemake):
    raise {error}

job.run(main, SimpleNamespace(rule="step", log=[{log!r}], input=[], threads=1, config={{"run": "demo"}}))
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

job.run(main, SimpleNamespace(rule="step", log=[], input=[], threads=1, config={{"run": "demo"}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.strip() == "False", done.stderr


def test_products_of_a_job_of_visits_are_told_by_their_names(tmp_path):
    assert job.by_visit(["run/src/17.parquet", "run/src/3.parquet"]) == {
        17: Path("run/src/17.parquet"),
        3: Path("run/src/3.parquet"),
    }
    made = job.folders([f"{tmp_path}/calexp/17", f"{tmp_path}/calexp/3"])
    assert set(made) == {17, 3} and all(folder.is_dir() for folder in made.values())


def test_log_of_a_job_that_is_done_ends_with_what_it_used(tmp_path):
    log = tmp_path / "step.log"
    script = f"""
from types import SimpleNamespace
from diaflow.run import job
import numpy as np

job.run(
    lambda snakemake: np.ones(25_000_000).sum(),
    SimpleNamespace(rule="step", log=[{str(log)!r}], input=[], threads=1, config={{"run": "demo"}}),
)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    last = log.read_text().splitlines()[-1]
    assert last.startswith("step: used ") and 200 < int(last.split()[-2]) < 600  # 200 MB and the interpreter
