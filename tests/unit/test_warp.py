"""Warps against exact positions and a slow exact Lanczos sum."""

import numpy as np
import pytest
from builders import constant_psf, exposure, quadratic, star_image, tan_wcs
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow import warp
from diaflow.image import lanczos
from diaflow.image.noise import Noise
from diaflow.image.planes import bits


def exact_positions(wcs, source_wcs, x, y):
    return source_wcs.all_world2pix(*wcs.all_pix2world(x, y, 0), 0, tolerance=1e-8)


def slow_lanczos(image, variance, x, y, area):
    """Value and variance at one position with the formulas written out, in float64."""
    ix, iy = int(np.floor(x)), int(np.floor(y))
    t = np.arange(-2, 4)
    weights = np.outer(lanczos.lanczos(iy + t - y), lanczos.lanczos(ix + t - x))
    part = np.s_[iy - 2 : iy + 4, ix - 2 : ix + 4]
    value = (weights * image[part]).sum() / weights.sum() * area
    return value, (weights**2 * variance[part]).sum() / weights.sum() ** 2 * area**2


def test_half_pixel_taps_are_the_published_ones():
    taps = lanczos.lanczos(np.arange(-2, 4) - 0.5)
    np.testing.assert_allclose(taps[:3], [0.0243171, -0.1350949, 0.6079271], atol=1e-7)
    np.testing.assert_allclose(taps, taps[::-1], atol=1e-15)
    assert taps.sum() == pytest.approx(0.9942985, abs=1e-7)


@pytest.mark.parametrize(("phase", "factor"), [(0.5, 0.785769), (0.25, 0.893833)])
def test_noise_factor_of_a_shift_is_the_sum_of_squared_taps(phase, factor):
    shape = (40, 40)
    wcs = tan_wcs(shape)
    out = warp.warp(exposure(np.zeros(shape), wcs=wcs), tan_wcs(shape, shift=(-phase, -phase)), shape)
    # Positions are right to 5e-4 pixel, and d(factor)/d(phase) < 1 per axis.
    assert out.variance[20, 20] == pytest.approx(factor**2, abs=1e-3)
    assert out.noise.covariance_factor == pytest.approx(1 / factor**2, rel=3e-3)


@pytest.mark.parametrize("sip", [None, quadratic(1e-6), quadratic(2e-5)])
def test_positions_are_exact_to_a_thousandth_of_a_pixel(sip):
    shape = (500, 600)
    source, target = tan_wcs(shape, rotation=12, sip=sip), tan_wcs((450, 550), 0.21, shift=(7.3, -4.6))
    grid = warp.position_grid(target, (450, 550), source, shape)
    # Rows between nodes and at nodes, every pixel of them.
    for row in (0, 13, 16, 31, 32, 200, 447):
        columns = np.arange(550)
        fy = (row - grid.y0) / grid.step
        fx = (columns - grid.x0) / grid.step
        j = min(int(fy), grid.x.shape[0] - 2)
        i = np.minimum(fx.astype(int), grid.x.shape[1] - 2)
        x, y = exact_positions(target, source, columns, np.full(550, row))
        inside = (x > 0) & (x < 600) & (y > 0) & (y < 500)
        for nodes, exact in ((grid.x, x), (grid.y, y)):
            below = nodes[j, i] + (fx - i) * (nodes[j, i + 1] - nodes[j, i])
            above = nodes[j + 1, i] + (fx - i) * (nodes[j + 1, i + 1] - nodes[j + 1, i])
            assert np.abs(below + (fy - j) * (above - below) - exact)[inside].max() < 1e-3 - 0.5 / lanczos.PHASES


def test_strong_distortion_refines_the_grid():
    shape = (300, 300)
    step = [
        warp.position_grid(tan_wcs(shape), shape, tan_wcs(shape, sip=sip), shape).step
        for sip in (None, quadratic(1e-7), quadratic(1e-4))
    ]
    assert step[0] == step[1] == warp.FIRST_STEP > step[2]


def test_warp_equals_the_exact_sum():
    rng = np.random.default_rng(1)
    shape = (200, 220)
    source, target = tan_wcs(shape, rotation=23, sip=quadratic(2e-6)), tan_wcs((150, 160), 0.23)
    image = star_image(shape, 100, 90, 30.0, 1e5) + rng.normal(0, 1, shape)
    science = exposure(image, wcs=source)
    science.variance[:] = rng.uniform(1, 4, shape)
    out = warp.warp(science, target, (150, 160))
    for row, column in rng.integers(30, 120, (50, 2)):
        x, y = exact_positions(
            target, source, column + np.array([0, 0.5, -0.5, 0, 0]), row + np.array([0, 0, 0, 0.5, -0.5])
        )
        area = abs((x[1] - x[2]) * (y[3] - y[4]) - (x[3] - x[4]) * (y[1] - y[2]))
        value, variance = slow_lanczos(science.image, science.variance, x[0], y[0], area)
        # A position error of 1e-3 pixel times noise slopes of a few per pixel; area from nodes 32 pixels apart.
        assert out.image[row, column] == pytest.approx(value, abs=0.01, rel=1e-4)
        assert out.variance[row, column] == pytest.approx(variance, rel=5e-3)


