"""The round mean profile of stars: near to a Moffat profile where noise or neighbours decide nothing."""

import numpy as np
import pytest

from diaflow.calibrate import psf_profile

SIGMA = 1.6  # [pixel]


@pytest.mark.parametrize("beta", [2.0, 2.5, 3.5, 5.0])
def test_profile_of_moffat_stars_is_theirs_out_to_the_border(beta):
    """To a thousandth of the light, with a size of the PSF that is off as adaptive moments are."""
    alpha = SIGMA * np.sqrt(2 * beta) * 0.85
    size, n = 31, 30
    t = np.arange(size) - size // 2
    dx, dy = np.random.default_rng(0).uniform(-0.5, 0.5, (2, n))
    radius = np.hypot(t - dx[:, None, None], t[:, None] - dy[:, None, None])
    flux = np.full(n, 1000.0)
    data = 1000.0 * (1 + (radius / alpha) ** 2) ** -beta
    profile = psf_profile.of_stars(data, np.ones_like(data), flux, dx, dy, SIGMA)
    true = (1 + (np.hypot(t, t[:, None]) / alpha) ** 2) ** -beta
    # seven Gaussians, the widest of 3.4 sigma: of beta 2, 1 % of the light in the stamp is beyond them
    assert profile.stamp(size).sum() == pytest.approx(true.sum(), rel=0.015 if beta < 2.5 else 0.005)
    assert (profile.amplitudes > 0).all()


def test_light_of_neighbours_in_the_wings_is_not_that_of_the_stars():
    """As much light as 3 % of each star's, spread over the stamps, is less than the noise tells: it stays outside."""
    rng = np.random.default_rng(1)
    size, n, beta = 31, 20, 3.5
    alpha = SIGMA * np.sqrt(2 * beta) * 0.85
    t = np.arange(size) - size // 2
    true = (1 + (np.hypot(t, t[:, None]) / alpha) ** 2) ** -beta
    flux = np.full(n, 100.0)  # of peak over noise
    data = 100 * true + rng.normal(size=(n, size, size)) + 0.03 * 100 * true.sum() / size**2
    profile = psf_profile.of_stars(data, np.ones_like(data), flux, np.zeros(n), np.zeros(n), SIGMA)
    assert profile.stamp(size).sum() / true.sum() - 1 < 0.015
