"""Fields of stamps: evaluation, fitting, normalisation, convolution and widths against direct sums."""

import numpy as np
import pytest
from builders import elliptical, gaussian, pixel_gaussian
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import fftconvolve

from diaflow import polynomials
from diaflow.psf.stampfield import FWHM_PER_SIGMA, StampField, fit_stamps, fwhm, major_sigma, moments_sigma, resized

SHAPE = (200, 300)


def random_field(order, size=9, seed=0):
    n_terms = (order + 1) * (order + 2) // 2
    return StampField(np.random.default_rng(seed).normal(size=(n_terms, size, size)), order, SHAPE)


def positions(n, seed=5):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, SHAPE[1] - 1, n), rng.uniform(0, SHAPE[0] - 1, n)


def test_terms_are_the_monomials_up_to_the_total_degree():
    terms = polynomials.terms(2.0, 3.0, 2)
    np.testing.assert_array_equal(terms, [1, 2, 3, 4, 6, 9])


def test_a_field_is_the_polynomial_of_the_scaled_position():
    field = random_field(2)
    corner = field(299, 199)[0]  # u = v = 1: all terms count once
    np.testing.assert_allclose(corner, field.terms.sum(0))
    np.testing.assert_allclose(field(0, 0)[0], np.tensordot([1, -1, -1, 1, 1, 1], field.terms, 1))
    np.testing.assert_allclose(field.centre(), field.terms[0], atol=1e-14)
    assert field(*positions(7)).shape == (7, 9, 9)


@settings(max_examples=20, deadline=None)
@given(order=st.integers(0, 3), seed=st.integers(0, 1000))
def test_fitting_the_stamps_of_a_field_gives_the_field(order, seed):
    field = random_field(order, seed=seed)
    x, y = positions(40, seed)
    fitted = fit_stamps(field(x, y), x, y, order, SHAPE)
    np.testing.assert_allclose(fitted.terms, field.terms, atol=1e-9)


def test_normalising_makes_the_sum_the_same_everywhere():
    terms = np.concatenate([5 * gaussian(2, 9)[None], 0.1 * np.random.default_rng(0).normal(size=(5, 9, 9))])
    field = StampField(terms, 2, SHAPE)
    before = terms.copy()
    normal = field.normalised()
    np.testing.assert_allclose(normal(*positions(20)).sum((1, 2)), 1, rtol=1e-12)
    np.testing.assert_array_equal(field.terms, before)


@pytest.mark.parametrize(("size_a", "size_b", "size"), [(9, 9, 17), (9, 5, 13), (5, 9, 9), (9, 5, None)])
def test_a_convolved_field_is_the_field_of_convolved_stamps(size_a, size_b, size):
    a, b = random_field(2, size_a, 1), random_field(1, size_b, 2)
    product = a.convolved(b, size)
    assert product.size == (size or 9) and product.order == 3
    x, y = positions(6)
    direct = fftconvolve(a(x, y), b(x, y), mode="full", axes=(1, 2))
    np.testing.assert_allclose(product(x, y), resized(direct, product.size), atol=1e-9 * np.abs(direct).max())


def test_the_direction_of_a_convolution_is_kept():
    one = np.zeros((1, 5, 5))
    one[0, 2, 3] = 1  # one pixel to the right
    two = np.zeros((1, 5, 5))
    two[0, 4, 2] = 1  # two pixels up
    product = StampField(one, 0, SHAPE).convolved(StampField(two, 0, SHAPE), 9)
    assert np.unravel_index(product.centre().argmax(), (9, 9)) == (4 + 2, 4 + 1)


