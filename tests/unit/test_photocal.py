"""Zero points: value, error and robustness on stars made from known answers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.calibrate import photocal
from diaflow.calibrate.photocal import zero_point
from diaflow.errors import BadData
from diaflow.units import nanojansky

ZERO_POINT = 27.3


def stars(rng, n, intrinsic=0.0, ref_err=0.01):
    """Fluxes with photon noise (about 1 % at 10,000 DN) and catalogue magnitudes with errors."""
    mag = rng.uniform(15, 20, n)
    true_flux = 10 ** (0.4 * (ZERO_POINT - mag))
    flux_err = np.sqrt(true_flux)
    flux = true_flux * 10 ** (-0.4 * rng.normal(0, intrinsic, n)) + rng.normal(0, flux_err)
    return flux, flux_err, mag + rng.normal(0, ref_err, n), np.full(n, ref_err)


@settings(max_examples=25, deadline=None)
@given(
    offset=st.floats(-20, 40),
    n_stars=st.integers(3, 200),
    seed=st.integers(0, 10_000),
)
def test_noiseless_stars_give_the_zero_point_exactly(offset, n_stars, seed):
    mag = np.random.default_rng(seed).uniform(14, 22, n_stars)
    flux = 10 ** (0.4 * (offset - mag))
    fit = zero_point(flux, 0.01 * flux, mag, np.full(n_stars, 0.01))
    assert fit.value == pytest.approx(offset, abs=1e-6)
    assert fit.n_stars == n_stars
    assert fit.used.all()


@pytest.mark.slow
@pytest.mark.parametrize("intrinsic", [0.0, 0.01, 0.03])
def test_error_of_the_zero_point_is_its_scatter_over_repetitions(intrinsic):
    fits = [zero_point(*stars(np.random.default_rng(seed), 60, intrinsic)) for seed in range(300)]
    pulls = np.array([(fit.value - ZERO_POINT) / fit.error for fit in fits])
    # 300 repetitions know a standard deviation to 1/sqrt(600) = 4 %; three of these, and 3 % for the clipping.
    assert np.std(pulls) == pytest.approx(1, abs=0.15)
    assert np.mean(pulls) == pytest.approx(0, abs=4 / np.sqrt(300))


def test_scatter_is_that_of_the_bright_stars():
    flux, flux_err, mag, mag_err = stars(np.random.default_rng(3), 4000, intrinsic=0.02, ref_err=0.01)
    # Brighter half: catalogue and intrinsic scatter, photon noise of at most 0.011 mag (17.5 mag is 8,300 DN).
    fit = zero_point(flux, flux_err, mag, mag_err)
    assert np.hypot(0.02, 0.01) * 0.95 < fit.scatter < np.hypot(np.hypot(0.02, 0.01), 0.011) * 1.05


def test_variable_stars_and_wrong_matches_do_not_move_the_zero_point():
    pulls = []
    for seed in range(100):
        rng = np.random.default_rng(seed)
        flux, flux_err, mag, mag_err = stars(rng, 100, 0.01)
        wrong = rng.permutation(100)[:30]
        mag[wrong] += np.where(np.arange(30) < 15, rng.uniform(-3, 3, 30), rng.uniform(0.1, 0.6, 30))
        fit = zero_point(flux, flux_err, mag, mag_err)
        assert abs(fit.value - ZERO_POINT) < 0.02
        pulls.append(fit.value - ZERO_POINT)
    # Without outliers 100 stars of 0.017 mag would give 0.002 mag; the undetected tail of one-sided ones may add 1.
    assert abs(np.mean(pulls)) < 0.003


def test_outliers_are_reported_as_not_used():
    flux, flux_err, mag, mag_err = stars(np.random.default_rng(8), 50)
    mag[7] += 1.0
    fit = zero_point(flux, flux_err, mag, mag_err)
    assert not fit.used[7]
    assert fit.n_stars == fit.used.sum() >= 45


def test_one_very_bright_star_does_not_decide_alone():
    flux = np.append(np.full(50, 1e6), 1e10)
    mag = ZERO_POINT - 2.5 * np.log10(flux) + np.append(np.full(50, 0.0), 0.01)
    fit = zero_point(flux, np.sqrt(flux), mag, np.zeros(51))
    # Photon noise of the others is 0.0010857 mag, the floor 0.003: the bright one weighs as much as 1.131 of them.
    assert fit.value - ZERO_POINT == pytest.approx(0.01 * 1.131 / 51.131, rel=0.01)


def test_stars_weigh_by_what_is_known_of_each():
    """Of stars with and without good magnitudes the good ones decide: the error is that of the best weights."""
    errors = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        mag_err = np.tile([0.003, 0.03], 40)
        flux = 10 ** (0.4 * rng.uniform(10, 12, 80))
        mag = ZERO_POINT - 2.5 * np.log10(flux) + rng.normal(0, np.hypot(mag_err, 0.003))
        errors.append(zero_point(flux, 1e-4 * flux, mag, mag_err).value - ZERO_POINT)
    best = np.sum(1 / (np.tile([0.003, 0.03], 40) ** 2 + 0.003**2)) ** -0.5
    # Weights that are estimated cost some per cent, 300 repetitions know it to 4 %. Equal weights: 3.6 times.
    assert np.std(errors) < 1.25 * best


def test_stars_without_flux_or_magnitude_are_left_out():
    flux, flux_err, mag, mag_err = stars(np.random.default_rng(5), 40)
    mag_err[:] = np.nan
    flux[0], flux[1], flux_err[2], mag[3] = -5.0, 0.0, np.nan, np.nan
    fit = zero_point(flux, flux_err, mag, mag_err)
    assert not fit.used[:4].any()
    assert fit.value == pytest.approx(ZERO_POINT, abs=5 * fit.error)


def test_stars_that_cannot_be_used_are_counted_by_what_they_lack():
    flux, mag = np.array([1e4, 2e4, -5.0, np.nan, 3e4]), np.array([18.0, np.nan, 17.0, 16.0, np.nan])
    with pytest.raises(BadData, match="of 5 stars 3 have a flux and 3 a catalogue magnitude, 1 both") as refused:
        zero_point(flux, np.full(5, 10.0), mag, np.full(5, 0.01))
    assert (refused.value.found, refused.value.needed) == (1, 3)


@pytest.mark.parametrize("n_stars", [0, 1, 2])
def test_fewer_than_three_stars_are_bad_data(n_stars):
    with pytest.raises(BadData, match=f"of {n_stars} stars {n_stars} have a flux and {n_stars} a catalogue magnitude"):
        zero_point(*(np.ones(n_stars) for _ in range(4)))


def test_stars_that_disagree_are_bad_data():
    with pytest.raises(BadData, match="agree"):
        zero_point(np.ones(3), np.full(3, 0.01), np.array([10.0, 15.0, 20.0]), np.full(3, 0.01))


def test_nanojansky_follow_the_ab_system():
    assert nanojansky(31.4) == pytest.approx(1)
    assert nanojansky(31.4 - 2.5) == pytest.approx(10)
    # 3631 Jy is magnitude zero, up to the rounding of 31.4.
    assert nanojansky(0.0) == pytest.approx(3631e9, rel=2e-3)


@pytest.mark.parametrize("order", [0, 1, 2])
def test_variation_over_the_detector_is_recovered_with_zero_mean(order):
    rng, shape, error = np.random.default_rng(order), (300, 500), 0.01
    x, y = rng.uniform(0, 499, 400), rng.uniform(0, 299, 400)
    true = np.array([0.0, 0.03, -0.02, 0.04, 0.01, -0.03])[: (order + 1) * (order + 2) // 2]
    values = 25.0 + photocal.evaluated(true, x, y, shape) + rng.normal(0, error, len(x))
    found = photocal.variation(x, y, values, np.full(len(x), error), shape, order)
    grid = (g.ravel() for g in np.meshgrid(np.arange(500), np.arange(300)))
    gx, gy = grid
    # six terms of 400 stars: the error of the map is error * sqrt(6 / 400) on the average, a few times that in corners
    difference = photocal.evaluated(found, gx, gy, shape) - photocal.evaluated(true, gx, gy, shape)
    assert difference.std() < 3 * error * np.sqrt(6 / 400)
    assert abs(photocal.evaluated(found, gx, gy, shape).mean()) < 0.05 * error


def test_variation_takes_the_order_that_the_stars_can_bear():
    x = y = np.linspace(0, 99, 29)
    assert len(photocal.variation(x, y, np.ones(29), np.ones(29), (100, 100), 2)) == 1
