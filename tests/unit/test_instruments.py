"""Instrument maps: headers of many kinds become exposure rows; what cannot be used is said in one line."""

import gzip
import logging
import re

import numpy as np
import pytest
import yaml
from astropy.io import fits
from astropy.time import Time
from builders import tan_header

from diaflow.errors import BadData, InputError
from diaflow.image.planes import bits
from diaflow.instruments import maps, times, translate
from diaflow.instruments.columns import checked
from diaflow.instruments.images import read_image
from diaflow.instruments.ingest import LEFT_OUT, all_images, ingest_images
from diaflow.store import tables

GOOD = {
    "VISIT": 12, "DETECTOR": 3, "FILTER": "r", "EXPTIME": 30.0, "MJD-OBS": 59000.25, "GAIN": 1.5, "RDNOISE": 4.0,
    "SATURATE": 60000.0,
}  # fmt: skip
# float64 MJD near 6e4 has a spacing of 7e-12 d; a few operations stay below 1e-10 d = 9 microseconds.
MJD_ROUNDING = 1e-10


def image_header(**changes):
    header = tan_header(shape=(20, 30))
    header.update({**GOOD, **{key.replace("_OBS", "-OBS"): value for key, value in changes.items()}})
    for key, value in changes.items():
        if value is None:
            del header[key.replace("_OBS", "-OBS")]
    return header


def write(path, header=None, data=None):
    data = np.arange(600, dtype=np.uint16).reshape(20, 30) if data is None else data
    fits.PrimaryHDU(data, image_header() if header is None else header).writeto(path)
    return str(path)


def ingest_one(path, **changes):
    return ingest_images(write(path / "image.fits", image_header(**changes)), "generic")[0]


def failure(path, caplog, instrument="generic", **changes):
    """Reason of a bad image beside a good one."""
    write(path / "bad.fits", image_header(**changes))
    write(path / "good.fits", image_header(VISIT=99))
    with caplog.at_level(logging.WARNING):
        table = ingest_images(str(path / "*.fits"), instrument)
    row = table[table["status"] == "failed"]
    assert len(row) == 1
    assert f"bad.fits: {row['reason'][0]}" in caplog.text
    assert "\n" not in row["reason"][0]
    return row[0]


def own_map(path, **rules):
    """An instrument map like generic with some rules replaced."""
    columns = yaml.safe_load((maps.FOLDER / "generic.yaml").read_text())["columns"]
    (path / "own.yaml").write_text(yaml.safe_dump({"columns": columns | rules}))
    return str(path / "own.yaml")


def test_generic_reads_its_keys(tmp_path):
    row = ingest_one(tmp_path, BIASLVL=100.0, SEEING=1.2, MAGZERO=31.5)
    expected = {"visit": 12, "detector": 3, "band": "r", "exptime": 30, "gain": 1.5, "read_noise": 4, "saturation": 6e4}
    expected |= {"bias": 100, "nx": 30, "ny": 20, "hdu": 0, "status": "ok", "reason": ""}
    assert {name: row[name] for name in expected} == expected
    assert row["seeing"] == np.float32(1.2)
    assert row["zero_point"] == 31.5
    assert row["pixel_scale"] == pytest.approx(0.5, rel=1e-6)
    assert (row["ra"], row["dec"]) == pytest.approx((150.0, 2.0), abs=1e-9)


def test_generic_optional_keys_may_be_missing(tmp_path):
    row = ingest_one(tmp_path, DETECTOR=None)
    assert (row["detector"], row["bias"], row["status"]) == (0, 0.0, "ok")
    assert np.isnan(row["seeing"])
    assert np.isnan(row["zero_point"])


