"""Files of other pipelines: their masks, variances and WCS arrive, and a calexp can be made of each."""

import logging

import foreignfiles
import numpy as np
import pytest
import starfield
from astropy.io import fits
from astropy.time import Time
from scipy.spatial import cKDTree

from diaflow.calibrate import calexp, chance
from diaflow.errors import BadData, InputError
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.instruments import delivered, headers, maps
from diaflow.instruments.images import Pixels, read_image, read_raw
from diaflow.instruments.ingest import ingest_images
from diaflow.isr.detrend import detrend
from diaflow.measure import sources
from diaflow.run import config, plan
from diaflow.sky.localplane import to_plane
from diaflow.sky.wcs import header_wcs, image_centre

CONFIG = config.validated({"images": "simulated"})["calexp"]
SAT, CR, DEAD, FLAGGED = foreignfiles.SAT, foreignfiles.CR, foreignfiles.DEAD, foreignfiles.FLAGGED
EVERYTHING = ["background", "wcs", "zero_point"]


@pytest.fixture(scope="module")
def fields():
    return [foreignfiles.star_field(seed) for seed in (1, 2)]


@pytest.fixture(scope="module")
def decam(fields, tmp_path_factory):
    """Folder and headers by CCD number."""
    folder = tmp_path_factory.mktemp("decam")
    return folder, foreignfiles.decam(folder, fields)


