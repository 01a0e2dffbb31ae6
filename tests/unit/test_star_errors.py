"""Errors of fluxes that stars of a difference show: they are those that were put in."""

import numpy as np
import pytest
from builders import constant_psf, gaussian
from scenes import add_stars, make_image

from diaflow.image.flux_error import FluxError
from diaflow.measure import photometry
from diaflow.statistics import robust_width
from diaflow.subtract import star_errors

JUMPS = np.zeros((30, 30))
SIGMA = 2.0
SIZE = 900


def images_with(x, y, flux, sigma=SIGMA, size=200):
    """A template of some sources, and a difference of unit variance without them."""
    template, _ = make_image(sigma, 1e-6, n_stars=0, size=size)
    add_stars(template.image, x, y, flux, sigma)
    template.psf = constant_psf(gaussian(SIGMA), (size, size))
    difference, _ = make_image(SIGMA, 1.0, n_stars=0, size=size)
    return difference, template


def residuals(fraction=0.0, power=1.0, displacement=0.0, outliers=0, seed=0):
    """400 stars of S/N 10 to 1000 that leave a part of their flux, or a displaced image."""
    rng = np.random.default_rng(seed)
    x, y = (g.ravel() + rng.uniform(-0.5, 0.5, 400) for g in np.meshgrid(*[np.linspace(30, SIZE - 31, 20)] * 2))
    flux = np.exp(rng.uniform(np.log(75), np.log(7500), 400))
    difference, template = images_with(x, y, flux, size=SIZE)
    pivot = np.median(flux)
    left = rng.normal(size=400) * fraction * pivot * (flux / pivot) ** power
    left[:outliers] += 0.5 * flux[:outliers]
    add_stars(difference.image, x, y, left, SIGMA)
    dx, dy = displacement * SIGMA * rng.normal(size=(2, 400))
    add_stars(difference.image, x + dx, y + dy, flux, SIGMA)
    add_stars(difference.image, x, y, -flux, SIGMA)
    return difference, template, x, y, flux


@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5])
def test_structure_at_a_star_is_its_flux(phase):
    difference, template = images_with([100 + phase], [100 - phase], [1e6])
    structure = star_errors.Structure.of(difference, template, JUMPS)
    star = structure.at(np.array([100 + phase]), np.array([100 - phase]))
    # a bin is 2 x 2 pixels about or beside it
    assert star.flux == pytest.approx(1e6, rel=0.18)
    # of exp(-1/2) / sqrt(2) of the flux at sqrt(2) sigma from the star, what exceeds the rounding of a bin at it
    assert structure.slope.max() == pytest.approx(0.37e6, rel=0.05)
    # by rounding of the bins: a third of the largest
    assert star.slope < 0.16e6
    far = star_errors.FAR * SIGMA
    assert structure.at(np.array([100 + far]), np.array([100.0])).around == pytest.approx(1e6, rel=0.25)
    empty = structure.at(np.array([140.0]), np.array([100.0]))
    assert empty.flux < 1 and empty.slope == 0 and empty.around < 1


def test_a_smooth_galaxy_has_little_structure():
    """One of 10 pixels sigma and the flux of the star: a fiftieth of it in flux."""
    structure = star_errors.Structure.of(*images_with([100], [100], [1e6], sigma=10.0), JUMPS)
    assert structure.flux.max() < 0.02 * 1e6 and structure.slope.max() < 0.02 * 1e6


@pytest.mark.parametrize("outliers", [0, 40, 100])
@pytest.mark.parametrize("fraction, power", [(0.02, 1.0), (0.03, 0.5)])
def test_errors_at_stars_are_what_these_show_at_every_brightness(fraction, power, outliers):
    difference, template, x, y, flux = residuals(fraction, power, outliers=outliers)
    difference.flux_error, found = star_errors.flux_error(difference, template, x, y, JUMPS)
    assert found.fraction == pytest.approx(fraction, rel=0.25)
    fit = photometry.exposure_flux(difference, x, y)
    pulls = (fit.flux / fit.err)[outliers:]
    for part in np.array_split(np.argsort(flux[outliers:]), 4):
        # a width from the quartiles of 90 values or more is known to 12 %
        assert robust_width(pulls[part]) == pytest.approx(1, abs=0.36)
    # of 360 values 6 %, and the fraction is known to 5 to 10 %
    assert robust_width(pulls) == pytest.approx(1, abs=0.2)