@pytest.mark.parametrize("key", ["VISIT", "FILTER", "EXPTIME", "GAIN", "RDNOISE", "SATURATE", "MJD_OBS"])
def test_generic_required_keys_are_named_when_missing(tmp_path, caplog, key):
    assert key.replace("_OBS", "-OBS") in failure(tmp_path, caplog, **{key: None})["reason"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"GAIN": 0.0}, "gain: 0.0 is not positive"),
        ({"GAIN": "high"}, "gain: value high is not a number"),
        ({"GAIN": True}, "gain"),
        ({"RDNOISE": -1.0}, "read_noise"),
        ({"EXPTIME": -3.0}, "exptime"),
        ({"VISIT": 2**37}, "visit"),
        ({"VISIT": -4}, "visit"),
        ({"VISIT": 12.5}, "visit"),
        ({"DETECTOR": 512}, "detector"),
        ({"FILTER": "SDSS r/2"}, "band: 'SDSS r/2' is not a plain name"),
        ({"MJD_OBS": 2459000.5}, "mjd"),
        ({"MJD_OBS": None, "DATE_OBS": "2020-05-31"}, "no time of day"),
        ({"MJD_OBS": None, "DATE_OBS": "31/05/98"}, "not an ISO 8601 date"),
        ({"TIMESYS": "LOCAL"}, "TIMESYS 'LOCAL'"),
        ({"CTYPE1": "PIXEL", "CTYPE2": "PIXEL"}, "no celestial WCS"),
        ({"CD1_1": 0.0, "CD1_2": 0.0}, "WCS"),
    ],
)
def test_impossible_headers_fail_with_a_reason(tmp_path, caplog, changes, words):
    assert words in failure(tmp_path, caplog, **changes)["reason"]


def test_a_failed_row_keeps_what_is_known(tmp_path, caplog):
    row = failure(tmp_path, caplog, GAIN=None)
    assert (row["visit"], row["detector"], row["band"], row["exptime"]) == (12, 3, "r", 30)
    assert row["ra"] == pytest.approx(150.0)
    (tmp_path / "other").mkdir()
    assert failure(tmp_path / "other", caplog, VISIT="x")["visit"] == -1


@pytest.mark.filterwarnings("ignore:ERFA function")
@pytest.mark.parametrize(
    ("keys", "scale", "start"),
    [
        ({"MJD_OBS": 59000.25}, "utc", 59000.25),
        ({"MJD_OBS": 59000.25, "TIMESYS": "UTC"}, "utc", 59000.25),
        ({"MJD_OBS": "59000.25", "TIMESYS": "TAI"}, "tai", 59000.25),
        ({"MJD_OBS": 59000.25, "TIMESYS": "TT"}, "tt", 59000.25),
        ({"MJD_OBS": None, "DATE_OBS": "2020-05-31T06:00:00"}, "utc", 59000.25),
        ({"MJD_OBS": None, "DATE_OBS": "2020-05-31T06:00:00.00Z"}, "utc", 59000.25),
        ({"MJD_OBS": None, "DATE_OBS": "2020-05-31", "TIME_OBS": "06:00:00.0"}, "utc", 59000.25),
        ({"MJD_OBS": None, "DATE_OBS": "2020-05-31", "UT": "06:00:00", "TIMESYS": "TAI"}, "tai", 59000.25),
        ({"MJD_OBS": 57753.9999}, "utc", 57753.9999),
        ({"MJD_OBS": 41317.5}, "utc", 41317.5),
        ({"MJD_OBS": 69000.0}, "utc", 69000.0),
    ],
)
def test_mid_exposure_is_that_of_astropy(tmp_path, keys, scale, start):
    """With exposures that begin before and after leap seconds (2017-01-01) and beyond the last announced one."""
    expected = Time(start, format="mjd", scale=scale).tai.mjd + 15 / 86400
    assert ingest_one(tmp_path, **keys)["mjd"] == pytest.approx(expected, rel=0, abs=MJD_ROUNDING)


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"time": "tai_start", "key": "T"}, 59000.0 + 15 / 86400),
        ({"time": "tai_middle", "key": "T"}, 59000.0),
        ({"time": "utc_middle", "key": "T"}, 59000.0 + 37 / 86400),
        ({"time": "utc_start", "key": "S", "unit": "s"}, 59000.0 + 52 / 86400),
        ({"time": "fits_middle"}, 59000.25 + 37 / 86400),
        ({"time": "tai_middle", "key": "D"}, 59000.25),
        ({"time": "utc_start", "key": "D"}, 59000.25 + 52 / 86400),
        # The last row of 20 is read 19 x 2 s after the first; the central one half of that.
        ({"time": "tai_drift_scan", "key": "T", "row_seconds": 2.0}, 59000.0 + (19 - 15) / 86400),
    ],
)
def test_named_time_rules(tmp_path, rule, expected):
    path = write(tmp_path / "a.fits", image_header(T=59000.0, S=59000.0 * 86400, D="2020-05-31T06:00:00"))
    table = ingest_images(path, own_map(tmp_path, mjd=rule))
    assert table["mjd"][0] == pytest.approx(expected, rel=0, abs=MJD_ROUNDING)


