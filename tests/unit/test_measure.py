"""Fluxes, positions and moments of stars whose truth is known analytically."""

import time

import numpy as np
import pytest
from builders import constant_psf, pixel_gaussian
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.errors import BadData
from diaflow.image.planes import bits
from diaflow.measure import extraction, photometry, sources
from diaflow.measure.moments import source_moments
from diaflow.psf.stampfield import FWHM_PER_SIGMA, StampField, moments_sigma

SIZE = 31


def gaussian_psf(sigma, shape=(500, 500)):
    return constant_psf(pixel_gaussian(sigma, SIZE), shape)


def add_star(image, x, y, flux, sigma):
    """Add a star whose 41 x 41 pixels are all on the image."""
    ix, iy = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    image[iy - 20 : iy + 21, ix - 20 : ix + 21] += flux * pixel_gaussian(sigma, 41, x - ix, y - iy)


def grid(rng, shape, step=50):
    """Isolated positions at random sub-pixel phases."""
    y, x = np.meshgrid(np.arange(25, shape[0] - 24, step), np.arange(25, shape[1] - 24, step))
    x, y = x.ravel().astype(float), y.ravel().astype(float)
    return x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, y.size)


def star_field(flux, sigma, seed=0, shape=(500, 500)):
    rng = np.random.default_rng(seed)
    x, y = grid(rng, shape)
    image = np.zeros(shape, np.float32)
    for position in zip(x, y):
        add_star(image, *position, flux, sigma)
    return image, x, y


def flux_of(image, psf, x, y, variance=None, good=None):
    variance = np.ones(image.shape, np.float32) if variance is None else variance
    good = np.ones(image.shape, bool) if good is None else good
    return photometry.psf_flux(image, variance, good, psf, x, y)


@pytest.mark.parametrize("fwhm", [2.5, 3.0, 4.0, 7.0])
def test_psf_flux_does_not_depend_on_the_sub_pixel_phase(fwhm):
    sigma = fwhm / FWHM_PER_SIGMA
    image, x, y = star_field(1000.0, sigma)
    fit = flux_of(image, gaussian_psf(sigma), x, y)
    # The stamp of a 7-pixel PSF loses 4e-7 of the flux; the windowed sinc moves a Gaussian to 2e-4.
    np.testing.assert_allclose(fit.flux, 1000, rtol=3e-4)
    assert not fit.flag_no_good_pixels.any()
    # Aliasing of the narrowest PSF leaves a residual of 1.6e-3 of the flux (root of the sum of squares).
    assert fit.chi2.max() < (2e-3 * 1000) ** 2


@pytest.mark.parametrize(("sigma", "error"), [(0.61, 8e-3), (0.7, 3e-3), (0.85, 5e-4)])
def test_psf_flux_of_a_core_that_the_pixels_do_not_resolve(sigma, error):
    """1.6, 1.8 and 2.1 pixels FWHM with the width of a pixel; the filter alone is wrong by 3 times as much at 1.6."""
    image, x, y = star_field(1000.0, sigma)
    fit = flux_of(image, gaussian_psf(sigma), x, y)
    assert np.abs(fit.flux / 1000 - 1).max() < error
    x_fit, y_fit, *_ = photometry.psf_centroid(image, image * 0 + 1, gaussian_psf(sigma), np.rint(x), np.rint(y))
    np.testing.assert_allclose([x_fit, y_fit], [x, y], atol=5e-3)


def test_zero_flux_measures_zero_within_its_errors():
    rng = np.random.default_rng(1)
    shape = (1500, 1500)
    variance = rng.uniform(1, 9, shape).astype(np.float32)
    image = (rng.normal(size=shape) * np.sqrt(variance)).astype(np.float32)
    x, y = grid(rng, shape, step=SIZE + 1)
    fit = flux_of(image, gaussian_psf(1.8, shape), x, y, variance)
    pull, n = fit.flux / fit.err, len(x)
    assert n > 2000
    # Independent unit Gaussians: the mean has error 1/sqrt(n), the standard deviation 1/sqrt(2 n); 4 sigma each.
    assert abs(pull.mean()) < 4 / np.sqrt(n)
    assert abs(pull.std() - 1) < 4 / np.sqrt(2 * n)
    reduced = fit.chi2 / (fit.n_data - 1)
    assert abs(reduced.mean() - 1) < 4 * np.sqrt(2 / SIZE**2 / n)