def test_noise_alone_leaves_no_errors_worth_mentioning():
    difference, template, x, y, _ = residuals()
    before = photometry.exposure_flux(difference, x, y).err
    difference.flux_error, found = star_errors.flux_error(difference, template, x, y, JUMPS)
    assert found.fraction < 0.004 and found.displacement < 0.004
    assert np.median(photometry.exposure_flux(difference, x, y).err / before) < 1.03


@pytest.mark.parametrize("seed", range(3))
def test_few_stars_do_not_change_the_power(seed):
    """35 stars that leave 2 % of their flux, of which a fifth vary: faint ones are not believed to leave more."""
    difference, template, x, y, _ = residuals(0.02, outliers=80, seed=seed)
    few = np.arange(0, 400, 4)[:100][np.random.default_rng(seed).permutation(100)[:35]]
    _, found = star_errors.flux_error(difference, template, x[few], y[few], JUMPS)
    assert found.power == 1
    # of 28 stars, half of which know it
    assert found.fraction == pytest.approx(0.02, rel=0.6)


def test_displaced_stars_have_errors_beside_them():
    """By 0.03 sigma in each coordinate: 1.3 % of the flux at both sides, and none at the star."""
    difference, template, x, y, flux = residuals(displacement=0.03)
    error, found = star_errors.flux_error(difference, template, x, y, JUMPS)
    assert found.displacement == pytest.approx(0.03, rel=0.3)
    assert found.fraction < 0.004
    bright = flux > 3000
    beside, here = error.at(x[bright] + np.sqrt(2) * SIGMA, y[bright]), error.at(x[bright], y[bright])
    assert np.median(beside / flux[bright]) == pytest.approx(0.43 * 0.03, rel=0.2)
    assert np.median(here) < 0.6 * np.median(beside)


def test_wings_that_are_left_have_errors_around_a_star():
    """Rings of 1 % of the flux of every star at 5 sigma: as wrong there, and little at twice the distance."""
    difference, template, x, y, flux = residuals()
    rng = np.random.default_rng(3)
    angle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    for a in angle:
        left = 0.01 * flux * rng.choice([-1, 1], 400)
        add_stars(difference.image, x + 5 * SIGMA * np.cos(a), y + 5 * SIGMA * np.sin(a), left, SIGMA)
    error, found = star_errors.flux_error(difference, template, x, y, JUMPS)
    assert found.wings == pytest.approx(0.01, rel=0.3)
    bright = flux > 3000
    assert np.median(error.at(x[bright] + 5 * SIGMA, y[bright]) / flux[bright]) == pytest.approx(0.01, rel=0.4)
    assert np.median(error.at(x[bright] + 22, y[bright]) / flux[bright]) < 1.5e-3


def test_without_stars_errors_are_the_usual_ones():
    difference, template = images_with([100], [100], [1e6])
    nothing = np.zeros(0)
    _, found = star_errors.flux_error(difference, template, nothing, nothing, JUMPS)
    assert found.n_stars == 0 and found.fraction == pytest.approx(0.01, rel=0.1)


def test_where_the_psf_jumps_errors_are_those_of_the_jump():
    jumps = JUMPS.copy()
    jumps[:, 15:] = 0.05
    difference, template = images_with([60, 140], [100, 100], [1e5, 1e5])
    error, _ = star_errors.flux_error(difference, template, np.zeros(0), np.zeros(0), jumps)
    low, high = error.at(np.array([60.0, 140]), np.array([100.0, 100]))
    assert high == pytest.approx(np.hypot(low, 0.05e5), rel=0.1)  # the rms of the bin is less than the peak


def test_bins_hold_the_rms_error_and_give_it_back():
    pixels = np.arange(35, dtype=np.float32).reshape(5, 7)
    error = FluxError.binned(pixels)
    assert error.bins.shape == (3, 4)
    first, last = np.sqrt(np.mean(np.square([0, 1, 7, 8]))), 34
    found = error.at(np.array([0, 1, 6.4, -9, np.nan]), np.array([0, 1.4, 4, -9, 0]))
    np.testing.assert_allclose(found, [first, first, last, first, 0], rtol=1e-6)
    rows = error.rows(slice(1, 4), 7)
    assert rows.shape == (3, 7)
    np.testing.assert_allclose(rows[0, :2], first, rtol=1e-6)
    assert rows[1, 0] == rows[2, 1] == error.bins[1, 0]
