"""What the docs and docstrings name exists: files, modules, functions, links, new import paths."""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from diaflow.run import config

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
CODE = sorted(
    path
    for pattern in ("diaflow/**/*.py", "scripts/*.py", "planner/*.py", "benchmarks/*.py", "docs/*.py", "rules/*.smk")
    for path in ROOT.glob(pattern)
)
CONFIGURATION = [ROOT / "config.yaml", *sorted(ROOT.glob("config/**/*.yaml"))]
FOLDERS = "benchmarks|config|diaflow|docs|envs|planner|profiles|rules|schemas|scripts|tests"


def label(path: Path) -> str:
    """The path of a file inside the project."""
    return str(path.relative_to(ROOT))


@cache
def modules() -> set[str]:
    """Dotted names of all files and folders of the library."""
    paths = (path.relative_to(ROOT).with_suffix("") for path in ROOT.glob("diaflow/**/*.py"))
    return {".".join(path.parts).removesuffix(".__init__") for path in paths}


def resolves(name: str) -> bool:
    """Whether a dotted name that begins with diaflow is a module, or something in one."""
    module = name
    while module not in modules():
        module = module.rpartition(".")[0]
    thing = importlib.import_module(module)
    for part in name.removeprefix(module).split(".")[1:]:
        if not hasattr(thing, part) and part not in getattr(thing, "__annotations__", ()):
            return False
        thing = getattr(thing, part, None)
    return True


def paths_in(text: str) -> set[str]:
    """Paths of files and folders of the project as patterns: what a page leaves open ({visit}, %02g) is a *."""
    text = re.sub(r"\{\w+\}|%\d*[dg]", "*", text)
    return set(re.findall(rf"(?<![\w./-])(?:{FOLDERS})(?:/[\w*\[][\w.*\[\]-]*)+/?(?<=[\w*/])", text))


def dotted_in(text: str) -> set[str]:
    """Dotted names of the library; `diaflow.yaml` is a file."""
    return set(re.findall(r"(?<![\w/])diaflow(?:\.[A-Za-z_]\w*)+", text)) - {"diaflow.yaml"}


@pytest.mark.parametrize("path", PAGES + CODE + CONFIGURATION, ids=label)
def test_paths_and_dotted_names_exist(path):
    text = path.read_text()
    assert [name for name in paths_in(text) if not any(ROOT.glob(name))] == []
    assert [name for name in dotted_in(text) if not resolves(name)] == []


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_files_that_a_page_names_by_their_last_part_exist(path):
    for name in re.findall(r"`((?:\w+/)*\w+\.(?:py|smk))`", path.read_text()):
        assert any(ROOT.glob(f"**/{name}")), name


@pytest.mark.parametrize("path", PAGES, ids=label)
def test_links_to_files_lead_somewhere(path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", path.read_text()):
        assert (path.parent / target).exists(), target


def docstrings(path: Path) -> Iterator[str]:
    """Those of a file and of all that it defines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield ast.get_docstring(node) or ""


@cache
def configuration_keys() -> set[str]:
    """Dotted keys of the configuration, such as template.dcr."""

    def keys(schema: dict, prefix: str) -> Iterator[str]:
        for key, entry in schema.get("properties", {}).items():
            yield prefix + key
            yield from keys(entry, f"{prefix}{key}.")

    return set(keys(config.schema(), ""))


@pytest.mark.parametrize("path", sorted(ROOT.glob("diaflow/**/*.py")), ids=label)
def test_names_that_docstrings_shorten_exist(path):
    # `photometry.psf_flux` stands for the function of any module of that name; keys of the configuration look alike.
    for text in docstrings(path):
        for name in re.findall(r"(?<!`)`([a-z_]+(?:\.\w+)+)`(?!`)", text):
            places = [module for module in modules() if module.endswith(f".{name.split('.')[0]}")]
            is_file = name.endswith((".py", ".yaml"))
            if places and not is_file and name not in configuration_keys():
                assert any(resolves(module + name[name.index(".") :]) for module in places), name


def test_every_new_import_path_of_the_changelog_can_be_imported():
    table = (ROOT / "CHANGELOG.md").read_text().split("| old | new |\n|---|---|\n")[1].split("\n\n")[0]
    rows = [re.fullmatch(r"\| `(diaflow[\w.]+)` \| `(diaflow[\w.]+)` \|", line) for line in table.splitlines()]
    assert rows and all(rows)
    assert [row[2] for row in rows if not resolves(row[2])] == []
    assert len({row[1] for row in rows}) == len(rows)
