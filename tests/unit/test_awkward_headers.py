"""Headers and files that trip readers: each is read right, or fails alone with a reason that names what is wrong."""

import bz2
import gzip
import lzma
import os

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.time import Time
from builders import tan_header

from diaflow.errors import BadData, InputError
from diaflow.instruments import maps, times
from diaflow.instruments.images import read_image
from diaflow.instruments.ingest import LEFT_OUT, all_images, ingest_images
from diaflow.run import plan
from diaflow.run.config import validated
from diaflow.sky.wcs import header_wcs

GOOD = {
    "VISIT": 12, "FILTER": "r", "EXPTIME": 30.0, "MJD-OBS": 60000.125, "GAIN": 1.5, "RDNOISE": 4.0, "SATURATE": 6e4,
    "RADESYS": "ICRS",
}  # fmt: skip
MJD_ROUNDING = 1e-10  # of float64 near 6e4, a few operations [d]
MIDDLE = 15 / 86400  # of the exposure after its start [d]


def image_header(**changes):
    """A good header with cards changed, or taken out by None; two underscores stand for a hyphen."""
    header = tan_header(shape=(20, 30))
    header.update(GOOD)
    for key, value in changes.items():
        key = key.replace("__", "-")
        if value is None:
            header.remove(key, ignore_missing=True)
        else:
            header[key] = value
    return header


def write(path, header=None, data=None):
    data = np.arange(600, dtype=np.uint16).reshape(20, 30) if data is None else data
    fits.PrimaryHDU(data, header or image_header()).writeto(path, output_verify="silentfix")
    return str(path)


def ingested(tmp_path, header):
    """The row of an image beside a good one, which is made whatever the image is."""
    write(tmp_path / "good.fits", image_header(VISIT=99))
    write(tmp_path / "odd.fits", header)
    table = ingest_images(str(tmp_path / "*.fits"), "generic")
    assert table["status"][table["visit"] == 99].tolist() == ["ok"]
    return table[["odd.fits" in path for path in table["path"]]][0]


# --- dates ---


