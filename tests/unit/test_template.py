"""Templates: patches and tracts brought onto a science image."""

import time

import numpy as np
import pytest
from builders import constant_psf, exposure, gaussian, quadratic, star_image, tan_wcs

from diaflow.coadd import combine, template
from diaflow.errors import BadData, InputError, Kind
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.psf.stampfield import StampField
from diaflow.warp import warp

TRACT_SHAPE = (400, 400)
TRACT = tan_wcs(TRACT_SHAPE)
PATCH = 220
SIGMA = 1.8


def sky(wcs, shape):
    """Stars at fixed sky positions on a grid, in nJy per pixel."""
    image = np.zeros(shape)
    for k, (x, y) in enumerate([(150, 160), (205, 190), (240, 250), (180, 225)]):
        px, py = wcs.all_world2pix(*TRACT.all_pix2world(x, y, 0), 0)
        image += star_image(shape, px, py, SIGMA, 1000.0 * (k + 1))
    return image


def patch_wcs(x0, y0, tract=TRACT):
    wcs = tract.deepcopy()
    wcs.wcs.crpix -= [x0, y0]
    return wcs


def make_patch(path, x0, y0, tract=TRACT, variance=1.0, visit=3, band="r"):
    """A coadd of one visit on a patch whose first pixel is x0, y0 of the tract."""
    shape = (PATCH, PATCH)
    wcs = patch_wcs(x0, y0, tract)
    psf = constant_psf(gaussian(SIGMA, 25), TRACT_SHAPE)
    source = PsfInput(visit, 0, 1.0, psf, tract, (0, 0, TRACT_SHAPE[1] - 1, TRACT_SHAPE[0] - 1))
    made = exposure(sky(wcs, shape), variance, CoaddPsf([source], wcs), wcs=wcs, noise=Noise(1.1), band=band)
    made.write(path)
    return made


@pytest.fixture(scope="module")
def four_patches(tmp_path_factory):
    """2 x 2 patches of a tract that overlap by 40 pixels."""
    folder = tmp_path_factory.mktemp("patches")
    paths = []
    for k, (x0, y0) in enumerate([(0, 0), (180, 0), (0, 180), (180, 180)]):
        paths.append(str(folder / f"{k}.fits"))
        make_patch(paths[-1], x0, y0, visit=k)
    return paths


def test_template_shows_the_sky_of_the_science_image(four_patches):
    shape = (200, 210)
    science = tan_wcs(shape, rotation=17, sip=quadratic(1e-6))
    result = template.assemble(four_patches, science, shape)
    assert not result.mask.any()
    # The response of Lanczos-3 departs from 1 by up to 1 % where a Gaussian of 1.8 pixel sigma has power.
    np.testing.assert_allclose(result.image, sky(science, shape), atol=0.01 * result.image.max())
    assert result.metadata["band"] == "r"
    # Variances are averaged in the overlaps, so patches leave no trace; 1.1 times that of a rotation, 1.27.
    assert result.variance.max() < 1.05
    # Of noise that is coloured already, a resampling takes less.
    assert result.noise.covariance_factor == pytest.approx(1.1 * 1.27 / Noise(1.1).excess_variance(1.27), rel=0.01)


def test_order_of_patches_does_not_matter(four_patches):
    shape = (200, 200)
    science = tan_wcs(shape, rotation=30)
    forward = template.assemble(four_patches, science, shape)
    backward = template.assemble(four_patches[::-1], science, shape)
    np.testing.assert_allclose(forward.image, backward.image, atol=1e-4)


def test_missing_patch_leaves_no_data(four_patches):
    shape = (200, 200)
    science = tan_wcs(shape)
    result = template.assemble(four_patches[:3], science, shape)
    empty = result.flagged("NO_DATA")
    # The fourth patch alone covers science pixels from 120 on (tract 220); the kernel reaches three pixels.
    assert empty[121:, 121:].all() and not empty[:116].any() and not empty[:, :116].any()