def test_dates_keep_their_fractions():
    assert times.parse_date("2000-02-17T02:14:40.319") == pytest.approx(51592 - 1 + 8080.319 / 86400, abs=MJD_ROUNDING)


def test_rules_of_a_map(tmp_path):
    """Alternatives, patterns, value maps, units, powers, scale and offset, references, file names, sums, products."""
    path = own_map(
        tmp_path,
        visit={"key": "file_name", "pattern": r"run(\d+)"},
        detector={
            "sum": [{"key": "CCD", "pattern": r"C(\d)", "scale": 10}, {"key": ["NONE", "CCD"], "pattern": r"(\d)$"}]
        },
        band={"key": "FILTER", "values": {"R_PRIME": "r", "V": "v"}},
        exptime={"key": "EXPMS", "unit": "ms"},
        gain={"first": [{"key": "NOGAIN"}, {"key": "GAIN", "scale": 2.0, "offset": 1.0}]},
        read_noise={"product": [{"key": "NOISEVAR", "power": 0.5}, {"column": "gain"}]},
        saturation={"column": "gain", "scale": 1000},
        seeing={"key": "FWHM", "unit": "pixel"},
        zero_point={"key": "FLUX20", "magnitude": 20.0},
    )
    header = image_header(FILTER="R_PRIME", CCD="C7x5", EXPMS=1500, NOISEVAR=9.0, FWHM=4.0, FLUX20=1000.0)
    row = ingest_images(write(tmp_path / "my run0042.fits", header), path)[0]
    assert (row["visit"], row["detector"], row["band"], row["exptime"]) == (42, 75, "r", 1.5)
    assert (row["gain"], row["read_noise"], row["saturation"], row["zero_point"]) == (4.0, 12.0, 4000.0, 27.5)
    assert row["seeing"] == pytest.approx(2.0, rel=1e-6)


def test_what_is_unknown_is_null(tmp_path):
    path = own_map(tmp_path, gain=None, read_noise=None, saturation=None)
    row = ingest_images(write(tmp_path / "a.fits"), path)[0]
    assert row["status"] == "ok" and np.isnan([row["gain"], row["read_noise"], row["saturation"]]).all()
    path = own_map(tmp_path, exptime=None)
    with pytest.raises(InputError, match="exptime: value None is not a number; mjd: exptime is not known"):
        ingest_images(str(tmp_path / "a.fits"), path)


def test_all_that_is_wrong_with_an_image_is_said_at_once(tmp_path, caplog):
    reason = failure(tmp_path, caplog, GAIN=None, FILTER=None)["reason"]
    assert "header has no GAIN" in reason and "header has no FILTER" in reason


def test_values_of_a_map_must_hold_the_header_s(tmp_path):
    path = own_map(tmp_path, band={"key": "FILTER", "values": {"B": "b"}})
    with pytest.raises(InputError, match="band: 'r' is not among the values B"):
        ingest_images(write(tmp_path / "a.fits"), path)


def test_table_beside_the_image_is_read_at_the_band(tmp_path):
    rule = {"file": "side-{VISIT:05d}*.fits", "field": "gain", "index": {"g": 0, "r": 1}}
    columns = [fits.Column("gain", "2E", array=[[2.0, 3.0]]), fits.Column("noise", "1D", array=[5.0])]
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "side-00012-1.fits")
    columns[0] = fits.Column("gain", "2E", array=[[7.0, 8.0]])
    fits.BinTableHDU.from_columns(columns).writeto(tmp_path / "side-00012-10.fits")
    instrument = own_map(tmp_path, gain=rule, read_noise={"file": "side-{VISIT:05d}*.fits", "field": "noise"})
    row = ingest_images(write(tmp_path / "image 1.fits"), instrument)[0]
    assert (row["gain"], row["read_noise"]) == (8.0, 5.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"file": "none-{VISIT}.fits"}, "no file none-12.fits beside the image"),
        ({"file": "side-{NOKEY:02d}.fits"}, "header has no NOKEY"),
        ({"field": "noise"}, "side.fits has no noise"),
        ({"index": {"g": 0}}, "side.fits has no gain for this image"),
        ({"hdu": 4}, "unreadable table side.fits"),
        ({"file": "text.fits"}, "unreadable table text.fits"),
    ],
)
def test_unusable_table_beside_the_image_is_named(tmp_path, change, words):
    (tmp_path / "text.fits").write_text("not FITS")
    fits.BinTableHDU.from_columns([fits.Column("gain", "2E", array=[[2.0, 3.0]])]).writeto(tmp_path / "side.fits")
    rule = {"file": "side.fits", "field": "gain", "index": {"r": 1}} | change
    with pytest.raises(InputError, match="no usable image.*gain: " + words):
        ingest_images(write(tmp_path / "image.fits"), own_map(tmp_path, gain=rule))


