"""PSF: choice of stars, and size, shape, centring and normalisation of the pixel model."""

from dataclasses import replace

import builders
import numpy as np
import pytest
import starfield

from diaflow import polynomials
from diaflow.calibrate import psf_model, psf_profile, psf_stars
from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.instruments.images import Pixels
from diaflow.isr.detrend import detrend
from diaflow.measure import photometry
from diaflow.pixels import background
from diaflow.psf.stampfield import moments_sigma
from diaflow.simulate.gaussians import add_gaussians

SIZE = 768


def prepared(field) -> Exposure:
    exposure = detrend(Pixels(field.image), field.row)
    background.subtract(exposure, 128)
    return exposure


def moments(stamps, sigma=1.6):
    """Size, ellipticity and centroid under a fixed Gaussian weight."""
    t = np.arange(stamps.shape[-1]) - stamps.shape[-1] // 2
    x, y = np.meshgrid(t, t)
    weighted = stamps * np.exp(-(x**2 + y**2) / (2 * sigma**2))
    total = weighted.sum((1, 2))
    xx, yy, xy, cx, cy = ((weighted * term).sum((1, 2)) / total for term in (x**2, y**2, x * y, x, y))
    return xx + yy, (xx - yy) / (xx + yy), 2 * xy / (xx + yy), cx, cy


@pytest.fixture(scope="module")
def field():
    return starfield.make(size=SIZE, spacing=44, log_flux=(3.5, 5.3))


@pytest.fixture(scope="module")
def fitted(field):
    exposure = prepared(field)
    chosen = psf_stars.select(exposure, 31)
    return exposure, chosen, *psf_model.fit(exposure, chosen.x, chosen.y, 31, 2)[:2]


def on_grid(psf, inner=0.08):
    g = np.linspace(inner, 1 - inner, 9) * SIZE
    x, y = (v.ravel() for v in np.meshgrid(g, g))
    true = starfield.moffat(np.zeros(len(x)), 0.0, *starfield.psf_at(x, y, (SIZE, SIZE)), size=31)
    return psf(x, y), true


def test_size_and_shape_are_recovered_over_the_detector(fitted):
    model, true = on_grid(fitted[2])
    # dT/T of the adaptive moments, which photometry and matching feel.
    size = np.array([(moments_sigma(m) / moments_sigma(t)) ** 2 - 1 for m, t in zip(model, true)])
    assert abs(size.mean()) < 0.004 and np.abs(size).max() < 0.015
    (_, e1, e2, cx, cy), (_, t1, t2, *_) = moments(model), moments(true)
    assert np.abs(e1 - t1).max() < 0.005 and np.abs(e2 - t2).max() < 0.005
    assert np.abs([cx, cy]).max() < 0.02


def test_psf_has_unit_sum_everywhere_and_measures_stars_to_a_part_in_300(fitted):
    model, true = on_grid(fitted[2])
    np.testing.assert_allclose(model.sum((1, 2)), 1, atol=1e-6)
    flux = (model * true).sum((1, 2)) / (model**2).sum((1, 2))
    assert abs(np.median(flux) - 1) < 0.004 and np.std(flux) < 0.003


def test_wings_below_the_noise_of_a_pixel_do_not_disturb_the_sum():
    """Their flux, 1 % of the PSF, is known as well as from one aperture on the sum of all stars."""
    field = starfield.make(size=400, spacing=44, log_flux=(4.5, 5.0), varying=False)
    exposure = prepared(field)
    chosen = psf_stars.select(exposure, 31)
    psf, *_ = psf_model.fit(exposure, chosen.x, chosen.y, 31, 2)
    t = np.arange(31) - 15
    wings = np.hypot(t, t[:, None]) > 8
    true = starfield.moffat(0.0, 0.0, starfield.FWHM, size=31)[0]
    error = np.sqrt(np.median(exposure.variance) * wings.sum() / (field.flux**2).sum())
    assert abs(psf.centre()[wings].sum() - true[wings].sum()) < 3 * error < 0.2 * true[wings].sum()


