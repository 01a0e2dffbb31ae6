"""PSFs of warps, coadds and nested coadds."""

import numpy as np
import pytest
from astropy.io import fits
from builders import constant_psf, elliptical, exposure, gaussian, quadratic, star_image, tan_wcs

from diaflow import warp
from diaflow.psf.coadd import CoaddPsf, PsfInput, resample_stamps
from diaflow.psf.stampfield import FWHM_PER_SIGMA, fit_stamps, fwhm

SHAPE = (200, 200)
BOX = (0, 0, 199, 199)


def gaussian_psf(sigma):
    return constant_psf(gaussian(sigma, 25), SHAPE)


def test_rotation_by_90_degrees_turns_the_stamp():
    psf = constant_psf(elliptical(1.5, 2.5, 25), SHAPE)
    turned = CoaddPsf([PsfInput(1, 0, 1.0, psf, tan_wcs(SHAPE, rotation=90), BOX)], tan_wcs(SHAPE))(100, 100)[0]
    np.testing.assert_allclose(turned, elliptical(2.5, 1.5, 25), atol=1e-5)


@pytest.mark.parametrize("scale", [0.15, 0.2, 0.28])
def test_stamps_follow_the_pixel_scale(scale):
    psf = CoaddPsf([PsfInput(1, 0, 1.0, gaussian_psf(2.0), tan_wcs(SHAPE), BOX)], tan_wcs(SHAPE, scale))
    stamp = psf(100, 100)[0]
    assert stamp.sum() == pytest.approx(1)
    # Cubic splines of a Gaussian with sigma = 2 pixels are right to 1e-3.
    assert fwhm(stamp) == pytest.approx(2.0 * FWHM_PER_SIGMA * 0.2 / scale, rel=2e-3)


def test_mean_is_weighted_and_knows_where_inputs_end():
    wcs = tan_wcs(SHAPE)
    sharp, broad = gaussian_psf(1.5), gaussian_psf(2.5)
    psf = CoaddPsf([PsfInput(1, 0, 3.0, sharp, wcs, (0, 0, 99, 199)), PsfInput(2, 0, 1.0, broad, wcs, BOX)], wcs)
    both, one, none = psf([50, 150, 300], [60, 60, 60])
    np.testing.assert_allclose(both, (3 * sharp.terms[0] + broad.terms[0]) / 4, atol=1e-7)
    np.testing.assert_allclose(one, broad.terms[0], atol=1e-7)
    assert np.isnan(none).all()


def test_stamps_of_different_sizes_are_averaged_about_their_centres():
    wcs = tan_wcs(SHAPE)
    small, large = (constant_psf(gaussian(1.5, size), SHAPE) for size in (15, 25))
    stamp = CoaddPsf([PsfInput(1, 0, 1.0, small, wcs, BOX), PsfInput(2, 0, 1.0, large, wcs, BOX)], wcs)(90, 90)[0]
    assert stamp.shape == (25, 25)
    assert np.unravel_index(stamp.argmax(), stamp.shape) == (12, 12)
    assert stamp.sum() == pytest.approx(1)


def test_varying_psf_through_its_terms_equals_stamp_by_stamp():
    positions = np.random.default_rng(1).uniform(0, 199, (40, 2)).T
    stamps = np.stack([elliptical(1.5 + x / 400, 2 - y / 400, 25) for x, y in positions.T])
    field = fit_stamps(stamps, *positions, 2, SHAPE).normalised()
    source = tan_wcs(SHAPE, rotation=25, sip=quadratic(2e-6))
    x, y = np.random.default_rng(2).uniform(60, 140, (2, 30))
    psfs = [CoaddPsf([PsfInput(1, 0, 1.0, f, source, BOX)], tan_wcs(SHAPE)) for f in (field, field.__call__)]
    # The map changes by 2 x 2e-6 x 100 pixels = 4e-4 over the detector: 5e-3 pixel at the rim of a stamp.
    np.testing.assert_allclose(psfs[0](x, y), psfs[1](x, y), atol=2e-5)


