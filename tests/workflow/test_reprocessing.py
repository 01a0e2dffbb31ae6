"""What a change of the code makes again, and what a copied, moved or incomplete run is taken for.

The code is changed in a copy of the checkout, whose planner and workflow are asked about copies of a finished run.
"""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from conftest import command
from plans import ask, outputs_made, products

from diaflow.store import provenance

AFTER_DIFFIM = {"associate", "forced_diffim", "tables", "validate", "report"}
AFTER_CALEXP = {"visit_summary", "select_template", "warp", "warp_matched", "coadd_template", "diffim"} | AFTER_DIFFIM
CODE = ("Snakefile", "config", "config.yaml", "diaflow", "envs", "planner", "profiles", "rules", "scripts")
STATEMENT = "\n\nANOTHER_CONSTANT = 1\n"


@pytest.fixture(scope="module")
def workplace(tmp_path_factory, root, tiny_run) -> tuple[Path, Path]:
    """A copy of the code and, beside it, a copy of a finished run."""
    folder = tmp_path_factory.mktemp("reprocessing")
    for name in CODE:
        if (root / name).is_dir():
            shutil.copytree(root / name, folder / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / "code").mkdir(exist_ok=True)
            shutil.copy2(root / name, folder / "code" / name)
    shutil.copytree(tiny_run, folder / "run")
    return folder / "code", folder / "run"


@pytest.fixture
def code(workplace):
    """The copy of the code, as it was when the test ends."""
    folder, _ = workplace
    texts = {path: path.read_text() for name in ("diaflow", "scripts") for path in (folder / name).rglob("*.py")}
    yield folder
    for path, text in texts.items():
        if path.read_text() != text:
            path.write_text(text)


@pytest.fixture
def run(workplace, tmp_path) -> Path:
    """A finished run."""
    return shutil.copytree(workplace[1], tmp_path / "run")


def planned(code: Path, run: Path, config: dict) -> tuple[dict, set[str], str]:
    """The planner's answer, the rules that would run, and the text; the library is that of the copied code."""
    answer, text = ask(code, run, config)
    return answer, {rule["rule"] for rule in answer["rules"]}, text


def start(code: Path, run: Path, config: dict, *arguments: str) -> None:
    words = command(code, run, config, *arguments)
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(words, cwd=run, text=True, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr[-5000:]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("report/page.py", {"report"}),
        ("calibrate/photocal.py", {"calexp"} | AFTER_CALEXP),
    ],
)
def test_a_changed_module_makes_its_own_products_again(code, workplace, tiny, module, expected):
    path = code / "diaflow" / module
    path.write_text(path.read_text() + STATEMENT)
    _, rules, text = planned(code, workplace[1], tiny)
    assert rules == expected and f"code: {module}" in text


def test_words_times_and_methods_that_are_not_chosen_make_nothing_again(code, workplace, tiny):
    for path in [*(code / "diaflow").rglob("*.py"), *(code / "scripts").glob("*.py")]:
        path.write_text(path.read_text() + "\n# a comment\n")
    for module in ("coadd/dcr.py", "subtract/zogy.py", "run/job.py"):
        path = code / "diaflow" / module
        path.write_text(path.read_text() + STATEMENT)
    assert planned(code, workplace[1], tiny)[1] == set()


def test_a_changed_constant_runs_exactly_its_jobs_and_back_again_after_a_touch_none(code, run, tiny):
    path = code / "diaflow/associate/simple.py"
    text = path.read_text()
    path.write_text(text + STATEMENT)
    answer, _, _ = planned(code, run, tiny)
    started = time.time()
    start(code, run, tiny)
    assert products(answer) == outputs_made(run, started) != set()
    assert planned(code, run, tiny)[1] == set()
    path.write_text(text)
    assert planned(code, run, tiny)[1] == AFTER_DIFFIM
    start(code, run, tiny, "--touch")
    assert planned(code, run, tiny)[1] == set()


def test_a_cloned_checkout_and_a_moved_run_make_nothing_again(code, run, tiny, tmp_path):
    clone = shutil.copytree(code, tmp_path / "clone", copy_function=shutil.copyfile)
    moved = run.rename(tmp_path / "elsewhere")
    assert planned(clone, moved, tiny)[1] == set()


def test_a_run_copied_without_records_is_compared_by_what_its_products_say(code, run, tiny):
    shutil.rmtree(run / ".snakemake")
    answer, rules, _ = planned(code, run, tiny)
    assert rules == set() and answer["stale"] == []
    path = code / "diaflow/associate/simple.py"
    path.write_text(path.read_text() + STATEMENT)
    answer, rules, text = planned(code, run, tiny)
    assert rules == set()
    assert {kept["rule"] for kept in answer["stale"]} == {"associate"}
    assert "code: associate/simple.py" in text and "--forcerun associate" in text


def test_a_copy_with_other_parameters_and_what_is_newer_by_time_alone_are_named(code, run, tiny):
    shutil.rmtree(run / ".snakemake")
    os.utime(run / "results/tiny/exposures.parquet")
    answer, rules, text = planned(code, run, tiny | {"associate": {"radius": 0.6}})
    assert {kept["rule"] for kept in answer["stale"]} == {"associate"} and "parameters changed" in text
    assert rules == {"skymap", "select_template", "tables", "validate", "report"}
    assert "newer input, by time alone" in text


def test_an_intermediate_that_is_missing_is_listed(code, run, tiny):
    shutil.rmtree(run / "results/tiny/diffim/4")
    answer, rules, text = planned(code, run, tiny)
    assert rules == set()
    assert [kept["output"] for kept in answer["missing"]] == [["results/tiny/diffim/4"]]
    assert "missing, not needed now: results/tiny/diffim/4" in text


def test_a_run_records_its_environment(run):
    for name in ("calexp/1", "coadd/template/0/0_0/g.fits", "tables/visit.parquet", "refcat.parquet", "warp/0/1"):
        assert provenance.read(run / "results/tiny" / name).version
    assert (run / "results/tiny/provenance.json").exists()
