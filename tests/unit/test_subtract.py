import numpy as np
import pytest
from builders import constant_psf, gaussian, tan_wcs
from scenes import CONFIG, add_stars, make_image, psf_flux, without_stars
from scipy.signal import fftconvolve

from diaflow.detect import streaks
from diaflow.diasource import quality
from diaflow.errors import BadData, Kind
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.measure import extraction
from diaflow.measure.matchedfilter import smooth_snr
from diaflow.pixels.convolution import convolve
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.store import tables
from diaflow.subtract import alard_lupton, zogy
from diaflow.subtract.subtraction import subtract

NOISES = [(1.0, 1.0), (1.0, 0.1), (0.1, 0.1)]


def run(science, template, table, **config):
    """(difference, matched template, figures) with what is left of the kernel stars."""
    result = subtract(science, template, table, alard_lupton.subtract, CONFIG | config)
    left = quality.residual_ratios(result.exposure, science, *result.stars)
    return result.exposure, result.matched_template, result.figures | {"residual_ratio": np.median(left)}


def check_noise(difference, sky, noise_science, noise_template):
    """Mean 0 within 5 sigma of the mean, pixel and plane variance that of both images, within 10 %."""
    pixels = difference.image[sky]
    expected = noise_science**2 + noise_template**2
    assert abs(pixels.mean()) < 5 * (noise_science + noise_template) / np.sqrt(pixels.size)
    assert pixels.var() == pytest.approx(expected, rel=0.1)
    assert difference.variance[sky].mean() == pytest.approx(expected, rel=0.1)


def test_equal_psfs_leave_noise_only():
    science, table = make_image(2.4)
    template, _ = make_image(2.4, noise_seed=7)
    difference, _, _ = run(science, template, table)
    assert np.isfinite(difference.image).all() and np.isfinite(difference.variance).all()
    check_noise(difference, difference.mask == 0, 1.0, 1.0)


@pytest.mark.parametrize("noise_science, noise_template", NOISES)
def test_sharper_science_image_is_convolved_and_leaves_noise_only(noise_science, noise_template):
    science, table = make_image(2.0, noise_science)
    template, _ = make_image(2.4, noise_template, 7)
    difference, _, summary = run(science, template, table, mode="convolve_science")
    check_noise(difference, without_stars(difference, table), noise_science, noise_template)
    assert summary["mode"] == "convolve_science"


@pytest.mark.parametrize("noise_science, noise_template", NOISES)
def test_sharper_template_is_convolved_and_leaves_noise_only(noise_science, noise_template):
    science, table = make_image(2.4, noise_science)
    template, _ = make_image(2.0, noise_template, 7)
    difference, _, summary = run(science, template, table)
    check_noise(difference, without_stars(difference, table), noise_science, noise_template)
    assert summary["mode"] == "convolve_template"
    assert summary["science_variance_factor"] == pytest.approx(1, abs=0.05)
    assert summary["template_variance_factor"] == pytest.approx(1, abs=0.05)


def test_auto_is_bitwise_the_mode_it_chooses_and_swapping_the_images_changes_the_sign():
    good, table = make_image(2.0)
    poor, _ = make_image(2.4, noise_seed=7)
    one, _, _ = run(poor, good, table)
    forced, _, _ = run(poor, good, table, mode="convolve_template")
    np.testing.assert_array_equal(one.image, forced.image)
    np.testing.assert_array_equal(one.variance, forced.variance)
    other, _, summary = run(good, poor, table)
    assert summary["mode"] == "convolve_science"
    sky = without_stars(one, table) & (other.mask == 0)
    total = (one.image + other.image)[sky]
    # both have the same noise but for the sign: what remains is far below the noise sqrt(2) of either
    assert abs(total.mean()) < 5 * 4 / np.sqrt(total.size)
    assert total.std() < 0.2


def test_equal_psfs_in_reverse_order_give_the_negative_difference():
    first, table = make_image(2.4, 0.1)
    second, _ = make_image(2.4, 0.1, 7)
    one, other = run(first, second, table)[0], run(second, first, table)[0]
    sky = without_stars(one, table) & (other.mask == 0)
    total, single = (
        fftconvolve(image, gaussian(2.4), mode="same")[sky].std() for image in (one.image + other.image, one.image)
    )
    # on the scale of the PSF: finer structure of the kernel is noise
    assert total < 0.2 * single


