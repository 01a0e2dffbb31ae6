"""Exposures on disk: everything comes back, other mask numberings are understood, bad files are named."""

from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from builders import constant_psf, exposure, gaussian

from diaflow.errors import InputError
from diaflow.image import planes
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import write_fits
from diaflow.image.noise import Noise
from diaflow.image.planes import PLANES, bits
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.psf.stampfield import StampField
from diaflow.sky.wcs import read_wcs

SHAPE = (90, 120)


def sip_wcs():
    """A TAN-SIP WCS with third-order distortion, of 2 pixels at the corner."""
    header = fits.Header()
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN-SIP", "DEC--TAN-SIP"
    header["CRVAL1"], header["CRVAL2"] = 359.99, -45.0
    header["CRPIX1"], header["CRPIX2"] = 60.5, 45.5
    header["CD1_1"], header["CD1_2"], header["CD2_1"], header["CD2_2"] = -1e-4, 2e-6, 1e-6, 1e-4
    header["A_ORDER"] = header["B_ORDER"] = 3
    header["A_2_0"], header["A_1_1"], header["A_0_3"] = 2e-4, -3e-5, 4e-6
    header["B_0_2"], header["B_2_1"], header["B_3_0"] = -1e-4, 2e-6, 3e-6
    return WCS(header)


def psf_field():
    rng = np.random.default_rng(1)
    slopes = 1e-4 * rng.normal(size=(5, 15, 15))
    return StampField(np.concatenate([gaussian(2.0, 15)[None], slopes]).astype(np.float32), 2, SHAPE)


def make(psf=None, **metadata):
    rng = np.random.default_rng(0)
    image = rng.normal(100, 5, SHAPE).astype(np.float32)
    image[3, 4] = np.nan
    mask = np.zeros(SHAPE, np.int32)
    for name, bit in PLANES.items():
        mask[bit, :] |= bits(name)
    variance = rng.uniform(20, 30, SHAPE).astype(np.float32)
    variance[5, 6] = np.inf
    return replace(exposure(image, variance, psf, sip_wcs(), **metadata), mask=mask)


METADATA = {
    "visit": 2**36,
    "detector": 3,
    "band": "r",
    "mjd": 59000.123456789,
    "exptime": np.float32(30.0),
    "zero_point": 31.4,
    "visit_in_template": True,
    "a_name_longer_than_eight_characters": "x",
    "reason": "no template: it's a 'quoted' text of more than eighty characters, which FITS continues on a second card",
}


def test_pixels_mask_and_metadata_survive_a_round_trip(tmp_path):
    made = replace(make(psf_field(), **METADATA), noise=Noise(0.53, 0.4))
    made.write(tmp_path / "deep" / "e.fits")
    back = Exposure.read(tmp_path / "deep" / "e.fits")
    for name in ("image", "variance", "mask"):
        before, after = getattr(made, name), getattr(back, name)
        np.testing.assert_array_equal(after, before)
        assert after.dtype == before.dtype and after.dtype.isnative and after.flags.c_contiguous
    assert back.metadata == METADATA and back.noise == Noise(0.53, 0.4)
    assert back.shape == SHAPE
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["e.fits"]


def test_values_that_are_not_finite_are_left_out_of_the_metadata(tmp_path):
    make(zero_point=np.nan, psf_fwhm=np.float32(np.inf), visit=1).write(tmp_path / "e.fits")
    assert Exposure.read(tmp_path / "e.fits").metadata == {"visit": 1}


def test_the_distorted_wcs_survives_a_round_trip(tmp_path):
    made = make()
    made.write(tmp_path / "e.fits")
    back = Exposure.read(tmp_path / "e.fits")
    y, x = (g.ravel().astype(float) for g in np.mgrid[0:90:10, 0:120:10])
    assert np.abs(np.stack(made.wcs.all_pix2world(x, y, 0)) - np.stack(made.wcs.wcs_pix2world(x, y, 0))).max() > 1e-4
    # Header floats carry 12 digits or more: 1e-9 deg is 1e-5 pixel.
    np.testing.assert_allclose(back.wcs.all_pix2world(x, y, 0), made.wcs.all_pix2world(x, y, 0), rtol=0, atol=1e-9)
    assert back.wcs.sip is not None


