"""Methods: a file that says what it is can be named by a configuration, and nothing else has to change."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from diaflow.errors import InputError
from diaflow.run import config, methods

FUNCTIONS = {
    "coadd": "combine",
    "subtract": "subtract",
    "associate": "associate",
    "sky.skymap": "tracts",
    "lightcurves": "write",
}


def in_process(root, code, **variables):
    """What a fresh interpreter prints that has the library from `root`."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=root,
        env={"PYTHONPATH": str(root)} | variables,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def copy(root, tmp_path):
    """A copy of the tree without its history and products."""
    for name in ("diaflow", "docs", "scripts"):
        shutil.copytree(root / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "images"))
    return tmp_path


def test_every_choice_of_the_schema_is_a_room_with_methods():
    rooms = {room for _, room in config.choices(config.schema()).values()}
    assert rooms == set(FUNCTIONS)
    assert list(methods.listed("coadd")) == [
        "constant_psf", "dcr", "decorrelated", "direct", "inference", "psf_matched",
    ]  # fmt: skip
    assert list(methods.listed("subtract")) == ["alard_lupton", "zogy"]
    assert list(methods.listed("associate")) == ["assignment", "cluster", "multimatch", "simple"]
    assert list(methods.listed("sky.skymap")) == ["discrete", "healpix", "rings"]
    assert list(methods.listed("lightcurves")) == [
        "csv", "fits", "hats", "nested_parquet", "snana", "sncosmo", "tns", "votable",
    ]  # fmt: skip


@pytest.mark.parametrize("room", FUNCTIONS)
def test_every_method_loads_has_the_function_of_its_room_and_says_what_it_is(room):
    for name, method in methods.listed(room).items():
        module = methods.load(room, name)
        assert module.__name__ == method.module
        assert callable(getattr(module, FUNCTIONS[room])) and method.options == module.OPTIONS
        assert module.__doc__.startswith(method.summary) and method.summary


def test_a_method_that_is_not_there_is_an_error_that_names_those_that_are():
    with pytest.raises(InputError, match="associate: no method 'none' among assignment, cluster, multimatch, simple"):
        methods.load("associate", "none")


def test_no_rule_knows_a_method(root):
    rules = "".join(path.read_text() for path in (root / "rules").glob("*.smk"))
    for room in FUNCTIONS:
        for name in methods.listed(room):
            assert not re.search(rf"""["']{name}["']""", rules), name


def test_listing_and_checking_a_configuration_load_no_method(root):
    code = """
import sys
from diaflow.run import config
config.of_chosen_methods(config.validated({"images": "x"}))
print([name for name in sys.modules if name.startswith("diaflow.") and "diaflow.run" not in name])
"""
    expected = ["diaflow.errors", "diaflow.store", "diaflow.store.yamltext"]
    assert in_process(root, code) == f"{expected}\n"


def test_page_of_the_docs_is_up_to_date(root):
    code = 'import runpy; print(runpy.run_path("docs/methods.py")["page"](), end="")'
    assert in_process(root, code) == (root / "docs/methods.md").read_text(), "run python docs/methods.py"


ALONE = '''"""Every DIASource by itself.

Nothing is ever seen twice.
"""

import numpy as np

OPTIONS = {
    "first": {"type": "integer", "minimum": 0, "default": 0, "description": "rows that are passed over [1/visit]"},
}


def associate(sources, rows, config):
    """Object index of each of the sources `rows`."""
    return np.arange(len(rows)) + config["first"]
'''

USED = """
import json
import runpy
import sys
from types import SimpleNamespace as Namespace

import numpy as np

from diaflow.errors import InputError
from diaflow.run import config, methods
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.skymap.tract import Tract
from diaflow.store import tables

section = config.of_chosen_methods(config.validated({"images": "x", "associate": {"algorithm": "alone"}}))["associate"]
try:
    config.validated({"images": "x", "associate": {"algorithm": "alone", "first": -1}})
except InputError as error:
    refused = str(error)
loaded = "diaflow.associate.alone" in sys.modules

ra = np.full(3, 10.0)
sources = tables.from_columns(
    "dia_source", diaSourceId=[1, 2, 3], visit=[1, 2, 3], ra=ra, dec=0 * ra, band="r", psfFlux=1.0, psfFluxErr=1.0
)
tables.write("dia_source", sources, "sources.parquet")
sky = SkyMap("discrete", {0: Tract(0, 10.0, 0.0, 0.05, 0.5, 1000, 100)})
runpy.run_path("scripts/associate.py")["main"](Namespace(
    input=Namespace(dia_sources=["sources.parquet"], moving=[]),
    wildcards=Namespace(tract="0", patch="0_0"),
    params=Namespace(associate=section, skymap=sky.to_dict()),
    output=Namespace(dia_objects="objects.parquet", links="links.parquet"),
))
links = tables.read("dia_link", "links.parquet")
print(json.dumps({
    "section": section, "refused": refused, "loaded": loaded, "listed": list(methods.listed("associate")),
    "objects": links["diaObjectId"].tolist(), "page": runpy.run_path("docs/methods.py")["page"](),
}))
"""


def test_a_file_beside_the_others_is_a_method_and_no_other_file_changes(copy):
    (copy / "diaflow/associate/alone.py").write_text(ALONE)
    found = json.loads(in_process(copy, USED, NUMBA_CACHE_DIR=str(copy / "cache")))
    assert found["listed"] == ["alone", "assignment", "cluster", "multimatch", "simple"]
    assert found["section"].items() >= {"algorithm": "alone", "first": 0}.items()
    assert "remove_ambiguous" not in found["section"], "an option of another method"
    assert found["refused"].startswith("config: associate.first: -1")
    assert not found["loaded"], "before it is used"
    assert found["objects"] == [1, 2, 3]
    assert "| `alone` | | | | Every DIASource by itself |" in found["page"]
    assert "| | `associate.first` | `0` | 1/visit | rows that are passed over |" in found["page"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("def associate():\n    pass\n\n\nOPTIONS = {}\n", ["alone.py", "OPTIONS", "before the first function"]),
        ("KEY = 'first'\nOPTIONS = {KEY: {}}\n", ["alone.py", "OPTIONS", "literal"]),
        ('OPTIONS = {"radius": {"type": "number", "default": 2.0}}\n', ["associate.alone", "associate.radius"]),
    ],
)
def test_a_declaration_that_cannot_be_used_is_named(copy, text, words):
    (copy / "diaflow/associate/alone.py").write_text("\n" + text)
    code = """
from diaflow.errors import InputError
from diaflow.run import config
try:
    config.schema()
except InputError as error:
    print(error)
"""
    message = in_process(copy, code)
    assert all(word in message for word in words), message
