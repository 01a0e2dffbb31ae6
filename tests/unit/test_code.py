"""Digests of code: they follow what a script does, through all that it imports, and nothing else."""

import functools
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import forked
import pytest

from diaflow.run import code
from diaflow.run.code import NEUTRAL, Code, recorded

METHODS = {"subtract": "zogy", "coadd": "direct", "associate": "simple", "sky.skymap": "discrete"}
SCRIPTS = sorted(path.stem for path in (code.REPOSITORY / "scripts").glob("*.py"))


@pytest.fixture(scope="module")
def copied(tmp_path_factory) -> Path:
    """A copy of the library and the scripts."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("diaflow", "scripts"):
        shutil.copytree(code.REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.fixture
def checkout(copied) -> Path:
    """The copy, to be edited; afterwards it is as before."""
    texts = {path: path.read_text() for path in copied.rglob("*") if path.suffix in (".py", ".yaml")}
    yield copied
    for path, text in texts.items():
        if path.read_text() != text:
            path.write_text(text)


def kept(checkout: Path, methods: dict = METHODS) -> Code:
    """The code of the copy; what was found in its files is kept there."""
    return Code(methods, checkout / "cache.json", checkout)


def digests(checkout: Path) -> dict[str, str]:
    found = kept(checkout)
    return {script: found.digest(script) for script in SCRIPTS}


def changed(checkout: Path, before: dict[str, str]) -> set[str]:
    now = digests(checkout)
    return {script for script in SCRIPTS if now[script] != before[script]}


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"""', '"""In other words: '),
        ("\n\n\ndef ", "\n\n\n# a comment\ndef "),
        ("\n\n", "\n\n\n\n"),
    ],
    ids=["docstrings", "comments", "blank lines"],
)
def test_words_that_do_nothing_change_nothing(checkout, old, new):
    before = digests(checkout)
    for path in (checkout / "diaflow").glob("*.py"):
        text = path.read_text()
        opening = text.replace('"""\n', "END") if old == '"""' else text  # closing quotes stay as they are
        path.write_text(opening.replace(old, new).replace("END", '"""\n'))
    assert changed(checkout, before) == set()


