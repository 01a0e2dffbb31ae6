"""Compiled code that is kept on disk is that of the functions as they are."""

import os
import subprocess
import sys

import pytest

CALLER = """
import callee
from numba import njit
from unit import LENGTH
from diaflow.jit import EXACT

@njit(**EXACT)
def area(x):
    return _times(x, LENGTH)

@njit(**EXACT)
def _times(x, y):
    return callee.product(x, y)
"""
CALLEE = """
from numba import njit
from diaflow.jit import EXACT

@njit(**EXACT)
def product(x, y):
    return x * y
"""
COUNTED = "import caller; print(caller.area(3.0), sum(caller.area.stats.cache_hits.values()))"


@pytest.fixture
def result(tmp_path, root):
    """What a fresh process gets from the modules in a folder, and how much of it was on disk."""
    files = {"caller.py": CALLER, "callee.py": CALLEE, "unit.py": "LENGTH = 2.0\n"}

    def run(**changed: str) -> list[float]:
        for name, text in (files | {f"{name}.py": text for name, text in changed.items()}).items():
            (tmp_path / name).write_text(text)
        environment = os.environ | {"PYTHONPATH": f"{tmp_path}:{root}", "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", COUNTED]
        return [float(word) for word in subprocess.check_output(command, env=environment, text=True).split()]

    return run


def test_compiled_code_is_kept_until_a_function_or_constant_that_it_uses_changes(result):
    assert result() == [6, 0]
    assert result() == [6, 1]
    assert result(callee=CALLEE.replace("x * y", "x * y + 1")) == [7, 0]
    assert result(unit="LENGTH = 4.0\n") == [12, 0]
    assert result() == [6, 0]
