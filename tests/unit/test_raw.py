"""Maps of raw cameras: which frame is what, where the amplifiers are, and a WCS for what has only a pointing."""

import numpy as np
import pytest
import yaml
from astropy import units as u
from astropy.coordinates import FK5, SkyCoord
from astropy.io import fits
from astropy.time import Time
from astropy.wcs import WCS
from builders import tan_header

from diaflow.errors import BadData, InputError
from diaflow.instruments import maps, pointing, raw, translate
from diaflow.instruments.images import read_image, read_raw
from diaflow.instruments.ingest import ingest_images
from diaflow.instruments.raw import Span
from diaflow.sky.wcs import central_pixel_scale, header_wcs, image_centre

HEADER = {
    "IMAGETYP": "object", "VISIT": 12, "DETECTOR": 3, "FILTER": "r", "EXPTIME": 30.0, "MJD-OBS": 59000.25, "GAIN": 1.5,
    "RDNOISE": 4.0, "DATASEC": "[1:30,1:20]", "BIASSEC": "[31:36,1:20]",
}  # fmt: skip


def write(path, shape=(20, 36), wcs=True, **changes):
    """A raw frame of 20 x 30 pixels with an overscan of 6 columns."""
    header = tan_header(shape=(20, 30)) if wcs else fits.Header()
    header.update(HEADER | {key.replace("_OBS", "-OBS"): value for key, value in changes.items()})
    for key, value in changes.items():
        if value is None:
            del header[key]
    path.parent.mkdir(parents=True, exist_ok=True)
    fits.PrimaryHDU(np.arange(np.prod(shape), dtype=np.uint16).reshape(shape), header).writeto(path)
    return str(path)


def own_map(path, **sections):
    """The path of a map like ccd_raw with some sections replaced."""
    content = yaml.safe_load((maps.FOLDER / "ccd_raw.yaml").read_text())
    (path / "own.yaml").write_text(yaml.safe_dump(content | sections))
    return str(path / "own.yaml")


def test_frames_are_told_apart_by_their_headers(tmp_path):
    write(tmp_path / "science.fits")
    write(tmp_path / "bias.fits", wcs=False, IMAGETYP="zero", EXPTIME=0.0, FILTER="?!", VISIT=None)
    write(tmp_path / "dark.fits", wcs=False, IMAGETYP="Dark Frame", VISIT=12)
    write(tmp_path / "flat.fits", wcs=False, IMAGETYP="dome flat", VISIT=12)
    write(tmp_path / "focus.fits", IMAGETYP="focus", VISIT=13)
    table = ingest_images(str(tmp_path / "*.fits"), "ccd_raw")
    found = {row["path"].split("/")[-1]: row for row in table}
    assert {name: row["imagetype"] for name, row in found.items()} == {
        "bias.fits": "bias", "dark.fits": "dark", "flat.fits": "flat", "science.fits": "science",
    }  # fmt: skip
    assert found["science.fits"]["status"] == "ok"
    for name, band in (("bias.fits", ""), ("dark.fits", ""), ("flat.fits", "r")):
        row = found[name]
        assert (row["status"], row["visit"], row["band"], row["detector"]) == ("calibration", -1, band, 3)
        assert np.isnan(row["ra"]) and row["gain"] == 1.5


def test_calibration_frames_lack_what_they_need_not_but_not_what_they_do(tmp_path):
    write(tmp_path / "science.fits")
    write(tmp_path / "dark.fits", IMAGETYP="dark", EXPTIME=0.0)
    write(tmp_path / "flat.fits", IMAGETYP="flat", FILTER="?!")
    write(tmp_path / "bias.fits", IMAGETYP="bias", GAIN=None)
    table = ingest_images(str(tmp_path / "*.fits"), "ccd_raw")
    reasons = {row["imagetype"]: row["reason"] for row in table if row["status"] == "failed"}
    assert {name: reason.split(":")[0] for name, reason in reasons.items()} == {
        "dark": "exptime", "flat": "band", "bias": "gain",
    }  # fmt: skip


def test_an_unlisted_image_type_is_named(tmp_path):
    write(tmp_path / "a.fits", IMAGETYP="spectrum")
    with pytest.raises(InputError, match="imagetype: 'spectrum' is not among the values"):
        ingest_images(str(tmp_path / "a.fits"), "ccd_raw")


