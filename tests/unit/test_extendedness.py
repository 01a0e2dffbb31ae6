"""Stars and galaxies by size: how much broader than the PSF a star may be, where the PSF is not exact."""

import numpy as np

from diaflow.measure.moments import extendedness


def round_moments(size_log):
    """Moments (3, n) of round sources of sizes exp(size_log)."""
    square = np.exp(2 * np.asarray(size_log))
    return np.array([square, square, 0 * square])


def test_stars_tell_how_wrong_the_psf_is():
    """Bright sources 8 and 40 % broader than the PSF, beside 200 stars that scatter by 1 or by 5 % about it."""
    broader, snr = np.log([1.08, 1.4]), np.full(202, 1e4)
    for scatter, of_first in ((0.01, 1), (0.05, 0)):
        sizes = np.r_[broader, np.random.default_rng(1).normal(0, scatter, 200)]
        found = extendedness(round_moments(sizes), round_moments(np.zeros(202)), snr, np.arange(202) >= 2)
        assert found[0] == of_first and found[1] == 1
        # beyond twice their scatter, or 5 %, are 2.3 %, or none, of the stars
        assert found[2:].mean() < 0.06


def test_noise_of_stars_is_no_error_of_the_psf():
    """Stars of S/N 20 scatter by 5 %, which is noise: a bright source 8 % broader than the PSF is extended."""
    sizes = np.r_[np.log(1.08), np.random.default_rng(2).normal(0, 0.05, 200)]
    snr = np.r_[1e4, np.full(200, 20.0)]
    found = extendedness(round_moments(sizes), round_moments(np.zeros(201)), snr, np.arange(201) >= 1)
    assert found[0] == 1 and found[1:].mean() < 0.02


def test_few_stars_tell_nothing_of_the_psf():
    sizes = np.r_[np.log(1.08), np.full(5, 0.2), np.full(4, -0.2)]
    found = extendedness(round_moments(sizes), round_moments(np.zeros(10)), np.full(10, 1e4), np.arange(10) >= 1)
    assert found[0] == 1