def test_differential_background_is_removed():
    def background(u, v):
        return 2.2 + 2.1 * u + 2.0 * v + 1.2 * (2 * u**2 - 1) + 1.1 * u * v + 1.0 * (2 * v**2 - 1)

    science, table = make_image(2.4, n_stars=60, size=512, background=background)
    template, _ = make_image(2.0, noise_seed=7, n_stars=60, size=512)
    difference, _, _ = run(science, template, table)
    sky = without_stars(difference, table)
    # 60 stamps of 23**2 pixels, 6 coefficients: about 1.4 / sqrt(32e3 / 6) = 0.02 rms
    for rows in (slice(0, 256), slice(256, 512)):
        for cols in (slice(0, 256), slice(256, 512)):
            assert abs(difference.image[rows, cols][sky[rows, cols]].mean()) < 0.15
    assert difference.image[sky].std() == pytest.approx(np.sqrt(2), rel=0.05)


def test_wrong_variance_planes_are_scaled_to_the_sky():
    science, table = make_image(2.4)
    template, _ = make_image(2.0, noise_seed=7)
    science.variance *= np.float32(1.345)
    template.variance *= np.float32(1.345)
    difference, _, summary = run(science, template, table)
    assert 1 / summary["science_variance_factor"] == pytest.approx(1.345, abs=0.07)
    assert 1 / summary["template_variance_factor"] == pytest.approx(1.345, abs=0.07)
    check_noise(difference, without_stars(difference, table), 1.0, 1.0)
    science.variance *= 100
    with pytest.raises(BadData, match="variance plane"):
        run(science, template, table)


@pytest.mark.parametrize("covered", [0.09, 0.3, 0.7])
def test_partial_template_is_subtracted_where_it_is_and_refused_when_too_small(covered):
    science, table = make_image(2.4, n_stars=80, size=400)
    template, _ = make_image(2.0, noise_seed=7, n_stars=80, size=400)
    first = round(400 * covered)
    template.image[:, first:], template.variance[:, first:] = np.nan, np.nan
    template.mask[:, first:] |= bits("NO_DATA")
    if covered < 0.1:
        with pytest.raises(BadData, match="template covers 9 %"):
            run(science, template, table)
        return
    difference, _, summary = run(science, template, table)
    assert summary["template_coverage"] == pytest.approx(covered)
    assert np.isfinite(difference.image).all() and np.isfinite(difference.variance).all()
    assert difference.flagged("NO_DATA")[:, first:].all() and not difference.flagged("NO_DATA")[:, :first].any()
    assert difference.flagged("EDGE")[:, first - 10 : first].all()
    check_noise(difference, without_stars(difference, table), 1.0, 1.0)


def test_without_enough_sources_stars_are_found_in_the_image_or_it_is_bad_data():
    science, table = make_image(2.4)
    template, _ = make_image(2.0, noise_seed=7)
    difference, _, summary = run(science, template, table[:1])
    assert summary["n_kernel_stars"] >= 10
    check_noise(difference, without_stars(difference, table), 1.0, 1.0)
    empty_science, _ = make_image(2.4, n_stars=1)
    empty_template, _ = make_image(2.0, noise_seed=7, n_stars=1)
    with pytest.raises(BadData, match="1 kernel stars, at least 3 needed"):
        run(empty_science, empty_template, table[:0])
    with pytest.raises(BadData, match="1 kernel stars, at least 3 needed") as caught:
        subtract(empty_science, empty_template, table[:0], zogy.subtract, CONFIG)
    assert (caught.value.found, caught.value.needed) == (1, 3)


def ridges(size=1500):
    """Two images of 20 stars and broad ridges of 8 sigma, which are more pixels at a time than sep makes room for."""
    lines = np.where(np.arange(size) % 120 < 18, 8, 0).astype(np.float32)
    science, table = make_image(2.4, size=size)
    template, _ = make_image(2.0, noise_seed=7, size=size)
    science.image += lines
    template.image += lines
    return science, template, table


@pytest.mark.parametrize("algorithm", [alard_lupton, zogy])
def test_stars_are_looked_for_among_broad_ridges(algorithm):
    science, template, table = ridges()
    assert subtract(science, template, table[:2], algorithm.subtract, CONFIG).figures["n_kernel_stars"] >= 3


def test_a_detection_that_fails_is_bad_data_with_its_traceback_in_the_log(monkeypatch, caplog):
    science, template, table = ridges()
    monkeypatch.setattr(extraction, "PIXSTACKS", (1000,))
    with pytest.raises(BadData, match="source detection failed: internal pixel buffer full"):
        run(science, template, table[:2])
    assert "Traceback" in caplog.text


