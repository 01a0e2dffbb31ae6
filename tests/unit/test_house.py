"""The house stands as drawn: rooms in their order, no circles, small faces.

``python tests/unit/test_house.py`` prints the picture of the rooms that docs/architecture.md shows.

What counts as an import: every ``import`` of a file of diaflow, also one inside a function, and every string that is
the name of a module, because it is what `importlib` is called with.  What stands under ``if TYPE_CHECKING:`` does not
count: it never runs, so it may name a type of any room.
"""

import ast
import importlib
import re
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path

import pytest

import diaflow

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "diaflow"
ROOMS = diaflow.__all__
MAX_FILES = 8  # beside the folders of diaflow/
MAX_FACE = 40  # lines of an __init__.py
IMPORT = r"^ *(?:from (diaflow[\w.]*) import (\([^)]*\)|.+)|import (diaflow[\w.]*))"

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(LIBRARY.rglob("*.py"))
}
FACES = {name: path for name, path in MODULES.items() if path.name == "__init__.py"}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def is_type_checking(node: ast.AST) -> bool:
    """Whether this is the block of imports for type checkers alone."""
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes of a tree that can run."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        waiting += [child for child in ast.iter_child_nodes(node) if not is_type_checking(child)]


def named(node: ast.AST) -> list[str]:
    """Dotted names that a node imports; of a string, itself."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative imports hide where a file stands"
        return [f"{node.module}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [node.value]
    return []


def module_of(name: str) -> str | None:
    """The module of diaflow in which a dotted name is looked up; of what is no part of diaflow, None."""
    if name in MODULES:
        return name
    parent = name.rpartition(".")[0]
    return parent if parent in MODULES else None


@cache
def imports() -> dict[str, set[str]]:
    """For each module of diaflow the modules of diaflow that it imports."""
    found = {name: {module_of(each) for node in running(tree) for each in named(node)} for name, tree in TREES.items()}
    return {name: modules - {None, "diaflow"} for name, modules in found.items()}


def defined(module: str) -> set[str]:
    """Names of the functions, classes and constants that a module defines."""
    names = set()
    for node in TREES[module].body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return names


def room_of(module: str) -> str:
    """The room in which a module is."""
    return module.split(".")[1]


def room_imports() -> dict[str, set[str]]:
    """For each room the other rooms that it imports."""
    edges = {room: set() for room in ROOMS}
    for module, targets in imports().items():
        if module != "diaflow":
            edges[room_of(module)] |= {room_of(target) for target in targets} - {room_of(module)}
    return edges


def everything_below(graph: dict[str, set[str]], start: str) -> set[str]:
    """All that can be reached from a node, in one step or more."""
    reached, waiting = set(), list(graph[start])
    while waiting:
        node = waiting.pop()
        if node not in reached:
            reached.add(node)
            waiting += graph[node]
    return reached


def picture() -> str:
    """The rooms as a mermaid graph: an arrow for each import, but for those that follow from others."""
    edges = room_imports()
    lines = ["flowchart LR"]
    for room in ROOMS:
        implied = set().union(*(everything_below(edges, target) for target in edges[room]))
        lines += [f"    {target} --> {room}" for target in ROOMS if target in edges[room] - implied]
    return "\n".join(lines)


def test_no_room_imports_a_later_one():
    later = {
        f"{module} imports {target}"
        for module, targets in imports().items()
        for target in targets
        if module != "diaflow" and ROOMS.index(room_of(target)) > ROOMS.index(room_of(module))
    }
    assert later == set()


def test_no_file_imports_itself_by_way_of_others():
    circles = [module for module in MODULES if module in everything_below(imports(), module)]
    assert circles == []


def test_a_name_is_imported_from_the_file_that_defines_it():
    passed_on = [
        f"{module} imports {node.module}.{alias.name}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in MODULES
        for alias in node.names
        if f"{node.module}.{alias.name}" not in MODULES and alias.name not in defined(node.module)
    ]
    assert passed_on == []


def test_the_docs_show_the_rooms_in_their_order_and_how_they_hang_together():
    page = (ROOT / "docs/architecture.md").read_text()
    assert re.findall(r"^\| `(\w+)(?:\.py|/)` \|", page, re.MULTILINE) == ROOMS
    assert f"```mermaid\n{picture()}\n```" in page, "print it with: python tests/unit/test_house.py"


def test_few_files_stand_beside_the_folders():
    assert len([path for path in LIBRARY.iterdir() if path.is_file()]) <= MAX_FILES


@pytest.mark.parametrize("name", FACES)
def test_a_face_says_what_its_room_is_for_and_loads_nothing_of_it(name):
    assert len(FACES[name].read_text().splitlines()) <= MAX_FACE
    assert ast.get_docstring(TREES[name])
    assert imports()[name] == set()


@pytest.mark.parametrize("name", FACES)
def test_a_face_lists_the_modules_of_its_room(name):
    children = {path.stem for path in FACES[name].parent.glob("*.py")}
    children |= {path.parent.name for path in FACES[name].parent.glob("*/__init__.py")}
    listed = importlib.import_module(name).__all__
    assert sorted(listed) == sorted(child for child in children if not child.startswith("_"))


def test_the_library_never_imports_snakemake():
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                assert not any(name.startswith("snakemake") for name in named(node)), module


def outside() -> list[Path]:
    """Files that use the library: scripts, rules, the planner, benchmarks, the figures of the docs."""
    patterns = ("Snakefile", "rules/*.smk", "scripts/*.py", "planner/*.py", "benchmarks/*.py", "docs/*.py")
    return sorted(chain.from_iterable(ROOT.glob(pattern) for pattern in patterns))


@pytest.mark.parametrize("path", outside(), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_uses_the_library_imports_its_modules_and_no_underscored_name(path):
    # Lines, not a tree: rules are not quite Python, and benchmarks hold programs in strings.
    text = path.read_text()
    for parent, names, module in re.findall(IMPORT, text, re.MULTILINE):
        for name in filter(None, re.split(r"[\s,()]+", re.sub(r" as \w+|#.*", "", names) or module)):
            imported = f"{parent}.{name}" if parent else module
            assert not re.search(r"\._", imported), imported
            assert imported in MODULES or name in defined(parent), f"{imported} is not where it is defined"
            assert not re.search(rf"\b{name.rpartition('.')[2]}\._[a-z]", text), imported


if __name__ == "__main__":
    print(picture())
