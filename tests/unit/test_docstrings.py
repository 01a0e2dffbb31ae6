"""Public functions and classes say in numpydoc what goes in, what comes out and what is raised.

``python tests/unit/test_docstrings.py`` prints what is missing, and how much of it in each room.

Public is what has no leading underscore, compiled kernels and methods included.  Such a function has the section
Parameters if it takes any, with each of them in it; Returns (or Yields) if it returns something; Raises if a raise
stands in its own body, with each of its errors.  Classes with fields list them under Attributes.  Free are properties,
whose first line is what they return, methods with two underscores, and functions inside of functions.  An algorithm
that takes the place of another may name it: "Parameters, results and errors are those of `other.function`".
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import diaflow

ROOT = Path(__file__).parents[2]
LIBRARY = ROOT / "diaflow"

# Rooms in which something is missing.  The list only gets shorter: a room that is complete must leave it.
INCOMPLETE = ["run"]

# Algorithms that take the place of each other are described once.
SAME_AS = r"Parameters, results and errors are those of\s+`[\w.]+`"

SECTION = r"^{}\n-+\n(.*?)(?=^\w[\w ]*\n-+\n|\Z)"


def section(text: str, name: str) -> str | None:
    """What stands under a heading of a docstring; None where there is no such heading."""
    found = re.search(SECTION.format(name), text, re.MULTILINE | re.DOTALL)
    return found and found.group(1)


def entries(text: str | None) -> set[str]:
    """Names that a section describes: of ``x, y : arrays`` both."""
    lines = re.findall(r"^(\*{0,2}\w.*)$", text or "", re.MULTILINE)
    return {name.strip().lstrip("*") for line in lines for name in line.split(":")[0].split(",")}


def own_nodes(function: ast.FunctionDef) -> Iterator[ast.AST]:
    """Nodes of a function without those of the functions and classes inside of it."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)


def decorators(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """Names of the decorators, without their arguments."""
    return {ast.unparse(each).split("(")[0].split(".")[-1] for each in node.decorator_list}


def parameters(function: ast.FunctionDef, is_method: bool) -> set[str]:
    """Names of what is handed to a function."""
    signature = function.args
    names = [each.arg for each in [*signature.posonlyargs, *signature.args]]
    if is_method and "staticmethod" not in decorators(function):
        names = names[1:]
    names += [each.arg for each in signature.kwonlyargs]
    return {*names, *(each.arg for each in (signature.vararg, signature.kwarg) if each)}


def gives_something(function: ast.FunctionDef) -> bool:
    """Whether it returns or yields anything but None."""
    nodes = list(own_nodes(function))
    values = [node.value for node in nodes if isinstance(node, ast.Return) and node.value]
    values += [node.value for node in nodes if isinstance(node, ast.Yield | ast.YieldFrom) and node.value]
    return any(not (isinstance(value, ast.Constant) and value.value is None) for value in values)


def errors(function: ast.FunctionDef) -> set[str]:
    """Names of the errors that a function raises itself."""
    raised = (node.exc for node in own_nodes(function) if isinstance(node, ast.Raise))
    return {ast.unparse(error).split("(")[0].split(".")[-1] for error in raised if isinstance(error, ast.Call)}


def missing_of_function(function: ast.FunctionDef, is_method: bool = False) -> Iterator[str]:
    """What the docstring of a function lacks."""
    text = ast.get_docstring(function)
    if not text:
        yield "docstring"
        return
    if re.search(SAME_AS, text):
        return
    for name in sorted(parameters(function, is_method) - entries(section(text, "Parameters"))):
        yield f"Parameters: {name}"
    if gives_something(function) and section(text, "Returns") is None and section(text, "Yields") is None:
        yield "Returns"
    for name in sorted(errors(function) - entries(section(text, "Raises"))):
        yield f"Raises: {name}"


def missing_of_class(node: ast.ClassDef) -> Iterator[str]:
    """What the docstring of a class lacks, that of its methods apart."""
    text = ast.get_docstring(node)
    if not text:
        yield "docstring"
        return
    fields = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
    listed = entries(section(text, "Attributes")) | entries(section(text, "Parameters"))
    for name in sorted(name for name in fields - listed if not name.startswith("_")):
        yield f"Attributes: {name}"


def missing(path: Path) -> dict[str, list[str]]:
    """What the public functions, methods and classes of a file lack, by their names."""
    tree = ast.parse(path.read_text())
    found = {"": [] if ast.get_docstring(tree) else ["docstring of the file"]}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            found[node.name] = list(missing_of_function(node))
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            found[node.name] = list(missing_of_class(node))
            methods = (each for each in node.body if isinstance(each, ast.FunctionDef))
            for method in methods:
                if not method.name.startswith("_") and not decorators(method) & {"property", "cached_property"}:
                    found[f"{node.name}.{method.name}"] = list(missing_of_function(method, is_method=True))
    return {f"{path.relative_to(ROOT)} {name}": parts for name, parts in found.items() if parts}


def files(room: str) -> list[Path]:
    """The Python files of a room."""
    return [LIBRARY / f"{room}.py"] if (LIBRARY / f"{room}.py").exists() else sorted((LIBRARY / room).rglob("*.py"))


@pytest.mark.parametrize("room", diaflow.__all__)
def test_public_functions_are_described(room):
    lacks = {name: parts for path in files(room) for name, parts in missing(path).items()}
    if room in INCOMPLETE:
        assert lacks, f"{room} is complete: take it off the list"
    else:
        assert lacks == {}


SILENT = """
def total(first, *rest):
    'Sum of some numbers.'
    if not rest:
        raise KeyError("one is not some")
    return first + sum(rest)
"""
DESCRIBED = '''
def total(first, *rest):
    """Sum of some numbers.

    Parameters
    ----------
    first, *rest : int

    Returns
    -------
    int

    Raises
    ------
    KeyError
        When there is one number only.
    """
    if not rest:
        raise KeyError("one is not some")
    return first + sum(rest)
'''


def test_the_check_sees_what_is_missing():
    silent, described = (list(missing_of_function(ast.parse(text).body[0])) for text in (SILENT, DESCRIBED))
    assert silent == ["Parameters: first", "Parameters: rest", "Returns", "Raises: KeyError"]
    assert described == []


if __name__ == "__main__":
    total = {}
    for room in diaflow.__all__:
        lacks = {name: parts for path in files(room) for name, parts in missing(path).items()}
        total[room] = len(lacks)
        for name, parts in lacks.items():
            print(f"{name}: {', '.join(parts)}")
    print(
        "\nnot described in full:",
        *(f"{room} {number}," for room, number in total.items()),
        f"all {sum(total.values())}",
    )