def test_masks_of_the_template_reach_the_difference():
    science, table = make_image(2.4)
    template, _ = make_image(2.0, noise_seed=7)
    science.mask |= bits("DETECTED")
    science.mask[100, 50] |= bits("CR")
    template.mask[60, 180] |= bits("SAT")
    template.mask[200, 90] |= bits("BAD", "INTRP", "SENSOR_EDGE", "INEXACT_PSF", "CLIPPED", "REJECTED")
    difference, matched, _ = run(science, template, table)
    assert not difference.flagged("DETECTED").any()
    assert difference.flagged("CR").sum() == 1
    assert not difference.flagged("SAT").any()
    assert difference.flagged("SAT_TEMPLATE")[58:63, 178:183].all()
    for plane in ("BAD", "SENSOR_EDGE", "INEXACT_PSF"):
        assert difference.flagged(plane)[200, 90] and not difference.flagged(plane)[200, 110]
    assert not difference.flagged("INTRP", "CLIPPED", "REJECTED").any()
    edge = difference.flagged("EDGE")
    assert edge[:10].all() and edge[:, -10:].all() and not edge[10:-10, 10:-10].any()
    np.testing.assert_array_equal(matched.mask, difference.mask)


def test_a_cosmic_ray_on_a_star_is_flagged_and_a_transient_is_not():
    science, table = make_image(2.0, 1.0, noise_seed=6)
    template, _ = make_image(2.0, 0.5, noise_seed=7)
    col, row = round(table["x"][0]), round(table["y"][0])
    science.image[row - 3 : row + 4, col + 2] += 150
    add_stars(science.image, [128.3], [60.6], [600.0], 2.0)
    difference, _, _ = run(science, template, table)
    flagged = difference.flagged("CR")
    assert flagged[row - 1 : row + 2, col + 2].all()
    assert not flagged[50:72, 118:140].any()


def test_saturated_cores_do_not_ring():
    """A core of 1e6 with SAT set leaves pixels 15 away as noise."""
    science, table = make_image(2.4)
    template, _ = make_image(2.0, noise_seed=7)
    science.image[50:53, 200:203] += 1e6
    science.mask[50:53, 200:203] |= bits("SAT")
    difference, _, _ = run(science, template, table)
    assert np.abs(difference.image[40:64, 180:195]).max() < 5 * np.sqrt(2)
    assert difference.image[51, 201] > 1e5


