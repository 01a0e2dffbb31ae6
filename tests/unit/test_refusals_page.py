"""The page of refusals quotes messages that the code has."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GAP = "…"
ROWS = re.findall(r"^\| `([^`]+)`", (ROOT / "docs/refusals.md").read_text(), re.MULTILINE)
MESSAGES = [row for row in ROWS if " " in row]  # the others are keys of the configuration


@cache
def texts() -> list[str]:
    """All texts of the library, with a gap where a value is put in."""
    nodes = [node for path in ROOT.glob("diaflow/**/*.py") for node in ast.walk(ast.parse(path.read_text()))]
    plain = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    joined = [node.values for node in nodes if isinstance(node, ast.JoinedStr)]
    return plain + ["".join(getattr(part, "value", GAP) if isinstance(part, ast.Constant) else GAP for part in parts)
                    for parts in joined]  # fmt: skip


def is_in_the_code(message: str) -> bool:
    pieces = [re.escape(piece) for piece in re.split(rf"\s*{GAP}\s*", message) if piece]
    pattern = re.compile(".*".join(pieces), re.DOTALL)
    return any(pattern.search(text) for text in texts())


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_of_the_page_is_in_the_code(message):
    assert is_in_the_code(message)


def test_a_message_that_is_not_in_the_code_would_be_found():
    assert len(MESSAGES) > 40 and not is_in_the_code("column '…' has the unheard unit …")