def test_flats_of_other_bands_and_frames_of_other_detectors_are_left_out(tmp_path):
    for k, band in enumerate("gr"):
        write(tmp_path / f"science{k}.fits", FILTER=band, VISIT=k)
        write(tmp_path / f"flat{k}.fits", FILTER=band, IMAGETYP="flat")
    write(tmp_path / "bias.fits", IMAGETYP="bias")
    write(tmp_path / "other.fits", IMAGETYP="bias", DETECTOR=4)
    table = ingest_images(str(tmp_path / "*.fits"), "ccd_raw", bands=["g"], detectors=[3])
    assert sorted(zip(table["imagetype"], table["band"])) == [("bias", ""), ("flat", "g"), ("science", "g")]


def test_the_exposure_table_has_the_shape_and_corners_of_the_assembled_image(tmp_path):
    row = ingest_images(write(tmp_path / "a.fits"), "ccd_raw")[0]
    assert (row["nx"], row["ny"]) == (30, 20)
    assert (row["ra"], row["dec"]) == pytest.approx((150.0, 2.0), abs=1e-9)
    assert not maps.is_raw("generic") and maps.is_raw("ccd_raw")


@pytest.mark.parametrize("target", ["[1:20,1:10]", "[20:1,1:10]", "[1:20,10:1]", "[120:101,60:51]"])
def test_the_wcs_goes_with_the_pixels(tmp_path, target):
    """A pixel of the first amplifier is at the same place on the sky before and after assembly."""
    header = tan_header(shape=(20, 36))
    sections = {"amplifiers": [{"data": "[5:24,8:17]", "target": target}]}
    assembled = raw.assembled_header(tmp_path, header, sections)
    assert (assembled["NAXIS1"], assembled["NAXIS2"]) == (20, 10)
    before, after = header_wcs(header), header_wcs(assembled)
    y, x = raw.section(target)
    for column, line in ((0, 0), (7, 3), (19, 9)):
        there = 19 - column if x.flipped else column, 9 - line if y.flipped else line
        np.testing.assert_allclose(after.all_pix2world(*there, 0), before.all_pix2world(4 + column, 7 + line, 0))


def test_amplifiers_of_one_image_are_cut_out(tmp_path):
    sections = {
        "amplifiers": [
            {"data": "[1:12,1:20]", "overscan": "[13:18,1:20]", "target": "[101:112,51:70]", "gain": 1.2},
            {"data": "[25:36,1:20]", "overscan": "[19:24,1:20]", "target": "[124:113,51:70]", "corner": "lr",
             "gain": {"key": "GAIN", "scale": 2.0}, "read_noise": 9.0, "linearity": [1e-7]},
        ],
        "crosstalk": [[0, 1e-3], [2e-3, 0]],
        "defects": ["[3:5,2:2]", "[24:24,1:20]"],
    }  # fmt: skip
    path = own_map(tmp_path, raw=sections)
    row = ingest_images(write(tmp_path / "a.fits"), path)[0]
    assert (row["nx"], row["ny"], row["status"]) == (24, 20, "ok")
    found = read_raw(row, path)
    data = np.arange(720).reshape(20, 36)
    first, second = found.amplifiers
    assert np.array_equal(first.counts, data[:, :12]) and np.array_equal(first.overscan, data[:, 12:18])
    assert np.array_equal(second.counts, data[:, 24:]) and np.array_equal(second.overscan, data[:, 18:24])
    assert first.counts.dtype == np.uint16
    assert first.target == (Span(0, 20), Span(0, 12)) and second.target == (Span(0, 20), Span(12, 24, True))
    assert (first.gain, first.read_noise, first.saturation, first.corner) == (1.2, 4.0, 65535.0, "ll")
    assert (second.gain, second.read_noise, second.corner, second.linearity) == (3.0, 9.0, "lr", [1e-7])
    assert np.array_equal(found.crosstalk, [[0, 1e-3], [2e-3, 0]])
    assert found.defects.sum() == 3 + 20 and found.defects[1, 2:5].all() and found.defects[:, 23].all()


