"""Tests know the package as its users do."""

import ast

import pytest

PACKAGES = ("diaflow", "planner")
STILL_PRIVATE = {}


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def touched(tree: ast.AST) -> list[str]:
    """Underscored names that are imported from a package or taken from anything but `self` and `cls`."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PACKAGES:
            found += [name.name for name in node.names if private(name.name)]
        elif isinstance(node, ast.Attribute) and private(node.attr):
            if getattr(node.value, "id", "") not in ("self", "cls"):
                found.append(ast.unparse(node))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")).endswith("attr"):
            found += [arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant) and private(str(arg.value))]
    return found


def test_tests_touch_public_names_only(root):
    paths = sorted((root / "tests").rglob("*.py"))
    found = {str(path.relative_to(root)): touched(ast.parse(path.read_text(encoding="utf-8"))) for path in paths}
    assert len(found) > 50
    assert {path: names for path, names in found.items() if names} == STILL_PRIVATE


@pytest.mark.parametrize(
    "text",
    [
        "from planner.page import _ranges",
        "from diaflow.pixels import growth\ngrowth._grow(1)",
        'monkeypatch.setattr(growth, "_grow", None)',
    ],
)
def test_underscored_names_are_seen(text):
    assert len(touched(ast.parse(text))) == 1