@pytest.mark.parametrize(
    ("cards", "utc"),
    [
        ({"DATE__OBS": "20230225", "UT": "03:00:00"}, "2023-02-25T03:00:00"),
        ({"DATE__OBS": "20230225T030000.5"}, "2023-02-25T03:00:00.5"),
        ({"DATE__OBS": "2023/02/25", "TIME__OBS": "3:00"}, "2023-02-25T03:00:00"),
        ({"DATE__OBS": "2023-02-25 03:00:00"}, "2023-02-25T03:00:00"),
        ({"DATE__OBS": "2023-02-25T03:00:00+02:00"}, "2023-02-25T01:00:00"),
        ({"DATE__OBS": "2016-12-31T23:59:60.5"}, "2016-12-31T23:59:60.5"),
        ({"DATE__OBS": "2016-12-31", "UTSTART": "23:59:60"}, "2016-12-31T23:59:60"),
        ({"DATE__OBS": "2023-02-25T00:00:00", "UT": "00:00:00"}, "2023-02-25T00:00:00"),
        ({"DATE__OBS": "2023-02-25T03:00:00", "TIME": "23:00:00"}, "2023-02-25T03:00:00"),
        ({"DATE__OBS": 20230225, "TIME__OBS": "03:00:00", "UT": "03:00:10"}, "2023-02-25T03:00:00"),
        ({"DATE__OBS": "25/02/23", "MJD__OBS": 60000.125}, "2023-02-25T03:00:00"),
        ({"DATE__OBS": "2023-02-25T03:00:00", "MJD__OBS": "60000.12500"}, "2023-02-25T03:00:00"),
        ({"DATE__OBS": "2023-02-25T03:00:00", "TIMESYS": "UTC(NIST)"}, "2023-02-25T03:00:00"),
    ],
)
def test_odd_dates_are_read_right(tmp_path, cards, utc):
    row = ingested(tmp_path, image_header(**{"MJD__OBS": None} | cards))
    assert row["mjd"] == pytest.approx(Time(utc, scale="utc").tai.mjd + MIDDLE, rel=0, abs=MJD_ROUNDING)


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"DATE__OBS": "20230225"}, "'20230225' has no time of day"),
        ({"DATE__OBS": "2023-02-25", "UT": 3.0}, "no time of day"),
        ({"DATE__OBS": "2023-02-25", "UT": "3h"}, "no time of day"),
        ({"DATE__OBS": "2023-W08-6"}, "not an ISO 8601 date"),
        ({"DATE__OBS": "2023-056"}, "not an ISO 8601 date"),
        ({"DATE__OBS": "2023-02-30T03:00:00"}, "not in the calendar"),
        ({"DATE__OBS": "2023-02-25T23:59:60"}, "not in the calendar"),
        ({"DATE__OBS": "2016-12-31T23:59:60", "TIMESYS": "TAI"}, "not in the calendar"),
        ({"DATE__OBS": "2023-02-25T03:00:00Z", "TIMESYS": "TT"}, "in UTC"),
        ({"DATE__OBS": "2023-02-25T03:00:00", "TIMESYS": "UT1"}, "TIMESYS 'UT1'"),
        ({"DATE__OBS": "2023-02-25T00:00:00", "UT": "03:00:00"}, "UT and DATE-OBS are 3 h apart"),
        ({"DATE__OBS": "2023-02-25", "TIME__OBS": "05:00:00", "UT": "03:00:00"}, "TIME-OBS and UT are 2 h apart"),
        ({"DATE__OBS": "2023-02-25T04:00:00", "MJD__OBS": 60000.125}, "1 h apart"),
        ({"MJD__OBS": 60000}, "MJD-OBS 60000 has no time of day"),
        ({"MJD__OBS": "60_000.5"}, "not a number"),
        ({}, "no MJD-OBS and no DATE-OBS"),
    ],
)
def test_dates_that_are_not_understood_are_refused_by_their_value(tmp_path, cards, words):
    row = ingested(tmp_path, image_header(**{"MJD__OBS": None} | cards))
    assert row["status"] == "failed" and words in row["reason"] and np.isnan(row["mjd"])


@pytest.mark.parametrize("scale", ["TAI", "TT", "TDB", "GPS"])
def test_a_date_in_another_scale_is_that_of_astropy(tmp_path, scale):
    row = ingested(tmp_path, image_header(MJD__OBS=None, DATE__OBS="2023-02-25T03:00:00", TIMESYS=scale))
    seconds = {"GPS": 19.0}.get(scale)
    start = Time("2023-02-25T03:00:00", scale="tai" if seconds else scale.lower())
    expected = start.tai.mjd + (seconds or 0) / 86400 + MIDDLE
    assert row["mjd"] == pytest.approx(expected, rel=0, abs=MJD_ROUNDING if scale != "TDB" else 2e-3 / 86400)


def test_dates_of_other_rules_know_their_scale(tmp_path):
    rules = yaml.safe_load((maps.FOLDER / "generic.yaml").read_text())["columns"]
    for rule, expected in (("utc_middle", 57753 + (86400 + 36.5) / 86400), ("tai_middle", None)):
        rules["mjd"] = {"time": rule, "key": "WHEN"}
        (tmp_path / f"{rule}.yaml").write_text(yaml.safe_dump({"columns": rules}))
        path = write(tmp_path / f"{rule}.fits", image_header(WHEN="2016-12-31T23:59:60.5"))
        if expected:
            row = ingest_images(path, str(tmp_path / f"{rule}.yaml"))[0]
            assert row["mjd"] == pytest.approx(expected, rel=0, abs=MJD_ROUNDING)
        else:
            with pytest.raises(InputError, match="not in the calendar"):
                ingest_images(path, str(tmp_path / f"{rule}.yaml"))


def test_a_leap_second_lasts_one_second():
    before, after = (
        times.utc_to_tai(times.parse_date(text)) for text in ("2016-12-31T23:59:59", "2017-01-01T00:00:00")
    )
    assert (after - before) * 86400 == pytest.approx(2, abs=1e-5)