def test_nested_coadd_equals_the_flat_one():
    middle, outer = tan_wcs(SHAPE, rotation=10), tan_wcs(SHAPE, 0.22)
    inputs = [
        PsfInput(visit, 0, weight, gaussian_psf(sigma), tan_wcs(SHAPE, rotation=visit * 31), BOX)
        for visit, weight, sigma in ((1, 1.0, 1.5), (2, 2.0, 2.2))
    ]
    nested = CoaddPsf([PsfInput(-1, -1, 1.0, CoaddPsf(inputs, middle), middle, BOX)], outer)
    x, y = np.array([80.0, 120.0]), np.array([90.0, 100.0])
    np.testing.assert_allclose(nested(x, y), CoaddPsf(inputs, outer)(x, y), atol=1e-12)


def test_table_of_inputs_gives_the_same_psf_back(tmp_path):
    wcs = tan_wcs(SHAPE)
    maps = {visit: tan_wcs(SHAPE, rotation=visit, sip=quadratic(1e-6)) for visit in (1, 2, 3)}
    inputs = [
        PsfInput(2**40 + visit, visit, 0.5, gaussian_psf(1.5), maps[visit], BOX, 0.9 + 0.01 * visit) for visit in maps
    ]
    nested = CoaddPsf([PsfInput(-1, -1, 1.0, CoaddPsf(inputs, wcs), wcs, BOX)], wcs)
    fits.HDUList([fits.PrimaryHDU(), nested.to_hdu()]).writeto(tmp_path / "psf.fits")
    with fits.open(tmp_path / "psf.fits") as hdus:
        back = CoaddPsf.from_hdu(hdus["INPUTS"], wcs)
    assert [(i.visit, i.detector, i.weight, i.box, i.aperture_correction) for i in back.inputs] == [
        (i.visit, i.detector, i.weight, i.box, i.aperture_correction) for i in inputs
    ]
    np.testing.assert_allclose(back([100.0], [70.0]), nested([100.0], [70.0]), atol=1e-6)


def test_table_without_inputs_can_be_written(tmp_path):
    wcs = tan_wcs(SHAPE)
    fits.HDUList([fits.PrimaryHDU(), CoaddPsf([], wcs).to_hdu()]).writeto(tmp_path / "psf.fits")
    with fits.open(tmp_path / "psf.fits") as hdus:
        psf = CoaddPsf.from_hdu(hdus["INPUTS"], wcs)
    assert np.isnan(psf(10, 10)).all()


def test_resampled_stamps_have_unit_sum():
    stamps = np.stack([gaussian(1.5, 25), gaussian(2.5, 25)])
    jacobian = np.array([[[1.1, 0.1], [0, 0.9]], [[0, 1], [-1, 0]]])
    np.testing.assert_allclose(resample_stamps(stamps, jacobian).sum((1, 2)), 1)


def test_psf_of_a_mean_of_warps_equals_the_star_on_it():
    """Two visits of different seeing, rotation and pixel scale."""
    target, target_shape = tan_wcs((120, 120)), (120, 120)
    warps = []
    for visit, (sigma, rotation, scale) in enumerate([(1.3, 10, 0.19), (2.0, 50, 0.22)]):
        source = tan_wcs(SHAPE, scale, rotation)
        x, y = source.all_world2pix(*target.all_pix2world(60, 57, 0), 0)
        star = star_image(SHAPE, x, y, sigma)
        warps.append(warp.warp(exposure(star, wcs=source, psf=gaussian_psf(sigma), visit=visit), target, target_shape))
    mean = (3 * warps[0].image + warps[1].image) / 4
    inputs = [warps[0].psf.inputs[0], warps[1].psf.inputs[0]]
    psf = CoaddPsf([PsfInput(0, 0, 3.0, *vars_of(inputs[0])), PsfInput(1, 0, 1.0, *vars_of(inputs[1]))], target)
    stamp = psf(60, 57)[0]
    half = stamp.shape[-1] // 2
    star = mean[57 - half : 58 + half, 60 - half : 61 + half]
    assert np.abs(star - stamp).max() < 0.01 * stamp.max()
    # The flux of the star measured with this PSF.
    assert (star * stamp).sum() / (stamp**2).sum() == pytest.approx(1, abs=0.01)


def vars_of(source):
    return source.psf, source.wcs, source.box
