import numpy as np
import pytest
from builders import constant_psf, exposure, gaussian
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scenes import add_stars
from scipy.signal import fftconvolve

from diaflow.errors import BadData
from diaflow.image.planes import bits
from diaflow.pixels.convolution import convolve, convolve_variance
from diaflow.pixels.growth import grow
from diaflow.psf.stampfield import FWHM_PER_SIGMA, StampField, fit_stamps
from diaflow.psfmatch.basis import alard_lupton_basis, alard_lupton_widths, delta_basis
from diaflow.psfmatch.homogeneous import broadest, homogenise, model_psf
from diaflow.psfmatch.normal_equations import solve_ridge
from diaflow.psfmatch.solution import fit
from diaflow.store import tables


def direct(image, kernel, x, y):
    """The value of a spatially varying convolution at one pixel, by its definition."""
    half = kernel.size // 2
    padded = np.pad(image.astype(float), half)
    return (padded[y : y + 2 * half + 1, x : x + 2 * half + 1] * kernel(x, y)[0][::-1, ::-1]).sum()


def varying_psf(fwhm_of, shape, size=31):
    """Moffat (beta 3.5) PSF whose FWHM is a function of u, v in [-1, 1]."""
    gx, gy = (g.ravel() for g in np.meshgrid(np.linspace(0, shape[1] - 1, 6), np.linspace(0, shape[0] - 1, 6)))
    t = np.arange(size) - size // 2
    r2 = t[:, None] ** 2 + t**2
    fwhm = fwhm_of(2 * gx / (shape[1] - 1) - 1, 2 * gy / (shape[0] - 1) - 1)
    stamps = (1 + r2 * (4 * (2 ** (1 / 3.5) - 1) / fwhm**2)[:, None, None]) ** -3.5
    return fit_stamps(stamps / stamps.sum((1, 2), keepdims=True), gx, gy, 2, shape).normalised()


@pytest.mark.parametrize(
    "reference, target, widths, size",
    [
        (2.4, 2.0, (0.7, 1.4, 2.8), 21),
        (2.8, 2.0, (0.9798, 1.9596, 3.9192), 23),
        (3.3, 2.2, (1.2298, 2.4597, 4.9193), 29),
        (5.0, 2.0, (2.2913, 4.5826, 9.1652), 35),
        (2.0, 2.0, (0.7, 1.5, 3.0), 21),
        (2.0, 2.4, (0.6633, 1.3266, 2.6533), 21),
        (2.0, 2.8, (0.9798, 1.9596, 3.9192), 23),
    ],
)
def test_basis_widths_and_size_are_those_of_the_lsst_stack(reference, target, widths, size):
    found, side = alard_lupton_widths(reference, target)
    np.testing.assert_allclose(found, widths, atol=5e-5)
    assert side == size
    assert alard_lupton_basis(reference, target).shape == (27, size, size)


def test_first_basis_function_has_unit_sum_and_the_others_zero_sum_and_unit_norm():
    basis = alard_lupton_basis(3.3, 2.2)
    sums = basis.sum((1, 2))
    np.testing.assert_allclose(sums[0], 1, atol=1e-12)
    np.testing.assert_allclose(sums[1:], 0, atol=1e-12)
    np.testing.assert_allclose((basis[1:] ** 2).sum((1, 2)), 1, atol=1e-12)


