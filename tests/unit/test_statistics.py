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
