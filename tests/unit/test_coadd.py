"""Coadds: the weighted mean and its mask, artefacts, PSF, errors."""

import os
from dataclasses import replace

import numpy as np
import pytest
from builders import constant_psf, exposure, gaussian, star_image, tan_wcs
from scipy.ndimage import gaussian_filter

from diaflow.coadd import artefacts, combine, means, regions, stack
from diaflow.errors import BadData, InputError
from diaflow.image.exposure import Exposure
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.pixels.growth import core_radius, grow
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.run import methods

SHAPE = (150, 160)
WCS = tan_wcs(SHAPE)
MODEL_SIGMA = 2.2
# From where the field is near the zenith at the date of the warps.
OPTIONS = {
    "dcr": {"dcr": {"latitude": -30, "longitude": -70, "altitude": 0, "subbands": 3, "bands": {"r": [552, 691]}}}
}


def combine_warps(paths, matched_paths, method="direct", **options):
    return combine.combine_warps(paths, matched_paths, methods.load("coadd", method).combine, **options)


def make_warp(visit, image, sigma=1.6, variance=1.0):
    """A direct warp of one detector with a Gaussian PSF."""
    psf = constant_psf(gaussian(sigma, 25), SHAPE)
    source = PsfInput(visit, 4, 1.0, psf, WCS, (0, 0, SHAPE[1] - 1, SHAPE[0] - 1))
    metadata = {"visit": visit, "band": "r", "tract": 1, "patch": "0_0", "mjd": 60000.766}
    made = exposure(image, variance, CoaddPsf([source], WCS), wcs=WCS, **metadata)
    made.metadata["mean_variance"] = float(np.median(variance))
    return replace(made, noise=Noise(1.2))


def make_matched(direct, sigma):
    """The warp convolved from a Gaussian PSF of width `sigma` to the model's."""
    blur = np.sqrt(MODEL_SIGMA**2 - sigma**2)
    squared = 1 / (4 * np.pi * blur**2)
    model = constant_psf(gaussian(MODEL_SIGMA, 25), SHAPE)
    matched = replace(direct, image=gaussian_filter(direct.image, blur), variance=direct.variance * squared, psf=model)
    metadata = direct.metadata | {"mean_variance": squared * direct.metadata["mean_variance"]}
    noise = Noise(1.2 / squared, 0.8 / squared)
    return replace(matched, mask=direct.mask.copy(), noise=noise, metadata=metadata)


def write(tmp_path, warps, matched=None):
    """Paths of direct and matched warps."""
    matched = matched or [make_matched(w, 1.6) for w in warps]
    paths = []
    for name, exposures in (("direct", warps), ("matched", matched)):
        paths.append([str(tmp_path / f"{name}_{k}.fits") for k in range(len(exposures))])
        for item, path in zip(exposures, paths[-1]):
            item.write(path)
    return paths


def noisy_warps(n, seed=1, sources=0.0):
    rng = np.random.default_rng(seed)
    return [make_warp(10 + k, sources + rng.normal(0, 1, SHAPE)) for k in range(n)]


def plain_mean(warps, weights):
    """The weighted mean of clean warps in numpy."""
    images, variances = (np.array([getattr(w, name) for w in warps], float) for name in ("image", "variance"))
    w = np.array(weights)[:, None, None]
    return (w * images).sum(0) / w.sum(), (w**2 * variances).sum(0) / w.sum() ** 2