@example(25, 25, 35, 3, 0)  # a tile of ten times the image
@settings(max_examples=12, deadline=None)
@given(st.integers(25, 300), st.integers(25, 300), st.sampled_from([3, 21, 35]), st.integers(0, 3), st.integers(0, 99))
def test_convolution_is_the_definition_at_every_pixel(nx, ny, size, order, seed):
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(ny, nx))
    kernel = StampField(rng.normal(size=((order + 1) * (order + 2) // 2, size, size)), order, (ny, nx))
    out = convolve(image, kernel)
    for x, y in [(0, 0), (nx - 1, ny - 1), *zip(rng.integers(0, nx, 5), rng.integers(0, ny, 5))]:
        # float32 FFT: 1e-6 of sums of size^2 unit normals, times the number of terms
        assert out[y, x] == pytest.approx(direct(image, kernel, x, y), abs=2e-5 * size * 10)


def test_kernel_in_a_large_image_is_right_to_a_thousandth_of_its_change():
    """Tiles of 60 pixels in 2000: what changes quadratically does so by (30 / 1000)**2 from their centres."""
    rng = np.random.default_rng(4)
    shape = (2000, 2000)
    kernel = StampField(np.stack([1.0, 0.1, 0.1, 0.1, 0.1, 0.1])[:, None, None] * gaussian(1.0, 5), 2, shape)
    x, y = 10 * rng.integers(1, 199, (2, 400))
    image = np.zeros(shape, np.float32)
    image[y, x] = 1
    peaks = convolve(image, kernel)[y, x]
    exact = kernel(x, y)[:, 2, 2]
    # three quadratic terms of a tenth of the peak, and rounding
    assert np.abs(peaks / exact.mean() - exact / exact.mean()).max() < 3 * 0.1 * 1e-3 + 1e-5


def test_missing_pixels_count_as_zero_in_a_convolution():
    rng = np.random.default_rng(1)
    image = rng.normal(size=(90, 80))
    kernel = StampField(rng.normal(size=(1, 5, 5)), 0, image.shape)
    holes = image.copy()
    holes[40, 30], image[40, 30] = np.nan, 0
    np.testing.assert_array_equal(convolve(holes, kernel), convolve(image, kernel))


def test_variance_after_convolution_is_that_of_white_noise():
    """Variance of a sum of independent pixels, for two kernels in succession that vary over the image."""
    rng = np.random.default_rng(2)
    shape = (300, 260)
    variance = rng.uniform(1, 3, shape)
    first = StampField(np.stack([gaussian(1.5, 21), *(0.1 * gaussian(2.0, 21),) * 2]), 1, shape)
    second = StampField(np.stack([gaussian(0.5, 9), *(0.05 * gaussian(1.0, 9),) * 2]), 1, shape)
    out = convolve_variance(variance, first, second)
    x, y = 130, 150
    joint = fftconvolve(first(x, y)[0], second(x, y)[0])
    expected = (variance[y - 14 : y + 15, x - 14 : x + 15] * joint[::-1, ::-1] ** 2).sum()
    # the kernel of the tile's centre: u changes by up to 0.35 within a tile, the terms by 10 % of that, squared
    assert out[y, x] == pytest.approx(expected, rel=0.08)
    np.testing.assert_allclose(convolve_variance(np.ones(shape), first)[50, 60], (first(60, 50) ** 2).sum(), rtol=0.08)


def test_known_kernel_and_background_are_recovered():
    """To 5 decimals in every pixel, 4 in the background, where the scene has all spatial frequencies."""
    shape = (400, 400)
    rng = np.random.default_rng(3)
    x, y = rng.uniform(40, 360, (2, 30))
    image = rng.normal(scale=100.0, size=shape).astype(np.float32)
    basis = alard_lupton_basis(2.8, 2.0)
    true = 1.25 * basis[0] + np.tensordot(rng.normal(scale=0.02, size=len(basis) - 1), basis[1:], 1)
    target = 2 + fftconvolve(image, true, mode="same")
    # variance 1e-6: no noise to take out
    solution = fit(exposure(image, 1e-6), exposure(target, 1.0), x, y, basis, [1.25], 1, 2)
    assert solution.used.sum() >= 20
    corners = np.array([0, 399, 0, 200]), np.array([0, 0, 399, 200])
    np.testing.assert_allclose(solution.kernel(*corners), np.broadcast_to(true, (4, *true.shape)), atol=1e-5)
    np.testing.assert_allclose(solution.background_image(), 2, atol=1e-4)


def test_varying_kernel_and_background_are_recovered_from_stars():
    """PSF growing from one corner to the other under a tilted background: stars subtract to 0.5 % of the peak."""
    shape = (500, 500)
    rng = np.random.default_rng(30)
    x, y = np.rint(rng.uniform(40, 460, (2, 40))).astype(int)
    image, target = np.zeros(shape), np.zeros(shape)
    psf = varying_psf(lambda u, v: 3.6 + 0.1 * u + 0.1 * v, shape)
    add_stars(image, x, y, np.full(40, 1e4), 1.3)
    for xi, yi, stamp in zip(x, y, psf(x, y)):
        target[yi - 15 : yi + 16, xi - 15 : xi + 16] += 1.1e4 * stamp
    u, v = np.meshgrid(*(2 * np.arange(500) / 499 - 1,) * 2)
    background = 2 + 0.5 * u - 0.25 * v**2
    basis = alard_lupton_basis(1.65, 1.3)
    solution = fit(exposure(image, 1e-6), exposure(target + background, 1.0), x, y, basis, [1.1], 1, 2)
    residual = target - convolve(image, solution.kernel)
    np.testing.assert_allclose(residual[20:-20, 20:-20], 0, atol=5e-3 * target.max())
    np.testing.assert_allclose(solution.background_image(), background, atol=1.0)


def test_kernel_sum_is_the_same_everywhere():
    shape = (400, 300)
    rng = np.random.default_rng(4)
    x, y = rng.uniform(30, 270, 25), rng.uniform(30, 370, 25)
    image, target = np.zeros(shape), np.zeros(shape)
    add_stars(image, x, y, np.full(25, 3000.0), 2.0)
    add_stars(target, x, y, np.full(25, 3300.0), 2.6)
    image, target = (a + rng.normal(size=shape) for a in (image, target))
    solution = fit(exposure(image), exposure(target), x, y, alard_lupton_basis(2.6, 2.0), [1.1], 2, 2)
    assert solution.kernel.order == 2
    sums = solution.kernel(rng.uniform(0, 300, 20), rng.uniform(0, 400, 20)).sum((1, 2))
    np.testing.assert_allclose(sums, 1.1, rtol=1e-9)


def test_variable_star_is_rejected_and_does_not_change_the_kernel():
    shape = (500, 500)
    rng = np.random.default_rng(6)
    x, y = rng.uniform(40, 460, (2, 30))
    flux = np.full(30, 4000.0)
    image, target = np.zeros(shape), np.zeros(shape)
    add_stars(image, x, y, flux, 2.0)
    flux[3] *= 1.5
    add_stars(target, x, y, flux, 2.4)
    image, target = (a + rng.normal(size=shape) for a in (image, target))
    solution = fit(exposure(image), exposure(target), x, y, alard_lupton_basis(2.4, 2.0), [1.0])
    assert not solution.used[3]
    assert solution.used.sum() >= 26
    # what the star would have to a kernel of free sum is in its shape
    np.testing.assert_allclose(
        fftconvolve(gaussian(2.0, 41), solution.kernel.centre(), "same"), gaussian(2.4, 41), atol=2e-4
    )


def test_rejected_star_is_replaced_by_the_next_of_its_cell():
    """Seven stars in one cell of 128 pixels, five at a time: without the brightest, the sixth comes in."""
    shape = (300, 300)
    rng = np.random.default_rng(7)
    x = np.r_[[145.0, 165, 185, 205, 225, 150, 180], rng.uniform(30, 110, 6)]
    y = np.r_[[145.0, 165, 185, 205, 225, 200, 230], rng.uniform(30, 110, 6)]
    flux = np.full(13, 4000.0)
    image, target = np.zeros(shape), np.zeros(shape)
    add_stars(image, x, y, flux, 2.0)
    flux[0] *= 2
    add_stars(target, x, y, flux, 2.4)
    image, target = (a + rng.normal(size=shape) for a in (image, target))
    used = fit(exposure(image), exposure(target), x, y, alard_lupton_basis(2.4, 2.0), [1.0]).used
    assert not used[0] and used[1:6].all() and not used[6]


def test_masked_pixels_do_not_enter_the_fit():
    shape = (400, 400)
    rng = np.random.default_rng(8)
    x, y = rng.uniform(40, 360, (2, 20))
    image, target = np.zeros(shape), np.zeros(shape)
    add_stars(image, x, y, np.full(20, 4000.0), 2.0)
    add_stars(target, x, y, np.full(20, 4000.0), 2.4)
    bad = np.zeros(shape, bool)
    bad[np.rint(y[:5]).astype(int) + 8, np.rint(x[:5]).astype(int)] = True
    target[bad] = 1e5
    solution = fit(exposure(image, 1e-4), exposure(target), x, y, alard_lupton_basis(2.4, 2.0), [1.0], bad=bad)
    assert solution.used[:5].all()
    np.testing.assert_allclose(
        fftconvolve(gaussian(2.0, 41), solution.kernel.centre(), "same"), gaussian(2.4, 41), atol=1e-4
    )


def misfit(solution, x, y):
    """Rms of what the kernel leaves of stars of sigma 2.0 on their way to 2.6, over their own."""
    expected = gaussian(2.6, 41)
    wrong = [fftconvolve(gaussian(2.0, 41), kernel, "same") - expected for kernel in solution.kernel(x, y)]
    return np.sqrt(np.square(wrong).sum((1, 2)).mean() / np.square(expected).sum())


@pytest.mark.parametrize(("n_stars", "snr", "sigma"), [(24, 30, 2.6), (60, 2000, 3.0)], ids=["right", "wrong"])
def test_psf_models_guide_the_kernel_where_stars_are_few_and_wrong_ones_do_not_where_they_are_bright(
    n_stars, snr, sigma
):
    shape, rng = (400, 400), np.random.default_rng(11)
    x, y = rng.uniform(40, 360, (2, n_stars))
    flux = np.full(n_stars, snr * np.sqrt(4 * np.pi) * 2.6)
    pair = [np.zeros(shape), np.zeros(shape)]
    for image, width in zip(pair, (2.0, 2.6)):
        add_stars(image, x, y, flux, width)
        image += 0.7 * rng.normal(size=shape)
    models = constant_psf(gaussian(2.0), shape), constant_psf(gaussian(sigma), shape)
    alone, guided = (
        fit(*(exposure(i, 0.49, p) for i, p in zip(pair, psfs)), x, y, alard_lupton_basis(2.6, 2.0), [1.0], 2, 0)
        for psfs in ((None, None), models)
    )
    if sigma == 2.6:
        assert misfit(guided, x, y) < 0.5 * misfit(alone, x, y)
    else:
        assert misfit(guided, x, y) < 1.1 * misfit(alone, x, y) < 0.01


def test_too_few_stars_is_bad_data_with_their_number():
    image = exposure(np.zeros((200, 200)))
    with pytest.raises(BadData, match="2 kernel stars, at least 3 needed"):
        fit(image, image, np.array([50.0, 120]), np.array([50.0, 120]), alard_lupton_basis(2.4, 2.0), [1.0])


@pytest.mark.parametrize("matrix", [[[1.0, 2.0], [2.0, 1.0]], [[1.0, np.nan], [np.nan, 1.0]]])
def test_equations_without_a_solution_are_bad_data(matrix):
    with pytest.raises(BadData, match="fit of the kernel failed"):
        solve_ridge(np.array(matrix), np.ones(2))


def test_masks_grow_by_a_square():
    mask = np.zeros((150, 140), np.int32)
    mask[70, 60], mask[64, 100] = 4, 1
    grown = grow(mask, 3, border=8)
    expected = np.zeros_like(mask)
    expected[67:74, 57:64] |= 4
    expected[61:68, 97:104] |= 1
    expected[:3] |= 8
    expected[-3:] |= 8
    expected[:, :3] |= 8
    expected[:, -3:] |= 8
    np.testing.assert_array_equal(grown, expected)


@pytest.mark.parametrize("fwhm", [2.6, 3.4])
def test_homogenised_star_has_the_model_psf_and_its_flux(fwhm):
    shape = (700, 640)
    psf = varying_psf(lambda u, v: fwhm + 0.2 * u - 0.1 * v + 0.1 * u * v, shape)
    image = exposure(np.zeros(shape), 4.0, psf)
    positions = [(100, 100), (320, 350), (560, 610)]
    for x, y in positions:
        image.image[y - 15 : y + 16, x - 15 : x + 16] = 1e4 * psf(x, y)[0]
    model = model_psf(4.5, 31)
    out = homogenise(image, model)
    for x, y in positions:
        star = out.image[y - 15 : y + 16, x - 15 : x + 16] / 1e4
        np.testing.assert_allclose(star, model, atol=0.01 * model.max())
    assert out.image.sum(dtype=float) == pytest.approx(3e4, rel=1e-6)
    np.testing.assert_array_equal(out.psf(*np.transpose(positions))[1], model)
    # low-frequency variance is conserved
    middle = out.variance[350, 320] * out.noise.covariance_factor
    assert middle == pytest.approx(4.0, rel=0.02)


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.7])
def test_matching_to_a_model_conserves_the_sum_of_the_image(scale):
    """Kernel sum in equals kernel sum out to 7 decimals, wherever the image is."""
    from diaflow.psfmatch.homogeneous import model_kernel

    shape = (256, 256)
    image = exposure(np.full(shape, scale), 1.0, varying_psf(lambda u, v: 3 + 0.2 * u, shape))
    kernel = model_kernel(image, model_psf(4.5, 31))
    np.testing.assert_allclose(kernel([0, 128, 255], [255, 128, 0]).sum((1, 2)), 1, atol=1e-7)
    assert convolve(image.image, kernel)[128, 128] == pytest.approx(scale, rel=1e-6)


def test_the_model_is_as_broad_as_the_broadest_calibrated_image_in_the_pixels_of_the_warps():
    """Images of 0.4 arcsec per pixel, warps of 0.2; a failed one of the worst seeing does not count."""
    rows = tables.from_columns(
        "visit_summary",
        visit=[1, 2, 3],
        status=["ok", "ok", "failed"],
        seeing=[0.8, 1.2, 9.0],
        psf_fwhm=[2.0, 3.0, 22.0],
        psf_sigma=[0.9, 1.4, 10.0],
        psf_stamp_size=[31, 33, 75],
    )
    assert broadest(rows, 0.2) == (pytest.approx(FWHM_PER_SIGMA * 1.4 * 2), 65)
    assert broadest(rows[:0], 0.2)[0] == 0


@pytest.mark.parametrize("broadening", [1.0, 1.005, 1.1])
def test_model_hardly_broader_than_the_psf_can_be_matched(broadening):
    shape = (150, 150)
    image = exposure(np.zeros(shape), psf=constant_psf(gaussian(3.8 / FWHM_PER_SIGMA), shape))
    image.image[75, 75] = 1
    out = homogenise(image, model_psf(3.8 * broadening, 31))
    assert np.isfinite(out.image[40:110, 40:110]).all()
    # 150**2 pixels of float32 FFT noise, about 1e-7 each
    assert out.image.sum(dtype=float) == pytest.approx(1, abs=1e-4)


def test_missing_data_stays_missing_and_taints_its_surroundings_when_homogenised():
    shape = (256, 256)
    image = exposure(np.ones(shape), 1.0, constant_psf(gaussian(1.3), shape))
    image.image[:, :40] = np.nan
    image.mask[:, :40] |= bits("NO_DATA")
    image.mask[128, 128] |= bits("SAT")
    out = homogenise(image, model_psf(4.5, 31))
    assert np.isfinite(out.image).all() and np.isfinite(out.variance).all()
    assert out.flagged("NO_DATA")[:, :40].all() and not out.flagged("NO_DATA")[:, 40:].any()
    assert out.flagged("EDGE")[128, 50] and not out.flagged("EDGE")[128, 128]
    assert out.flagged("SAT")[125:132, 125:132].all() and not out.flagged("SAT")[128, 160]


def test_undefined_psf_positions_are_left_out_of_the_model_match():
    shape = (512, 512)
    inner = varying_psf(lambda u, v: 3 + 0.2 * u, shape)

    def half_defined(x, y):
        stamps = inner(x, y)
        stamps[np.asarray(x) < 200] = np.nan
        return stamps

    image = exposure(np.zeros(shape), 1.0, half_defined)
    model = model_psf(4.5, 31)
    image.image[285:316, 385:416] = inner(400, 300)[0]
    out = homogenise(image, model)
    np.testing.assert_allclose(out.image[285:316, 385:416], model, atol=0.01 * model.max())
    image.psf = lambda x, y: np.full((len(x), 31, 31), np.nan)
    with pytest.raises(BadData, match="PSF"):
        homogenise(image, model)


def test_stars_at_the_border_are_used_where_the_kernel_does_not_leave_the_image():
    """The only stars on the left are 15 pixels from the border; what changes of the kernel there must be known."""
    rng = np.random.default_rng(5)
    shape, sharp = (200, 300), 1.6
    x, y = np.tile([15.0, 100.0, 200.0, 284.0], 5), np.repeat(np.linspace(30, 170, 5), 4)
    image, target = np.zeros(shape), np.zeros(shape)
    for xi, yi in zip(x, y):
        broad = 2.0 + 0.4 * xi / 300
        for pixels, sigma in ((image, sharp), (target, broad)):
            yy, xx = np.mgrid[: shape[0], : shape[1]]
            pixels += 1e5 * np.exp(-0.5 * ((xx - xi) ** 2 + (yy - yi) ** 2) / sigma**2) / (2 * np.pi * sigma**2)
    image, target = (pixels + rng.normal(size=shape) for pixels in (image, target))
    basis = alard_lupton_basis(2.2, sharp)
    solution = fit(exposure(image), exposure(target), x, y, basis, [1.0], kernel_order=2)
    assert solution.used[x == 15].all() and solution.used[x == 284].all()
    rows, columns = slice(20, 180), slice(basis.shape[-1] // 2, 40)
    residual = (convolve(image, solution.kernel) + solution.background_image() - target)[rows, columns]
    # the noise of 1 to 1.1 per pixel, and no star of a peak of 4000
    assert residual.std() < 1.2


@pytest.mark.parametrize("sigma_reference, sigma_target", [(2.8, 2.0), (2.0, 2.0), (2.0, 2.4)])
def test_delta_basis_is_complete_with_one_function_of_unit_sum(sigma_reference, sigma_target):
    basis, penalty = delta_basis(sigma_reference, sigma_target)
    n, size, _ = basis.shape
    assert n == size**2 and np.linalg.matrix_rank(basis.reshape(n, -1)) == n
    np.testing.assert_allclose(basis.sum((1, 2)), np.r_[1, np.zeros(n - 1)], atol=1e-12)
    np.testing.assert_allclose((basis[1:] ** 2).sum((1, 2)), 1, atol=1e-12)
    # B_0 is what is expected and free, everything added to it is not
    np.testing.assert_array_equal(penalty[0], 0)
    assert np.linalg.eigvalsh(penalty[1:, 1:]).min() > 0


@pytest.mark.parametrize("kernel", ["gaussian", "shifted pixel"])
def test_delta_basis_recovers_any_kernel(kernel):
    """A Gaussian and a displaced single pixel, to 5 decimals of the kernel, against the prior."""
    shape, rng = (400, 400), np.random.default_rng(3)
    x, y = rng.uniform(40, 360, (2, 30))
    image = rng.normal(scale=1e4, size=shape).astype(np.float32)
    basis, penalty = delta_basis(2.6, 2.0)
    size = basis.shape[-1]
    true = 1.25 * gaussian(1.4, size)
    if kernel == "shifted pixel":
        true = np.zeros((size, size))
        true[size // 2 + 1, size // 2 - 2] = 1.25
    target = 2 + fftconvolve(image, true, mode="same")
    solution = fit(exposure(image, 1e-6), exposure(target, 1.0), x, y, basis, [1.25], 0, 0, penalty=penalty)
    np.testing.assert_allclose(solution.kernel.centre(), true, atol=1e-5)
    np.testing.assert_allclose(solution.background_image(), 2, atol=1e-2)


def test_kernel_sum_follows_a_flux_ratio_that_varies():
    """1.1 + 0.1 u - 0.05 v from 40 noiseless stars."""
    shape, rng = (400, 400), np.random.default_rng(4)
    x, y = rng.uniform(40, 360, (2, 40))
    u, v = np.meshgrid(*(2 * np.arange(400) / 399 - 1,) * 2)
    ratio = 1.1 + 0.1 * u - 0.05 * v
    image, target = np.zeros(shape), np.zeros(shape)
    add_stars(image, x, y, np.full(40, 3000.0), 2.0)
    add_stars(target, x, y, 3000 * ratio[np.rint(y).astype(int), np.rint(x).astype(int)], 2.6)
    basis = alard_lupton_basis(2.6, 2.0)
    solution = fit(exposure(image, 1e-4), exposure(target), x, y, basis, [1.1, 0.1, -0.05], 1, 0)
    np.testing.assert_allclose(solution.sum_image(), ratio, atol=1e-6)
    where = np.array([20, 380, 200]), np.array([30, 300, 390])
    np.testing.assert_allclose(solution.unit_kernel()(*where).sum((1, 2)), 1, atol=1e-3)
    np.testing.assert_allclose(solution.kernel(*where).sum((1, 2)), ratio[where[1], where[0]], atol=5e-3)
    residual = convolve(image, solution.kernel) - target
    assert np.abs(residual[30:-30, 30:-30]).max() < 5e-3 * target.max()


def test_variance_that_a_psf_fit_feels_is_that_of_the_fit():
    """White noise through a smoothing kernel: variance of PSF-weighted sums, 1600 of them, known to 3.5 %."""
    shape, rng = (900, 900), np.random.default_rng(9)
    kernel, psf = constant_psf(gaussian(1.5), shape), constant_psf(gaussian(1.8), shape)
    noise = convolve(rng.normal(size=shape), kernel)
    fluxes = convolve(noise, psf)[50:-50:20, 50:-50:20]
    plane = convolve_variance(np.ones(shape), kernel, psf=psf)[450, 450]
    assert plane * (psf.centre() ** 2).sum() == pytest.approx(fluxes.var(), rel=0.1)
    assert plane > 2 * convolve_variance(np.ones(shape), kernel)[450, 450]