# --- cards ---


def patched(tmp_path, old, new):
    """A file with the card that begins with `old` replaced byte by byte."""
    path = tmp_path / "odd.fits"
    write(path, image_header(ORIGIN="somewhere", CAMTEMP=-10.0))
    content = path.read_bytes()
    start = content.index(old)
    path.write_bytes(content[:start] + new.ljust(80, b"\0" if b"\0" in new else b" ")[:80] + content[start + 80 :])
    return str(path)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"ORIGIN  =", b"ORIGIN  = 'somewhere\n'"),
        (b"CAMTEMP =", b"CAMTEMP =  -10.0\0"),
        (b"CAMTEMP =", b"CAMTEMP = 'no end"),
        (b"ORIGIN  =", b"ORIGIN  = '\xb0C'"),
        (b"ORIGIN  =", b"CDELT1  = 'unused'"),
    ],
)
def test_a_card_that_nobody_needs_is_in_nobodys_way(tmp_path, old, new):
    row = ingest_images(patched(tmp_path, old, new), "generic")[0]
    assert row["status"] == "ok" and row["ra"] == pytest.approx(150.0)
    header_wcs(read_image(row).header)


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [(b"GAIN    =", b"GAIN    = 1.5\0", "GAIN"), (b"CRVAL1  =", b"CRVAL1  = 'no end", "CRVAL1")],
)
def test_a_card_that_is_needed_and_cannot_be_read_is_named(tmp_path, old, new, named):
    with pytest.raises(InputError, match=f"unreadable header card {named}"):
        ingest_images(patched(tmp_path, old, new), "generic")


@pytest.mark.parametrize("key", ["GAIN", "CRVAL1", "EQUINOX"])
def test_a_card_that_is_there_with_two_values_is_named(tmp_path, key):
    header = image_header(EQUINOX=2000.0)
    header.append((key, header[key]))
    assert ingested(tmp_path, header)["status"] == "ok"
    header.append((key, 1.25))
    (tmp_path / "again").mkdir()
    assert f"header card {key} is there twice" in ingested(tmp_path / "again", header)["reason"]


# --- the WCS ---


