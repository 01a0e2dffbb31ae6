"""Means and widths that outliers do not feel."""

import numpy as np
import pytest

from diaflow import statistics


def test_weighted_median_is_the_value_where_half_of_the_weight_is_reached():
    values, weights = np.array([5.0, 1.0, 3.0, 2.0]), np.array([1.0, 1.0, 1.0, 4.0])
    assert statistics.weighted_median(values, weights) == 2
    assert statistics.weighted_median(values, np.array([9.0, 1.0, 1.0, 1.0])) == 5


def test_effective_number_counts_values_of_one_error_and_leaves_out_bad_ones():
    assert statistics.effective_number(np.full(7, 0.3)) == pytest.approx(7)
    assert statistics.effective_number(np.append(np.full(7, 0.3), np.full(50, 300.0))) == pytest.approx(7, rel=1e-3)
    assert statistics.effective_number(np.empty(0)) == 0


@pytest.mark.parametrize("outliers", [0, 10])
def test_error_of_the_mean_of_a_t_distribution_is_its_scatter(outliers):
    rng = np.random.default_rng(outliers)
    errors = np.tile([0.3, 1.0, 3.0], 20)
    pulls = []
    for _ in range(1000):
        values = rng.normal(0, errors)
        values[:outliers] += rng.normal(0, 100, outliers)
        mean, error = statistics.student_mean(values, errors)
        pulls.append(mean / error)
    # 1000 repetitions know a standard deviation to 2.2 %; three of these, and 5 % for 20 values with the weight
    assert np.std(pulls) == pytest.approx(1, abs=0.12)


def test_scatter_of_deciding_values_is_that_of_those_that_hold_the_weight():
    rng = np.random.default_rng(0)
    errors = np.append(np.full(200, 0.01), np.full(2000, 0.2))
    values = np.append(rng.normal(0, np.hypot(0.03, 0.01), 200), rng.normal(0, np.hypot(0.5, 0.2), 2000))
    # of 200 values a robust width is known to 8 %; the better half by number is mostly of the others
    assert statistics.excess_of_deciding(values, errors, 0.001) == pytest.approx(0.03, rel=0.25)
    assert statistics.excess_scatter(values, errors, 0.001) > 0.3
    assert statistics.excess_of_deciding(np.zeros(3), np.ones(3), 0.001) == 0.001


@pytest.mark.parametrize("centre", [0.0, 0.25, 0.5])
def test_clipped_scatter_of_few_integers_is_that_of_their_noise_and_of_rounding(centre):
    """Of 40,000: known to 0.4 %; noise of 0.7 steps leaves a scatter that depends on the centre by 1e-4."""
    values = np.random.default_rng(3).normal(centre, 0.7, 40_000)
    values[:200] = 1e4
    assert statistics.clipped_std(np.rint(values)) == pytest.approx(np.sqrt(0.7**2 + 1 / 12), rel=0.015)


def test_step_is_that_of_the_values():
    values = np.random.default_rng(3).normal(0, 5, 30_000)
    assert statistics.step_of(3 * np.rint(values)) == 3
    assert 0 < statistics.step_of(values) < 1e-6
    assert statistics.step_of(np.full(9, 2.0)) == statistics.step_of(np.empty(0)) == 0