@given(size=st.integers(0, 8).map(lambda i: 2 * i + 1))
def test_resizing_keeps_the_centre(size):
    stamps = np.arange(2 * 81, dtype=float).reshape(2, 9, 9)
    out = resized(stamps, size)
    assert out.shape == (2, size, size)
    np.testing.assert_array_equal(out[:, size // 2, size // 2], stamps[:, 4, 4])
    np.testing.assert_array_equal(resized(out, 9)[:, 4, 4], stamps[:, 4, 4])


@pytest.mark.parametrize("sigma", [1.0, 1.7, 3.0, 5.0])
def test_the_width_of_a_gaussian_is_its_own(sigma):
    # The weighted profile has s = sigma / sqrt(2); sampling changes its second moment by about
    # 8 pi**2 s**2 exp(-2 pi**2 s**2), and sigma**2 by up to twice that: 4e-3 at sigma = 1, nothing above 1.5.
    tolerance = 4e-3 if sigma < 1.5 else 1e-4
    assert moments_sigma(gaussian(sigma, 41)) == pytest.approx(sigma, rel=tolerance)
    assert fwhm(gaussian(sigma, 41)) == pytest.approx(FWHM_PER_SIGMA * sigma, rel=tolerance)
    assert pytest.approx(2 * np.sqrt(2 * np.log(2))) == FWHM_PER_SIGMA


@pytest.mark.parametrize("angle", [0.0, 0.7, 2.0])
def test_the_longer_axis_of_an_ellipse_has_its_own_width_at_any_angle(angle):
    stamp = elliptical(1.8, 4.0, 61, angle=angle)
    assert major_sigma(stamp) == pytest.approx(4.0, rel=0.01)
    assert np.isnan(major_sigma(np.zeros((11, 11))))


def profile(r2, shape, width):
    """Value at squared radii of a Moffat profile of a beta, or of two Gaussians: share of the broad one, its width."""
    if isinstance(shape, float):
        return (1 + 4 * r2 * (2 ** (1 / shape) - 1) / width**2) ** -shape
    share, broader = shape
    core = np.exp(-4 * np.log(2) * r2 / width**2)
    return (1 - share) * core + share * core ** (1 / broader**2)


def width_of(shape, width):
    """Full width at half maximum of the profile."""
    r = np.linspace(0, 2 * width, 100_001)
    values = profile(r**2, shape, width)
    return 2 * np.interp(-values[0] / 2, -values, r)


@pytest.mark.parametrize("shape", [2.5, 3.5, 5.0, (0.0, 1.0), (0.05, 2.5), (0.1, 2.0)])
@pytest.mark.parametrize(("ellipticity", "tolerance"), [(0.0, 0.01), (0.2, 0.03)])
def test_fwhm_is_that_of_the_profile(shape, ellipticity, tolerance):
    stretch = (1 + ellipticity) / (1 - ellipticity)
    # The pixels have to show the shorter axis.
    for width in (1.7 * np.sqrt(stretch), 2.5, 4.0, 7.0, 11.0):
        t = np.arange(61) - 30
        u, v = 0.8 * t + 0.6 * t[:, None], 0.8 * t[:, None] - 0.6 * t
        stamp = profile(u**2 / stretch + v**2 * stretch, shape, width)
        assert fwhm(stamp) == pytest.approx(width_of(shape, width), rel=tolerance)


@pytest.mark.parametrize("width", [1.5, 2.0, 3.0])
def test_fwhm_is_that_of_what_the_pixels_see(width):
    sigma = width / FWHM_PER_SIGMA
    # The sum of the variances is right to 1 % for the core of two Gaussians and a square.
    assert fwhm(pixel_gaussian(sigma, 21)) == pytest.approx(np.hypot(width, FWHM_PER_SIGMA / np.sqrt(12)), rel=0.012)


def test_fwhm_of_a_ring_is_that_of_its_outer_edge():
    t = np.arange(61) - 30
    ring = np.exp(-((np.hypot(t, t[:, None]) - 8) ** 2) / 8)
    assert fwhm(ring) == pytest.approx(2 * (8 + np.sqrt(8 * np.log(2))), rel=0.05)


def test_fwhm_of_noisy_stamps_is_right_in_the_mean():
    rng = np.random.default_rng(9)
    t = np.arange(61) - 30
    stamp = profile(t**2.0 + t[:, None] ** 2.0, 3.5, 8.0)
    # S/N 100: the size is known to 1 / 100, a full width at half maximum to some times that.
    noise = np.sqrt((stamp**2).sum()) / 100
    widths = [fwhm(stamp + rng.normal(0, noise, stamp.shape)) for _ in range(50)]
    assert np.std(widths) < 0.05 * 8 and np.mean(widths) == pytest.approx(8, rel=4 * 0.05 / np.sqrt(50))


def test_the_width_is_insensitive_to_noise_and_scale():
    rng = np.random.default_rng(8)
    stamp = gaussian(2.0, 31)
    # Noise of 1 % of the peak per pixel: the weighted sums run over 4 pi sigma**2 = 50 pixels; S/N of the flux is
    # then about 700 / 7 = 100 and the width is good to about 1 %.
    noisy = stamp + 0.01 * stamp.max() * rng.normal(size=stamp.shape)
    assert moments_sigma(noisy) == pytest.approx(2.0, rel=0.04)
    assert moments_sigma(1e6 * stamp) == pytest.approx(moments_sigma(stamp), rel=1e-9)


def test_nothing_has_no_width():
    assert np.isnan(moments_sigma(np.zeros((11, 11))))
    assert np.isnan(moments_sigma(-gaussian(2.0, 11)))


def test_an_elongated_stamp_has_a_mean_width_that_does_not_depend_on_its_angle():
    widths = [moments_sigma(elliptical(2.0, 2.5, 41, angle=angle)) for angle in (0, 0.4, 1.2, np.pi / 2)]
    np.testing.assert_allclose(widths, widths[0], rtol=1e-4)
    # det(Q)**(1/4) = sqrt(2 * 2.5); the circular weight is exact only to second order in the ellipticity.
    assert widths[0] == pytest.approx(np.sqrt(2 * 2.5), rel=0.01)