def test_psf_is_that_of_the_stars(four_patches):
    shape = (220, 220)
    science = tan_wcs(shape, 0.21, rotation=17)
    result = template.assemble(four_patches, science, shape)
    x, y = science.all_world2pix(*TRACT.all_pix2world([205], [190], 0), 0)
    stamp = result.psf(x, y)[0]
    star = star_image(stamp.shape, stamp.shape[1] // 2, stamp.shape[0] // 2, SIGMA * 0.2 / 0.21)
    assert np.abs(stamp - star).max() < 0.01 * stamp.max()


def test_psf_is_quick_to_evaluate(tmp_path):
    psf = StampField(np.repeat(gaussian(SIGMA, 25)[None], 6, 0), 2, TRACT_SHAPE)
    made = make_patch(tmp_path / "patch.fits", 0, 0)
    box = (0, 0, TRACT_SHAPE[1] - 1, TRACT_SHAPE[0] - 1)
    made.psf = CoaddPsf([PsfInput(k, 0, 1.0, psf, tan_wcs(TRACT_SHAPE, rotation=k), box) for k in range(20)], made.wcs)
    made.write(tmp_path / "patch.fits")
    shape = (200, 200)
    result = template.assemble([tmp_path / "patch.fits"], patch_wcs(10, 10), shape)
    x, y = np.random.default_rng(1).uniform(0, 199, (2, 300))
    start = time.process_time()
    assert np.isfinite(result.psf(x, y)).all()
    assert time.process_time() - start < 1


def test_tracts_are_averaged_with_inverse_sigma_weights(tmp_path, four_patches):
    other = tan_wcs(TRACT_SHAPE, rotation=40)
    other.wcs.crval = [0.0, -30.001]
    path = str(tmp_path / "other.fits")
    make_patch(path, 90, 90, other, variance=4.0)
    shape = (100, 100)
    science = tan_wcs(shape)
    one = template.assemble(four_patches, science, shape)
    two = template.assemble([path], science, shape)
    both = template.assemble([*four_patches, path], science, shape)
    w1, w2 = one.variance**-0.5, two.variance**-0.5
    np.testing.assert_allclose(both.image, (w1 * one.image + w2 * two.image) / (w1 + w2), atol=1e-4)
    np.testing.assert_allclose(both.variance, (w1 * one.variance + w2 * two.variance) / (w1 + w2), rtol=1e-5)
    assert not both.mask.any()


def test_masks_come_along_and_shallow_parts_are_flagged(tmp_path):
    path = tmp_path / "patch.fits"
    made = make_patch(path, 90, 90)
    made.mask[100, 100] = bits("SAT")
    made.variance[:, 150:] = 9
    made.write(path)
    shape = (200, 200)
    result = template.assemble([path], patch_wcs(100, 100), shape)
    assert result.flagged("SAT")[90, 90] and result.flagged("SAT").sum() == 1
    high = result.flagged("HIGH_VARIANCE")
    # The step is at column 140; medians of 32-pixel bins follow it to one bin.
    assert high[:, 176:].all() and not high[:, :104].any()


def test_patch_without_coadd_is_skipped(tmp_path, four_patches):
    shape = (100, 100)
    empty = combine.failed(patch_wcs(180, 180), (PATCH, PATCH), BadData("no warps to coadd", Kind.TEMPLATE))
    empty.metadata["band"] = "r"
    empty.write(tmp_path / "failed.fits")
    paths = [*four_patches[:3], str(tmp_path / "failed.fits")]
    expected = template.assemble(four_patches[:3], tan_wcs(shape), shape)
    np.testing.assert_array_equal(template.assemble(paths, tan_wcs(shape), shape).image, expected.image)
    with pytest.raises(BadData, match="no template"):
        template.assemble(paths[3:], tan_wcs(shape), shape)


def test_no_coverage_is_bad_data_and_wrong_files_are_errors(tmp_path, four_patches):
    shape = (50, 50)
    with pytest.raises(BadData, match="no template"):
        template.assemble(four_patches, tan_wcs(shape, shift=(3000, 0)), shape)
    with pytest.raises(BadData, match="no template"):
        template.assemble([], tan_wcs(shape), shape)
    make_patch(tmp_path / "g.fits", 0, 0, band="g")
    with pytest.raises(InputError, match="g.fits"):
        template.assemble([*four_patches, str(tmp_path / "g.fits")], tan_wcs(shape), shape)
    with pytest.raises(InputError, match="absent.fits"):
        template.assemble([str(tmp_path / "absent.fits")], tan_wcs(shape), shape)


BIG = tan_wcs((640, 640))
NOISE, FLUX = 2.0, 1e5
CORNERS = [(x, y) for y in (0, 200, 400) for x in (0, 200, 400)]


@pytest.fixture(scope="module")
def nine_patches(tmp_path_factory):
    """3 x 3 patches of 240 pixels, 40 of them shared with a neighbour, cut out of one noisy sky; one visit each."""
    rng = np.random.default_rng(2)
    truth = np.zeros((640, 640))
    for x, y in rng.uniform(60, 580, (30, 2)):
        truth += star_image(truth.shape, x, y, SIGMA, FLUX)
    noisy = truth + rng.normal(0, NOISE, truth.shape)
    folder = tmp_path_factory.mktemp("nine")
    paths = []
    for k, (x0, y0) in enumerate(CORNERS):
        psf = constant_psf(gaussian(SIGMA, 25), truth.shape)
        source = PsfInput(k, 0, 1.0, psf, BIG, (0, 0, 639, 639))
        wcs = patch_wcs(x0, y0, BIG)
        pixels = noisy[y0 : y0 + 240, x0 : x0 + 240]
        made = exposure(pixels, NOISE**2, CoaddPsf([source], wcs), wcs=wcs, band="r")
        paths.append(str(folder / f"{k}.fits"))
        made.write(paths[-1])
    return truth, noisy, paths


@pytest.mark.parametrize(("x0", "y0", "size", "n"), [(50, 60, 220, 4), (50, 60, (220, 400), 6), (70, 90, 450, 9)])
def test_four_six_or_nine_patches_make_one_template(nine_patches, x0, y0, size, n):
    """The image is shifted by half a pixel and turned by 1 degree: interpolation as it is at its worst."""
    truth, noisy, paths = nine_patches
    shape = (size, size) if isinstance(size, int) else size
    science = tan_wcs(shape, rotation=1.0)
    x, y = BIG.all_pix2world(x0 + shape[1] / 2 + 0.5, y0 + shape[0] / 2 + 0.5, 0)
    science.wcs.crval = float(x), float(y)
    result = template.assemble(paths, science, shape)
    assert not result.mask.any()
    patches = [patch for tract in result.psf.inputs for patch in tract.psf.inputs]
    assert len(patches) == n
    direct = warp(exposure(noisy, NOISE**2, wcs=BIG), science, shape)
    # the same pixels, averaged with themselves where patches overlap: float32 sums of values up to 5000
    np.testing.assert_allclose(result.image, direct.image, atol=2e-3)
    expected = warp(exposure(truth, wcs=BIG), science, shape).image
    np.testing.assert_allclose(result.image, expected, rtol=0.1, atol=5.5 * NOISE)
    np.testing.assert_allclose(result.variance, direct.variance, rtol=1e-3)
    assert np.var(result.image - expected) / result.variance.mean() == pytest.approx(1, abs=0.05)
    stamps = result.psf([shape[1] / 2], [shape[0] / 2])
    np.testing.assert_allclose(stamps[0], gaussian(SIGMA, 25), atol=0.01 * stamps.max())


def test_a_missing_patch_takes_what_it_alone_covers(nine_patches):
    _, _, paths = nine_patches
    shape = (450, 450)
    science = patch_wcs(90, 90, BIG)
    whole = template.assemble(paths, science, shape)
    result = template.assemble(paths[:4] + paths[5:], science, shape)
    # the middle patch alone covers 160 pixels, 240 to 399; the kernel needs two more on either side
    empty = result.flagged("NO_DATA")
    rows, columns = np.nonzero(empty)
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (164, 164) and empty.sum() == 164**2
    np.testing.assert_allclose(result.image[~empty], whole.image[~empty], atol=2e-3)
