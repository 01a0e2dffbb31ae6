"""What deep coadds are without their sources: the level of the sky, and the noise beside stars that nothing shows."""

from dataclasses import replace

import numpy as np
import pytest
from builders import gaussian
from coaddscene import SIGMA, STAMP, coadd, gaussians, painted

from diaflow.catalogue import detection, sky
from diaflow.image.planes import bits

SHAPE = (500, 500)
PSF = gaussian(SIGMA, STAMP)
UNIT = 1 / np.sqrt((PSF**2).sum())  # flux of S/N 1 where the noise of a pixel is 1
LEVEL = -0.1  # [noise of a pixel]


def crowd(density, faintest, brightest, slope, seed=3):
    """Image of stars at random places, so many to a pixel, with N(> S/N) going with its power -slope."""
    rng = np.random.default_rng(seed)
    n = round(density * np.prod(SHAPE))
    low, high = faintest**-slope, brightest**-slope
    snr = (low + rng.uniform(size=n) * (high - low)) ** (-1 / slope)
    x, y = rng.uniform(0, SHAPE[1] - 1, n), rng.uniform(0, SHAPE[0] - 1, n)
    return painted(SHAPE, *gaussians(SHAPE, x, y, snr * UNIT))


def found(exposure):
    return detection.detect(exposure, PSF).above


def test_level_of_the_sky_is_that_between_sources_with_the_light_of_those_unseen():
    seen, unseen = crowd(1 / 2000, 20, 3000, 0.7), crowd(1 / 60, 0.1, 1.0, 1.0, seed=4)
    exposure = coadd(seen + unseen + LEVEL)
    # 1e5 pixels of white noise and more; the tails of Gaussians beyond 2.4 sigma from 5 sigma are less than that
    error = 1 / np.sqrt(1e5)
    measured = sky.level(exposure, found(exposure), 2 * 2.4 * SIGMA)
    assert measured == pytest.approx(LEVEL + unseen.mean(), abs=3 * error)
    assert unseen.mean() > 6 * error, "they matter"


def test_level_of_the_sky_takes_no_flaw_and_is_none_where_there_is_too_little():
    exposure = coadd(np.full(SHAPE, LEVEL))
    exposure.image[100:200, 100:200] += 30
    exposure.mask[100:200, 100:200] |= bits("SUSPECT")
    exposure.image[300, 300:400] = -1e4
    nothing = np.zeros(SHAPE, bool)
    assert sky.level(exposure, nothing, 3.0) == pytest.approx(LEVEL, abs=3 / np.sqrt(2e5))
    covered = nothing.copy()
    covered[:450] = True
    assert sky.level(exposure, covered, 3.0) == 0


@pytest.mark.parametrize("told", [1.0, 0.5])
def test_noise_in_a_crowd_is_that_of_the_noise_and_not_of_the_stars(told):
    exposure = coadd(crowd(1 / 200, 0.3, 3000, 0.7))
    exposure.variance *= np.float32(told)
    checked, _ = detection.checked(exposure, PSF)
    # 1e4 sums tell the variance to 2.3 %
    assert checked.noise.covariance_factor * told == pytest.approx(1, abs=3 * 0.023)


@pytest.mark.parametrize(("density", "slope"), [(1 / 60, 0.6), (1 / 30, 0.5)])
def test_noise_is_as_it_was_where_stars_leave_no_sky(density, slope):
    """Robust widths of sums between the stars would make its variance 50 % and 500 % more."""
    exposure = coadd(crowd(density, 0.3, 3000, slope))
    exposure = replace(exposure, image=exposure.image - np.float32(np.median(exposure.image)))
    assert detection.checked(exposure, PSF)[0].noise is exposure.noise


def test_noise_without_sources_is_what_it_is():
    factors = [
        detection.checked(coadd(np.zeros(SHAPE), seed=seed), PSF)[0].noise.covariance_factor for seed in range(4)
    ]
    # 6e4 sums in all, one in every second pixel of their length: 1.2 % of the variance
    assert np.mean(factors) == pytest.approx(1, abs=3 * 0.012)
