"""What a change of the code makes again, and what a copied, moved or incomplete run is taken for.

The code is changed in a copy of the checkout, which plans copies of a finished run and then completes them.  What was
planned is what then runs, in every test.
"""

import os
import shutil
import time
from pathlib import Path

import copies
import pytest
from plans import outputs_made, products

from diaflow.store import provenance

AFTER_DIFFIM = {"associate", "forced_diffim", "tables", "validate", "report"}
AFTER_CALEXP = {"visit_summary", "select_template", "warp", "warp_matched", "coadd_template", "diffim"} | AFTER_DIFFIM
STATEMENT = "\n\nANOTHER_CONSTANT = 1\n"


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, root) -> Path:
    return copies.of_checkout(root, tmp_path_factory.mktemp("checkout") / "code")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_run, checkout, tiny) -> Path:
    """A finished run that has been planned with the copied code, which is parsed once."""
    run = copies.of_run(tiny_run, tmp_path_factory.mktemp("finished") / "run")
    copies.ask(checkout, run, tiny)
    return run


@pytest.fixture
def code(checkout):
    """The copy of the code, as it was when the test ends."""
    texts = {path: path.read_text() for name in ("diaflow", "scripts") for path in _sources(checkout / name)}
    yield checkout
    for path in {*texts, *_sources(checkout / "diaflow")}:
        if path not in texts:
            path.unlink()
        elif path.read_text() != texts[path]:
            path.write_text(texts[path])


def _sources(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix in (".py", ".yaml")]


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def completed(finished, tiny):
    """Plan a run and complete it: the answer, its rules and its text."""

    def of(code: Path, run: Path, changes: dict | None = None, targets: list[str] = ()) -> tuple[dict, set[str], str]:
        config = tiny | (changes or {})
        answer, text = copies.ask(code, run, config, targets)
        began = time.time()
        copies.complete(code, run, config, finished, targets)
        assert outputs_made(run, began) == products(answer)
        return answer, {rule["rule"] for rule in answer["rules"]}, text

    return of


def append(path: Path, text: str = STATEMENT) -> None:
    path.write_text(path.read_text() + text)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ("report/page.py", {"report"}),
        ("associate/simple.py", AFTER_DIFFIM),
        ("psfmatch/solution.py", {"diffim"} | AFTER_DIFFIM),
        ("calibrate/photocal.py", {"calexp"} | AFTER_CALEXP),
        ("store/schemas/dia_forced_source.yaml", {"forced_diffim", "tables", "validate", "report"}),
        ("scripts/associate.py", AFTER_DIFFIM),
    ],
)
def test_changed_code_makes_its_own_products_again(code, run, completed, changed, expected):
    append(code / changed if changed.startswith("scripts") else code / "diaflow" / changed)
    _, rules, text = completed(code, run)
    assert rules == expected and f"code: {changed}" in text


def test_words_times_and_methods_that_are_not_chosen_make_nothing_again(code, run, completed):
    for path in [*(code / "diaflow").rglob("*.py"), *(code / "scripts").glob("*.py")]:
        append(path, "\n# a comment\n")
    for module in ("coadd/dcr.py", "subtract/zogy.py", "run/job.py"):
        append(code / "diaflow" / module)
    assert completed(code, run)[1] == set()


def test_a_module_counts_from_its_import_to_the_end_of_that(code, run, completed):
    module, page = code / "diaflow/report/another.py", code / "diaflow/report/page.py"
    text = page.read_text()
    module.write_text("NUMBER = 1\n")
    append(page, "\nfrom diaflow.report import another\n")
    _, rules, words = completed(code, run)
    assert rules == {"report"} and "code: report/another.py, report/page.py" in words
    module.write_text("NUMBER = 2\n")
    _, rules, words = completed(code, run)
    assert rules == {"report"} and "code: report/another.py\n" in words
    page.write_text(text)
    assert completed(code, run)[1] == {"report"}


def test_another_version_of_a_package_makes_again_what_computes_with_it(code, run, completed):
    path = code / "diaflow/run/code.py"
    now = 'found[name] = ".".join(version(name).split(".")[:2])'
    assert now in path.read_text()
    path.write_text(path.read_text().replace(now, f'{now} if name != "sep" else "99.0"'))
    _, rules, text = completed(code, run)
    assert rules == {"jointcal", "calexp"} | AFTER_CALEXP and "code: sep" in text


def test_a_change_that_is_taken_back_makes_the_same_again_or_after_a_touch_nothing(code, run, completed, tiny):
    path = code / "diaflow/report/page.py"
    text = path.read_text()
    append(path)
    assert completed(code, run)[1] == {"report"}
    assert completed(code, run)[1] == set()
    path.write_text(text)
    assert {rule["rule"] for rule in copies.ask(code, run, tiny)[0]["rules"]} == {"report"}
    copies.touch(code, run, tiny)
    assert completed(code, run)[1] == set()


def test_a_cloned_checkout_and_a_moved_run_make_nothing_again(code, run, completed, tmp_path):
    clone = shutil.copytree(code, tmp_path / "clone", copy_function=shutil.copyfile)
    moved = run.rename(tmp_path / "elsewhere")
    assert completed(clone, moved)[1] == set()


def test_a_run_copied_without_records_is_compared_by_what_its_products_say(code, run, completed):
    shutil.rmtree(run / ".snakemake")
    answer, rules, _ = completed(code, run)
    assert rules == set() and answer["stale"] == []
    append(code / "diaflow/associate/simple.py")
    answer, rules, text = completed(code, run)
    assert rules == set()
    assert {kept["rule"] for kept in answer["stale"]} == {"associate"}
    assert "code: associate/simple.py" in text and "--forcerun associate" in text


def test_a_copy_with_other_parameters_and_what_is_newer_by_time_alone_are_named(code, run, completed):
    shutil.rmtree(run / ".snakemake")
    os.utime(run / "results/tiny/exposures.parquet")
    answer, rules, text = completed(code, run, {"associate": {"radius": 0.6}})
    assert {kept["rule"] for kept in answer["stale"]} == {"associate"} and "parameters changed" in text
    assert rules == {"skymap", "select_template", "tables", "validate", "report"}
    assert "newer input, by time alone" in text


def test_an_intermediate_that_is_missing_is_listed_and_made_anew_as_the_docs_say(code, run, completed, tiny):
    product = "results/tiny/diffim/4"
    shutil.rmtree(run / product)
    answer, rules, text = completed(code, run)
    assert rules == set()
    assert [kept["output"] for kept in answer["missing"]] == [[product]]
    assert f"missing, not needed now: {product}" in text
    assert completed(code, run, targets=[product])[1] == {"diffim"}
    # its DIASources are the same byte for byte, which Snakemake sees
    assert {rule["rule"] for rule in copies.ask(code, run, tiny)[0]["rules"]} == AFTER_DIFFIM - {"associate"}
    copies.touch(code, run, tiny)
    assert completed(code, run)[1] == set()


def test_a_run_records_its_environment(finished):
    for name in ("calexp/1", "coadd/template/0/0_0/g.fits", "tables/visit.parquet", "refcat.parquet", "warp/0/1"):
        assert provenance.read(finished / "results/tiny" / name).version
    assert (finished / "results/tiny/provenance.json").exists()
