"""Bad data carries its numbers; what a library says about data is bad data, what is wrong with diaflow is not."""

import pickle

import numpy as np
import pytest

from diaflow.errors import BadData, data_may_fail


def test_bad_data_has_a_sentence_and_its_numbers_also_in_another_process():
    error = pickle.loads(pickle.dumps(BadData("2 kernel stars, at least 3 needed", found=2, needed=3)))
    assert (str(error), error.found, error.needed) == ("2 kernel stars, at least 3 needed", 2, 3)
    assert BadData("no calexp").found is None


def test_an_error_of_a_library_is_bad_data_with_its_traceback_in_the_log(caplog):
    with pytest.raises(BadData, match="fit failed: Singular matrix") as caught, data_may_fail("fit"):
        np.linalg.solve(np.zeros((2, 2)), np.ones(2))
    assert isinstance(caught.value.__cause__, np.linalg.LinAlgError)
    assert "Traceback" in caplog.text and "LinAlgError" in caplog.text


def test_a_lack_of_memory_says_nothing_about_the_data():
    with pytest.raises(MemoryError), data_may_fail("fit"):
        raise MemoryError