@pytest.mark.parametrize(
    ("cards", "words"),
    [
        ({"CRVAL1": "10:00:00.0"}, "CRVAL1 '10:00:00.0' is not a number"),
        ({"CRPIX2": "middle"}, "CRPIX2 'middle' is not a number"),
        ({"CD1_1": True}, "CD1_1 'True' is not a number"),
        ({"CRVAL2": None}, "header has no CRVAL2"),
        ({"CTYPE1": 3}, "CTYPE1 3 is not text"),
        ({"CD1_3": 0.1}, "CD1_3 mixes a third axis"),
        ({"CPDIS1": "LOOKUP"}, "CPDIS1 'LOOKUP' is a kind of distortion that is not read"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"}, "without A_ORDER, B_ORDER"),
        ({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "A_2_0": 1e-5}, "without B_ORDER"),
        ({"A_ORDER": 2, "A_2_0": 1e-5, "B_ORDER": 2}, "A_ORDER is there, but CTYPE1 RA---TAN does not end in -SIP"),
        ({"RADESYS": None, "EQUINOX": "B1950"}, "EQUINOX B1950"),
        ({"RADESYS": None, "EQUINOX": "NOW"}, "EQUINOX NOW"),
        ({"RADESYS": None, "EQUINOX": 1950.0}, "EQUINOX 1950.0"),
        ({"RADESYS": None, "EPOCH": 1950.0}, "EPOCH 1950.0"),
        ({"RADESYS": "FK5", "EQUINOX": 2015.5}, "EQUINOX 2015.5"),
        ({"RADESYS": "GAPPT"}, "RADESYS GAPPT"),
        ({"RADESYS": None, "RADECSYS": "FK4"}, "RADECSYS FK4"),
        ({"RADESYS": "FK5 B1950"}, "RADESYS FK5 B1950"),
    ],
)
def test_a_wcs_that_is_not_whole_or_not_understood_fails_its_frame_by_name(tmp_path, cards, words):
    row = ingested(tmp_path, image_header(**cards))
    assert row["status"] == "failed" and words in row["reason"] and np.isnan(row["ra"])


@pytest.mark.parametrize(
    "cards",
    [
        {"RADESYS": None, "EQUINOX": "J2000"},
        {"RADESYS": None, "EQUINOX": "2000.0"},
        {"RADESYS": None, "EQUINOX": "ICRS"},
        {"RADESYS": "FK5", "EQUINOX": 2000},
        {"RADESYS": "J2000"},
        {"RADESYS": "FK5 (J2000.0)"},
        {"RADESYS": "icrs", "EPOCH": 2017.3},
        {"RADESYS": "FK5", "EQUINOX": 2000.0, "EPOCH": 2017.3},
        {"RADESYS": None, "RADECSYS": "FK5", "EQUINOX": "J2000.0"},
        {"CRVAL1": "150.0"},
        {"AP_ORDER": 2, "AP_2_0": 1e-5},
        {"CDELT1": "none", "CROTA2": "none"},
        {"LTV1": "text", "PLTSCALE": "text"},
    ],
)
def test_names_of_the_frame_are_read_and_other_cards_do_not_count(tmp_path, cards):
    row = ingested(tmp_path, image_header(**cards))
    assert row["status"] == "ok" and (row["ra"], row["dec"]) == pytest.approx((150.0, 2.0), abs=1e-9)


@pytest.mark.parametrize("kind", ["WCSAXES", "CTYPE3", "NAXIS3", "NAXIS4"])
def test_further_axes_of_length_one_do_not_matter(tmp_path, kind):
    data = np.arange(600, dtype=np.int16).reshape(20, 30)
    header = image_header(CTYPE3="FREQ", CRVAL3=4.8e14, CRPIX3=1.0, CDELT3=1e12, CD3_3=1e12, CD1_3=0.0)
    if kind == "WCSAXES":
        header.insert("CTYPE1", ("WCSAXES", 3))
    planes = data[(None,) * {"NAXIS3": 1, "NAXIS4": 2}.get(kind, 0)]
    for name, hdu in (("a.fits", fits.PrimaryHDU(planes, header)), ("b.fits.fz", fits.CompImageHDU(planes, header))):
        fits.HDUList([hdu] if name == "a.fits" else [fits.PrimaryHDU(), hdu]).writeto(tmp_path / name)
        row = ingest_images(str(tmp_path / name), "generic")[0]
        assert (row["status"], row["nx"], row["ny"], row["ra"]) == ("ok", 30, 20, pytest.approx(150.0))
        pixels = read_image(row)
        assert np.array_equal(pixels.image, data) and header_wcs(pixels.header).naxis == 2


# --- files ---

COMPRESSIONS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}


@pytest.mark.parametrize("suffix", COMPRESSIONS)
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_compressed_file_is_bad_data_wherever_it_shows(tmp_path, suffix, damage):
    write(tmp_path / "whole.fits", data=np.random.default_rng(1).integers(0, 60000, (20, 30), np.uint16))
    content = bytearray(COMPRESSIONS[suffix]((tmp_path / "whole.fits").read_bytes()))
    middle = len(content) // 2
    content[middle:] = b"" if damage == "cut" else b"\xff" * (len(content) - middle)
    (tmp_path / f"odd.fits.{suffix}").write_bytes(content)
    write(tmp_path / "good.fits", image_header(VISIT=99))
    row = ingest_images([str(tmp_path / "odd*"), str(tmp_path / "good.fits")], "generic")
    row = row[["odd" in path for path in row["path"]]][0]
    if row["status"] == "ok":
        with pytest.raises(BadData, match="unreadable image .*odd") as refused:
            read_image(row)
        assert "\n" not in str(refused.value)
    else:
        assert row["reason"].startswith("unreadable header: ")


