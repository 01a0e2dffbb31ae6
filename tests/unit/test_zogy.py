"""Proper image subtraction: against its Fourier formula, its noise, and what flaws of the images leave."""

import numpy as np
import pytest
from builders import constant_psf, gaussian
from scenes import CONFIG, add_stars, make_image, psf_flux, without_stars
from scipy.signal import fftconvolve

from diaflow.diasource import quality
from diaflow.errors import BadData
from diaflow.image.planes import bits
from diaflow.measure.matchedfilter import smooth_snr
from diaflow.psf.stampfield import moments_sigma
from diaflow.subtract import noise, photometric, zogy
from diaflow.subtract.subtraction import subtract


def run(science, template, table, **config):
    """(difference, matched template, figures) with what is left of the stars."""
    result = subtract(science, template, table, zogy.subtract, CONFIG | config)
    left = quality.residual_ratios(result.exposure, science, *result.stars)
    return result.exposure, result.matched_template, result.figures | {"residual_ratio": np.median(left)}


def difference_of(science, template):
    """D of two images of equal scale and background, without stars."""
    kernels = zogy.kernel_fields(science, template, np.ones(science.shape, bool))
    return zogy.difference_pair(science, template, kernels)


def transform(stamp, shape):
    """Of a stamp with its centre at the origin."""
    pixels = np.zeros(shape)
    k = stamp.shape[0]
    pixels[:k, :k] = stamp
    return np.fft.fft2(np.roll(pixels, (-(k // 2),) * 2, (0, 1)))


def fourier_zogy(science, template):
    """D / F_D and S_corr by the formulas of DMTN-179 on the whole image; F_n = F_r = 1, no astrometric term."""
    shape = science.shape
    p_n, p_r = (transform(e.psf.centre(), shape) for e in (science, template))
    v_n, v_r = (float(np.median(e.variance)) for e in (science, template))
    n, r = (np.fft.fft2(e.image.astype(float)) for e in (science, template))
    power = v_r * np.abs(p_n) ** 2 + v_n * np.abs(p_r) ** 2
    usable = power > 1e-8 * power.max()
    power[~usable] = 1
    difference = np.where(usable, (p_r * n - p_n * r) * np.sqrt((v_n + v_r) / power), n - r)
    k_n = np.where(usable, np.conj(p_n) * np.abs(p_r) ** 2 / power, 0)
    k_r = np.where(usable, np.conj(p_r) * np.abs(p_n) ** 2 / power, 0)
    score = np.fft.ifft2(k_n * n - k_r * r).real
    variance = sum(
        np.fft.ifft2(np.fft.fft2(np.fft.ifft2(k).real ** 2) * np.fft.fft2(e.variance.astype(float))).real
        for k, e in ((k_n, science), (k_r, template))
    )
    return np.fft.ifft2(difference).real, score / np.sqrt(variance)


def test_psf_of_two_gaussians_has_the_negative_ring_of_the_theory():
    """Sigma 1 and 2 pixels, equal noise: -0.69 % of the peak; what no kernel may do is change the flux."""
    stamps = zogy.kernel_stamps(gaussian(1.0)[None], gaussian(2.0)[None], np.ones(1), np.ones(1))
    psf = stamps[2, 0]
    assert psf.min() / psf.max() == pytest.approx(-0.0069, abs=2e-4)
    np.testing.assert_allclose(stamps.sum((-2, -1)), 1, atol=1e-12)


@pytest.mark.parametrize("v_n, v_r", [(1.0, 1.0), (1.0, 0.1), (0.1, 1.0)])
def test_kernels_match_the_psfs_and_make_the_noise_white(v_n, v_r):
    """Sum of v K^2 is v_n + v_r; a star leaves the floor of 1e-3 in the tenth of the frequencies where it acts."""
    narrow, wide = gaussian(1.5)[None], gaussian(1.9)[None]
    k_n, k_r, _ = zogy.kernel_stamps(narrow, wide, np.array([v_n]), np.array([v_r]))[:, 0]
    assert v_n * (k_n**2).sum() + v_r * (k_r**2).sum() == pytest.approx(v_n + v_r, rel=1e-6)
    size = k_n.shape
    residual = np.fft.ifft2(transform(k_n, size) * transform(narrow[0], size)).real
    residual -= np.fft.ifft2(transform(k_r, size) * transform(wide[0], size)).real
    assert np.abs(residual).max() < 2e-4
    assert np.fft.fft2(residual)[:16, :16] == pytest.approx(0, abs=1e-6)
    swapped = zogy.kernel_stamps(wide, narrow, np.array([v_r]), np.array([v_n]))[:, 0]
    np.testing.assert_allclose(swapped[:2], [k_r, k_n], atol=1e-12)


def test_noise_of_measured_psfs_does_not_make_kernels_that_reach_far():
    """Noise of 1e-3 of the peak in both stamps: nine tenths of the kernel within 15 pixels, as without it."""
    rng = np.random.default_rng(1)
    stamps = [gaussian(s)[None] + 1e-3 * gaussian(s).max() * rng.normal(size=(1, 31, 31)) for s in (1.9, 1.5)]
    for kernel in zogy.kernel_stamps(*stamps, np.ones(1), np.ones(1))[:2, 0]:
        middle = kernel.shape[0] // 2
        inner = kernel[middle - 15 : middle + 16, middle - 15 : middle + 16]
        assert (inner**2).sum() > 0.99 * (kernel**2).sum()


def test_difference_is_that_of_the_fourier_formula():
    """At the frequencies of the PSFs; where these are below a thousandth, the floor decides."""
    science, table = make_image(2.4, 1.0)
    template, _ = make_image(2.0, 0.7, 7)
    difference, _ = difference_of(science, template)
    expected, _ = fourier_zogy(science, template)
    inner = np.s_[50:-50, 50:-50]
    assert (difference.mask[inner] == 0).all()
    wrong, right = (fftconvolve(d, gaussian(2.0), "same")[inner] for d in (difference.image - expected, expected))
    assert wrong.std() < 0.02 * right.std()


def test_noise_has_the_variance_of_its_plane_and_only_a_variable_star_is_detected():
    """Variance 100 + 100, sigma 3.3 and 2.2; 256**2 pixels know it to 0.6 %.  Then a star of S/N 10 in one image."""
    science, _ = make_image(3.3, 10.0, n_stars=0)
    template, _ = make_image(2.2, 10.0, 7, n_stars=0)
    difference, _ = difference_of(science, template)
    good = difference.mask == 0
    assert difference.image[good].var() == pytest.approx(200, rel=0.05)
    assert difference.variance[good].mean() == pytest.approx(200, rel=0.01)
    snr = smooth_snr(difference.image, difference.variance, ~good, difference.psf.centre())
    assert np.abs(snr).max() < 5
    error = np.sqrt(200 / (difference.psf.centre() ** 2).sum())
    add_stars(science.image, [120], [130], [10 * error], 3.3)
    difference, _ = difference_of(science, template)
    snr = smooth_snr(difference.image, difference.variance, ~good, difference.psf.centre())
    assert snr[130, 120] == pytest.approx(10, abs=4)
    assert snr.max() == pytest.approx(snr[128:133, 118:123].max())


@pytest.mark.parametrize("sigma_science, sigma_template", [(2.4, 2.0), (2.0, 2.4)])
def test_detection_image_is_s_corr(sigma_science, sigma_template):
    """The matched filter of D over its variance against S / sqrt(V(S)) by the formula, on sky and on transients.

    Photons of transients dominate the noise there, so that a wrong share of either image in the variance would show.
    """
    size = 400
    science, _ = make_image(sigma_science, 1.0, n_stars=0, size=size)
    template, _ = make_image(sigma_template, 0.7, 7, n_stars=0, size=size)
    for exposure, sigma, x in ((science, sigma_science, 130), (template, sigma_template, 270)):
        for y in (100, 200, 300):
            stars = np.zeros(exposure.shape)
            add_stars(stars, [x], [y], [5000.0], sigma)
            exposure.image += stars.astype(np.float32)
            exposure.variance += stars.astype(np.float32)
    difference, _ = difference_of(science, template)
    bad = difference.mask != 0
    snr = smooth_snr(difference.image, difference.variance, bad, difference.psf.centre())
    _, expected = fourier_zogy(science, template)
    # away from the border, where pixels are missing, and from the transients
    assert (snr - expected)[50:-50, 50:100].std() < 0.01
    for x, y in ((x, y) for x in (130, 270) for y in (100, 200, 300)):
        assert snr[y, x] == pytest.approx(expected[y, x], rel=0.05)


@pytest.mark.parametrize("sigma_science, sigma_template", [(3.3, 2.2), (2.0, 2.4)])
def test_whole_subtraction_is_antisymmetric(sigma_science, sigma_template):
    first, table = make_image(sigma_science)
    second, _ = make_image(sigma_template, noise_seed=7)
    one, other = run(first, second, table)[0], run(second, first, table)[0]
    sky = without_stars(one, table) & (other.mask == 0)
    assert (one.image + other.image)[sky].std() < 0.02 * one.image[sky].std()


def test_flux_ratio_background_and_their_change_over_the_field_are_found():
    """A ratio of 0.8 + 0.1 u under a background that changes: 60 stars of S/N 500 know it to 2e-3, and vanish."""
    u, v = np.meshgrid(*(2 * np.arange(512) / 511 - 1,) * 2)
    science, table = make_image(2.4, 0.2, n_stars=60, size=512)
    template, _ = make_image(2.0, 0.2, 7, n_stars=60, size=512)
    ratio = 0.8 + 0.1 * u
    template.image = (template.image / ratio).astype(np.float32)
    template.variance = (template.variance / ratio**2).astype(np.float32)
    science.image += (2 * u * v).astype(np.float32)
    difference, matched, summary = run(science, template, table, scale_order=1)
    assert summary["kernel_sum"] == pytest.approx(0.8, rel=2e-3)
    assert summary["residual_ratio"] < 0.01
    good = difference.mask == 0
    assert np.abs(difference.image[good]).max() < 6 * np.sqrt(0.08)
    x, y = np.rint([table["x"], table["y"]]).astype(int)
    flux, _ = psf_flux(matched, x, y)
    inner = np.minimum(np.minimum(x, y), 511 - np.maximum(x, y)) > 30
    assert np.median(flux[inner] / table["psfFlux"][inner]) == pytest.approx(1, abs=0.05)


def test_a_variable_star_does_not_change_the_flux_ratio():
    science, table = make_image(2.4)
    template, _ = make_image(2.0, noise_seed=7)
    reference = run(science, template, table)[2]["kernel_sum"]
    add_stars(science.image, [table["x"][3]], [table["y"][3]], [2000.0], 2.4)
    _, _, summary = run(science, template, table)
    assert 16 <= summary["n_kernel_stars"] <= 19
    assert summary["kernel_sum"] == pytest.approx(reference, abs=0.01)
    with pytest.raises(BadData, match="kernel stars"):
        run(*(make_image(s, n_stars=1)[0] for s in (2.4, 2.0)), table[:0])


def test_residuals_of_a_shift_of_the_images_are_in_the_errors():
    """0.05 pixels in x: dipoles of 2 % of stars of S/N 500, 10 sigma of the sky, none of which is detected."""
    science, table = make_image(2.4, 0.1, n_stars=30, size=400)
    template, _ = make_image(2.0, 0.1, 7, n_stars=0, size=400)
    add_stars(template.image, table["x"] + 0.05, table["y"], table["psfFlux"], 2.0)
    difference, _, _ = run(science, template, table)
    stamp = difference.psf.centre()
    kernels = zogy.kernel_fields(science, template, noise.sky(science))
    plain, _ = zogy.difference_pair(science, template, kernels)
    bad = difference.mask != 0
    assert np.abs(smooth_snr(plain.image, plain.variance, bad, stamp)).max() > 7
    snr = smooth_snr(difference.image, difference.variance, bad, stamp, difference.flux_error)
    assert np.abs(snr).max() < 5


def test_noise_of_the_images_does_not_bias_the_flux_ratio():
    """Stars of S/N 25: uncorrected, noise in the template would lower the ratio by 1 / S/N**2 and more."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(30, 570, (2, 150))
    ratios = []
    for seed in range(2):
        pair = [make_image(sigma, 1.0, 10 * seed + k, n_stars=0, size=600)[0] for k, sigma in enumerate((2.5, 2.0))]
        for image, sigma in zip(pair, (2.5, 2.0)):
            add_stars(image.image, x, y, np.full(150, 25 * np.sqrt(4 * np.pi) * 2.0), sigma)
        ratios.append(photometric.match(*pair, x, y, np.zeros((600, 600), bool), 0).scale)
    # 2 x 150 stars of S/N 25 and 20: 0.4 %
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.012)


def test_without_a_star_inside_there_is_no_flux_ratio():
    pair = [make_image(sigma, 1.0, n_stars=0)[0] for sigma in (2.5, 2.0)]
    with pytest.raises(BadData, match="0 kernel stars, at least 3 needed"):
        photometric.match(*pair, np.array([2.0, 253.0]), np.array([100.0, 100.0]), np.zeros((256, 256), bool), 0)


def test_the_flux_ratio_is_that_of_most_stars_where_half_of_them_have_changed():
    """Half of 60 stars are 1.3 to 3 times as bright on one image."""
    rng = np.random.default_rng(8)
    x, y = (g.ravel() for g in np.meshgrid(np.linspace(40, 560, 10), np.linspace(40, 560, 6)))
    pair = [make_image(sigma, 0.5, k, n_stars=0, size=600)[0] for k, sigma in enumerate((2.5, 2.0))]
    factor = np.where(rng.permutation(60) < 30, rng.uniform(1.3, 3, 60), 1.0)
    for image, sigma, change in zip(pair, (2.5, 2.0), (factor, 1.0)):
        add_stars(image.image, x, y, 2000 * change * np.ones(60), sigma)
    found = photometric.match(*pair, x, y, np.zeros((600, 600), bool), None)
    assert found.scale == pytest.approx(1.0, abs=0.01)
    assert not found.used[factor > 1].any() and found.used[factor == 1].sum() >= 28


def test_saturated_stars_cosmic_rays_and_gaps_do_not_ring():
    """Cores of 1e6 and gaps in either image; no pixel without a flag is beyond what noise of 1e5 pixels reaches."""
    science, table = make_image(2.4, n_stars=40, size=512)
    template, _ = make_image(2.0, noise_seed=7, n_stars=40, size=512)
    for exposure, x in ((science, 150), (template, 350)):
        add_stars(science.image, [x], [260], [3e5], 2.4)
        add_stars(template.image, [x], [260], [3e5], 2.0)
        exposure.image[257:264, x - 3 : x + 4] = 1e6
        exposure.mask[257:264, x - 3 : x + 4] |= bits("SAT")
    science.image[100:105, 250] += 3e4
    science.mask[100:105, 250] |= bits("CR")
    template.image[400:, 300:] = np.nan
    template.mask[400:, 300:] |= bits("NO_DATA")
    difference, _, _ = run(science, template, table)
    good = difference.mask == 0
    assert good.mean() > 0.6
    assert np.isfinite(difference.image).all() and np.isfinite(difference.variance).all()
    # 1.5e5 pixels of unit width reach 4.5
    assert np.abs(difference.image / np.sqrt(difference.variance))[good].max() < 5.5
    assert difference.flagged("SAT")[260, 150] and difference.flagged("SAT_TEMPLATE")[260, 350]
    assert difference.flagged("CR")[102, 250] and not difference.flagged("CR")[102, 270]
    assert difference.flagged("NO_DATA")[420, 320] and difference.flagged("EDGE")[420, 290]


def test_the_template_s_psf_stays_where_only_part_of_the_image_is_covered():
    science, table = make_image(2.4, n_stars=80, size=400)
    template, _ = make_image(2.0, noise_seed=7, n_stars=80, size=400)
    template.image[:, 200:] = np.nan
    template.mask[:, 200:] |= bits("NO_DATA")
    difference, matched, summary = run(science, template, table)
    assert summary["template_coverage"] == pytest.approx(0.5)
    sky = without_stars(difference, table)
    assert difference.image[sky].var() == pytest.approx(2, rel=0.1)
    assert moments_sigma(matched.psf.centre()) == pytest.approx(moments_sigma(difference.psf.centre()))
    with pytest.raises(BadData, match="finite width"):
        template.psf = constant_psf(gaussian(2.0), template.shape)
        template.psf.terms[:] = -1
        run(science, template, table)
