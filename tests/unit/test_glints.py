"""Sources on a line among others, and how rarely chance puts them there."""

import numpy as np
import pytest

from diaflow.diasource import glints

SIZE = 4096


def flashes(angle, n, step=90.0, x0=2000.0, y0=2000.0):
    along = step * np.arange(n)
    return x0 + along * np.cos(angle), y0 + along * np.sin(angle)


@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 2, 2.5])
@pytest.mark.parametrize("others", [0, 60])
def test_flashes_on_a_line_are_found_and_nothing_else(angle, others):
    rng = np.random.default_rng(3)
    x, y = flashes(angle, 6)
    x, y = x + rng.normal(0, 0.4, 6), y + rng.normal(0, 0.4, 6)
    x, y = np.append(x, rng.uniform(0, SIZE, others)), np.append(y, rng.uniform(0, SIZE, others))
    assert glints.on_lines(x, y).tolist() == [True] * 6 + [False] * others


def test_four_sources_are_no_line():
    assert not glints.on_lines(*flashes(0.7, 4)).any()


def test_flashes_too_far_apart_are_not_connected():
    assert not glints.on_lines(*flashes(0.7, 6, step=300.0, x0=1000.0, y0=1000.0)).any()


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 5, 100, 1000, 5000])
def test_chance_makes_no_lines(n):
    """A line in a thousand images; 40 images have none with a probability of 0.96, and more than one with 0.001."""
    lines = 0
    for seed in range(40 if n < 5000 else 5):
        rng = np.random.default_rng(seed)
        lines += glints.on_lines(*rng.uniform(0, SIZE, (2, n))).any()
    assert lines <= 1


def test_a_bent_row_is_no_line():
    x, y = flashes(0.0, 8)
    assert not glints.on_lines(x, y + 0.002 * (x - x.mean()) ** 2).any()