def test_direct_coadd_is_the_inverse_variance_weighted_mean(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    variances = [1.0, 2.0, 4.0]
    warps = [make_warp(k, rng.normal(0, np.sqrt(v), SHAPE), variance=v) for k, v in enumerate(variances)]
    monkeypatch.setattr(stack, "BLOCK_BYTES", 12 * SHAPE[1] * 3 * 37)  # several blocks, the last one smaller
    result = combine_warps(*write(tmp_path, warps))
    image, variance = plain_mean(warps, 1 / np.array(variances))
    # float32 sums of three numbers.
    np.testing.assert_allclose(result.image, image, atol=2e-6)
    np.testing.assert_allclose(result.variance, variance, rtol=1e-6)
    assert not result.mask.any()
    assert result.metadata["n_inputs"] == 3
    assert (result.metadata["band"], result.metadata["tract"], result.metadata["patch"]) == ("r", 1, "0_0")
    assert result.noise.covariance_factor == pytest.approx(1.2)


@pytest.mark.slow
@pytest.mark.parametrize("method", list(methods.listed("coadd")))
def test_result_does_not_depend_on_the_blocks(tmp_path, monkeypatch, method):
    warps = noisy_warps(5)
    warps[2].image[40:60, 50:80] += 60
    warps[3].mask[:, 90:95] = bits("SAT")
    warps[4].mask[20] |= bits("NO_DATA")
    paths = write(tmp_path, warps)
    whole = combine_warps(*paths, method, **OPTIONS.get(method, {}))
    monkeypatch.setattr(stack, "BLOCK_BYTES", 1)
    by_row = combine_warps(*paths, method, **OPTIONS.get(method, {}))
    for name in ("image", "variance", "mask"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(by_row, name))


@pytest.mark.parametrize("method", ["direct", "psf_matched"])
@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_mean_of_constants_is_the_constant(tmp_path, method, n):
    result = combine_warps(
        *write(tmp_path, [make_warp(k, np.full(SHAPE, 3.0), variance=1 + k) for k in range(n)]), method
    )
    np.testing.assert_allclose(result.image, 3, rtol=3e-7)
    assert not result.mask.any()


def test_pixels_without_data_are_no_data_and_others_take_what_there_is(tmp_path):
    warps = [make_warp(k, np.full(SHAPE, 1.0 + k)) for k in range(2)]
    warps[0].image[:, :30], warps[0].variance[:, :30], warps[0].mask[:, :30] = np.nan, np.inf, bits("NO_DATA")
    warps[1].image[:, :10], warps[1].variance[:, :10], warps[1].mask[:, :10] = np.nan, np.inf, bits("NO_DATA")
    result = combine_warps(*write(tmp_path, warps, warps_as_matched(warps)))
    assert np.isnan(result.image[:, :10]).all() and np.isposinf(result.variance[:, :10]).all()
    np.testing.assert_array_equal(result.flagged("NO_DATA"), np.arange(SHAPE[1])[None] < np.full((SHAPE[0], 1), 10))
    np.testing.assert_allclose(result.image[:, 10:30], 2)
    np.testing.assert_allclose(result.image[:, 30:], 1.5)
    # coverage that ends is not a rejection; it changes the PSF as far as that reaches: 9 x 9 pixels hold 95 % of it
    column = np.arange(SHAPE[1])
    ends = np.minimum(abs(column - 10), abs(column - 30)) <= 4
    expected = np.where(ends, bits("SENSOR_EDGE", "INEXACT_PSF"), 0)[10:]
    np.testing.assert_array_equal(result.mask[:, 10:], np.broadcast_to(expected, (SHAPE[0], SHAPE[1] - 10)))


def warps_as_matched(warps):
    """The same pixels with the PSF of a model."""
    psf = constant_psf(gaussian(MODEL_SIGMA, 25), SHAPE)
    return [replace(w, psf=psf, noise=Noise(w.noise.covariance_factor, 1.0)) for w in warps]


def test_rejected_pixels_are_told_by_the_mask(tmp_path):
    warps = [make_warp(k, np.full(SHAPE, float(k))) for k in range(3)]
    warps[0].mask[10, 10] = bits("CR")
    warps[0].mask[20, 20] = bits("EDGE")
    warps[0].mask[30, 30] = bits("SAT")
    warps[0].mask[40, 40] = bits("INTRP")
    for w in warps:
        w.mask[50, 50] = bits("SAT")
        w.mask[60, 60] = bits("EDGE")
    result = combine_warps(*write(tmp_path, warps))
    inexact = bits("INEXACT_PSF")
    assert result.mask[10, 10] == bits("REJECTED") | inexact
    assert result.mask[20, 20] == bits("SENSOR_EDGE") | inexact
    assert result.mask[30, 30] == bits("REJECTED", "SAT") | inexact, "a third of the weight was saturated"
    assert result.mask[40, 40] == bits("INTRP")
    assert result.mask[50, 50] == bits("SAT"), "where all are saturated they are all used"
    assert result.mask[60, 60] == bits("EDGE", "SENSOR_EDGE") | inexact
    np.testing.assert_allclose(result.image[[10, 20, 30], [10, 20, 30]], 1.5)
    np.testing.assert_allclose(result.image[[40, 50, 60], [40, 50, 60]], 1.0)
    flawed = np.zeros(SHAPE, np.int32)
    flawed[[10, 20, 30, 60], [10, 20, 30, 60]] = inexact
    np.testing.assert_array_equal(result.mask & inexact, grow(flawed, 4), "as far as the PSF reaches")
    result.mask[[10, 20, 30, 40, 50, 60], [10, 20, 30, 40, 50, 60]] = 0
    assert not (result.mask & ~bits("SENSOR_EDGE", "INEXACT_PSF")).any()


def test_saturation_of_a_little_weight_is_not_passed_on(tmp_path):
    warps = [make_warp(k, np.ones(SHAPE)) for k in range(12)]
    warps[3].mask[30, 30] = bits("SAT")
    assert combine_warps(*write(tmp_path, warps)).mask[30, 30] == bits("REJECTED", "INEXACT_PSF")


def test_moving_object_leaves_the_direct_coadd_and_star_cores_stay(tmp_path):
    """Four visits of different seeing: bright stars, a variable one, an asteroid and a trail in one visit each."""
    rng = np.random.default_rng(7)
    sigmas = [1.2, 1.5, 1.8, 2.1]
    warps, matched = [], []
    for k, sigma in enumerate(sigmas):
        stars = star_image(SHAPE, 40, 40, sigma, 3e4) + star_image(SHAPE, 110.3, 50.6, sigma, 8e3)
        stars += star_image(SHAPE, 80, 120, sigma, 3e3)
        variable = star_image(SHAPE, 40, 110, sigma, [2e3, 1e3, 500, 3e3][k])
        clean = stars + variable + rng.normal(0, 1, SHAPE)
        warps.append(make_warp(k, clean, sigma))
    truth, _ = plain_mean(warps, np.ones(4))
    asteroid = star_image(SHAPE, 130, 100, sigmas[1], 800)
    warps[1].image += asteroid.astype(np.float32)
    warps[2].image[140, 10:120] += 200
    matched = [make_matched(w, sigma) for w, sigma in zip(warps, sigmas)]
    result = combine_warps(*write(tmp_path, warps, matched))
    clipped = result.flagged("CLIPPED")
    assert clipped[100, 130] and clipped[140, 12:118].all()
    reach = core_radius(gaussian(sigmas[-1], 25))
    np.testing.assert_array_equal(grow(clipped.astype(np.int32), reach) > 0, result.flagged("INEXACT_PSF"))
    for x, y in ((40, 40), (110, 51), (80, 120), (40, 110)):
        assert not clipped[y - 3 : y + 4, x - 3 : x + 4].any()
    # Where nothing is clipped the mean is the clean one: what the region misses of the asteroid is its wings, which
    # are below the matched noise 1 / (2 sqrt(pi) blur), in a mean of four.
    blur = np.sqrt(MODEL_SIGMA**2 - np.array(sigmas) ** 2).min()
    assert np.abs(result.image - truth)[~clipped].max() < 1 / (2 * np.sqrt(np.pi) * blur)
    # Where it is, the mean of the three others: its noise about the truth of four is sqrt(1/3 - 1/4).
    assert np.abs(result.image - truth)[90:110, 125:136].max() < 5 * np.sqrt(1 / 12)
    assert np.abs(result.image - truth)[140, 12:118].max() < 5 * np.sqrt(1 / 12)


def test_star_that_varies_in_few_epochs_is_whole_in_the_mean_and_what_hits_a_star_is_not(tmp_path):
    """Six visits: a star fainter in two of them, one brighter in one; a cosmic ray and an asteroid at two others."""
    rng = np.random.default_rng(8)
    sigmas = [1.2, 1.5, 1.8, 2.1, 1.4, 1.7]
    fainter, brighter = [500, 500, 250, 500, 200, 500], [350, 350, 350, 600, 350, 350]
    warps = []
    for k, sigma in enumerate(sigmas):
        stars = star_image(SHAPE, 40, 40, sigma, fainter[k])
        stars += star_image(SHAPE, 110.3, 50.6, sigma, brighter[k])
        stars += star_image(SHAPE, 80, 120, sigma, 500) + star_image(SHAPE, 40, 110, sigma, 500)
        warps.append(make_warp(k, stars + rng.normal(0, 1, SHAPE), sigma))
    truth, _ = plain_mean(warps, np.ones(6))
    warps[1].image[120, 81] += 250
    warps[2].image += star_image(SHAPE, 43.5, 110, sigmas[2], 300).astype(np.float32)
    result = combine_warps(*write(tmp_path, warps, [make_matched(w, s) for w, s in zip(warps, sigmas)]))
    clipped = result.flagged("CLIPPED")
    for x, y in ((40, 40), (110, 51)):
        around = slice(y - 8, y + 9), slice(x - 8, x + 9)
        assert not clipped[around].any()
        np.testing.assert_allclose(result.image[around], truth[around], atol=1e-3)
    assert clipped[120, 81] and clipped[110, 43:45].all()


def test_nothing_is_clipped_of_noise_and_of_two_inputs_the_brighter_where_they_differ(tmp_path):
    for n in (2, 4):
        assert not combine_warps(*write(tmp_path, noisy_warps(n))).mask.any()
    two = noisy_warps(2)
    two[0].image[50:60, 50:60] += 100
    result = combine_warps(*write(tmp_path, two))
    assert result.flagged("CLIPPED")[50:60, 50:60].all() and not result.flagged("CLIPPED")[:40].any()
    np.testing.assert_array_equal(result.image[50:60, 50:60], two[1].image[50:60, 50:60])


def test_epochs_rule_of_compare_warp():
    np.testing.assert_array_equal(artefacts.max_epochs(np.array([1, 2, 3, 4, 5, 10, 20, 40])), [0, 1, 1, 1, 2, 2, 2, 3])


def test_regions_do_not_wrap_around_the_rows():
    nx = 10
    pixels = np.array([9, 10, 23, 34, 35, 99])
    labels = regions.region_numbers(pixels, (10, nx))
    assert labels[0] != labels[1], "the end of row 0 and the beginning of row 1"
    assert labels[2] == labels[3] == labels[4], "corners touch"
    assert len(set(labels)) == 4


def test_unchecked_pixels_give_way_to_checked_ones(tmp_path):
    warps = [make_warp(k, np.full(SHAPE, float(k))) for k in range(3)]
    matched = warps_as_matched(warps)
    matched[0] = replace(matched[0], mask=matched[0].mask | bits("NO_DATA"))
    result = combine_warps(*write(tmp_path, warps, matched))
    np.testing.assert_allclose(result.image, 1.5)
    assert result.flagged("SENSOR_EDGE").all()


def test_matched_coadd_clips_outliers_and_has_the_model_psf(tmp_path):
    warps = noisy_warps(6, sources=star_image(SHAPE, 80, 70, 1.6, 2e4))
    clean = [make_matched(w, 1.6) for w in warps]
    truth, _ = plain_mean(clean, np.ones(6))
    warps[2].image[30, 30] += 500
    matched = [make_matched(w, 1.6) for w in warps]
    result = combine_warps(*write(tmp_path, warps, matched), "psf_matched")
    sigma = np.sqrt(clean[0].variance[0, 0])
    assert result.flagged("CLIPPED")[30, 30] and not result.flagged("INEXACT_PSF").any()
    # A clipped value of 5 sigma, or one left in, moves a mean of six by 5 / 6 sigma; two of them may coincide.
    assert np.abs(result.image - truth).max() < 2 * 5 / 6 * sigma
    np.testing.assert_allclose(result.psf([50.0, 100], [60.0, 90]), [gaussian(MODEL_SIGMA, 25)] * 2, atol=1e-7)
    result.write(tmp_path / "coadd.fits")
    assert {i.visit for i in Exposure.read(tmp_path / "coadd.fits").psf.inputs} == set(range(10, 16))


def test_matched_mean_of_imperfectly_matched_star_keeps_all_inputs(tmp_path):
    """PSF residuals of 2 % at S/N in the thousands are no outliers."""
    rng = np.random.default_rng(4)
    scale = rng.normal(1, 0.02, 8)
    star = star_image(SHAPE, 80, 70, MODEL_SIGMA, 3e5)
    warps = [make_warp(k, rng.normal(0, 1, SHAPE) + s * star) for k, s in enumerate(scale)]
    result = combine_warps(*write(tmp_path, warps, warps_as_matched(warps)), "psf_matched")
    # Values beyond 3 sigma of the scatter among eight: a few per cent of the pixels of the core at most.
    assert result.image[70, 80] == pytest.approx(scale.mean() * 3e5 / (2 * np.pi * MODEL_SIGMA**2), rel=0.01)


def test_outliers_are_found_when_almost_half_are_wrong():
    image = np.random.default_rng(5).normal(0, 1, (9, 40, 300)).astype(np.float32)
    image[:4] += 1000
    mask = np.zeros(image.shape, np.int32)
    means.mark_outliers(image, np.ones_like(image), mask, np.ones(9), 4.0)
    clipped = mask == bits("CLIPPED")
    assert clipped[:4].all() and clipped[4:].mean() < 1e-2


def test_median_of_partly_covered_columns_is_that_of_the_covered_ones():
    rng = np.random.default_rng(6)
    image = rng.normal(0, 1, (7, 30, 200)).astype(np.float32)
    mask = np.where(rng.random(image.shape) < 0.4, bits("NO_DATA"), 0).astype(np.int32)
    image[mask > 0] = 1e6
    before = mask.copy()
    means.mark_outliers(image, np.ones_like(image), mask, np.ones(7), 6.0)
    np.testing.assert_array_equal(mask, before)


def test_noise_of_correlated_warps_is_measured(tmp_path):
    rng = np.random.default_rng(8)
    warps = [make_warp(k, rng.normal(0, 1.5, SHAPE)) for k in range(5)]
    paths = write(tmp_path, warps, warps_as_matched(warps))
    weights = np.ones(5)
    # 64 x 160 pixels: the interquartile range has a relative error of 1.17 / sqrt(10240) = 1.2 %.
    np.testing.assert_allclose(stack.noise_scale(stack.open_all(paths[1]), weights), 1.5, rtol=0.05)


def test_psf_of_the_coadd_lists_detectors_with_weights(tmp_path):
    warps = [make_warp(k, np.zeros(SHAPE), variance=v) for k, v in enumerate([1.0, 4.0])]
    result = combine_warps(*write(tmp_path, warps))
    assert [(i.visit, i.detector, i.weight) for i in result.psf.inputs] == [(0, 4, 1.0), (1, 4, 0.25)]
    result.write(tmp_path / "coadd.fits")
    back = Exposure.read(tmp_path / "coadd.fits")
    np.testing.assert_allclose(back.psf(50, 50), result.psf(50, 50), atol=1e-6)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_unusable_input_is_named(tmp_path):
    paths = write(tmp_path, noisy_warps(3))
    with pytest.raises(BadData):
        combine_warps([], [])
    with pytest.raises(InputError, match="median"):
        combine_warps(*paths, "median")
    with pytest.raises(InputError, match="matched_1"):
        combine_warps(paths[0], paths[1][1:] + paths[1][:1])
    whole = os.path.getsize(paths[0][1])
    for size in (whole - 2880, 60000):
        os.truncate(paths[0][1], size)
        with pytest.raises(InputError, match="direct_1.fits"):
            combine_warps(*paths)
    with pytest.raises(InputError, match="absent.fits"):
        combine_warps([str(tmp_path / "absent.fits")], paths[1][:1])


def test_a_star_that_loses_an_input_has_the_variance_of_what_its_profile_may_change_by(tmp_path):
    """Three inputs of equal weight whose star is 900, 1000 and 1100 high; the first is left out of one column."""
    warps = [make_warp(k, np.full(SHAPE, 1000.0 + 100 * (k - 1))) for k in range(3)]
    warps[0].mask[:, 50] = bits("BAD")
    result = combine_warps(*write(tmp_path, warps))
    # the two that stay scatter by 5000**0.5, and a third of the weight is missing
    assert result.variance[20, 50] == pytest.approx(1 / 2 + 5000 / 9, rel=1e-3)
    np.testing.assert_allclose(np.delete(result.variance, 50, axis=1), 1 / 3, rtol=1e-5)
    # the true change, 50, is within 2.2 of that error
    assert abs(result.image[20, 50] - 1000) / np.sqrt(result.variance[20, 50]) < 2.5


def test_sky_that_loses_an_input_has_the_variance_of_the_others(tmp_path):
    warps = noisy_warps(3)
    warps[0].mask[:, 50] = bits("BAD")
    result = combine_warps(*write(tmp_path, warps))
    np.testing.assert_allclose(result.variance[:, 50], 1 / 2, rtol=1e-5)


def test_planes_say_in_which_pixel_inputs_begin_and_end():
    """Four inputs: one ends where another begins, so that their number is the same; one in a row."""
    n, shape = 4, (7, 9)
    image, variance = np.ones((2, n, *shape), np.float32)
    mask = np.zeros((n, *shape), np.int32)
    mask[0, :, 5:], mask[1, :, :5], mask[2, 3:] = (bits("NO_DATA"),) * 3
    expected = np.zeros(shape, bool)
    expected[:, 5], expected[3] = True, True
    parts, above = [], means.no_row(9)
    for rows in (slice(0, 3), slice(3, 4), slice(4, 7)):
        out = [np.empty((rows.stop - rows.start, 9), dtype) for dtype in (np.float32, np.float32, np.int32)]
        blocks = (np.ascontiguousarray(plane[:, rows]) for plane in (image, variance, mask))
        means.weighted_mean(*blocks, np.array([1, 0.9, 1.3, 1]), *out, above=above)
        parts.append(out[2])
    planes = bits("SENSOR_EDGE", "INEXACT_PSF")
    np.testing.assert_array_equal(np.concatenate(parts) & planes, np.where(expected, planes, 0))


def test_pixels_with_too_few_inputs_to_reject_any_are_suspect():
    n, shape = 4, (6, 8)
    image, variance, mask = (
        np.ones((n, *shape), np.float32),
        np.ones((n, *shape), np.float32),
        np.zeros((n, *shape), "i4"),
    )
    mask[:2, :, 4:] = bits("NO_DATA")
    mask[2, :, 6:] = bits("NO_DATA")
    mask[3, :, 4] = bits("EDGE")
    out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.zeros(shape, np.int32)
    means.weighted_mean(image, variance, mask, np.ones(n), *out)
    np.testing.assert_array_equal((out[2] & bits("SUSPECT")) != 0, [[0, 0, 0, 0, 1, 0, 1, 1]] * 6)
    means.weighted_mean(image[2:], variance[2:], mask[2:], np.ones(2), *out)
    assert not (out[2] & bits("SUSPECT")).any()