@pytest.mark.parametrize("kind", ["RICE_1", "GZIP_1", "GZIP_2", "HCOMPRESS_1"])
def test_damaged_tiles_are_bad_data(tmp_path, kind):
    data = np.random.default_rng(2).integers(0, 1000, (64, 64), np.int16)
    header = image_header()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, header, compression_type=kind)]).writeto(tmp_path / "a.fz")
    with fits.open(tmp_path / "a.fz", disable_image_compression=True) as hdus:
        heap = (
            hdus[1].fileinfo()["datLoc"] + hdus[1].header["THEAP"]
            if "THEAP" in hdus[1].header
            else (hdus[1].fileinfo()["datLoc"] + hdus[1].header["NAXIS1"] * hdus[1].header["NAXIS2"])
        )
    content = bytearray((tmp_path / "a.fz").read_bytes())
    content[heap : heap + 3000] = b"\xff" * 3000
    (tmp_path / "a.fz").write_bytes(content)
    row = ingest_images(str(tmp_path / "a.fz"), "generic")[0]
    with pytest.raises(BadData, match=r"unreadable image .*a\.fz"):
        read_image(row)


def test_a_broken_link_and_what_is_no_file_are_named_and_the_others_are_made(tmp_path):
    write(tmp_path / "good.fits")
    (tmp_path / "away.fits").symlink_to(tmp_path / "nowhere.fits")
    os.mkfifo(tmp_path / "pipe.fits")
    (tmp_path / "folder.fits").mkdir()
    table = ingest_images(str(tmp_path / "*.fits"), "generic")
    reasons = {os.path.basename(row["path"]): row["reason"] for row in table}
    assert reasons.pop("away.fits").startswith("broken link to ")
    assert reasons == {"good.fits": "", "pipe.fits": "is no file"}


def survey(tmp_path, *centres):
    for visit, (ra, dec) in enumerate(centres):
        write(tmp_path / f"{visit}.fits", image_header(VISIT=visit, CRVAL1=ra, CRVAL2=dec))
    return validated({"images": str(tmp_path / "*.fits")})


@pytest.mark.parametrize("stray", [(330.0, -2.0), (0.0, 0.0), (150.0, 80.0)])
def test_a_stray_frame_is_left_out_by_name_and_the_others_are_planned(tmp_path, stray, caplog):
    config = survey(tmp_path, (150.0, 2.0), stray, (150.01, 2.0))
    planned = plan.make(config, tmp_path / "none")
    assert planned.visits == [0, 2]
    assert len(planned.skymap.tracts) == 1 and planned.skymap.tracts[0].radius < 0.1
    left = planned.exposures[planned.exposures["status"] == LEFT_OUT]
    assert left["visit"].tolist() == [1] and "around RA 150.0" in left["reason"][0]
    assert "1.fits" in caplog.text


def test_of_two_fields_apart_the_larger_one_is_made(tmp_path):
    here, there = [(150.0 + k / 100, 2.0) for k in range(3)], [(330.0 + k / 100, -2.0) for k in range(2)]
    assert plan.make(survey(tmp_path, *there, *here), tmp_path / "none").visits == [2, 3, 4]


def test_the_table_of_a_run_says_what_was_left_out_and_why(tmp_path, caplog):
    for visit, band in enumerate("grr"):
        write(tmp_path / f"{visit}.fits", image_header(VISIT=visit, FILTER=band))
    table = all_images(str(tmp_path / "*.fits"), "generic", bands=["r"])
    assert table["status"].tolist() == [LEFT_OUT, "ok", "ok"]
    assert table["reason"][0] == "band g is not among the bands" and "0.fits" in caplog.text
    table = plan.ingest(validated({"images": str(tmp_path / "*.fits"), "bands": ["r"]}))
    assert table["status"].tolist() == [LEFT_OUT, "ok", "ok"]


# --- SDSS: what belongs to a field has the number of its file name ---