def test_amplifiers_in_hdus_of_their_own(tmp_path):
    hdus = [fits.PrimaryHDU(header=fits.Header(HEADER))]
    for n in range(2):
        header = tan_header(shape=(20, 36))
        x = "[12:1,1:20]" if n else "[13:24,1:20]"
        header.update({"DETSEC": x, "DATASEC": "[4:15,1:20]", "BIASSEC": "[16:36,1:20]", "GAIN": 1.1 + n})
        hdus.append(fits.ImageHDU(np.full((20, 36), n, np.int32), header))
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    amplifier = {"data": {"key": "DATASEC"}, "overscan": {"key": "BIASSEC"}, "target": {"key": ["CCDSEC", "DETSEC"]}}
    amplifiers = [amplifier | {"hdu": n, "gain": {"key": "GAIN"}} for n in (1, 2)]
    path = own_map(tmp_path, raw={"amplifiers": amplifiers})
    row = ingest_images(str(tmp_path / "a.fits"), path)[0]
    assert (row["nx"], row["ny"], row["hdu"], row["gain"]) == (24, 20, 1, np.float32(1.1))
    found = read_raw(row, path).amplifiers
    assert [one.gain for one in found] == [1.1, 2.1] and [one.counts.mean() for one in found] == [0, 1]
    assert found[1].target[1] == Span(0, 12, True) and found[0].overscan.shape == (20, 21)


def test_mask_of_a_detector_is_read_beside_the_map(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[4, 5] = 3
    fits.PrimaryHDU(mask).writeto(tmp_path / "bad_3.fits")
    path = own_map(tmp_path, raw={"amplifiers": [{"data": "[1:30,1:20]"}], "mask": "bad_{detector}.fits"})
    row = ingest_images(write(tmp_path / "a.fits"), path)[0]
    assert np.array_equal(read_raw(row, path).defects, mask != 0)
    fits.PrimaryHDU(mask[:5]).writeto(tmp_path / "bad_3.fits", overwrite=True)
    with pytest.raises(InputError, match="bad_3.fits"):
        read_raw(row, path)
    (tmp_path / "bad_3.fits").unlink()
    with pytest.raises(InputError, match="unreadable mask"):
        read_raw(row, path)


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ([{"data": "[1:40,1:20]"}], "not within the image"),
        ([{"data": "[1:30,1:20]", "target": "[1:20,1:20]"}], "not of the same size"),
        ([{"data": "[1:30,1:20]", "overscan": "[31:36,1:10]"}], "does not have the rows"),
        ([{"data": {"key": "NOSEC"}}], "header has no NOSEC"),
        ([{"data": {"key": "GAIN"}}], "GAIN '1.5' is not a section"),
    ],
)
def test_sections_that_do_not_fit_the_file_are_the_reason(tmp_path, sections, reason):
    write(tmp_path / "a.fits")
    with pytest.raises(InputError, match=reason):
        ingest_images(str(tmp_path / "a.fits"), own_map(tmp_path, raw={"amplifiers": sections}))


@pytest.mark.parametrize(
    ("section", "words"),
    [
        (None, "raw must be a mapping"),
        ({"amps": []}, "unknown key amps"),
        ({"amplifiers": []}, "must be a list"),
        ({"amplifiers": [{"data": "[1:2]"}]}, "not a section"),
        ({"amplifiers": [{"data": "[0:2,1:3]"}]}, "counts from 1"),
        ({"amplifiers": [{"data": {"kee": "A"}}]}, "unknown key kee"),
        ({"amplifiers": [{}, {}]}, "needs a target"),
        ({"amplifiers": [{"corner": "top"}]}, "unknown corner top"),
        ({"amplifiers": [{"gain": {"kee": "A"}}]}, "exactly one of"),
        ({"amplifiers": [{"linearity": {"measured": [1, 2], "true": [1]}}]}, "linearity"),
        ({"linearity": {"measured": [2, 1], "true": [1, 2]}}, "increasing"),
        ({"linearity": "table.fits"}, "could not convert"),
        ({"crosstalk": [[0, 1], [1, 0]]}, "matrix of 1 x 1"),
        ({"crosstalk": [[0.1]]}, "zeros on its diagonal"),
        ({"defects": ["[1:2,3]"]}, "not a section"),
    ],
)
def test_malformed_sections_are_refused(tmp_path, section, words):
    with pytest.raises(InputError, match=words) as refused:
        maps.load(own_map(tmp_path, raw=section))
    assert "own.yaml: raw" in str(refused.value)


def test_truncated_raw_frame_is_bad_data(tmp_path):
    path = write(tmp_path / "a.fits")
    row = ingest_images(path, "ccd_raw")[0]
    with open(path, "r+b") as file:
        file.truncate(3000)
    with pytest.raises(BadData, match="unreadable image"):
        read_raw(row, "ccd_raw")