def test_identity_warp_changes_nothing_but_the_rim():
    rng = np.random.default_rng(2)
    shape = (70, 80)
    wcs = tan_wcs(shape)
    science = exposure(rng.normal(0, 1, shape), wcs=wcs)
    science.mask[30, 40] = bits("CR")
    out = warp.warp(science, wcs, shape)
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(out.image[inner], science.image[inner], rtol=1e-6)
    np.testing.assert_allclose(out.variance[inner], 1, rtol=1e-6)
    np.testing.assert_array_equal(out.mask[inner], science.mask[inner])
    assert out.noise.covariance_factor == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize(("fwhm", "rms"), [(2.35, 1e-3), (2.8, 8e-4), (3.5, 5e-4)])
def test_flux_of_a_star_is_conserved(fwhm, rms):
    """To what the kernel can: the star's power where output sampling aliases, frequency g, times its response there.

    Near |g| = 1 / pixel the response of a normalised Lanczos-3 is below 4e-3, and falls to zero at 1; on grids of one
    pixel scale and any rotation that leaves 1.1, 0.8 and 0.4e-3 rms for these widths at most.
    """
    rng = np.random.default_rng(5)
    shape, flux = (80, 80), []
    for rotation in rng.uniform(0, 360, 40):
        x, y = rng.uniform(39, 41, 2)
        star = exposure(star_image(shape, x, y, fwhm / 2.3548), wcs=tan_wcs(shape, rotation=rotation))
        flux.append(np.nansum(warp.warp(star, tan_wcs(shape), shape).image))
    assert np.sqrt(np.mean((np.array(flux) - 1) ** 2)) < rms * 1.1
    assert np.abs(np.array(flux) - 1).max() < 3.5e-3


@settings(max_examples=10, deadline=None)
@given(st.floats(0, 360), st.floats(0.1, 0.4))
def test_a_constant_stays_constant_per_area(rotation, scale):
    shape = (90, 100)
    out = warp.warp(exposure(np.full(shape, 7.0), wcs=tan_wcs(shape, rotation=rotation)), tan_wcs(shape, scale), shape)
    inside = np.isfinite(out.image)
    assert inside.any()
    # Taps are normalised to float32; the area changes by the curvature of the projection only.
    np.testing.assert_allclose(out.image[inside], 7 * (scale / 0.2) ** 2, rtol=1e-5)


def test_out_of_support_is_nan_infinite_and_no_data():
    shape = (60, 60)
    out = warp.warp(exposure(np.ones(shape), wcs=tan_wcs(shape)), tan_wcs(shape, shift=(20.5, 0)), shape)
    outside = out.flagged("NO_DATA")
    assert outside[:, :15].all() and not outside[5:-5, 30:50].any()
    assert np.isnan(out.image[outside]).all() and np.isposinf(out.variance[outside]).all()
    assert np.isfinite(out.image[~outside]).all() and np.isfinite(out.variance[~outside]).all()


@pytest.mark.parametrize("shift", [(48.5, 0), (52, 52), (500, 0), (1e6, 0)])
def test_no_overlap_is_all_no_data(shift):
    shape = (50, 50)
    out = warp.warp(exposure(np.ones(shape), wcs=tan_wcs(shape)), tan_wcs(shape, shift=shift), shape)
    assert out.flagged("NO_DATA").all()


def test_overlapping_corners_are_found():
    shape = (50, 50)
    out = warp.warp(exposure(np.ones(shape), wcs=tan_wcs(shape)), tan_wcs(shape, shift=(42.3, 42.3)), shape)
    assert (~out.flagged("NO_DATA")).sum() == 5 * 5  # positions 2.7 ... 6.7 on each axis


def test_masks_follow_bilinear_weights_and_edge_the_whole_kernel():
    shape = (60, 60)
    science = exposure(np.ones(shape), wcs=tan_wcs(shape))
    science.mask[20, 20] = bits("SAT")
    science.mask[40, 40] = bits("EDGE")
    out = warp.warp(science, tan_wcs(shape, shift=(-0.5, -0.5)), shape)
    # Output pixel i is at source i + 0.5: bilinear neighbours i, i + 1; kernel i - 2 ... i + 3.
    expected = np.zeros(shape, bool)
    expected[19:21, 19:21] = True
    np.testing.assert_array_equal(out.flagged("SAT"), expected)
    expected[:] = False
    expected[37:43, 37:43] = True
    np.testing.assert_array_equal(out.flagged("EDGE"), expected)


def test_nan_pixels_are_flagged_and_do_not_spread():
    shape = (60, 60)
    science = exposure(np.ones(shape), wcs=tan_wcs(shape))
    science.image[30, 30] = np.nan
    science.variance[10, 45] = np.inf
    out = warp.warp(science, tan_wcs(shape, shift=(-0.5, -0.5)), shape)
    inner = np.zeros(shape, bool)
    inner[5:-5, 5:-5] = True
    assert np.isfinite(out.image[inner]).all() and np.isfinite(out.variance[inner]).all()
    expected = np.zeros(shape, bool)
    expected[27:33, 27:33] = True
    expected[7:13, 42:48] = True
    np.testing.assert_array_equal(out.flagged("NO_DATA") & inner, expected)
    np.testing.assert_allclose(out.image[inner & ~expected], 1, rtol=1e-5)