@pytest.mark.slow
@pytest.mark.parametrize("fwhm", [2.5, 3.5, 5.0])
def test_model_of_noiseless_stars_is_limited_by_the_interpolation_only(fwhm):
    """Lanczos-5 narrows a shifted star by up to 1.6e-3 in T, which the model makes up for."""
    field = starfield.make(size=512, spacing=44, log_flux=(5, 6), varying=False, fwhm=fwhm)
    image = field.noiseless.astype(np.float32)
    exposure = builders.exposure(image)
    misplaced = field.x + np.random.default_rng(2).normal(0, 0.05, len(field.x))
    psf, used, _ = psf_model.fit(exposure, misplaced, field.y, 31, 0)
    true = starfield.moffat(0.0, 0.0, fwhm, size=31)[0]
    assert used.all()
    assert abs((moments_sigma(psf.centre()) / moments_sigma(true)) ** 2 - 1) < 3e-3
    assert np.abs(psf.centre() - true).max() < 3e-3 * true.max()
    bright = photometry.psf_flux(image, exposure.variance, image > -1, psf, field.x, field.y).flux / field.flux
    assert np.median(bright) == pytest.approx(1, abs=3e-3) and np.std(bright) < 2e-3


def test_selection_takes_stars_and_leaves_galaxies_and_blends():
    rng = np.random.default_rng(3)
    field = starfield.make(size=SIZE, spacing=48, log_flux=(3.5, 5), seed=4)
    gx, gy = rng.uniform(20, SIZE - 20, (2, 60))
    galaxies = starfield.painted((SIZE, SIZE), gx, gy, 10 ** rng.uniform(3.8, 5, 60), rng.uniform(5, 12, 60), 0.2)
    field.image = starfield.observed(field.noiseless + galaxies + starfield.SKY, 5)
    exposure = prepared(field)
    chosen = psf_stars.select(exposure, 31)
    to_star = np.hypot(chosen.x[:, None] - field.x, chosen.y[:, None] - field.y).min(1)
    assert len(chosen.x) > 40 and np.mean(to_star < 0.3) > 0.95
    assert chosen.fwhm == pytest.approx(np.median(starfield.psf_at(field.x, field.y, (SIZE, SIZE))[0]) * 1.13, rel=0.06)
    psf, used, _ = psf_model.fit(exposure, chosen.x, chosen.y, 31, 2)
    assert used[to_star > 1].sum() == 0
    model, true = on_grid(psf)
    size = [(moments_sigma(m) / moments_sigma(t)) ** 2 - 1 for m, t in zip(model, true)]
    assert abs(np.mean(size)) < 0.01


def test_intruders_among_the_stars_are_rejected(fitted, field):
    exposure, chosen, psf, _ = fitted
    broad = starfield.painted((SIZE, SIZE), np.array([300.0, 500.0]), np.array([310.0, 520.0]), [2e5, 2e5], 7.0)
    spoiled = replace(exposure, image=exposure.image + broad.astype(np.float32))
    x, y = np.append(chosen.x, [300.0, 500.0]), np.append(chosen.y, [310.0, 520.0])
    again, used, _ = psf_model.fit(spoiled, x, y, 31, 2)
    assert not used[-2:].any() and used[:-2].mean() > 0.85
    assert moments_sigma(again.centre()) == pytest.approx(moments_sigma(psf.centre()), rel=0.003)


@pytest.mark.parametrize("n_stars, order", [(3, 0), (14, 0), (15, 1), (29, 1), (30, 2), (50, 3), (500, 3)])
def test_order_follows_the_number_of_stars(n_stars, order):
    assert polynomials.affordable(3, n_stars, psf_model.STARS_PER_TERM) == order