def test_metadata_takes_the_place_of_the_map(tmp_path):
    path = write(tmp_path / "a.fits", image_header(GAIN=None, MJD_OBS=None))
    row = ingest_images(path, "generic", {"gain": 2.5, "band": "i", "mjd": 59001.5})[0]
    assert (row["gain"], row["band"], row["mjd"]) == (2.5, "i", 59001.5)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [({"gian": 2.0}, "unknown name gian"), ({"gain": "x"}, "metadata.gain"), ({"band": 3}, "metadata.band")],
)
def test_unusable_metadata_is_named(tmp_path, metadata, words):
    with pytest.raises(InputError, match=words):
        ingest_images(write(tmp_path / "a.fits"), "generic", metadata)


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        ({"gian": 1.0}, "unknown column gian"),
        ({"gain": {"kee": "GAIN"}}, "exactly one of"),
        ({"gain": {"key": "A", "column": "visit"}}, "exactly one of"),
        ({"gain": {"key": "GAIN", "skale": 2}}, "unknown field skale"),
        ({"gain": ["GAIN"]}, "not a list"),
        ({"gain": {"column": "read_noise"}}, "not known before gain"),
        ({"gain": {"key": "GAIN", "unit": "s"}}, "unit s cannot be converted"),
        ({"exptime": {"key": "T", "unit": "pixel"}}, "unit pixel"),
        ({"visit": {"key": "A", "pattern": r"\d+"}}, "must have one group"),
        ({"visit": {"key": "A", "pattern": "("}}, "column visit"),
        ({"gain": {"file": "x.fits"}}, "needs the field"),
        ({"gain": {"time": "tai_start", "key": "T"}}, "only mjd"),
        ({"mjd": {"time": "noon"}}, "unknown time rule noon"),
        ({"mjd": {"time": "fits_start", "key": "T"}}, "takes no key"),
        ({"mjd": {"time": "tai_start"}}, "exactly one of"),
        ({"mjd": {"time": "tai_drift_scan", "key": "T"}}, "row_seconds"),
        ({"gain": {"sum": [{"key": "A", "foo": 1}]}}, "unknown field foo"),
    ],
)
def test_malformed_maps_are_refused_before_any_image(tmp_path, rules, words):
    with pytest.raises(InputError, match=words) as refused:
        maps.load(own_map(tmp_path, **rules))
    assert "own.yaml" in str(refused.value)


@pytest.mark.parametrize("text", ["columns: [", "- a\n- b", "columns: {}", "columns: {gain: 1.0}\nfoo: 1", ""])
def test_malformed_yaml_is_an_input_error_with_its_name(tmp_path, text):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match="own.yaml"):
        maps.load(str(tmp_path / "own.yaml"))


def test_unknown_instrument_names_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="unknown instrument.*eimage, generic, lsst_calexp, sdss_fpc, ztf_sci"):
        maps.load("hubble")


def test_map_that_is_not_there_is_named_with_its_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f"instrument: {tmp_path}/none.yaml cannot be read .No such file"):
        maps.load("none.yaml")


@pytest.mark.parametrize("name", ["generic", "eimage", "sdss_fpc"])
def test_built_in_maps_are_well_formed(name):
    assert name in maps.names()
    assert maps.load(name)["name"] == name


@pytest.mark.parametrize(("heading", "hdu"), [("## One image to a calexp", None), ("## Write a map", 1)])
def test_the_maps_in_the_documentation_are_well_formed(root, tmp_path, heading, hdu):
    text = (root / "docs" / "bring_your_own_camera.md").read_text()
    example = text.split(heading)[1].split("```yaml")[1].split("```")[0]
    (tmp_path / "my_camera.yaml").write_text(example)
    assert maps.load(str(tmp_path / "my_camera.yaml"))["hdu"] == hdu


def test_glob_without_match_is_named(tmp_path):
    write(tmp_path / "a.fits")
    with pytest.raises(InputError, match=rf"no file matches .*\*\.nothing \(looked in {tmp_path}\)"):
        ingest_images([str(tmp_path / "*.fits"), str(tmp_path / "*.nothing")], "generic")
    with pytest.raises(InputError, match="images"):
        ingest_images([], "generic")


