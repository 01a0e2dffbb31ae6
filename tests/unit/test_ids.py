"""Identifiers: unique, sortable, exact in 64 bits, refused when they do not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diaflow.errors import InputError
from diaflow.store import ids


@given(
    visit=st.integers(0, ids.MAX_VISIT - 1),
    detector=st.integers(0, 511),
    count=st.integers(0, 300),
)
def test_ids_are_unique_ordered_and_give_back_their_data_id(visit, detector, count):
    made = ids.source_ids(visit, detector, count)
    assert made.dtype == np.int64 and len(made) == count
    assert (made >= 0).all() and (np.diff(made) == 1).all()
    visits, detectors = ids.data_ids(made)
    assert (visits == visit).all() and (detectors == detector).all()


def test_the_last_id_of_one_image_is_below_the_first_of_the_next():
    full = 2**ids.NUMBER_BITS
    assert ids.source_ids(5, 3, full)[-1] + 1 == ids.source_ids(5, 4, 1)[0]
    assert ids.source_ids(5, 511, full)[-1] + 1 == ids.source_ids(6, 0, 1)[0]
    assert ids.source_ids(ids.MAX_VISIT - 1, 511, full)[-1] == 2**63 - 1


@pytest.mark.parametrize(
    ("visit", "detector", "count"), [(-1, 0, 1), (2**37, 0, 1), (1, 512, 1), (1, -1, 1), (1, 0, 2**17 + 1)]
)
def test_what_does_not_fit_is_refused_by_name(visit, detector, count):
    with pytest.raises(InputError, match=str(visit)):
        ids.source_ids(visit, detector, count)


def test_numpy_integers_do_not_overflow():
    made = ids.source_ids(np.int32(2**31 - 1), np.int32(511), 1)
    assert ids.data_ids(made)[0][0] == 2**31 - 1


def test_rows_of_identifiers_in_any_order_the_first_of_equal_ones_and_none_of_others():
    known = np.array([2**60 + 1, 5, 9, 5])
    assert ids.rows_of(known, np.array([5, 2**60 + 1, 2**60, 9, 10**18])).tolist() == [1, 0, -1, 2, -1]
    assert ids.rows_of(known[:0], np.array([5, 6])).tolist() == [-1, -1]