def test_the_psf_field_survives_a_round_trip(tmp_path):
    made = make(psf_field())
    made.write(tmp_path / "e.fits")
    back = Exposure.read(tmp_path / "e.fits")
    assert isinstance(back.psf, StampField)
    x, y = np.array([0.0, 119.0, 50.5]), np.array([0.0, 10.0, 89.0])
    np.testing.assert_array_equal(back.psf(x, y), made.psf(x, y))


def test_the_psf_of_a_coadd_survives_a_round_trip(tmp_path):
    inputs = [
        PsfInput(2**36, 1, 0.25, constant_psf(gaussian(1.5, 11), SHAPE), sip_wcs(), (0, 0, 119, 89)),
        PsfInput(7, 2, 0.75, psf_field(), sip_wcs(), (0, 0, 60, 89)),
    ]
    made = make(CoaddPsf(inputs, sip_wcs()))
    made.write(tmp_path / "e.fits")
    back = Exposure.read(tmp_path / "e.fits")
    assert [(row.visit, row.detector, row.weight, row.box) for row in back.psf.inputs] == [
        (row.visit, row.detector, row.weight, row.box) for row in inputs
    ]
    x, y = np.array([10.0, 100.0, 500.0]), np.array([20.0, 80.0, 80.0])
    before, after = made.psf(x, y), back.psf(x, y)
    # Stored in float32: 6e-8 of a peak of 0.06.
    np.testing.assert_allclose(after, before, atol=1e-8)
    np.testing.assert_allclose(after[:2].sum((1, 2)), 1, rtol=1e-6)
    assert np.isnan(after[2]).all()


def test_no_psf_is_no_psf(tmp_path):
    make().write(tmp_path / "e.fits")
    assert Exposure.read(tmp_path / "e.fits").psf is None


def test_the_file_is_read_by_ds9_and_the_lsst_stack(tmp_path):
    make(psf_field()).write(tmp_path / "e.fits")
    with fits.open(tmp_path / "e.fits") as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", "IMAGE", "MASK", "VARIANCE", "PSF"]
        header = hdus["MASK"].header
        assert {name: header[f"MP_{name}"] for name in ("BAD", "SAT", "CR", "EDGE", "NO_DATA")} == {
            "BAD": 0,
            "SAT": 1,
            "CR": 3,
            "EDGE": 4,
            "NO_DATA": 8,
        }
        assert hdus["MASK"].data.dtype.kind == "i"


def test_masks_numbered_otherwise_are_translated(tmp_path):
    made = make()
    made.mask[:] = 0
    made.mask[0, 0], made.mask[1, 1], made.mask[2, 2] = 1 << 5, 1 << 0, (1 << 5) | (1 << 7)
    made.write(tmp_path / "e.fits")
    with fits.open(tmp_path / "e.fits", mode="update") as hdus:
        header = hdus["MASK"].header
        for key in [key for key in header if key.startswith("MP_")]:
            del header[key]
        header["MP_SAT"], header["HIERARCH MP_NO_DATA"], header["HIERARCH MP_UNHEARD_OF"] = 5, 0, 7
    back = Exposure.read(tmp_path / "e.fits")
    assert back.mask[0, 0] == bits("SAT")
    assert back.mask[1, 1] == bits("NO_DATA")
    assert back.mask[2, 2] == bits("SAT")
    assert (back.mask != 0).sum() == 3


def test_flagged_pixels_are_those_of_any_named_plane():
    made = make()
    rows = made.flagged("SAT", "CR")
    assert rows[PLANES["SAT"]].all() and rows[PLANES["CR"]].all() and rows.sum() == 2 * SHAPE[1]
    assert bits() == 0 and bits("BAD", "SAT") == 3