def test_a_faint_star_in_its_own_photon_noise_is_not_biased():
    """The variance plane holds the counts, so low pixels claim low noise: weights 1/V would lose 40 counts here."""
    rng = np.random.default_rng(2)
    shape, sky, flux, sigma = (1500, 1500), 100.0, 400.0, 1.8
    image, x, y = star_field(flux, sigma, seed=3, shape=shape)
    counts = rng.poisson(image + sky).astype(np.float32)
    fit = flux_of(counts - sky, gaussian_psf(sigma, shape), x, y, variance=counts)
    assert abs(fit.flux.mean() - flux) < 4 * fit.flux.std() / np.sqrt(len(x))


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(-1e4, 1e4).filter(lambda s: abs(s) > 1e-3), dx=st.floats(-0.5, 0.499), dy=st.floats(-0.5, 0.499))
def test_psf_flux_is_linear_and_sign_symmetric(scale, dx, dy):
    rng = np.random.default_rng(4)
    image = rng.normal(size=(41, 41)).astype(np.float32)
    psf = gaussian_psf(1.7, image.shape)
    one, scaled = flux_of(image, psf, 20 + dx, 20 + dy), flux_of(scale * image, psf, 20 + dx, 20 + dy)
    # 961 float32 pixels, each rounded to 6e-8, with a sum near the noise of one PSF.
    np.testing.assert_allclose(scaled.flux, scale * one.flux, atol=1e-5 * abs(scale))
    np.testing.assert_array_equal(scaled.err, one.err)


def test_masked_pixels_leave_the_flux_unbiased_and_raise_its_error():
    image, x, y = star_field(1000.0, 1.8)
    good = np.ones(image.shape, bool)
    for dx, dy in ((0, 0), (1, 0), (-2, 1)):
        row, column = np.floor(y + dy + 0.5).astype(int), np.floor(x + dx + 0.5).astype(int)
        good[row, column], image[row, column] = False, 1e6
    fit, whole = flux_of(image, gaussian_psf(1.8), x, y, good=good), flux_of(image * 0, gaussian_psf(1.8), x, y)
    np.testing.assert_allclose(fit.flux, 1000, rtol=5e-4)
    assert (fit.err > 1.05 * whole.err).all()
    np.testing.assert_array_equal(fit.n_data, SIZE**2 - 3)


def test_pixels_that_are_not_numbers_or_have_no_variance_are_not_used():
    image, x, y = star_field(1000.0, 1.8)
    variance = np.ones(image.shape, np.float32)
    row, column = np.floor(y + 0.5).astype(int), np.floor(x + 0.5).astype(int)
    image[row, column] = np.nan
    variance[row, column + 1], variance[row + 1, column], variance[row - 1, column] = 0, np.inf, np.nan
    fit = flux_of(image, gaussian_psf(1.8), x, y, variance)
    np.testing.assert_allclose(fit.flux, 1000, rtol=5e-4)
    np.testing.assert_array_equal(fit.n_data, SIZE**2 - 4)


def test_the_inside_part_of_a_psf_at_the_edge_gives_the_flux_and_a_flag():
    image, x, y = star_field(1000.0, 1.8)
    first = (x < 60) & (y < 60)
    cut = image[:, int(x[first][0] + 0.5) - 1 :]
    left = x - (image.shape[1] - cut.shape[1])
    fit = flux_of(np.ascontiguousarray(cut), gaussian_psf(1.8, cut.shape), left[first], y[first])
    np.testing.assert_allclose(fit.flux, 1000, rtol=5e-4)
    assert fit.flag_edge.all() and not fit.flag.any()


