"""A wheel is all that the library needs: schemas, configuration and instrument maps come with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

USE = """
import sys
from pathlib import Path

import diaflow
from diaflow.instruments import maps
from diaflow.run.config import validated
from diaflow.store import tables

assert Path(diaflow.__file__).is_relative_to(sys.argv[1]), diaflow.__file__
for path in Path(tables.SCHEMAS).glob("*.yaml"):
    tables.schema(path.stem)
tables.write("visit", tables.empty("visit", 2), "visit.parquet")
assert len(tables.read("visit", "visit.parquet")) == 2
assert "generic" in maps.names()
for name in maps.names():
    maps.load(name)
assert validated({"images": "*.fits"})["calexp"]["psf_order"] > 0
print(*sorted(str(path.relative_to(sys.argv[1])) for path in Path(diaflow.__file__).parent.rglob("*.yaml")), sep="\\n")
"""


def pip(*arguments: str | Path) -> None:
    """Run pip, which needs no network here: the build tools are those of the environment."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def installed(root, tmp_path_factory) -> Path:
    """Folder with nothing but the installed wheel, built from a copy because building leaves files behind."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    for package in ("diaflow", "planner"):
        shutil.copytree(root / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, source)
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    pip("install", "--no-deps", "--no-index", "--target", folder / "installed", wheel)
    return folder / "installed"


@pytest.mark.slow
def test_an_installed_wheel_has_tables_instruments_and_the_configuration(root, installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    command = [sys.executable, "-c", USE, str(installed)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = {str(path.relative_to(root)) for path in (root / "diaflow").rglob("*.yaml")}
    assert set(done.stdout.split()) == expected


@pytest.mark.slow
def test_an_installed_wheel_has_its_licence_and_says_that_it_is_typed(installed):
    (licence,) = installed.glob("diaflow-*.dist-info/licenses/LICENSE")
    assert licence.read_text().startswith("BSD 3-Clause License")
    assert (installed / "diaflow/py.typed").exists()