@pytest.fixture(scope="module")
def ztf(fields, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ztf")
    return folder, foreignfiles.ztf(folder, fields[0][0])


@pytest.fixture(scope="module")
def lsst(fields, tmp_path_factory):
    path = tmp_path_factory.mktemp("lsst") / "visit_image.fits"
    return path, foreignfiles.lsst(path, *fields[0])


@pytest.fixture(scope="module")
def own_calexp(fields, tmp_path_factory):
    """A calexp of diaflow, its sources, and the path of its file."""
    field, variance = fields[0]
    pixels = Pixels(field.image, starfield.wcs(foreignfiles.SIZE).to_header(), variance)
    exposure, table, _ = calexp.calibrate(pixels, field.row, starfield.refcat(field), CONFIG)
    path = tmp_path_factory.mktemp("own") / "3.fits"
    exposure.write(path)
    return exposure, table, path


def read(row, instrument):
    """Pixels of a row, which must be usable."""
    assert (row["status"], row["reason"]) == ("ok", "")
    return read_image(row, instrument)


def planes_at(pixels, where):
    """Planes that all pixels of a region share."""
    mask = np.bitwise_and.reduce(pixels.mask[where], axis=None)
    assert (pixels.mask[where] == mask).all()
    return mask


def matched(table, field, snr=200):
    """Unflagged bright sources with the index of their star."""
    distance, star = cKDTree(np.column_stack([field.x, field.y])).query(np.column_stack([table["x"], table["y"]]))
    good = (distance < 1) & sources.unflagged(table) & (table["psfFlux"] > snr * table["psfFluxErr"])
    assert good.sum() > 30
    return table[good], star[good]


def offsets(ra, dec, true_ra, true_dec):
    """Distances in arcsec."""
    plane = to_plane(ra, dec, (true_ra[0], true_dec[0]))
    return np.hypot(*(plane - to_plane(true_ra, true_dec, (true_ra[0], true_dec[0]))).T) * 3600


def check_calexp(pixels, row, field, header, zero_point, pixel_scale):
    """Calibrated from a pointing 2 arcsec off, stars are where they were put and as bright."""
    stars = foreignfiles.refcat(field, header, zero_point)
    shifted = pixels.header.copy()
    shifted["CRVAL2"] += 2 / 3600
    moved = Pixels(pixels.image, shifted, pixels.variance, pixels.mask)
    exposure, table, summary = calexp.calibrate(moved, row, stars, CONFIG)
    assert (summary["status"][0], summary["astrometry"][0], summary["photometry"][0]) == ("ok", "refcat", "refcat")
    assert summary["zero_point"][0] == pytest.approx(zero_point, abs=0.005)
    bright, star = matched(table, field)
    # Centroids of S/N 200 are good to FWHM / 200 per coordinate; a fit of ten terms to a hundred of them to less.
    limit = 2 * starfield.FWHM / 200 * pixel_scale
    assert np.median(offsets(bright["ra"], bright["dec"], stars["ra"][star], stars["dec"][star])) < limit
    # What was masked is repaired and flagged, and no source is found there.
    for where in (SAT, CR):
        assert exposure.flagged("INTRP")[where].all()
    assert not np.any((abs(table["x"] - 202) < 4) & (abs(table["y"] - 103) < 5))
    assert exposure.flagged("INTRP")[DEAD].all()
    return exposure, table


def test_decam_has_a_row_for_each_ccd(decam):
    # The glob finds masks and weights too; they are no images.
    table = ingest_images(str(decam[0] / "*.fits.fz"), "decam_instcal")
    assert table["detector"].tolist() == [1, 2] and table["hdu"].tolist() == [1, 2]
    assert set(table["path"]) == {str(decam[0] / "c4d_190402_050618_ooi_VR_v1.fits.fz")}
    for row in table:
        assert (row["status"], row["visit"], row["band"], row["exptime"]) == ("ok", 845291, "VR", 120.0)
        assert (row["nx"], row["ny"]) == (512, 512)
        start = Time(58575.21271276, format="mjd", scale="utc").tai.mjd
        assert row["mjd"] == pytest.approx(start + 60 / 86400, abs=1e-9)
        assert (row["gain"], row["saturation"]) == pytest.approx((starfield.GAIN, 45_000))
        assert row["read_noise"] == pytest.approx((6.13928 + 5.981542) / 2)
        assert row["zero_point"] == pytest.approx(31.227)
        assert row["seeing"] == pytest.approx(starfield.FWHM * row["pixel_scale"])
    # Rows of 0.27" pixels, 4096 pixels apart along declination's neighbour.
    assert abs(table["ra"][1] - table["ra"][0]) == pytest.approx(4096 * 0.263 / 3600 / np.cos(0.22), rel=0.02)


def test_decam_corners_are_those_its_header_gives(tmp_path):
    """The real header of a whole CCD; the Community Pipeline wrote corners to 1e-4 deg, of pixel centres."""
    hdu = fits.ImageHDU(np.zeros((4094, 2046), np.uint8), fits.Header(foreignfiles.DECAM_CCD), name="S29")
    primary = fits.PrimaryHDU(header=fits.Header(foreignfiles.DECAM_PRIMARY))
    fits.HDUList([primary, hdu]).writeto(tmp_path / "c4d_190402_050618_ooi_VR_v1.fits")
    row = ingest_images(str(tmp_path / "*.fits"), "decam_instcal")[0]
    # Half a pixel is 4e-5 deg in each coordinate and rounding 5e-5.
    tolerance = 5e-5 + 4e-5 * np.sqrt(2)
    card = hdu.header
    assert (row["ra"], row["dec"]) == pytest.approx((card["CENRA1"], card["CENDEC1"]), abs=tolerance)
    for ours, theirs in ((1, 1), (2, 2), (3, 4), (4, 3)):
        found = row[f"ra_{ours}"], row[f"dec_{ours}"]
        assert found == pytest.approx((card[f"COR{theirs}RA1"], card[f"COR{theirs}DEC1"]), abs=tolerance)
    assert row["pixel_scale"] == pytest.approx(0.263, abs=0.003)


def test_decam_mask_and_weight_are_those_of_the_ccd(decam, fields):
    table = ingest_images(str(decam[0] / "*_ooi_*"), "decam_instcal")
    for row, (field, variance) in zip(table, fields):
        pixels = read(row, "decam_instcal")
        # Tile compression quantises to a sixteenth of the noise, and the weight map to a little of its range.
        good = pixels.mask == 0
        assert np.abs(pixels.image - field.image)[good].max() < 0.1 * np.sqrt(variance.min())
        np.testing.assert_allclose(pixels.variance[good], variance[good], rtol=0.02)
        assert planes_at(pixels, SAT) == bits("SAT") and planes_at(pixels, CR) == bits("CR")
        assert pixels.mask[0, 400] == bits("BAD") and planes_at(pixels, FLAGGED) == 0
        assert not np.isfinite(pixels.variance[pixels.mask > 0]).any()


def test_tpv_is_the_formula_of_its_convention(decam, ztf):
    x, y = np.meshgrid(np.linspace(0, 511, 5), np.linspace(0, 511, 5))
    for header in (*decam[1].values(), ztf[1]):
        ra, dec = header_wcs(header).all_pix2world(x.ravel(), y.ravel(), 0)
        true = foreignfiles.fits_sky(header, x.ravel(), y.ravel())
        assert offsets(ra, dec, *true).max() < 1e-6


def test_decam_becomes_a_calexp(decam, fields):
    row = ingest_images(str(decam[0] / "*_ooi_*"), "decam_instcal")[1]
    pixels = read(row, "decam_instcal")
    exposure, _ = check_calexp(pixels, row, fields[1][0], decam[1][2], 28.3, 0.263)
    assert exposure.metadata["noise_model"] == "delivered" and exposure.metadata["bunit"] == "nJy"
    # What is kept are the pixels' errors: mean square of the residuals over the delivered variance.
    scale = 10 ** (0.4 * (31.4 - exposure.metadata["zero_point"]))
    good = (exposure.mask == 0) & (fields[1][0].noiseless < 1)
    ratio = np.mean((exposure.image[good] / scale) ** 2 / fields[1][1][good])
    # The sky model, quantisation (1/16 sigma) and n pixels add a per cent.
    assert ratio == pytest.approx(1, abs=0.02 + 4 * np.sqrt(2 / good.sum()))


def test_masks_of_another_version_are_refused(decam, tmp_path):
    """Before version 3.5 the Community Pipeline wrote bits: 16 is a cosmic ray, 128 a transient."""
    for path in decam[0].glob("*.fz"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    path = tmp_path / "c4d_190402_050618_ood_VR_v1.fits.fz"
    with fits.open(path, memmap=False) as hdus:
        data = hdus["S29"].data.copy()
        data[0, 0], data[0, 1] = 16, 128
        replaced = [hdus[0], fits.CompImageHDU(data, hdus["S29"].header, name="S29")]
        fits.HDUList(replaced).writeto(tmp_path / "new.fits")
    (tmp_path / "new.fits").rename(path)
    table = ingest_images(str(tmp_path / "*_ooi_*"), "decam_instcal")
    with pytest.raises(BadData, match="_ood_VR_v1.fits.fz: codes 16, 128 are not in the instrument map"):
        read_image(table[0], "decam_instcal")
    with pytest.raises(BadData, match="_ood_VR_v1.fits.fz.*S30"):
        read_image(table[1], "decam_instcal")


def test_without_mask_and_weight_counts_decide(decam, tmp_path, caplog):
    source = next(decam[0].glob("*_ooi_*"))
    (tmp_path / source.name).write_bytes(source.read_bytes())
    row = ingest_images(str(tmp_path / "*_ooi_*"), "decam_instcal")[0]
    with caplog.at_level(logging.WARNING):
        pixels = read(row, "decam_instcal")
    assert pixels.mask is None and pixels.variance is None
    assert "no file c4d_190402_050618_ood_VR_v1.fits.fz" in caplog.text and "_oow_" in caplog.text


def test_ztf_identity_is_in_its_name(ztf):
    table = ingest_images(str(ztf[0] / "*.fits"), "ztf_sci")
    assert len(table) == 1
    row = table[0]
    assert (row["visit"], row["detector"], row["band"]) == (18032713578, 25, "r")
    start = Time(58204.1357870, format="mjd", scale="utc").tai.mjd
    assert row["mjd"] == pytest.approx(start + 15 / 86400, abs=1e-9)
    assert row["zero_point"] == pytest.approx(26.275) and row["read_noise"] == starfield.READ_NOISE
    assert row["seeing"] == pytest.approx(2.4 * 1.012, rel=1e-3)


def test_ztf_mask_bits_are_planes_and_sources_are_not_masked(ztf):
    pixels = read(ingest_images(str(ztf[0] / "*.fits"), "ztf_sci")[0], "ztf_sci")
    assert pixels.variance is None
    assert planes_at(pixels, SAT) == bits("SAT") and planes_at(pixels, CR) == bits("CR")
    assert planes_at(pixels, DEAD) == bits("BAD") and planes_at(pixels, FLAGGED) == bits("STREAK", "BAD")
    marked = np.zeros(pixels.mask.shape, bool)
    for where in (SAT, CR, DEAD, FLAGGED):
        marked[where] = True
    assert not pixels.mask[~marked].any()


def test_ztf_becomes_a_calexp(ztf, fields):
    row = ingest_images(str(ztf[0] / "*.fits"), "ztf_sci")[0]
    field, variance = fields[0]
    exposure, _ = check_calexp(read(row, "ztf_sci"), row, field, ztf[1], 27.0, 1.012)
    assert exposure.metadata["noise_model"] == "header"
    # The saturated spot peaks below SATURATE: only the mask knows.
    assert row["saturation"] > 50_000 and exposure.flagged("SAT")[SAT].all()
    scale = 10 ** (0.4 * (31.4 - exposure.metadata["zero_point"]))
    good = (exposure.mask == 0) & (field.noiseless < 1)
    assert np.median(exposure.variance[good] / scale**2) == pytest.approx(np.median(variance[good]), rel=0.01)


def test_a_mask_without_variance_joins_what_the_counts_show(fields):
    field, _ = fields[0]
    mask = np.zeros(field.image.shape, np.int32)
    mask[SAT], mask[FLAGGED] = bits("SAT"), bits("SUSPECT")
    row = starfield.row(foreignfiles.SIZE, bias=0.0)
    exposure = detrend(Pixels(field.image, mask=mask), row, cosmic_rays=False)
    assert exposure.flagged("SAT")[SAT].all() and exposure.flagged("INTRP")[SAT].all()
    # As where counts show saturation, the neighbours go with it.
    assert exposure.flagged("SAT")[99:107, 199:205].all() and not exposure.flagged("SAT")[98:108, 198].any()
    # Suspect pixels are kept; columns without light are found although the mask does not have them.
    np.testing.assert_array_equal(exposure.image[FLAGGED], field.image[FLAGGED])
    assert exposure.flagged("SUSPECT")[FLAGGED].all() and exposure.flagged("BAD")[DEAD].all()


def test_lsst_headers_give_the_exposure(lsst):
    row = ingest_images(str(lsst[0]), "lsst_calexp")[0]
    assert (row["visit"], row["detector"], row["band"], row["exptime"]) == (24112600123, 4, "r", 30.0)
    assert row["mjd"] == pytest.approx(Time("2024-11-27T02:31:04.5", scale="tai").mjd, abs=1e-9)
    assert row["zero_point"] == pytest.approx(31.4) and row["pixel_scale"] == pytest.approx(0.167, abs=0.002)
    assert np.isnan([row["gain"], row["read_noise"], row["saturation"]]).all()


@pytest.mark.parametrize(
    ("cards", "zero_point"),
    [({"BUNIT": "adu", "FLUXMAG0": 1e12}, 30.0), ({"BUNIT": "nJy", "FLUXMAG0": 0.0}, 31.4), ({"BUNIT": "adu"}, np.nan)],
)
def test_lsst_zero_point_is_in_the_unit_or_in_fluxmag0(fields, tmp_path, cards, zero_point):
    foreignfiles.lsst(tmp_path / "calexp.fits", *fields[0], **cards)
    row = ingest_images(str(tmp_path / "calexp.fits"), "lsst_calexp")[0]
    assert row["status"] == "ok"
    assert row["zero_point"] == pytest.approx(zero_point, nan_ok=True)


def test_lsst_planes_are_found_by_name(lsst):
    """CROSSTALK is bit 8 there and NO_DATA bit 9; NO_DATA is bit 8 here."""
    pixels = read(ingest_images(str(lsst[0]), "lsst_calexp")[0], "lsst_calexp")
    assert planes_at(pixels, SAT) == bits("SAT", "INTRP") and planes_at(pixels, CR) == bits("CR", "INTRP")
    assert planes_at(pixels, DEAD) == bits("NO_DATA", "INTRP") and planes_at(pixels, FLAGGED) == bits("SUSPECT")
    assert pixels.mask[200, 200] == 0 and not (pixels.mask & bits("DETECTED")).any()


def test_lsst_becomes_a_calexp(lsst, fields):
    row = ingest_images(str(lsst[0]), "lsst_calexp")[0]
    check_calexp(read(row, "lsst_calexp"), row, fields[0][0], lsst[1], 31.0, 0.167)


def test_everything_trusted_is_kept(lsst, fields):
    field, variance = fields[0]
    row = ingest_images(str(lsst[0]), "lsst_calexp")[0]
    pixels = read(row, "lsst_calexp")
    # A catalogue that is wrong by a magnitude and an arcminute does not matter.
    wrong = foreignfiles.refcat(field, lsst[1], 30.4)
    wrong["dec"] += 1 / 60
    exposure, table, summary = calexp.calibrate(pixels, row, wrong, CONFIG | {"trust": EVERYTHING})
    assert (summary["astrometry"][0], summary["photometry"][0]) == ("header", "header")
    assert (summary["zero_point"][0], summary["sky"][0]) == (pytest.approx(31.4), 0)
    kept = ~exposure.flagged("INTRP")
    # 31.4 in float32 is right to 2e-6 mag.
    np.testing.assert_allclose(exposure.image[kept], pixels.image[kept], rtol=1e-5)
    np.testing.assert_allclose(exposure.variance[kept], variance[kept], rtol=1e-5)
    bright, star = matched(table, field)
    ra, dec = foreignfiles.fits_sky(lsst[1], field.x[star], field.y[star])
    assert np.median(offsets(bright["ra"], bright["dec"], ra, dec)) < 2 * starfield.FWHM / 200 * 0.167
    # 31.4 says that 1 DN is 1 nJy.
    assert np.median(bright["psfFlux"] / field.flux[star]) == pytest.approx(1, abs=0.004)


def test_a_trusted_part_is_kept_and_the_others_are_calibrated(lsst, fields):
    field, _ = fields[0]
    row = ingest_images(str(lsst[0]), "lsst_calexp")[0]
    pixels = read(row, "lsst_calexp")
    stars = foreignfiles.refcat(field, lsst[1], 31.0)
    stars["dec"] += 1 / 3600
    exposure, _, summary = calexp.calibrate(pixels, row, stars, CONFIG | {"trust": ["wcs"]})
    assert (summary["astrometry"][0], summary["photometry"][0]) == ("header", "refcat")
    assert summary["zero_point"][0] == pytest.approx(31.0, abs=0.005)
    assert exposure.wcs.wcs.crval.tolist() == [150.0, 2.0]
    exposure, _, summary = calexp.calibrate(pixels, row, stars, CONFIG | {"trust": ["zero_point"]})
    assert (summary["astrometry"][0], summary["photometry"][0]) == ("refcat", "header")
    assert summary["zero_point"][0] == pytest.approx(31.4)
    before, after = (image_centre(wcs, (512, 512))[1] for wcs in (header_wcs(pixels.header), exposure.wcs))
    assert (after - before) * 3600 == pytest.approx(1, abs=0.01)


def test_a_zero_point_that_is_not_there_cannot_be_trusted(fields, tmp_path):
    foreignfiles.lsst(tmp_path / "calexp.fits", *fields[0], BUNIT="adu")
    row = ingest_images(str(tmp_path / "calexp.fits"), "lsst_calexp")[0]
    pixels = read(row, "lsst_calexp")
    with pytest.raises(BadData, match="no zero point"):
        calexp.calibrate(pixels, row, None, CONFIG | {"trust": EVERYTHING})
    exposure, _, summary = calexp.calibrate(pixels, row, None, CONFIG | {"trust": ["background", "wcs"]})
    assert (summary["photometry"][0], exposure.metadata["bunit"]) == ("none", "adu")


def test_unknown_parts_cannot_be_trusted():
    with pytest.raises(InputError, match="trust"):
        config.validated({"images": "simulated", "calexp": {"trust": ["psf"]}})


def test_a_calexp_of_ours_is_read_back_and_comes_out_the_same(own_calexp):
    exposure, table, path = own_calexp
    row = ingest_images(str(path), "lsst_calexp")[0]
    for name in ("visit", "detector", "band", "mjd", "exptime"):
        assert row[name] == exposure.metadata[name]
    pixels = read(row, "lsst_calexp")
    assert np.array_equal(pixels.mask, exposure.mask & ~bits("DETECTED"))
    assert np.array_equal(pixels.image, exposure.image) and np.array_equal(pixels.variance, exposure.variance)
    again, new, summary = calexp.calibrate(pixels, row, None, CONFIG | {"trust": EVERYTHING, "cosmic_rays": False})
    assert np.isfinite(summary["zero_point_err"]).sum() == 0
    kept = ~exposure.flagged("INTRP")
    np.testing.assert_allclose(again.image[kept], exposure.image[kept], rtol=1e-5)
    assert again.metadata["gain"] == pytest.approx(exposure.metadata["gain"], rel=1e-5)
    x, y = np.meshgrid([0, 255.5, 511], [0, 255.5, 511])
    before, after = (e.wcs.all_pix2world(x.ravel(), y.ravel(), 0) for e in (exposure, again))
    assert offsets(*after, *before).max() < 1e-5
    # The PSF is fitted again, to the same stars: fluxes agree far within the 5e-3 of their errors.
    i, j = chance.mutual_neighbours(*(np.column_stack([t["x"], t["y"]]) for t in (table, new)), 0.5)
    assert len(i) > 0.95 * len(table)
    bright = table["psfFlux"][i] > 200 * table["psfFluxErr"][i]
    ratio = (new["psfFlux"][j] / table["psfFlux"][i])[bright]
    assert np.median(ratio) == pytest.approx(1, abs=1e-3) and np.abs(ratio - 1).max() < 5e-3


def test_a_trusted_tpv_is_in_the_file_of_the_calexp(ztf, tmp_path):
    row = ingest_images(str(ztf[0] / "*.fits"), "ztf_sci")[0]
    exposure, _, _ = calexp.calibrate(read(row, "ztf_sci"), row, None, CONFIG | {"trust": ["wcs", "zero_point"]})
    exposure.write(tmp_path / "25.fits")
    x, y = np.meshgrid(np.linspace(0, 511, 5), np.linspace(0, 511, 5))
    sky = Exposure.read(tmp_path / "25.fits").wcs.all_pix2world(x.ravel(), y.ravel(), 0)
    assert offsets(*sky, *foreignfiles.fits_sky(ztf[1], x.ravel(), y.ravel())).max() < 1e-6


def test_a_file_of_many_detectors_is_one_input_of_a_visit(decam, tmp_path):
    settings = {"images": str(decam[0] / "*.fz"), "instrument": "decam_instcal"}
    planned = plan.make(config.validated(settings), tmp_path / "none.parquet")
    assert planned.images == {845291: [str(decam[0] / "c4d_190402_050618_ooi_VR_v1.fits.fz")]}
    assert len(planned.exposures) == 2


def test_several_raw_detectors_of_one_file(tmp_path):
    """A mosaic camera as IRAF's mscred knows it: an extension with its own sections for each CCD."""
    common = {
        "OBJECT": "SA110", "OBSTYPE": "object", "IMAGETYP": "object", "EXPTIME": 10.0,
        "DATE-OBS": "2010-03-20T05:00:00", "TIMESYS": "UTC", "FILTER": "r", "VISIT": 77,
        "INSTRUME": "Mosaic", "NEXTEND": 2,
    }  # fmt: skip
    hdus = [fits.PrimaryHDU(header=fits.Header(common))]
    for number in (1, 2):
        header = fits.Header(
            {
                "EXTNAME": f"im{number}", "DETECTOR": number, "GAIN": 2.1, "RDNOISE": 6.0, "SATURATE": 60000,
                "TRIMSEC": "[5:68,1:96]", "DATASEC": "[1:72,1:96]", "BIASSEC": "[73:80,1:96]",
                "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.0, "CRVAL2": -5.0,
                "CRPIX1": 36.0 - 80 * number, "CRPIX2": 48.0,
                "CD1_1": -7.2e-5, "CD2_2": 7.2e-5, "CD1_2": 0.0, "CD2_1": 0.0, "RADESYS": "FK5",
                "EQUINOX": 2000.0,
            }
        )  # fmt: skip
        counts = np.full((96, 80), 1000 + number, np.uint16)
        counts[:, 72:] = 300 + number
        hdus.append(fits.ImageHDU(counts, header))
    fits.HDUList(hdus).writeto(tmp_path / "mosaic.fits")
    text = (maps.FOLDER / "ccd_raw.yaml").read_text()
    (tmp_path / "mosaic.yaml").write_text("hdu: each\n" + text)
    table = ingest_images(str(tmp_path / "mosaic.fits"), str(tmp_path / "mosaic.yaml"))
    assert table["detector"].tolist() == [1, 2] and set(table["status"]) == {"ok"}
    for row in table:
        assert (row["nx"], row["ny"]) == (64, 96)
        (amplifier,) = read_raw(row, str(tmp_path / "mosaic.yaml")).amplifiers
        assert (amplifier.counts == 1000 + row["detector"]).all() and amplifier.counts.shape == (96, 64)
        assert (amplifier.overscan == 300 + row["detector"]).all() and amplifier.gain == pytest.approx(2.1)
        wcs = header_wcs(headers.read(row, str(tmp_path / "mosaic.yaml")))
        # Pixel 5 of the frame is pixel 1 of the image.
        assert wcs.wcs.crpix[0] == 36.0 - 80 * row["detector"] - 4


def test_real_lsst_files(shared):
    folder = shared / "lsst_formats"
    row = ingest_images(str(folder / "calexp" / "example-calexp.fits.gz"), "lsst_calexp")[0]
    assert (row["visit"], row["detector"], row["band"], row["exptime"]) == (903986, 16, "i", 30.0)
    # The middle of 30 s from UT-STR 05:18:27.876, and about 35 s from UTC to TAI.
    assert row["mjd"] == pytest.approx(Time("2013-11-02T05:18:42.876", scale="utc").tai.mjd, abs=0.2 / 86400)
    assert row["zero_point"] == pytest.approx(2.5 * np.log10(1722367118085.0))
    assert read(row, "lsst_calexp").image.shape == (4, 8)

    known = {"exptime": 30.0, "mjd": 57000.0, "band": "i"}
    path = folder / "calexp" / "HSC-0908120-056-small.fits"
    row = ingest_images(str(path), "lsst_calexp", known)[0]
    assert (row["visit"], row["detector"]) == (908120, 56) and np.isnan(row["zero_point"])
    pixels = read(row, "lsst_calexp")
    with fits.open(path) as hdus:
        assert np.array_equal(pixels.image, hdus[1].data) and np.array_equal(pixels.variance, hdus[3].data)
        # Its mask has DETECTED and CROSSTALK, which is bit 8.
        assert np.array_equal(pixels.mask == bits("SUSPECT"), (hdus[2].data & 256) > 0)
        sky = (hdus[2].data & 32) == 0
    x, y = np.meshgrid([0, 99, 199], [0, 99, 199])
    places = header_wcs(pixels.header).all_pix2world(x.ravel(), y.ravel(), 0)
    assert offsets(*places, *foreignfiles.fits_sky(pixels.header, x.ravel(), y.ravel())).max() < 1e-6

    exposure = detrend(pixels, row, edge=0)
    assert np.array_equal(exposure.image[exposure.mask == 0], pixels.image[exposure.mask == 0])
    noise = 1.4826 * np.median(np.abs(exposure.image - np.median(exposure.image[sky]))[sky])
    # Galaxies below the threshold broaden the sky beyond the variance that the file has.
    assert noise == pytest.approx(np.sqrt(np.median(exposure.variance[sky])), rel=0.1)

    row = ingest_images(str(folder / "coadd_warp" / "*.gz"), "lsst_calexp", {"visit": 1, "detector": 0})[0]
    # TIME-MID is 1994-01-02T01:46:59.52 UTC, 28 s behind TAI then.
    assert row["mjd"] == pytest.approx(49354 + (3600 + 46 * 60 + 59.52 + 28) / 86400, abs=1e-7)
    assert row["zero_point"] == pytest.approx(2.5 * np.log10(4626055802280.55))
    assert (read(row, "lsst_calexp").variance > 0).all()


def test_an_exposure_of_ours_knows_its_unit(own_calexp):
    assert Exposure.read(own_calexp[2]).metadata["bunit"] == "nJy"


@pytest.mark.parametrize("high", [3, 30, 31])
def test_high_bits_and_small_integers_are_read_alike(tmp_path, high):
    stored = np.array([[0, 1, 2], [3, 0, 1]], np.int32)
    stored[0, 0] = np.uint32(1 << high).view(np.int32)
    fits.PrimaryHDU(stored).writeto(tmp_path / "mask.fits")
    section = {"hdu": 0, "format": "bits", "planes": {"BAD": [0, high], "SAT": 1}}
    mask = delivered.mask(section, tmp_path / "mask.fits", fits.Header(), 0, (2, 3))
    # BAD is bit 0 here and SAT bit 1.
    expected = [[bits("BAD"), bits("BAD"), bits("SAT")], [bits("BAD", "SAT"), 0, bits("BAD")]]
    assert mask.tolist() == expected and mask.dtype == np.int32


def test_a_mask_of_fractions_is_bad_data(tmp_path):
    fits.PrimaryHDU(np.zeros((2, 3), np.float32)).writeto(tmp_path / "mask.fits")
    section = {"hdu": 0, "format": "bits", "planes": {"BAD": 0}}
    with pytest.raises(BadData, match="mask.fits: the mask does not hold integers"):
        delivered.mask(section, tmp_path / "mask.fits", fits.Header(), 0, (2, 3))