def test_paths_with_spaces_brackets_and_folders(tmp_path):
    (tmp_path / "night 1").mkdir()
    write(tmp_path / "night 1" / "a b.fits", image_header(VISIT=2))
    write(tmp_path / "c[1].fits", image_header(VISIT=1))
    (tmp_path / "folder.fits").mkdir()
    patterns = [str(tmp_path / "**" / "*.fits"), str(tmp_path / "c[1].fits")]
    table = ingest_images(patterns, "generic")
    assert table["visit"].tolist() == [1, 2]
    assert table["path"][1].endswith("a b.fits")


def test_rows_are_sorted_and_typed(tmp_path):
    for k, (visit, detector) in enumerate([(5, 1), (3, 2), (5, 0), (3, 0)]):
        write(tmp_path / f"{k}.fits", image_header(VISIT=visit, DETECTOR=detector))
    table = ingest_images(str(tmp_path / "*"), "generic")
    assert list(zip(table["visit"].tolist(), table["detector"].tolist())) == [(3, 0), (3, 2), (5, 0), (5, 1)]
    assert table.dtype == tables.empty("exposure").dtype
    tables.write("exposure", table, tmp_path / "t" / "exposures.parquet")
    assert tables.read("exposure", tmp_path / "t" / "exposures.parquet")["path"].tolist() == table["path"].tolist()


def test_two_files_of_one_detector_are_both_named(tmp_path):
    write(tmp_path / "one.fits")
    write(tmp_path / "two.fits")
    with pytest.raises(InputError, match=r"one\.fits and .*two\.fits are both visit 12, detector 3"):
        ingest_images(str(tmp_path / "*.fits"), "generic")


def test_two_bands_in_one_visit_are_refused(tmp_path):
    write(tmp_path / "one.fits")
    write(tmp_path / "two.fits", image_header(FILTER="g", DETECTOR=4))
    with pytest.raises(InputError, match="visit 12 has images in two bands: r .* and g"):
        ingest_images(str(tmp_path / "*.fits"), "generic")


def test_bands_and_detectors_choose(tmp_path):
    for k, band in enumerate("ggrr"):
        write(tmp_path / f"{k}.fits", image_header(VISIT=ord(band), DETECTOR=k, FILTER=band))
    (tmp_path / "bad.fits").write_text("nothing")
    images = str(tmp_path / "*.fits")
    table = ingest_images(images, "generic", bands=["r"], detectors=[0, 1, 2])
    assert list(zip(table["status"], table["detector"].tolist())) == [("failed", -1), ("ok", 2)]
    with pytest.raises(InputError, match=r"bands: no image in z \(the images have g, r\)"):
        ingest_images(images, "generic", bands=["z"])
    with pytest.raises(InputError, match="detectors: no image in 9"):
        ingest_images(images, "generic", detectors=[9])


@pytest.mark.parametrize(
    ("card", "words"),
    [
        ({"MJD-OBS": 5.8e16}, "is not an MJD between the years 1900 and 2100"),
        ({"TIMESYS": 0}, "TIMESYS '0' is not a time scale"),
        ({"GAIN": 1e40}, r"gain: value 1e\+40 is too large"),
    ],
)
def test_numbers_that_nothing_can_be_made_of_are_refused(tmp_path, caplog, card, words):
    assert re.search(words, failure(tmp_path, caplog, **card)["reason"])


def test_what_is_not_used_says_of_which_kind_the_reason_is(tmp_path):
    without_wcs = image_header(VISIT=3)
    del without_wcs["CTYPE*"]
    made = {"a": image_header(VISIT=1), "b": image_header(VISIT=2, GAIN="?"), "c": without_wcs}
    for name, header in (made | {"d": image_header(VISIT=4, FILTER="z")}).items():
        write(tmp_path / f"{name}.fits", header)
    (tmp_path / "e.fits").write_text("nothing")
    table = all_images(str(tmp_path / "*.fits"), "generic", bands=["r"])
    kinds = {row["path"][-6]: row["kind"] for row in table}
    assert kinds == {"a": "", "b": "header", "c": "wcs", "d": "not_wanted", "e": "file"}


def cut(path, n):
    content = path.read_bytes()
    path.write_bytes(content[:n])
    return str(path)


