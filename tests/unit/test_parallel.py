"""Detectors are processed in order whatever the number of processes, and errors come back."""

import os
import signal

import pytest

from diaflow.errors import BadData, InputError
from diaflow.run import parallel


def square(x: int) -> tuple[int, int]:
    return x * x, os.getpid()


def refuse(x: int) -> int:
    raise BadData(f"no {x}")


@pytest.mark.parametrize("workers", [1, 3])
def test_results_are_in_the_order_of_the_items(workers):
    results = parallel.each(square, range(7), workers)
    assert [value for value, _ in results] == [x * x for x in range(7)]
    assert (os.getpid() in {pid for _, pid in results}) == (workers == 1)


@pytest.mark.parametrize("workers", [1, 3])
def test_errors_of_workers_are_raised(workers):
    with pytest.raises(BadData, match="no "):
        parallel.each(refuse, range(3), workers)


def vanish(x: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_worker_is_one_clear_line():
    with pytest.raises(InputError, match="more memory or fewer threads"):
        parallel.each(vanish, range(3), 2)


def test_nothing_to_do_gives_nothing():
    assert parallel.each(square, [], 4) == []
