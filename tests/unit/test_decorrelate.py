import numpy as np
import pytest
from builders import constant_psf, gaussian

from diaflow.pixels.convolution import convolve, convolve_variance
from diaflow.psf.stampfield import StampField
from diaflow.subtract import decorrelate, noise


def matching_kernel(broad, sharp, shape, size=31):
    """The Gaussian that takes one Gaussian PSF to another."""
    return constant_psf(gaussian(np.sqrt(broad**2 - sharp**2), size), shape)


def noise_difference(v_s, v_t, kernel, seed=0):
    rng = np.random.default_rng(seed)
    shape = kernel.shape
    template = rng.normal(scale=np.sqrt(v_t), size=shape)
    return rng.normal(scale=np.sqrt(v_s), size=shape) - convolve(template, kernel)


def autocorrelation(image, lags):
    image = image - image.mean()
    return np.array([(image[:, lag:] * image[:, : image.shape[1] - lag]).mean() for lag in lags]) / image.var()


@pytest.mark.parametrize(
    "broad, sharp, v_s, v_t, before, w_s, w_t",
    [
        (3.3, 2.2, 0.04, 0.04, 0.040526, 1.981766, 0.0182343),
        (3.3, 2.2, 0.08, 0.04, 0.080526, 1.4920002, 0.0159996),
        (3.3, 2.2, 0.04, 0.08, 0.041052, 2.9566489, 0.0216756),
        (2.4, 2.0, 1.0, 1.0, 1.045214, 1.937319, 0.0626806),
        (2.4, 2.0, 1.0, 0.1, 1.004521, 1.0952597, 0.0474034),
    ],
)
def test_variances_before_and_after_are_those_of_the_theory(broad, sharp, v_s, v_t, before, w_s, w_t):
    """Sums of squares of c and of c * K (Reiss & Lupton 2016, evaluated for Gaussians), and v_s + v_t in total."""
    kernel = matching_kernel(broad, sharp, (100, 100))
    assert v_s + v_t * (kernel.centre() ** 2).sum() == pytest.approx(before, rel=1e-3)
    whitening = decorrelate.kernel_field(kernel, v_t, v_s)
    joint = kernel.convolved(whitening, 101).centre()
    assert (whitening.centre() ** 2).sum() == pytest.approx(w_s, rel=1e-3)
    assert (joint**2).sum() == pytest.approx(w_t, rel=2e-2)
    assert v_s * (whitening.centre() ** 2).sum() + v_t * (joint**2).sum() == pytest.approx(v_s + v_t, rel=1e-3)
    assert whitening.centre().sum() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("v_s, v_t", [(0.04, 0.04), (0.08, 0.04), (0.04, 0.08)])
def test_decorrelated_noise_has_the_variance_of_its_plane(v_s, v_t):
    """512**2 pixels: variance known to sqrt(2 / n) = 0.3 %."""
    shape = (512, 512)
    kernel = matching_kernel(3.3, 2.2, shape)
    whitening = decorrelate.kernel_field(kernel, v_t, v_s)
    difference = convolve(noise_difference(v_s, v_t, kernel), whitening)
    plane = convolve_variance(np.full(shape, v_t), kernel, whitening)
    plane += convolve_variance(np.full(shape, v_s), whitening)
    inner = slice(60, -60), slice(60, -60)
    assert difference[inner].var() == pytest.approx(v_s + v_t, rel=0.02)
    assert plane[inner].mean() == pytest.approx(v_s + v_t, rel=0.005)


@pytest.mark.parametrize("v_s, v_t", [(1.0, 100.0), (1.0, 1.0)])
def test_decorrelated_noise_is_white(v_s, v_t):
    """Autocorrelation at lags 1 to 39; its own noise is 1 / 450 for 450**2 pixels."""
    kernel = matching_kernel(3.3, 2.2, (512, 512))
    difference = noise_difference(v_s, v_t, kernel, 1)
    whitening = decorrelate.kernel_field(kernel, v_t, v_s)
    after = convolve(difference, whitening)
    inner = slice(35, -35), slice(35, -35)
    if v_t > v_s:
        assert (autocorrelation(difference[inner], range(1, 4)) > 0.2).all()
    assert (np.abs(autocorrelation(after[inner], range(1, 40))) < 0.02).all()


def test_nothing_is_done_where_the_convolved_image_has_no_noise():
    kernel = matching_kernel(3.3, 2.2, (100, 100))
    stamp = decorrelate.kernel_field(kernel, 0.0, 1.0).centre()
    delta = np.zeros_like(stamp)
    delta[stamp.shape[0] // 2, stamp.shape[0] // 2] = 1
    np.testing.assert_allclose(stamp, delta, atol=1e-12)


def test_noise_is_white_everywhere_under_a_varying_kernel_and_depth():
    """Kernel width and template depth change over the image; variance per quarter known to 0.7 %, tolerance 3 %."""
    shape = (600, 600)
    rng = np.random.default_rng(3)
    narrow, wide = gaussian(1.2, 21), gaussian(1.8, 21)
    kernel = StampField(np.stack([(narrow + wide) / 2, (wide - narrow) / 2, np.zeros((21, 21))]), 1, shape)
    v_s, v_t = np.ones(shape), np.broadcast_to(np.linspace(0.5, 1.5, 600), shape)
    difference = rng.normal(size=shape) - convolve(rng.normal(size=shape) * np.sqrt(v_t), kernel)
    sky = np.ones(shape, bool)
    fields = noise.cell_variance(v_t, sky), noise.cell_variance(v_s, sky)
    whitening = decorrelate.kernel_field(kernel, *fields)
    after = convolve(difference, whitening)
    plane = convolve_variance(v_t, kernel, whitening) + convolve_variance(v_s, whitening)
    for rows in (slice(40, 300), slice(300, 560)):
        for cols in (slice(40, 300), slice(300, 560)):
            assert (after[rows, cols] ** 2 / plane[rows, cols]).mean() == pytest.approx(1, abs=0.03)
            assert np.abs(autocorrelation(after[rows, cols], range(1, 10))).max() < 0.03


def test_sky_variance_ignores_sources_and_knows_where_it_is_blind():
    variance = np.full((200, 300), 4.0)
    variance[:40, :60] = 9.0
    variance[100, 100] = 1e6
    sky = np.ones(variance.shape, bool)
    sky[160:, 240:] = False
    found = noise.cell_variance(variance, sky)
    assert found[0, 0] == 9 and np.isnan(found[4, 4])
    np.testing.assert_array_equal(np.delete(found.ravel(), [0, 24]), 4)


def test_psf_after_whitening_is_sharper_and_of_unit_sum():
    """Peak 1.1829 times as high for sigma 3.3 and 2.2 with equal noise."""
    shape = (100, 100)
    whitening = decorrelate.kernel_field(matching_kernel(3.3, 2.2, shape), 0.04, 0.04)
    psf = constant_psf(gaussian(3.3), shape).convolved(whitening, 41).normalised().centre()
    assert psf.max() / gaussian(3.3).max() == pytest.approx(1.1829, rel=5e-3)
    assert psf.sum() == pytest.approx(1, abs=1e-9)