def test_off_the_image_or_all_masked_is_nan_and_flagged():
    image = np.ones((50, 50), np.float32)
    good = np.ones(image.shape, bool)
    good[:, 25:] = False
    x, y = np.array([-0.6, 10.0, 49.6, np.nan, 40.0, 20.0]), np.array([20.0, 49.5, 20.0, 20.0, 25.0, 25.0])
    fit = flux_of(image, gaussian_psf(1.5, image.shape), x, y, good=good)
    np.testing.assert_array_equal(fit.flag_no_good_pixels, [True] * 5 + [False])
    np.testing.assert_array_equal(np.isnan(fit.flux) & np.isnan(fit.err), fit.flag_no_good_pixels)
    np.testing.assert_array_equal(fit.flag_edge, [True] * 4 + [True, False])


def test_where_the_psf_is_not_known_there_is_no_flux():
    image, x, y = star_field(1000.0, 1.8)
    known = gaussian_psf(1.8)

    def psf(x, y):
        return np.where((np.asarray(x) > 200)[:, None, None], known(x, y), np.nan)

    fit = flux_of(image, psf, x, y)
    np.testing.assert_array_equal(fit.flag, x <= 200)
    np.testing.assert_array_equal(photometry.psf_centroid(image, image * 0 + 1, psf, x, y)[4], x <= 200)


def test_fluxes_do_not_depend_on_batches_or_order(monkeypatch):
    image, x, y = star_field(1000.0, 1.8)
    terms = np.stack([pixel_gaussian(1.8, SIZE), *0.01 * np.random.default_rng(5).normal(size=(2, SIZE, SIZE))])
    psf = StampField(terms, 1, image.shape)
    whole = flux_of(image, psf, x, y)
    monkeypatch.setattr(photometry, "BATCH", 7)
    shuffled = np.random.default_rng(6).permutation(len(x))
    parts = flux_of(image, psf, x[shuffled], y[shuffled])
    np.testing.assert_allclose(parts.flux, whole.flux[shuffled], rtol=1e-12)


@pytest.mark.parametrize("sign", [1, -1])
def test_centroid_errors_are_those_of_the_positions(sign):
    rng = np.random.default_rng(7)
    shape, flux, sigma = (2000, 2000), 300.0, 1.8
    image, x, y = star_field(sign * flux, sigma, seed=8, shape=shape)
    image += rng.normal(size=shape)
    start_x, start_y = np.floor(x + rng.uniform(-1, 2, x.size)), np.floor(y + rng.uniform(-1, 2, y.size))
    variance = np.ones(shape, np.float32)
    x_fit, y_fit, x_err, y_err, failed = photometry.psf_centroid(
        image, variance, gaussian_psf(sigma, shape), start_x, start_y
    )
    assert not failed.any()
    pull = np.concatenate([(x_fit - x) / x_err, (y_fit - y) / y_err])
    # S/N is 47: the fit is in its linear regime.  4 sigma of the mean and of the standard deviation.
    assert abs(pull.mean()) < 4 / np.sqrt(pull.size)
    assert abs(pull.std() - 1) < 4 / np.sqrt(2 * pull.size)
    # Fisher error of a Gaussian PSF in white noise: sqrt(8 pi) sigma**2 noise / flux; pixels add 1/12 to sigma**2.
    np.testing.assert_allclose(np.median(x_err), np.sqrt(8 * np.pi) * (sigma**2 + 1 / 12) / flux, rtol=0.02)