def test_matched_stars_leave_less_than_two_percent_of_their_flux():
    science, table = make_image(2.4, 0.1)
    template, _ = make_image(2.0, 0.1, 7)
    _, _, summary = run(science, template, table)
    assert summary["residual_ratio"] < 0.02
    assert summary["kernel_sum"] == pytest.approx(1, abs=0.01)
    assert summary["n_kernel_stars"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("sigma_science, sigma_template", [(3.3, 2.2), (2.4, 2.0), (2.0, 2.4)])
def test_fluxes_are_unbiased_with_the_psf_of_the_difference_and_pass_a_pull_test(sigma_science, sigma_template):
    """Transients of S/N 50 and empty sky.  The PSF before decorrelation would be wrong by 7 to 11 %."""
    size = 700
    science, table = make_image(sigma_science, 1.0, 6, 60, size)
    template, _ = make_image(sigma_template, 1.0, 7, 60, size)
    grid = np.arange(45, size - 45, 28)
    x, y = (g.ravel() for g in np.meshgrid(grid, grid))
    near = np.hypot(table["x"] - x[:, None], table["y"] - y[:, None]).min(1) < 45
    x, y = x[~near], y[~near]
    empty = np.arange(len(x)) % 2 == 1
    flux = np.where(empty, 0.0, 50 * np.sqrt(4 * np.pi * 2) * sigma_science)
    add_stars(science.image, x, y, flux, sigma_science)
    difference, _, summary = run(science, template, table)
    measured, error = psf_flux(difference, x, y)
    # half of the positions, S/N 50: 0.02 / sqrt(100) = 0.2 %
    assert len(x) > 150
    assert np.mean(measured[~empty] / flux[~empty]) == pytest.approx(1, abs=5e-3)
    before = psf_flux(difference, x, y, constant_psf(gaussian(max(sigma_science, sigma_template)), difference.shape))[0]
    assert np.mean(before[~empty] / flux[~empty]) > 1.05
    pulls = (measured - flux) / error
    # 200 pulls know their width to 5 %
    assert np.std(pulls) == pytest.approx(1, abs=0.15)
    assert abs(np.mean(pulls)) < 0.2
    assert summary["noise_ratio"] == pytest.approx(1, abs=0.02)


@pytest.mark.slow
def test_errors_are_honest_with_a_template_of_correlated_noise():
    """Template noise smoothed a little: its pixels scatter less than its low frequencies, by its covariance factor."""

    size = 1000
    science, table = make_image(2.6, 1.0, 6, 100, size)
    template, _ = make_image(2.0, 1e-3, 7, 100, size)
    smoothing = constant_psf(gaussian(0.6, 9), science.shape)
    noise = 1.5 * np.random.default_rng(2).normal(size=science.shape)
    template.image += convolve(noise, smoothing)
    power = (smoothing.centre() ** 2).sum()
    template.variance += np.float32(1.5**2 * power)
    template.noise = Noise(1 / power)
    grid = np.arange(40, size - 40, 14)
    x, y = (g.ravel() for g in np.meshgrid(grid, grid))
    near = np.hypot(table["x"] - x[:, None], table["y"] - y[:, None]).min(1) < 25
    difference, _, _ = run(science, template, table)
    measured, error = psf_flux(difference, x[~near], y[~near])
    # 3000 independent fluxes know the width to 1.3 %
    assert np.std(measured / error) == pytest.approx(1, abs=0.05)


def test_constant_factor_between_the_images_is_that_of_the_kernel_and_the_science_scale_is_kept():
    """A transient in the science image has its own flux in either mode; static stars of a brighter template vanish."""
    for sigma_science, sigma_template in ((2.4, 2.0), (2.0, 2.4)):
        science, table = make_image(sigma_science, 0.2)
        template, _ = make_image(sigma_template, 0.2, 7)
        template.image *= np.float32(1.2)
        template.variance *= np.float32(1.44)
        x, y = [128], [40]
        add_stars(science.image, x, y, [2000.0], sigma_science)
        difference, matched, summary = run(science, template, table)
        expected = 1 / 1.2 if summary["mode"] == "convolve_template" else 1.2
        assert summary["kernel_sum"] == pytest.approx(expected, rel=0.005)
        # flux error about 1.5 per 2000
        assert psf_flux(difference, x, y)[0][0] == pytest.approx(2000, rel=0.005)
        star = np.rint([table["x"][0], table["y"][0]]).astype(int)
        aperture = slice(star[1] - 8, star[1] + 9), slice(star[0] - 8, star[0] + 9)
        assert matched.image[aperture].sum() == pytest.approx(science.image[aperture].sum(), rel=0.03)


def test_coadd_psf_of_the_template_is_used():
    header = tan_wcs((256, 256))
    science, table = make_image(2.4)
    template, _ = make_image(2.0, noise_seed=7)
    reference, _, _ = run(science, template, table)
    row = PsfInput(visit=7, detector=0, weight=1.0, psf=template.psf, wcs=header, box=(-50, -50, 400, 400))
    template.psf, template.wcs = CoaddPsf([row], header), header
    difference, _, summary = run(science, template, table)
    assert summary["visit_in_template"]
    assert summary["template_fwhm"] == pytest.approx(2.0 * 2.3548, rel=0.01)
    np.testing.assert_allclose(difference.image, reference.image, atol=0.2)


def test_summary_becomes_a_row_of_the_table():
    science, table = make_image(2.4)
    template, _ = make_image(2.0, noise_seed=7)
    result = subtract(science, template, table, alard_lupton.subtract, CONFIG)
    difference = result.exposure
    dia_sources = tables.empty("dia_source", 3)
    dia_sources["pixelFlags"][0] = True
    streaks.mark(difference)
    row = quality.summary_row(result, science, table, dia_sources)
    assert (row["visit"][0], row["detector"][0], row["band"][0], row["status"][0]) == (7, 3, "r", "ok")
    assert (row["n_dia_sources"][0], row["n_dia_sources_unflagged"][0]) == (3, 2)
    # 5 sigma of white noise of variance 2 under the decorrelated PSF
    flux = 5 * np.sqrt(2 / (difference.psf.centre() ** 2).sum())
    assert row["depth"][0] == pytest.approx(31.4 - 2.5 * np.log10(flux), abs=0.03)
    lost = quality.failed(row[0], BadData("no template", Kind.TEMPLATE))
    assert lost["status"][0] == "failed" and lost["reason"][0] == "no template" and lost["visit"][0] == 7


def test_psf_without_a_width_is_bad_data():
    science, table = make_image(2.4)
    template, _ = make_image(2.0, noise_seed=7)
    template.psf = None
    with pytest.raises(BadData, match="PSF"):
        run(science, template, table)


@pytest.mark.slow
@pytest.mark.parametrize("sigma_science, sigma_template", [(2.6, 2.0), (2.0, 2.4)])
def test_noise_is_white_with_a_template_of_resampled_noise(sigma_science, sigma_template):
    """Pixels of difference over sigma have unit width and no correlation in either mode."""
    size = 700
    science, table = make_image(sigma_science, 1.0, 6, 60, size)
    template, _ = make_image(sigma_template, 1e-3, 7, 60, size)
    resampled = Noise(1.6).kernel(science.shape)
    template.image += convolve(np.random.default_rng(4).normal(size=science.shape), resampled)
    template.variance += np.float32((resampled.centre() ** 2).sum())
    template.noise = Noise(1.6)
    difference, _, summary = run(science, template, table)
    # 4e5 pixels, whose width is known to 0.2 %
    assert summary["noise_ratio"] == pytest.approx(1, abs=0.02)
    sky = without_stars(difference, table)
    pixels = np.where(sky, difference.image, 0)
    for shift in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0)):
        both = sky & np.roll(sky, shift, (0, 1))
        assert abs((pixels * np.roll(pixels, shift, (0, 1)))[both].mean() / pixels[sky].var()) < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("sigma_science, sigma_template", [(2.4, 2.0), (2.0, 2.4)])