def test_truncated_missing_and_foreign_files_are_named(tmp_path):
    make(psf_field()).write(tmp_path / "whole.fits")
    data = (tmp_path / "whole.fits").read_bytes()
    for share in (0.01, 0.2, 0.5, 0.9, 0.995):
        (tmp_path / f"truncated_{share}.fits").write_bytes(data[: int(share * len(data))])
    (tmp_path / "empty.fits").write_bytes(b"")
    (tmp_path / "text.fits").write_text("not FITS")
    fits.PrimaryHDU(np.zeros((5, 5))).writeto(tmp_path / "other.fits")
    bad = [path for path in tmp_path.iterdir() if path.name != "whole.fits"] + [tmp_path / "missing.fits"]
    assert len(bad) == 9
    for path in bad:
        with pytest.raises(InputError, match=path.name.replace(".", r"\.")):
            Exposure.read(path)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    old = make(visit=1)
    old.write(tmp_path / "e.fits")

    def full_disk(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(fits.HDUList, "writeto", full_disk)
    with pytest.raises(InputError, match="cannot be written .no space left"):
        make(visit=2).write(tmp_path / "e.fits")
    with pytest.raises(InputError, match="cannot be written .no space left"):
        write_fits([fits.PrimaryHDU()], tmp_path / "new.fits")
    monkeypatch.undo()
    assert Exposure.read(tmp_path / "e.fits").metadata == {"visit": 1}
    assert not (tmp_path / "new.fits").exists()


def test_writing_and_reading_make_no_noise(tmp_path, recwarn):
    make(psf_field(), **METADATA).write(tmp_path / "e.fits")
    Exposure.read(tmp_path / "e.fits")
    assert not recwarn.list


def test_repairable_wcs_headers_make_no_noise(recwarn):
    header = sip_wcs().to_header(relax=True)
    header["DATE-OBS"], header["MJD-OBS"] = "2020-01-01", 59000.5
    header["RADECSYS"] = "FK5"
    read_wcs(header)
    assert not recwarn.list


def test_the_same_exposure_gives_the_same_bytes(tmp_path):
    make(psf_field(), **METADATA).write(tmp_path / "a.fits")
    make(psf_field(), **METADATA).write(tmp_path / "b.fits")
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


def test_planes_fit_the_mask_and_are_numbered_once():
    assert sorted(PLANES.values()) == list(range(len(PLANES)))
    assert max(PLANES.values()) < 31
    assert planes.PLANES["DETECTED_NEGATIVE"] == 6


def test_compressed_exposure_has_its_mask_and_its_pixels_within_half_a_step(tmp_path):
    """Steps are a 16th of the noise of a tile, as FITS measures it; the dither is taken off again when reading."""
    rng = np.random.default_rng(3)
    exposure = make(psf_field(), **METADATA)
    exposure.image = rng.normal(100, 5, SHAPE).astype(np.float32)
    exposure.variance = rng.normal(25, 0.5, SHAPE).astype(np.float32)
    exposure.image[3, 4] = np.nan
    exposure.variance[5, 6] = np.inf
    exposure.write(tmp_path / "a.fits", compress=True)
    read = Exposure.read(tmp_path / "a.fits")
    np.testing.assert_array_equal(read.mask, exposure.mask)
    for name, noise in (("image", 5), ("variance", 0.5)):
        before, after = getattr(exposure, name), getattr(read, name)
        np.testing.assert_array_equal(np.isfinite(after), np.isfinite(before))
        # a tile's own estimate of its noise from thousands of pixels is good to a few per cent
        np.testing.assert_allclose(after, np.where(np.isinf(before), np.nan, before), rtol=0, atol=1.1 * noise / 32)
    np.testing.assert_allclose(read.psf.terms, exposure.psf.terms)
    assert read.metadata.keys() == exposure.metadata.keys()
    exposure.write(tmp_path / "b.fits", compress=True)
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_truncated_compressed_exposure_is_named(tmp_path, fraction):
    make(psf_field()).write(tmp_path / "a.fits", compress=True)
    content = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(InputError, match="a.fits"):
        Exposure.read(tmp_path / "a.fits")
