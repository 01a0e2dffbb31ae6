"""Point sources of any width, phase and brightness are not sharp; hits and tracks are."""

import numpy as np
import pytest
from builders import constant_psf, pixel_gaussian, star_image
from triplets import CONFIG, with_noise

from diaflow.diasource import detection, sharp
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.psf.stampfield import FWHM_PER_SIGMA
from diaflow.simulate import flaws
from diaflow.subtract.result import Difference

SIDE = 31  # of the stamps and of the places of sources [pixel]


def sharp_points(fwhm, snr, model_error=0.0, host=0.0, seed=0, n=25):
    """Which of n x n point sources, at any phase, are called sharp; on hosts of `host` times their flux, if any."""
    rng, sigma = np.random.default_rng(seed), fwhm / FWHM_PER_SIGMA
    image = rng.normal(size=(n * SIDE, n * SIDE))
    dx, dy = rng.uniform(-0.5, 0.5, (2, n, n))
    flux = rng.choice([-1, 1], (n, n)) * snr * np.sqrt(4 * np.pi * (sigma**2 + 1 / 12))
    for row, column in np.ndindex(n, n):
        stamp = pixel_gaussian(sigma, SIDE, dx[row, column], dy[row, column])
        box = slice(row * SIDE, (row + 1) * SIDE), slice(column * SIDE, (column + 1) * SIDE)
        image[box] += flux[row, column] * stamp
        # what a kernel leaves of the host: a hundredth of it, where it is steep
        image[box] += 0.01 * host * flux[row, column] * (stamp - pixel_gaussian(1.1 * sigma, SIDE))
    y, x = (g.ravel() * SIDE + SIDE // 2 for g in np.mgrid[:n, :n])
    exposure = with_noise(image, 1.0)
    exposure.psf = constant_psf(pixel_gaussian((1 + model_error) * sigma, SIDE), image.shape)
    good = np.ones(image.shape, bool)
    x, y, *_ = photometry.psf_centroid(exposure.image, exposure.variance, exposure.psf, x, y, good, 2 * sigma)
    fit = photometry.exposure_flux(exposure, x, y)
    snr = fit.flux / fit.err
    return sharp.is_sharp(exposure, good, x, y, snr, sigma) | sharp.is_uneven(exposure, x, y, snr)


@pytest.mark.parametrize("snr", [5.0, 10.0, 100.0])
@pytest.mark.parametrize("fwhm", [1.6, 2.4, 4.0, 8.0])
def test_a_point_source_of_any_phase_and_sign_is_not_sharp(fwhm, snr):
    assert sharp_points(fwhm, snr).mean() < 0.005


@pytest.mark.parametrize("fwhm", [1.6, 4.0])
def test_neither_an_error_of_the_psf_nor_what_is_left_of_a_host_makes_a_point_source_sharp(fwhm):
    for snr in (5.0, 100.0):
        assert sharp_points(fwhm, snr, model_error=0.05).mean() < 0.005
        assert sharp_points(fwhm, snr, host=10.0).mean() < 0.005


def found_on(image, fwhm):
    """DIASources of an image that is a difference without a template."""
    science, blank = with_noise(image, 1.0), with_noise(np.zeros(image.shape), 1.0)
    science.psf = blank.psf = constant_psf(pixel_gaussian(fwhm / FWHM_PER_SIGMA, SIDE), image.shape)
    result = Difference(science, blank, np.zeros((2, 0)), {"science_variance_factor": 1.0})
    return detection.dia_sources(result, science, CONFIG)


@pytest.mark.parametrize(("fwhm", "tracks"), [(1.6, 0), (2.5, 25), (4.0, 25)])
def test_tracks_of_slow_electrons_and_hits_of_a_pixel_are_sharp(fwhm, tracks):
    """Charges of 6 sigma in a pixel of a track; where these turn, they are not told from a PSF of 1.6 pixels."""
    rng = np.random.default_rng(4)
    image = np.zeros((700, 700))
    flaws.add_slow_tracks(image, tracks, rng)
    image *= 6 / flaws.SLOW_CHARGE
    row, column = rng.integers(20, 680, (2, 60))
    image[row, column] += rng.uniform(40, 100, 60)
    table = found_on(image + rng.normal(size=image.shape), fwhm)
    assert len(table) > 50 and table["sharp"].mean() > (0.95 if fwhm > 2 else 0.8)
    assert table["pixelFlags"][table["sharp"]].all()


def test_sources_without_a_flux_or_off_the_image_are_not_sharp():
    image = with_noise(np.zeros((50, 50)), 1.0)
    good = np.zeros(image.shape, bool)
    got = sharp.is_sharp(image, good, np.array([20.0, 60.0]), np.array([20.0, -5.0]), np.array([np.nan, np.nan]), 1.7)
    assert not got.any()
    assert sharp.is_sharp(image, good, np.zeros(0), np.zeros(0), np.zeros(0), 1.7).shape == (0,)


def test_a_hit_of_many_sigma_is_sharp_in_any_place_of_a_pixel_or_line():
    image = np.random.default_rng(2).normal(size=(60, 200))
    image[30, [20, 21]] += 40, 40  # shared by two pixels
    image[27:34, 60] += 20  # along y
    image[range(27, 34), range(97, 104)] += 20  # along a diagonal
    image[30, 150] -= 80
    table = found_on(image, 4.0)
    assert table["sharp"].all() and len(table) == 4 and table["isNegative"].sum() == 1


def test_a_smooth_trail_is_not_uneven():
    """A PSF smeared along 14 of its sigma: what is broader than the PSF is no hit."""
    at, image = np.arange(40, 400, 40), np.zeros((440, 440))
    for row, column in np.stack(np.meshgrid(at, at), -1).reshape(-1, 2):
        for shift in np.linspace(-12, 12, 25):
            image[row - 15 : row + 16, column - 15 : column + 16] += 15 * pixel_gaussian(1.7, SIDE, shift)
    table = found_on(image + np.random.default_rng(6).normal(size=image.shape), 4.0)
    assert len(table) >= len(at) ** 2 and table["sharp"].mean() < 0.02


def test_what_is_left_of_a_hit_beside_its_masked_pixels_is_no_source_and_a_source_beside_a_hit_is():
    image, rng = np.zeros((80, 200)), np.random.default_rng(7)
    image[40, 40:46] += 5, 5, 4, 4, 3, 3  # the rest of a track whose bright end is known
    image += 9 * np.sqrt(4 * np.pi) * 1.7 * star_image(image.shape, [140.0], [40.0], 1.7)
    exposure = with_noise(image + rng.normal(size=image.shape), 1.0)
    exposure.psf = constant_psf(pixel_gaussian(1.7, SIDE), image.shape)
    x, y = np.array([42.0, 140.0, 90.0]), np.array([40.0, 40.0, 40.0])
    assert not sharp.is_beside_hits(exposure, x, y, 5.0).any()
    exposure.mask[40, 36:42] |= bits("CR")
    exposure.mask[41, 140:143] |= bits("CR")
    assert sharp.is_beside_hits(exposure, x, y, 5.0).tolist() == [True, False, False]