@pytest.mark.parametrize("fwhm", [1.7, 4.0, 9.7])
def test_centroids_of_faint_sources_are_as_good_as_their_noise_allows(fwhm):
    """A Moffat profile, cut off where it has 5 % of its peak at 9.7 pixels FWHM, at S/N 7."""
    rng = np.random.default_rng(11)
    half, n = 40, 23
    t = np.arange(-half, half + 1)
    alpha2 = fwhm**2 / 4 / (2 ** (1 / 3.5) - 1)

    def star(dx, dy):
        return (1 + ((t - dx) ** 2 + (t[:, None] - dy) ** 2) / alpha2) ** -3.5

    stamp = star(0, 0)[half - 15 : half + 16, half - 15 : half + 16]
    flux = 7 / np.sqrt((stamp**2).sum())
    dx, dy = rng.uniform(-0.5, 0.5, (2, n * n))
    image = rng.normal(size=(n, len(t), n, len(t)))
    image += flux * np.array([star(*phase) for phase in zip(dx, dy)]).reshape(n, n, *star(0, 0).shape).swapaxes(1, 2)
    image = image.reshape(n * len(t), -1)
    y, x = (g.ravel() * len(t) + half for g in np.mgrid[:n, :n])
    psf, sigma = constant_psf(stamp / stamp.sum(), image.shape), moments_sigma(stamp)
    start_x, start_y = np.rint(np.array([x, y]) + rng.normal(0, np.sqrt(2) * sigma / 7, (2, n * n)))
    x_fit, y_fit, *_, failed = photometry.psf_centroid(
        image, np.ones_like(image), psf, start_x, start_y, max_shift=2 * sigma
    )
    off = np.concatenate([x_fit - x - dx, y_fit - y - dy])[np.tile(~failed, 2)]
    # 0.02 is known of a scatter of 1058 values; at S/N 7 it is a few per cent above its limit at high S/N.
    assert off.std() == pytest.approx(np.sqrt(2) * sigma / 7, rel=0.1 + 2 * 0.022)
    assert failed.mean() < 0.01 + 2 * np.sqrt(0.01 / len(x))


def test_centroid_without_noise_is_exact():
    image, x, y = star_field(1000.0, 1.5)
    x_fit, y_fit, *_ = photometry.psf_centroid(image, image * 0 + 1, gaussian_psf(1.5), np.floor(x), np.floor(y + 0.5))
    np.testing.assert_allclose([x_fit, y_fit], [x, y], atol=1e-3)


def test_a_centroid_that_runs_away_has_failed_and_stays_at_its_start():
    image, x, y = star_field(1000.0, 1.8)
    x_fit, y_fit, x_err, y_err, failed = photometry.psf_centroid(
        image, image * 0 + 1, gaussian_psf(1.8), x + 3.5, y, max_shift=2.0
    )
    assert failed.all()
    np.testing.assert_array_equal([x_fit, y_fit], [x + 3.5, y])
    assert np.isnan([x_err, y_err]).all()
    outside = photometry.psf_centroid(image, image * 0 + 1, gaussian_psf(1.8), [-9.0, np.nan], [5.0, 5.0])
    assert outside[4].all()


def test_centroid_ignores_masked_pixels():
    image, x, y = star_field(1000.0, 1.8)
    good = np.ones(image.shape, bool)
    row, column = np.floor(y + 0.5).astype(int), np.floor(x + 1.5).astype(int)
    good[row, column], image[row, column] = False, 1e5
    x_fit, y_fit, _, _, failed = photometry.psf_centroid(image, image * 0 + 1, gaussian_psf(1.8), x, y, good=good)
    assert not failed.any()
    np.testing.assert_allclose([x_fit, y_fit], [x, y], atol=2e-3)