@pytest.mark.parametrize("kind", ["empty", "text", "header", "gz", "table", "cube"])
def test_unreadable_files_fail_alone(tmp_path, caplog, kind):
    bad = tmp_path / "bad.fits"
    if kind in ("empty", "text"):
        bad.write_text("" if kind == "empty" else "SIMPLE is not what it is")
    elif kind == "table":
        fits.BinTableHDU.from_columns([fits.Column("a", "1E", array=[1.0])]).writeto(bad)
    elif kind == "cube":
        fits.PrimaryHDU(np.zeros((2, 3, 4), np.float32)).writeto(bad)
    else:
        write(bad)
        if kind == "gz":
            bad.write_bytes(gzip.compress(bad.read_bytes())[:200])
        else:
            cut(bad, 1000)
    write(tmp_path / "good.fits")
    with caplog.at_level(logging.WARNING):
        table = ingest_images(str(tmp_path / "*.fits"), "generic")
    assert table["status"].tolist() == ["failed", "ok"]
    assert (table["visit"][0], table["detector"][0]) == (-1, -1)
    assert table["reason"][0] and "\n" not in table["reason"][0]
    assert "bad.fits" in caplog.text
    bad_only = str(tmp_path / "bad.fits")
    with pytest.raises(InputError, match=r"no usable image; the first is .*bad\.fits: "):
        ingest_images(bad_only, "generic")


def test_multi_extension_files(tmp_path):
    """The first 2-d image counts unless the map names another HDU; keys it lacks come from the primary header."""
    header = image_header(FILTER=None, GAIN=None)
    hdus = [
        fits.PrimaryHDU(header=fits.Header({"FILTER": "i", "GAIN": 9.0})),
        fits.ImageHDU(np.full((20, 30), 2, np.int16), header),
        fits.ImageHDU(np.full((20, 30), 3, np.int16), header, name="SECOND"),
    ]
    path = tmp_path / "mef.fits"
    fits.HDUList(hdus).writeto(path)
    for wanted, value in ((None, 2), (2, 3), ("SECOND", 3)):
        columns = yaml.safe_load((maps.FOLDER / "generic.yaml").read_text())["columns"]
        (tmp_path / "m.yaml").write_text(yaml.safe_dump({"hdu": wanted, "columns": columns}))
        row = ingest_images(str(path), str(tmp_path / "m.yaml"))[0]
        assert (row["band"], row["gain"]) == ("i", 9.0)
        assert np.all(read_image(row).image == value)
    (tmp_path / "m.yaml").write_text(yaml.safe_dump({"hdu": 0, "columns": columns}))
    with pytest.raises(InputError, match="HDU 0 is not a 2-d image"):
        ingest_images(str(path), str(tmp_path / "m.yaml"))


@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_images_after_the_first_of_a_file_are_named(tmp_path, caplog, suffix):
    columns = yaml.safe_load((maps.FOLDER / "generic.yaml").read_text())["columns"]
    hdus = [fits.PrimaryHDU(np.full((20, 30), k, np.int16), image_header(VISIT=12 + k)) for k in range(2)]
    planes = [fits.ImageHDU(np.ones((20, 30), np.int16), name=name) for name in ("MASK", "VAR", "SKY")]
    table = fits.BinTableHDU.from_columns([fits.Column("a", "J", array=[1])])
    fits.HDUList([hdus[0], *planes, table]).writeto(tmp_path / f"several.{suffix}")
    hdus[1].writeto(tmp_path / f"single.{suffix}")

    def left_out(**sections):
        (tmp_path / "m.yaml").write_text(yaml.safe_dump({"columns": columns} | sections))
        table = all_images(str(tmp_path / f"*.{suffix}"), str(tmp_path / "m.yaml"))
        out = table["status"] == LEFT_OUT
        assert sorted(table["visit"][~out]) == [12, 13] and all("several" in path for path in table["path"][out])
        assert all("not the first image of its file" in reason for reason in table["reason"][out])
        return table["hdu"][out].tolist()

    assert left_out() == [1, 2, 3]
    assert "left out, HDU 3 is not the first image of its file" in caplog.text
    assert left_out(masks={"hdu": "mask", "format": "bits", "planes": {"BAD": 0}}, variance={"hdu": 2}) == [3]
    assert left_out(hdu=0) == []