@pytest.fixture(scope="module", params=[(0.0, 1), (0.02, 2)], ids=["linear", "quadratic"])
def varying(request) -> tuple[list[tuple[Exposure, psf_stars.Stars]], int]:
    """Five images of stars whose width changes by 2 % along x and by that much to the borders, and its order."""
    (variation, order), size, n = request.param, 512, 8
    images = []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        node = (np.arange(n) + 0.5) * size / n
        x, y = (g.ravel() + rng.uniform(-3, 3, g.size) for g in np.meshgrid(node, node))
        width = (1.6 * (1 + 0.02 * (x / size - 0.5) + variation * ((2 * x / size - 1) ** 2 - 0.5))) ** 2
        image = np.zeros((size, size))
        add_gaussians(image, x, y, 10 ** rng.uniform(3.5, 5.0, n * n), width, np.zeros(n * n), width)
        variance = (200 + image / 2).astype(np.float32)
        exposure = builders.exposure((image + rng.normal(0, np.sqrt(variance))).astype(np.float32), variance)
        images.append((exposure, psf_stars.select(exposure, 31)))
    return images, order


def test_order_is_that_which_the_shapes_of_stars_show(varying):
    """Of three shapes without a higher order, one prefers it by chance in a third of the images."""
    images, order = varying
    assert np.median([psf_stars.varying_order(*image, 2) for image in images]) == order


def test_order_of_the_psf_is_not_exceeded(varying):
    (exposure, stars), *_ = varying[0]
    assert psf_stars.varying_order(exposure, stars, 0) == 0
    few = psf_stars.Stars(stars.x[:8], stars.y[:8], stars.snr[:8], stars.fwhm)
    assert psf_stars.varying_order(exposure, few, 2) == 0


@pytest.mark.parametrize("sigma", [0.65, 0.8])
def test_the_profile_of_stars_is_that_which_their_pixels_have(sigma):
    """Gaussians integrated over pixels, without noise: where they are sharp, the shape of the pixels is no Moffat."""
    rng = np.random.default_rng(5)
    dx, dy = rng.uniform(-0.5, 0.5, (2, 200))
    stamps, centred = np.zeros((200, 31, 31)), np.zeros((31, 31))
    shape = np.array([sigma**2])
    for stamp, x, y in zip((*stamps, centred), (*dx, 0.0), (*dy, 0.0)):
        add_gaussians(stamp, np.array([15 + x]), np.array([15 + y]), np.ones(1), shape, np.zeros(1), shape)
    found = psf_profile.of_stars(stamps, np.ones_like(stamps), np.ones(200), dx, dy, moments_sigma(centred))
    assert np.abs(found.stamp(31) - centred).max() < 0.01 * centred.max()


def test_three_stars_give_a_constant_psf(fitted, field):
    bright = np.argsort(-field.flux)[:3]
    psf, used, _ = psf_model.fit(fitted[0], field.x[bright], field.y[bright], 31, 2)
    assert psf.order == 0 and used.all()
    expected = starfield.psf_at(field.x[bright], field.y[bright], (SIZE, SIZE))[0].mean() / starfield.FWHM
    true = moments_sigma(starfield.moffat(0.0, 0.0, starfield.FWHM, size=31)[0]) * expected
    assert moments_sigma(psf.centre()) == pytest.approx(true, rel=0.03)


def test_six_stars_give_a_constant_psf():
    x, y = np.array([[80.2, 210.7, 330.1, 130.5, 420.9, 300.4], [90.6, 60.3, 190.8, 340.2, 400.5, 440.1]])
    noiseless = starfield.painted((512, 512), x, y, np.full(6, 1e5), starfield.FWHM)
    exposure = detrend(Pixels(starfield.observed(noiseless + starfield.SKY, 3)), starfield.row(512))
    background.subtract(exposure, 128)
    chosen = psf_stars.select(exposure, 31)
    psf, used, _ = psf_model.fit(exposure, chosen.x, chosen.y, 31, 2)
    assert len(chosen.x) == used.sum() == 6 and psf.order == 0
    true = moments_sigma(starfield.moffat(0.0, 0.0, starfield.FWHM, size=31)[0])
    # T of a star of S/N 390 is known to 2 / 390, of six to 0.2 %; three of these and 0.2 % of the model's own
    assert (moments_sigma(psf.centre()) / true) ** 2 == pytest.approx(1, abs=0.008)