def test_aperture_is_the_exact_area_of_a_circle():
    image = np.ones((100, 100), np.float32)
    flux, err, truncated = photometry.aperture_flux(image, 4 * image, [50.3, 5.0, -1.0], [49.8, 50.0, 50.0], 12.0)
    np.testing.assert_allclose(flux[0], np.pi * 144, rtol=1e-6)
    np.testing.assert_allclose(err[0], np.sqrt(4 * np.pi * 144), rtol=1e-6)
    np.testing.assert_array_equal(truncated, [False, True, True])
    assert np.isnan(flux[2]) and 0 < flux[1] < flux[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_moments_of_a_gaussian_are_its_own(sign):
    image, x, y = star_field(sign * 1000.0, 1.8)
    ixx, iyy, ixy = source_moments(image, x, y, 2.1)
    # A pixel adds 1/12 to the variance of a Gaussian; the weight acts on pixel sums, which changes it by 1e-3.
    np.testing.assert_allclose([ixx, iyy], 1.8**2 + 1 / 12, rtol=3e-3)
    np.testing.assert_allclose(ixy, 0, atol=3e-3)


def test_moments_of_an_ellipse_have_its_orientation():
    yy, xx = np.mgrid[:61, :61] - 30.0
    image = np.exp(-0.5 * (xx**2 / 9 + yy**2 / 4))
    np.testing.assert_allclose(np.ravel(source_moments(image, [30.0], [30.0], 2.5)), [9, 4, 0], atol=0.01)
    turned = np.exp(-0.5 * ((xx + yy) ** 2 / 2 / 9 + (xx - yy) ** 2 / 2 / 4))
    np.testing.assert_allclose(np.ravel(source_moments(turned, [30.0], [30.0], 2.5)), [6.5, 6.5, 2.5], atol=0.01)


def test_planes_within_collects_the_bits_of_a_disc():
    mask = np.zeros((20, 30), np.int32)
    mask[9, 11] = bits("SAT")
    mask[10, 14] = bits("CR")
    found = photometry.planes_within(mask, [10.4, 9.4, 10.0, -5.0], [10.0, 10.0, 10.0, 10.0], 1.5)
    np.testing.assert_array_equal(found, [bits("SAT"), 0, bits("SAT"), 0])
    np.testing.assert_array_equal(photometry.planes_within(mask, 10.0, 10.0, 4.0), [bits("SAT", "CR")])


def test_no_positions_give_empty_results():
    image = np.ones((50, 50), np.float32)
    assert len(flux_of(image, gaussian_psf(1.5), [], []).flux) == 0
    assert len(photometry.psf_centroid(image, image, gaussian_psf(1.5), [], [])[0]) == 0
    assert len(photometry.aperture_flux(image, image, [], [], 3.0)[0]) == 0


def test_time_of_ten_thousand_positions():
    rng = np.random.default_rng(9)
    image = rng.normal(size=(2048, 2048)).astype(np.float32)
    terms = np.zeros((6, SIZE, SIZE))
    terms[0] = pixel_gaussian(1.8, SIZE)
    psf = StampField(terms, 2, image.shape)
    x, y = rng.uniform(0, 2047, (2, 10_000))
    variance, good = np.ones_like(image), np.ones(image.shape, bool)
    photometry.psf_flux(image, variance, good, psf, x[:1], y[:1])
    start = time.process_time()
    fit = photometry.psf_flux(image, variance, good, psf, x, y)
    print(f"10,000 PSF fluxes of 31 x 31 pixels: {time.process_time() - start:.2f} s")
    assert np.isfinite(fit.flux).all()


def test_source_of_more_pixels_than_usual_is_extracted_whole(monkeypatch):
    image = np.zeros((200, 200), np.float32)
    image[50:150, 50:150] = 10  # flat, so that nothing is below it to be split off
    monkeypatch.setattr(extraction, "PIXSTACKS", (1000, 5_000_000))
    found = extraction.extract(image, 5.0)
    assert len(found) == 1 and found["npix"][0] == 100**2
    monkeypatch.setattr(extraction, "PIXSTACKS", (1000,))
    with pytest.raises(BadData, match="source detection failed"):
        extraction.extract(image, 5.0)


def test_parabola_through_the_highest_pixels_is_near_the_peak():
    rng = np.random.default_rng(4)
    x, y = np.tile(np.arange(20, 400, 20), (19, 1)), np.tile(np.arange(20, 400, 20)[:, None], 19)
    x0, y0 = x + rng.uniform(-0.5, 0.5, x.shape), y + rng.uniform(-0.5, 0.5, x.shape)
    t, image = np.arange(-9, 10), np.zeros((420, 420), np.float32)
    for i, j, dx, dy in zip(x.ravel(), y.ravel(), (x0 - x).ravel(), (y0 - y).ravel()):
        image[j - 9 : j + 10, i - 9 : i + 10] = np.exp(-((t - dx) ** 2 + (t[:, None] - dy) ** 2) / (2 * 2.2**2))
    found_x, found_y = sources.summits(image, x.ravel(), y.ravel())
    # a parabola through a Gaussian errs by less than d / (4 sigma**2) of the displacement d <= 0.5
    assert np.abs([found_x - x0.ravel(), found_y - y0.ravel()]).max() < 0.5 / (4 * 2.2**2)