def test_tile_compressed_images(tmp_path):
    path = tmp_path / "a.fits.fz"
    data = np.arange(600, dtype=np.int16).reshape(20, 30)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(data, image_header())]).writeto(path)
    row = ingest_images(str(path), "generic")[0]
    assert (row["hdu"], row["nx"], row["ny"]) == (1, 30, 20)
    assert np.array_equal(read_image(row).image, data)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64, np.float32, np.float64])
@pytest.mark.parametrize("suffix", ["fits", "fits.gz"])
def test_pixels_are_native_float32(tmp_path, dtype, suffix):
    data = (np.arange(600) % 250).reshape(20, 30).astype(dtype)
    row = ingest_images(write(tmp_path / f"a.{suffix}", data=data), "generic")[0]
    pixels = read_image(row)
    assert pixels.image.dtype == np.float32
    assert pixels.image.dtype.isnative
    assert pixels.image.flags.c_contiguous
    assert np.array_equal(pixels.image, data)
    assert pixels.header["VISIT"] == 12


def test_a_compressed_file_that_is_cut_short_is_a_failed_row(tmp_path):
    """Its end does not say that nothing follows the image, and what follows cannot be decompressed."""
    path = tmp_path / "a.fits.gz"
    write(path, data=np.random.default_rng(1).normal(size=(200, 300)))
    cut(path, path.stat().st_size // 2)
    write(tmp_path / "b.fits")
    cut_short = next(row for row in ingest_images(str(tmp_path / "*"), "generic") if row["path"] == str(path))
    assert cut_short["status"] == "failed"
    assert cut_short["reason"].startswith("unreadable header: Compressed file ended before the end")


def test_truncated_pixels_are_bad_data_with_the_path(tmp_path):
    """The header is whole, so that the image is in the exposure table; its pixels are not."""
    path = tmp_path / "a.fits"
    write(path, data=np.random.default_rng(1).normal(size=(200, 300)))
    cut(path, path.stat().st_size // 2)
    row = ingest_images(str(path), "generic")[0]
    with pytest.raises(BadData, match=r"unreadable image .*a\.fits") as refused:
        read_image(row)
    assert "\n" not in str(refused.value)


def test_an_image_that_is_gone_or_changed_is_bad_data(tmp_path):
    path = tmp_path / "a.fits"
    row = ingest_images(write(path), "generic")[0]
    path.unlink()
    with pytest.raises(BadData, match="unreadable image"):
        read_image(row)
    write(path, data=np.zeros((5, 5), np.float32))
    with pytest.raises(BadData, match="unreadable image"):
        read_image(row)


def masked_camera(path, spans):
    """A frame of zeros with an fpM-like file beside it, and its map."""
    packed = np.array(spans, ">i2").tobytes()
    columns = [
        fits.Column("nspan", "J", array=[len(spans)]),
        fits.Column("s", "PB()", array=np.array([np.frombuffer(packed, np.uint8), None], dtype=object)[:1]),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path / "mask-12.fit")
    write(path / "image.fits", data=np.zeros((20, 30), np.float32))
    content = yaml.safe_load((maps.FOLDER / "generic.yaml").read_text())
    content["masks"] = {"file": "mask-{VISIT}.fit", "format": "sdss_fpm", "planes": {"SAT": 1}}
    (path / "masked.yaml").write_text(yaml.safe_dump(content))
    return ingest_images(str(path / "image.fits"), str(path / "masked.yaml"))[0], str(path / "masked.yaml")


def test_saturated_spans_of_a_mask_file_are_saturated(tmp_path):
    row, name = masked_camera(tmp_path, [(3, 5, 7), (19, 0, 29)])
    expected = np.zeros((20, 30), np.int32)
    expected[3, 5:8] = expected[19] = bits("SAT")
    assert np.array_equal(read_image(row, name).mask, expected)


def test_without_the_mask_file_counts_decide_and_a_broken_one_is_bad_data(tmp_path, caplog):
    row, name = masked_camera(tmp_path, [(3, 5, 7)])
    (tmp_path / "mask-12.fit").write_text("not a FITS file")
    with pytest.raises(BadData, match="unreadable mask or variance mask-12.fit"):
        read_image(row, name)
    (tmp_path / "mask-12.fit").unlink()
    with caplog.at_level(logging.WARNING):
        assert read_image(row, name).mask is None
    assert "no file mask-12.fit" in caplog.text


@pytest.mark.parametrize(
    "section",
    [
        "a.fits",
        {"file": "a"},
        {"format": "bits", "planes": {"SAT": 1}},
        {"file": "a", "format": "png", "planes": {"SAT": 1}},
        {"file": "a", "format": "bits"},
        {"file": "a", "format": "bits", "planes": {"SATURATED": 1}},
        {"file": "a", "format": "bits", "planes": {"SAT": "SAT"}},
        {"file": "a", "format": "lsst", "planes": {"SAT": 1}},
        {"file": ["a"], "format": "bits", "planes": {"SAT": 1}},
        {"file": "a", "format": "bits", "planes": {"SAT": 1}, "saturated": 2},
    ],
)
def test_masks_that_cannot_work_are_refused(tmp_path, section):
    content = yaml.safe_load((maps.FOLDER / "generic.yaml").read_text())
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(content | {"masks": section}))
    with pytest.raises(InputError, match="own.yaml: masks"):
        maps.load(str(tmp_path / "own.yaml"))


def test_unreadable_card_is_a_reason():
    header = fits.Header.fromstring("GAIN    = 'open ended".ljust(80))
    with pytest.raises(BadData, match="GAIN"):
        checked("gain", translate.header_lookup(header)("GAIN"))


def test_real_sdss_frames(shared):
    """Two nights of Stripe 82: gain and noise come from tsField, the zero point agrees with tsField's to 0.01 mag."""
    folder = shared / "sdss_stripe82_r"
    table = ingest_images(str(folder / "fpC-*.fit.gz"), "sdss_fpc")
    assert table["visit"].tolist() == [41920300, 63770399]
    assert table["detector"].tolist() == [4, 4]
    assert set(table["band"]) == {"r"}
    assert set(table["status"]) == {"ok"}
    assert table["gain"] == pytest.approx(np.float32([4.76, 4.76]))
    # Dark variance 1.3225 DN**2.
    assert table["read_noise"] == pytest.approx(np.float32([4.76 * 1.15] * 2), rel=1e-6)
    assert table["bias"].tolist() == [1000.0, 1000.0]
    assert table["pixel_scale"] == pytest.approx([0.396, 0.396], abs=1e-4)
    for row, side in zip(table, sorted(folder.glob("tsField*"))):
        field = fits.getdata(side)[0]
        # m = -2.5 log10(DN / exptime) - aa - kk * airmass (SDSS photometric equation).
        zero = 2.5 * np.log10(53.907456) - field["aa"][2] - field["kk"][2] * field["airmass"][2]
        assert row["zero_point"] == pytest.approx(zero, abs=0.01)
        # tsField's mjd is that of row 0; the central one of 1489 is read 744 x 26.322 ms later.
        assert row["mjd"] == pytest.approx(field["mjd"][2] + (744 * 0.026322 - 53.907456 / 2) / 86400, abs=1e-7)
    pixels = read_image(table[0], "sdss_fpc")
    assert pixels.image.shape == (1489, 2048)
    assert 1000 < np.median(pixels.image) < 1300
    # A saturated star, filled in on the frame to 13,000 DN, and an unsaturated one that peaks at 31,000.
    star = slice(1120, 1132), slice(276, 290)
    assert pixels.mask[36, 1846] == bits("SAT") and not pixels.mask[star].any()
    assert pixels.image[36, 1846] < 15_000 and 25_000 < pixels.image[star].max() < 32_000


def test_real_electron_images(shared):
    """Three generations of LSST simulators."""
    table = ingest_images(str(shared / "lsst_formats" / "eimage" / "*.fits.gz"), "eimage")
    assert table["visit"].tolist() == [449053, 9006002, 21706001]
    assert table["detector"].tolist() == [94, 90, 90]
    assert table["band"].tolist() == ["r", "g", "g"]
    assert set(table["status"]) == {"ok"}
    # phoSim: MJD-OBS in UTC is 7.5 s before 59580.0, where TAI - UTC was 37 s; imSim: MJD-OBS is TAI.
    expected = [61017.0451099272 + 15 / 86400, 59580 + 37 / 86400, 51591.0938925833 + 0.5 / 86400]
    assert table["mjd"] == pytest.approx(expected, rel=0, abs=1e-8)
    assert table["pixel_scale"] == pytest.approx([0.2] * 3, abs=2e-4)


def test_real_image_without_wcs_fails_with_both_reasons(shared):
    path = str(shared / "cafos_ngc2420_raw" / "science" / "NGC2420" / "B" / "uamA_0023.fits.gz")
    with pytest.raises(InputError, match="no celestial WCS.*; visit: header has no VISIT"):
        ingest_images(path, "generic")