@pytest.mark.slow
def test_two_thousand_stars_give_a_varying_psf():
    size, n = 2048, 45
    rng = np.random.default_rng(6)
    node = (np.arange(n) + 0.5) * size / n
    x, y = (g.ravel() + rng.uniform(-3, 3, g.size) for g in np.meshgrid(node, node))

    def variance_at(x, y):  # second moment of the Gaussian, that of a pixel included [pixel**2]
        u, v = 2 * x / size - 1, 2 * y / size - 1
        return (1.6 * (1 + 0.03 * u + 0.02 * v**2 - 0.015 * u * v)) ** 2

    flux, width, round_ = 10 ** rng.uniform(3.5, 5.0, n * n), variance_at(x, y), np.zeros(n * n)
    image = np.zeros((size, size))
    add_gaussians(image, x, y, flux, width, round_, width)
    variance = (200 + image / 2).astype(np.float32)
    image = (image + rng.normal(0, np.sqrt(variance))).astype(np.float32)
    exposure = builders.exposure(image, variance)
    psf, used, _ = psf_model.fit(exposure, x, y, 21, 2)
    assert psf.order == 2 and used.mean() > 0.98
    g = np.linspace(0.05, 0.95, 7) * size
    gx, gy = (v.ravel() for v in np.meshgrid(g, g))
    ratio = np.array([moments_sigma(stamp) ** 2 for stamp in psf(gx, gy)]) / variance_at(gx, gy) - 1
    # six terms from 2000 stars of S/N 100: 2 / 100 sqrt(6 / 2000) = 0.1 %, and 0.2 % of the interpolation
    assert abs(ratio.mean()) < 0.003 and np.abs(ratio).max() < 0.006
    # no corner decides: an even choice of them
    chosen = psf_stars.select(exposure, 31)
    assert len(chosen.x) == psf_stars.CELLS**2 * psf_stars.PER_CELL


def test_fewer_than_three_stars_are_bad_data(fitted):
    with pytest.raises(BadData, match="2 PSF stars < 3"):
        psf_model.fit(fitted[0], fitted[1].x[:2], fitted[1].y[:2], 31, 2)
    blank = starfield.observed(np.full((256, 256), starfield.SKY), 1)
    exposure = detrend(Pixels(blank), starfield.row(256))
    background.subtract(exposure, 128)
    with pytest.raises(BadData, match="no stars for the PSF"):
        psf_stars.select(exposure, 31)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_galaxies_without_a_common_size_are_no_stars(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.uniform(20, 1004, (2, 300))
    flux, fwhm, e = 10 ** rng.uniform(3.5, 5, 300), rng.uniform(5, 14, 300), rng.normal(0, 0.2, (2, 300))
    noiseless = starfield.painted((1024, 1024), x, y, flux, fwhm, *e)
    exposure = detrend(Pixels(starfield.observed(noiseless + starfield.SKY, seed)), starfield.row(1024))
    background.subtract(exposure, 128)
    with pytest.raises(BadData, match="no common size among .* no stars for the PSF"):
        psf_stars.select(exposure, 31)


def test_shift_matrices_move_a_profile_by_their_shift():
    t = np.arange(31) - 15
    shift = np.array([-0.5, -0.2, 0.0, 0.3, 0.5])
    moved = psf_profile.shift_matrices(shift, 31) @ np.exp(-(t**2) / 4.5)
    np.testing.assert_allclose(moved, np.exp(-((t - shift[:, None]) ** 2) / 4.5), atol=2e-3)
