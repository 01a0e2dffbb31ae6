"""Trails of known flux, length and direction in white noise."""

import numpy as np
import pytest
from triplets import stars, with_noise

from diaflow.diasource import trail
from diaflow.measure.moments import source_moments

SIGMA = 2.0


def fitted(length, snr, n=49, seed=0, sign=1):
    """Fits of n trails of noise 1 and their truth: flux, x, y, direction."""
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(n))
    x, y = (g.ravel() * 70 + 60 + rng.uniform(-0.5, 0.5, n) for g in np.mgrid[:side, :side][::-1])
    angle, flux = rng.uniform(0, np.pi, n), sign * snr * SIGMA * np.sqrt(4 * np.pi)
    shape = (side * 70 + 60,) * 2
    image = rng.normal(size=shape)
    for t in length / 2 * ((np.arange(40) + 0.5) / 20 - 1):
        image += stars(shape, x + t * np.cos(angle), y + t * np.sin(angle), flux / 40, SIGMA)
    difference = with_noise(image, 1.0, SIGMA)
    start = np.array(source_moments(difference.image, x, y, 2 * SIGMA)) - SIGMA**2 * np.array([[1], [1], [0]])
    return trail.fit(difference, np.rint(x), np.rint(y), start, SIGMA), flux, x, y, angle


def errors_along(fit, across=False):
    """Half length, and the error of the half vector along or across the trail."""
    half = np.array([fit.along_x, fit.along_y])
    unit = half / np.hypot(*half)
    unit = np.array([-unit[1], unit[0]]) if across else unit
    return np.hypot(*half), np.sqrt(np.einsum("in,nij,jn->n", unit, fit.covariance[:, 3:, 3:], unit))


@pytest.mark.slow
@pytest.mark.parametrize(("length", "snr", "sign"), [(8.0, 50, 1), (8.0, 50, -1), (20.0, 60, 1)])
def test_flux_place_length_and_direction_are_recovered_within_their_errors(length, snr, sign):
    fit, flux, x, y, angle = fitted(length, snr, sign=sign)
    assert not fit.failed.any()
    half, half_err = errors_along(fit)
    _, across_err = errors_along(fit, across=True)
    turn = (np.arctan2(fit.along_y, fit.along_x) - angle + np.pi / 2) % np.pi - np.pi / 2
    pulls = {
        "flux": (fit.flux - flux) / np.sqrt(fit.covariance[:, 0, 0]),
        "x": (fit.x - x) / np.sqrt(fit.covariance[:, 1, 1]),
        "y": (fit.y - y) / np.sqrt(fit.covariance[:, 2, 2]),
        "length": (half - length / 2) / half_err,
        "angle": turn * half / across_err,
    }
    for name, values in pulls.items():
        # 49 values: 4 sigma of mean and width
        assert abs(values.mean()) < 4 / 7, name
        assert abs(values.std() - 1) < 4 / np.sqrt(2 * 49), name
    reduced = fit.chi2 / fit.n_data
    assert abs(reduced.mean() - 1) < 4 * np.sqrt(2 / 2025 / 49) + 5 / 2025


def test_a_point_source_has_no_significant_length():
    fit, *_ = fitted(0.0, 50)
    half, half_err = errors_along(fit)
    # Its length is zero or positive; where it converges to a length, this is one that noise makes.
    assert np.nanmax(half) < 0.8 * SIGMA and np.nanmax(half / half_err) < 6


def test_no_trails_give_empty_results():
    difference = with_noise(np.zeros((50, 50)), 1.0, SIGMA)
    assert len(trail.fit(difference, np.zeros(0), np.zeros(0), np.zeros((3, 0)), SIGMA).flux) == 0