def test_another_process_with_another_order_of_sets_gives_the_same_digest():
    words = f"from diaflow.run.code import Code; print(Code({METHODS!r}).digest('tables'))"
    found = {
        subprocess.run(
            [sys.executable, "-c", words], env=os.environ | {"PYTHONHASHSEED": seed}, text=True, capture_output=True
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert found == {Code(METHODS).digest("tables")}


def test_a_touch_and_another_place_change_nothing(checkout):
    found = Code(METHODS)
    before = {script: found.digest(script) for script in SCRIPTS}
    for path in checkout.rglob("*.py"):
        os.utime(path)
    assert changed(checkout, before) == set()


def test_a_constant_makes_stale_what_uses_it(checkout):
    before = digests(checkout)
    edit(checkout / "diaflow/report/page.py", "\n\n\ndef ", "\n\nANOTHER = 1\n\n\ndef ")
    assert changed(checkout, before) == {"report"}
    before = digests(checkout)
    edit(checkout / "diaflow/calibrate/photocal.py", "MAX_SIGMA = 0.25", "MAX_SIGMA = 0.26")
    # Photometry is calibrated by one of these; the others look at its figures.
    assert changed(checkout, before) == {"calexp", "validate", "report"}


def test_a_script_and_a_new_import_count(checkout):
    before = digests(checkout)
    edit(
        checkout / "scripts/tables.py",
        "from diaflow.run import job\n",
        "from diaflow.run import job\nfrom diaflow.sky import sphere\n",
    )
    assert changed(checkout, before) == {"tables"}
    assert "sky/sphere.py" in kept(checkout).parts("tables")
    edit(checkout / "scripts/tables.py", "from diaflow.sky import sphere\n", "")
    assert changed(checkout, before) == set()


def test_only_the_chosen_method_counts(checkout):
    assert "subtract/zogy.py" in kept(checkout).parts("diffim")
    others = METHODS | {"subtract": "alard_lupton"}
    assert "subtract/zogy.py" not in kept(checkout, others).parts("diffim")
    before = digests(checkout)
    edit(checkout / "diaflow/subtract/alard_lupton.py", "\n\n\ndef ", "\n\nANOTHER = 1\n\n\ndef ")
    # validation and others may import a method by name; the difference does not.
    assert "diffim" not in changed(checkout, before)


def test_the_order_of_two_statements_counts(tmp_path):
    sources = []
    for number, text in enumerate(("a = 1\nb = 2\n", "b = 2\na = 1\n", "a = 2\nb = 1\n")):
        path = tmp_path / f"{number}.py"
        path.write_text(text)
        sources.append(code.source_of(path, []).digest)
    assert len(set(sources)) == 3


def test_schemas_of_tables_that_are_named_count(checkout):
    before = digests(checkout)
    edit(checkout / "diaflow/store/schemas/joint_star.yaml", "float64", "float32")
    assert changed(checkout, before) >= {"jointcal", "calexp"}
    assert "associate" not in changed(checkout, before)


def test_versions_of_numerical_packages_count(monkeypatch):
    before = Code(METHODS).parts("warp")
    monkeypatch.setattr(code, "versions", lambda: {"numpy": "99.1", "sep": "9.9"})
    now = Code(METHODS).parts("warp")
    assert before["numpy"] != now["numpy"] == "99.1"


def print_what_is_loaded_by(script: str) -> None:
    """Modules of the library, of which none is loaded before, after an import of the script."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "diaflow"]:
        del sys.modules[name]
    runpy.run_path(str(code.REPOSITORY / "scripts" / f"{script}.py"))
    print(json.dumps([name for name in sys.modules if name.partition(".")[0] == "diaflow"]))


@pytest.fixture(scope="module")
def today() -> Code:
    """The code of the checkout, each file of which is parsed once."""
    return Code(METHODS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_all_that_a_script_loads_is_known(script, today, tmp_path):
    """What an import of the script has loaded is among its parts, or carries scripts without touching a number."""
    done = forked.run(functools.partial(print_what_is_loaded_by, script), tmp_path)
    assert done.returncode == 0, done.stderr
    parts = set(today.parts(script))
    for name in json.loads(done.stdout):
        path = code.REPOSITORY.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        part = path.relative_to(code.REPOSITORY / "diaflow").as_posix()
        assert part in parts | NEUTRAL or code.source_of(path, []).digest == code.EMPTY, name


def test_the_cache_gives_the_same_and_follows_changes(checkout, tmp_path):
    cache = tmp_path / "cache.json"
    first = Code(METHODS, cache, checkout).digest("warp")
    assert cache.exists() and Code(METHODS, cache, checkout).digest("warp") == first
    edit(checkout / "diaflow/warp.py", "\n\n\ndef ", "\n\nANOTHER = 1\n\n\ndef ")
    assert Code(METHODS, cache, checkout).digest("warp") != first


def test_a_damaged_cache_is_no_trouble(checkout, tmp_path):
    cache = tmp_path / "cache.json"
    cache.write_text("{")
    assert Code(METHODS, cache, checkout).digest("warp") == Code(METHODS, root=checkout).digest("warp")


def test_a_record_keeps_what_the_code_was(checkout, tmp_path):
    path = tmp_path / "provenance.json"
    first = kept(checkout)
    words = [first.digest("warp")]
    code.record(path, first, {"run": "a"})
    edit(checkout / "diaflow/warp.py", "\n\n\ndef ", "\n\nANOTHER = 1\n\n\ndef ")
    second = kept(checkout)
    words.append(second.digest("warp"))
    code.record(path, second, {"run": "a"})
    known = recorded(path)
    assert known[words[0]] == first.parts("warp") != known[words[1]]
    assert json.loads(path.read_text())["environment"]["numpy"]


def test_what_asks_who_owns_a_position_depends_on_the_kind_of_sky_map_alone_that_is_chosen(tmp_path):
    """The map loads its kind by name, inside the room."""
    for kind, other in (("rings", "healpix"), ("healpix", "rings"), ("discrete", "rings")):
        for script in ("associate", "skymap", "forced_dia_source_on_template"):
            parts = Code(METHODS | {"sky.skymap": kind}, tmp_path / "cache.json").parts(script)
            assert f"sky/skymap/{kind}.py" in parts and f"sky/skymap/{other}.py" not in parts