FIRST_FRAME = {"r": 0, "i": 2, "u": 4, "z": 6, "g": 8}  # FRAME of the header minus the field
INDEX = {band: number for number, band in enumerate("ugriz")}


def sdss_frame(folder, band, field):
    """A frame of a band with its tsField (of another gain in each band) and its mask, one pixel in each field."""
    header = image_header(FILTER=band, RUN=4192, CAMCOL=4, FRAME=field + FIRST_FRAME[band], TAI=4573255414.68)
    header.update({"C_OBS": 26322, "SOFTBIAS": 1000, "FLUX20": 2000.0, "EXPTIME": "53.907456"})
    write(folder / f"fpC-004192-{band}4-{field:04d}.fit", header)
    values = {"gain": field + np.arange(5.0), "dark_variance": np.full(5, 4.0)}
    values |= {"saturation_level": np.full(5, 4e4), "psf_width": np.full(5, 1.2)}
    columns = [fits.Column(name, "5E", array=[value]) for name, value in values.items()]
    fits.BinTableHDU.from_columns(columns).writeto(folder / f"tsField-004192-4-40-{field:04d}.fit", overwrite=True)
    span = np.array([field % 20, INDEX[band], INDEX[band]], ">i2").tobytes()
    empty = fits.BinTableHDU.from_columns([fits.Column("nspan", "J", array=[0])])
    stored = np.array([np.frombuffer(span, np.uint8), None], dtype=object)[:1]
    spans = [fits.Column("nspan", "J", array=[1]), fits.Column("s", "PB()", array=stored)]
    hdus = [fits.PrimaryHDU(), empty, fits.BinTableHDU.from_columns(spans)]
    fits.HDUList(hdus).writeto(folder / f"fpM-004192-{band}4-{field:04d}.fit")


def test_sdss_frames_of_all_bands_and_neighbouring_fields_run_together(tmp_path):
    fields = range(300, 309, 2)
    for band in FIRST_FRAME:
        for field in fields:
            sdss_frame(tmp_path, band, field)
    table = ingest_images(str(tmp_path / "fpC-*.fit"), "sdss_fpc")
    assert len(table) == 25 and set(table["status"]) == {"ok"} and len(np.unique(table["visit"])) == 25
    for row in table:
        band, field = row["band"], int(row["path"][-8:-4])
        assert row["gain"] == field + INDEX[band]
        assert row["visit"] % 10**9 == 41920000 + field and (row["visit"] < 10**9) == (band == "r")
        marked = np.argwhere(read_image(row, "sdss_fpc").mask)
        assert marked.tolist() == [[field % 20, INDEX[band]]]


def test_sdss_companions_that_are_missing_are_named_by_their_field(tmp_path, caplog):
    sdss_frame(tmp_path, "g", 300)
    sdss_frame(tmp_path, "r", 300)
    sdss_frame(tmp_path, "g", 308)
    (tmp_path / "tsField-004192-4-40-0308.fit").unlink()
    table = ingest_images(str(tmp_path / "fpC-*.fit"), "sdss_fpc")
    failed = table[table["status"] == "failed"]
    assert len(failed) == 1 and "no file tsField-004192-4-*-0308.fit* beside" in failed["reason"][0]


def test_real_sdss_nights_in_two_bands_are_four_visits(shared):
    patterns = [str(shared / f"sdss_stripe82_{band}" / "fpC-*.fit.gz") for band in "gr"]
    table = ingest_images(patterns, "sdss_fpc")
    assert table["visit"].tolist() == [41920300, 63770399, 1041920300, 1063770399]
    assert set(table["status"]) == {"ok"}
    assert table["gain"] == pytest.approx(np.float32([4.76, 4.76, 3.995, 3.995]))
    # The bands cross a place one after the other: g comes four frames after r, of 1361 rows of 26.3 ms each four times.
    assert 86400 * (table["mjd"][2] - table["mjd"][0]) == pytest.approx(8 * 1361 * 0.026322, abs=1.0)
    assert all((read_image(row, "sdss_fpc").mask != 0).any() for row in table)
