"""Bad data carries its numbers; what a library says about data is bad data, what is wrong with diaflow is not."""

import ast
import pickle
import re
from pathlib import Path

import numpy as np
import pytest

from diaflow.errors import BadData, Kind, data_may_fail

ROOT = Path(__file__).parents[2]


def test_bad_data_has_a_sentence_and_its_numbers_also_in_another_process():
    error = pickle.loads(pickle.dumps(BadData("2 kernel stars, at least 3 needed", Kind.KERNEL, found=2, needed=3)))
    assert (str(error), error.found, error.needed) == ("2 kernel stars, at least 3 needed", 2, 3)
    assert error.kind == "kernel"
    assert BadData("no calexp").found is None


def test_an_error_of_a_library_is_bad_data_with_its_traceback_in_the_log(caplog):
    with pytest.raises(BadData, match="fit failed: Singular matrix") as caught, data_may_fail("fit"):
        np.linalg.solve(np.zeros((2, 2)), np.ones(2))
    assert isinstance(caught.value.__cause__, np.linalg.LinAlgError)
    assert "Traceback" in caplog.text and "LinAlgError" in caplog.text


def test_a_lack_of_memory_says_nothing_about_the_data():
    with pytest.raises(MemoryError), data_may_fail("fit"):
        raise MemoryError


def test_every_reason_says_of_which_kind_it_is():
    """A reason without a kind would stand in the report as one that nobody foresaw."""
    unsaid = []
    for path in sorted([*ROOT.glob("diaflow/**/*.py"), *ROOT.glob("scripts/*.py")]):
        calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        raised = [call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "BadData"]
        for call in raised:
            if not re.search(r"\bkind\b", " ".join(map(ast.unparse, call.args[1:2])), re.IGNORECASE):
                unsaid.append(f"{path.relative_to(ROOT)}:{call.lineno}")
    assert unsaid == []
