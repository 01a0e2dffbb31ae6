"""Metrics of a difference image: sky sources, residuals of stars, masked area, depths."""

import numpy as np
from builders import source_table
from test_detect import dia_sources, result_of
from triplets import CONFIG, SIGMA, scattered, stars, triplet, with_noise

from diaflow.diasource import quality
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.store import tables


def test_sky_sources_have_zero_flux_unit_pulls_and_keep_away_from_sources_and_masks():
    shape = (1000, 1100)
    x, y = scattered(np.random.default_rng(1), shape, 30)
    difference, science, template = triplet(stars(shape, x, y, 3000.0))
    difference.mask[:, :300] |= bits("NO_DATA")
    difference.image[:, :300] = 1e6
    dia_sources(difference, science, template, CONFIG)
    pulls = quality.sky_pulls(difference, science)
    assert len(pulls) == quality.N_SKY
    # A thousand places, of which the PSF (8 pi sigma**2 = 145 pixels for two fluxes) makes most independent.
    assert abs(np.median(pulls)) < 4 * 1.25 / np.sqrt(1000) and abs(pulls.std() - 1) < 4 / np.sqrt(2 * 1000)
    difference.mask[:] |= bits("SAT")
    assert len(quality.sky_pulls(difference, science)) == 0


def test_wrong_errors_and_a_wrong_sky_show_in_the_pulls():
    rng = np.random.default_rng(2)
    image = 2 * rng.normal(size=(1000, 1000)) + 0.3
    pulls = quality.sky_pulls(with_noise(image, 1.0), with_noise(image, 1.0))
    # 0.3 on each pixel is 0.3 x sqrt(74) errors of a flux, 74 pixels being the PSF's noise-equivalent area
    np.testing.assert_allclose(np.median(pulls), 0.3 * np.sqrt(4 * np.pi) * SIGMA, atol=4 * 2 * 1.25 / np.sqrt(1000))
    np.testing.assert_allclose(pulls.std(), 2, rtol=4 / np.sqrt(2 * 1000))


def test_places_are_spread_evenly():
    x, y = quality.radical_inverse(5000, 2), quality.radical_inverse(5000, 3)
    np.testing.assert_allclose(x[:4], [1 / 2, 1 / 4, 3 / 4, 1 / 8])
    np.testing.assert_allclose(y[:4], [1 / 3, 2 / 3, 1 / 9, 4 / 9])
    counts = np.histogram2d(x, y, bins=10, range=[[0, 1], [0, 1]])[0]
    # random places would scatter by 7 about 50
    assert abs(counts - 50).max() <= 5


def test_residual_ratio_tells_a_good_match_from_a_wrong_psf():
    """LSST's test: below 0.02 for PSFs that match, above 0.12 for one of 9.5 pixels."""
    shape = (600, 600)
    x, y = scattered(np.random.default_rng(3), shape, 20, distance=60)
    flux = np.full(20, 20000.0)
    science = stars(shape, x, y, flux) + np.random.default_rng(4).normal(size=shape)
    for sigma, good in ((SIGMA, True), (9.5, False)):
        difference, image = with_noise(science - stars(shape, x, y, flux, sigma), 1.0), with_noise(science, 1.0)
        bright = quality.bright_stars(source_table(x, y, flux, 8.0), image, difference)
        ratios = quality.residual_ratios(difference, image, *bright)
        assert len(ratios) == 20
        assert ratios.mean() < 0.02 if good else ratios.mean() > 0.12


def test_masked_fractions_are_those_of_the_mask():
    mask = np.zeros((100, 100), np.int32)
    mask[:10] = bits("SAT")
    mask[5:20] |= bits("STREAK")
    fractions = quality.mask_fractions(mask)
    assert fractions["saturated_fraction"] == 0.1 and fractions["streak_fraction"] == 0.15
    assert fractions["unusable_fraction"] == 0.1 and fractions["no_data_fraction"] == 0


def test_depth_knows_the_noise_and_the_limiting_magnitude_of_lsst_does_not():
    image = np.zeros((300, 300))
    area = 4 * np.pi * (SIGMA**2 + 1 / 12)
    for noise in (1.0, 4.0):
        plane = with_noise(image, noise)
        np.testing.assert_allclose(quality.depth(plane), 31.4 - 2.5 * np.log10(5 * noise * np.sqrt(area)), atol=5e-3)
    # (5 sqrt(pi) sigma) of each image in quadrature
    limit = 31.4 - 2.5 * np.log10(5 * np.sqrt(2 * np.pi) * SIGMA)
    np.testing.assert_allclose(quality.lsst_limiting_magnitude(plane, with_noise(image, 1.0)), limit, atol=0.02)
    plane.noise = Noise(4.0)
    np.testing.assert_allclose(quality.depth(plane), 31.4 - 2.5 * np.log10(5 * 8 * np.sqrt(area)), atol=5e-3)


def test_metrics_fill_the_columns_of_the_summary():
    shape = (500, 500)
    x, y = scattered(np.random.default_rng(5), shape, 10)
    flux = np.where(np.arange(10) < 6, 1000.0, -1000.0)
    difference, science, template = triplet(stars(shape, x, y, flux))
    table = dia_sources(difference, science, template, CONFIG)
    result = result_of(difference, template, x[:6], y[:6])
    metrics = quality.figures(result, science, source_table(x[:6], y[:6], flux[:6], 8.0), table)
    assert (metrics["n_positive"], metrics["n_negative"], metrics["n_dipoles"]) == (6, 4, 0)
    assert set(metrics) <= set(tables.columns("diffim_summary")) and set(metrics) <= set(tables.columns("visit"))
    assert np.isfinite(list(metrics.values())).all()