POINTING = {"ra": {"key": "RA"}, "dec": {"key": "DEC"}, "pixel_scale": 0.5}


def located(section, **cards) -> WCS:
    """The WCS of an image of 41 x 21 pixels with a pointing."""
    header = fits.Header({"NAXIS": 2, "NAXIS1": 41, "NAXIS2": 21, "CTYPE1": "PIXEL", "PC001001": 1.0, "CDELT1": 9.0})
    header.update(cards)
    look = translate.Image(None, translate.header_lookup(header))
    return header_wcs(pointing.located(header, look, section))


@pytest.mark.parametrize("cards", [{"RA": 150.25, "DEC": -2.5}, {"RA": "10:01:00.0", "DEC": "-02:30:00"}])
def test_the_pointing_is_the_centre_of_the_image(cards):
    wcs = located(POINTING, **cards)
    np.testing.assert_allclose(wcs.all_pix2world(20, 10, 0), (150.25, -2.5), atol=1e-9)
    assert central_pixel_scale(wcs, (21, 41)) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize("rotation", [0.0, 89.0, 200.0])
@pytest.mark.parametrize("flipped", [False, True])
def test_rotation_is_the_position_angle_of_the_y_axis(rotation, flipped):
    wcs = located(POINTING | {"rotation": rotation, "flipped": flipped}, RA=30.0, DEC=40.0)
    centre, up, right = (SkyCoord(*wcs.all_pix2world(x, y, 0), unit="deg") for x, y in ((20, 10), (20, 20), (30, 10)))
    assert centre.position_angle(up).deg == pytest.approx(rotation, abs=0.01) or rotation == 0
    # Seen on the sky, east is to the left of north: x points 90 deg against the position angle.
    turn = (centre.position_angle(right) - centre.position_angle(up)).wrap_at(180 * u.deg).deg
    assert turn == pytest.approx(90 if flipped else -90, abs=0.01)


def test_coordinates_of_date_are_precessed():
    mjd = 59301.9759
    cards = {"RA": 114.916038, "DEC": 21.52593, "MJD-OBS": mjd}
    wcs = located(POINTING | {"equinox": "date"}, **cards)
    of_date = SkyCoord(cards["RA"], cards["DEC"], unit="deg", frame=FK5(equinox=Time(mjd, format="mjd")))
    there = SkyCoord(*wcs.all_pix2world(20, 10, 0), unit="deg")
    # IAU 1976 against IAU 2006 precession, and FK5 against ICRS.
    assert there.separation(of_date.icrs).arcsec < 0.1
    assert there.separation(SkyCoord(114.5958, 21.5733, unit="deg")).arcmin < 0.5  # NGC 2420


@pytest.mark.parametrize("cards", [{"RA": 10.0}, {"RA": 10.0, "DEC": 95.0}, {"RA": "east", "DEC": 3.0}])
def test_unusable_pointing_is_bad_data(cards):
    with pytest.raises(BadData):
        located(POINTING, **cards)


@pytest.mark.parametrize(
    "section", [{"ra": 1.0}, POINTING | {"equinox": 1950}, POINTING | {"pixel_scale": 0}, POINTING | {"flipped": "no"}]
)
def test_malformed_pointing_is_refused(tmp_path, section):
    with pytest.raises(InputError, match="own.yaml: pointing"):
        maps.load(own_map(tmp_path, pointing=section))


def test_images_without_a_wcs_are_placed_by_their_pointing(tmp_path):
    columns = yaml.safe_load((maps.FOLDER / "generic.yaml").read_text())["columns"]
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({"columns": columns, "pointing": POINTING}))
    path = write(tmp_path / "a.fits", wcs=False, SATURATE=60000.0, RA=150.0, DEC=2.0)
    row = ingest_images(path, str(tmp_path / "own.yaml"))[0]
    assert (row["status"], row["ra"], row["dec"]) == ("ok", pytest.approx(150), pytest.approx(2))
    header = read_image(row, str(tmp_path / "own.yaml")).header
    np.testing.assert_allclose(image_centre(header_wcs(header), (20, 36)), (150, 2), atol=1e-9)


@pytest.mark.parametrize("name", ["ccd_raw", "cafos"])
def test_built_in_raw_maps_are_well_formed(name):
    assert name in maps.names() and maps.is_raw(name)