def test_delta_basis_leaves_noise_only(sigma_science, sigma_template):
    science, table = make_image(sigma_science)
    template, _ = make_image(sigma_template, noise_seed=7)
    difference, _, summary = run(science, template, table, basis="delta", kernel_order=0)
    check_noise(difference, without_stars(difference, table), 1.0, 1.0)
    assert summary["residual_ratio"] < 0.04
    assert summary["kernel_sum"] == pytest.approx(1, abs=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("sigma_template", [2.0, 2.8])
def test_score_after_preconvolution_has_unit_width_and_fluxes_are_unbiased(sigma_template):
    """Templates that are sharper and broader than the science image, noise 0.3; 40 transients of S/N 50."""
    size = 500
    science, table = make_image(2.4, 0.3, 6, 40, size)
    template, _ = make_image(sigma_template, 0.3, 7, 40, size)
    grid = np.arange(60, size - 60, 28)
    x, y = (g.ravel() for g in np.meshgrid(grid, grid))
    near = np.hypot(table["x"] - x[:, None], table["y"] - y[:, None]).min(1) < 40
    x, y = x[~near][::2], y[~near][::2]
    flux = 50 * 0.3 * np.sqrt(8 * np.pi) * 2.4
    add_stars(science.image, x, y, np.full(len(x), flux), 2.4)
    difference, _, summary = run(science, template, table, mode="preconvolve", kernel_order=0)
    assert summary["mode"] == "preconvolve"
    measured, _ = psf_flux(difference, x, y)
    # 0.02 / sqrt(30) = 0.4 %
    assert len(x) > 30
    assert np.mean(measured) == pytest.approx(flux, rel=0.01)
    bad = difference.mask != 0
    score = smooth_snr(difference.image, difference.variance, bad, difference.psf.centre())
    for row, column in zip(y, x):
        bad[row - 25 : row + 26, column - 25 : column + 26] = True
    sky = ~bad & without_stars(difference, table)
    # 5e4 pixels of 70 independent each: 700 values know the width to 3 %
    assert score[sky].std() == pytest.approx(1, rel=0.1)
    assert abs(score[sky].mean()) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("sigma_science, sigma_template", [(2.4, 2.0), (2.0, 2.4)])
def test_flux_ratio_that_varies_over_the_field_is_followed_in_the_scale_of_the_science_image(
    sigma_science, sigma_template
):
    """A template brighter by 1 + 0.2 u; a transient at either end of the field keeps its flux."""
    science, table = make_image(sigma_science, 0.2, 6, 40, 400)
    template, _ = make_image(sigma_template, 0.2, 7, 40, 400)
    ratio = 1 + 0.2 * np.linspace(-1, 1, 400)
    template.image *= ratio.astype(np.float32)
    template.variance *= (ratio**2).astype(np.float32)
    table = table[(np.abs(table["x"] - 60) > 25) & (np.abs(table["x"] - 340) > 25)]
    x, y = [60, 60, 340, 340], [120, 280, 120, 280]
    add_stars(science.image, x, y, [2000.0] * 4, sigma_science)
    varying, _, summary = run(science, template, table, scale_order=1)
    constant, _, before = run(science, template, table)
    assert summary["residual_ratio"] < 0.5 * before["residual_ratio"]
    # what is left of stars beneath and beside them is known to 2 % of 1000
    assert psf_flux(varying, x, y)[0] == pytest.approx(2000, rel=0.03)