@pytest.mark.parametrize("rotation", [12.0, 45.0])
def test_covariance_factor_predicts_the_scatter_of_psf_fluxes(rotation):
    shape, sigma = (700, 700), 3.0 / 2.3548
    rng = np.random.default_rng(3)
    psf = star_image((25, 25), 12, 12, sigma)
    pulls = []
    for _ in range(4):
        science = exposure(rng.normal(0, 1, shape), wcs=tan_wcs(shape, rotation=rotation))
        out = warp.warp(science, tan_wcs((450, 450)), (450, 450))
        windows = [np.lib.stride_tricks.sliding_window_view(p, (25, 25))[::9, ::9] for p in (out.image, out.variance)]
        information = np.einsum("ij,abij->ab", psf**2, 1 / windows[1])
        flux = np.einsum("ij,abij->ab", psf, windows[0] / windows[1]) / information
        pulls.append(flux * np.sqrt(information / out.noise.covariance_factor))
    # 4 x 47 x 47 fluxes, nearly independent at 9 pixels: relative error of the rms 1 / sqrt(2 x 8836) = 0.8 %.
    assert np.isfinite(pulls).all()
    assert np.std(pulls) == pytest.approx(1, abs=0.03)


def test_covariance_factors_multiply():
    shape = (60, 60)
    science = exposure(np.ones(shape), wcs=tan_wcs(shape), noise=Noise(1.5))
    out = warp.warp(science, tan_wcs(shape, shift=(0.5, 0.5)), shape)
    assert out.noise.covariance_factor == pytest.approx(1.5 / 0.785769**2, rel=3e-3)


def test_psf_and_metadata_go_along():
    shape = (80, 80)
    stamp = star_image((25, 25), 12, 12, 1.5)
    psf = constant_psf(stamp, shape)
    science = exposure(
        np.ones(shape), wcs=tan_wcs(shape), psf=psf, visit=5, detector=2, band="r", psf_fwhm=4.0, psf_sigma=1.8
    )
    out = warp.warp(science, tan_wcs(shape, scale=0.1), shape)
    assert (out.metadata["visit"], out.metadata["band"]) == (5, "r")
    assert out.metadata["psf_fwhm"] == pytest.approx(8.0, rel=1e-4)
    assert out.metadata["psf_sigma"] == pytest.approx(3.6, rel=1e-4)
    assert (out.psf.inputs[0].visit, out.psf.inputs[0].detector) == (5, 2)
    assert warp.warp(exposure(np.ones(shape), wcs=tan_wcs(shape)), tan_wcs(shape), shape).psf is None


def test_detectors_of_a_visit_are_pasted_first_valid_wins():
    shape = (80, 80)
    stamp = constant_psf(star_image((15, 15), 7, 7, 1.5), shape)
    left = exposure(np.full(shape, 1.0), 2.0, stamp, wcs=tan_wcs(shape, shift=(20, 0)), visit=7, detector=0, band="g")
    right = exposure(np.full(shape, 3.0), 2.0, stamp, wcs=tan_wcs(shape, shift=(-20, 0)), visit=7, detector=1, band="g")
    left.image[40, 55:58] = np.nan
    away = exposure(np.ones(shape), 2.0, stamp, wcs=tan_wcs(shape, shift=(900, 0)), visit=7, detector=2, band="g")
    out = warp.visit_on_patch([left, right, away], tan_wcs(shape), shape)
    assert out.image[40, 25] == out.image[40, 45] == pytest.approx(1, rel=1e-5), "both have data, the first counts"
    assert out.image[40, 70] == pytest.approx(3, rel=1e-5)
    assert out.image[40, 36] == pytest.approx(3, rel=1e-5), "a hole in the first detector is filled by the second"
    assert [(i.visit, i.detector) for i in out.psf.inputs] == [(7, 0), (7, 1)]
    assert "detector" not in out.metadata
    assert (out.metadata["visit"], out.metadata["n_detectors"]) == (7, 2)
    assert out.metadata["mean_variance"] == pytest.approx(2, rel=1e-3)


def test_visit_that_misses_the_patch_is_none():
    shape = (50, 50)
    away = exposure(np.ones(shape), wcs=tan_wcs(shape, shift=(500, 0)))
    assert warp.visit_on_patch([away], tan_wcs(shape), shape) is None


def test_clipped_mean_variance_does_not_feel_stars():
    rng = np.random.default_rng(4)
    science = exposure(np.zeros((300, 300)))
    science.variance[:] = rng.normal(10, 0.1, science.shape)
    science.variance[:30, :30] = 1000
    science.variance[-1] = np.inf
    assert warp.clipped_mean_variance(science) == pytest.approx(10, rel=1e-3)
