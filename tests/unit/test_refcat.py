"""Reference catalogues: the same stars from every format, and errors that name what is wrong."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from diaflow.errors import InputError
from diaflow.refcat import formats, store, textfiles
from diaflow.refcat.convert import check, convert
from diaflow.run.config import validated

N = 400


@pytest.fixture
def columns():
    rng = np.random.default_rng(1)
    mag = rng.uniform(14, 22, N)
    mag[:5] = 0.0, -9999.0, 99.0, np.nan, np.inf
    err = rng.uniform(0.001, 0.1, N)
    err[5:8] = -9999.0, 0.0, 99.0
    return {
        "num": np.arange(N) + 2**60,
        "lon": rng.uniform(-3.0, 3.0, N),
        "lat": rng.uniform(-3.0, 3.0, N),
        "rmag": mag,
        "rerr": err,
        "star": rng.integers(0, 2, N),
        "kind": rng.choice(["STAR", "GALAXY"], N),
        "unused": np.zeros(N),
    }


def configuration(path, **changes):
    settings = {
        "path": str(path),
        "id": "num",
        "ra": "lon",
        "dec": "lat",
        "bands": {"r": "rmag"},
        "errors": {"r": "rerr"},
        "keep": {"star": 1},
    }
    return validated({"images": "x", "refcat": settings | changes})["refcat"]


def converted(settings, band, *circle, mjd=60000.0):
    """The stars within a circle (ra, dec, radius), by identifier, from a store made of the files of `settings`."""
    paths = formats.paths(settings["path"])
    with tempfile.TemporaryDirectory() as folder:
        convert(paths, settings, Path(folder, "refcat.parquet"))
        table = store.read(Path(folder, "refcat.parquet"), band, *circle, mjd)
    return table[np.argsort(table["id"], kind="stable")]


def write(columns, path, units=None):
    if ".fit" in path.name:
        kinds, units = {"i": "K", "f": "D", "U": "10A", "b": "L"}, units or {}
        table = [fits.Column(n, kinds[v.dtype.kind], unit=units.get(n), array=v) for n, v in columns.items()]
        fits.BinTableHDU.from_columns(table).writeto(path)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path)
    else:
        mark = {".csv": ",", ".tsv": "\t", ".txt": "   ", ".dat": " "}[path.name.removesuffix(".gz")[-4:]]
        rows = zip(*(value.tolist() for value in columns.values()))
        head = "# made for a test\n# " if path.suffix == ".dat" else ""
        lines = [head + mark.join(columns)] + [mark.join(map(repr, row)).replace("'", "") for row in rows]
        (gzip.open if path.suffix == ".gz" else open)(path, "wt").write("\n".join(lines) + "\n")
    return path


NAMES = ["a.fits", "a.fits.gz", "a.fit", "a.parquet", "a.csv", "a.csv.gz", "a.tsv", "a.txt", "a.dat"]


@pytest.mark.parametrize("name", NAMES)
def test_every_format_gives_the_rows_within_the_circle(name, columns, tmp_path):
    table = converted(configuration(write(columns, tmp_path / name)), "r", 359.8, 0.5, 1.5)
    lon, lat = np.deg2rad(columns["lon"] + 0.2), np.deg2rad(columns["lat"])
    cosine = np.sin(lat) * np.sin(np.deg2rad(0.5)) + np.cos(lat) * np.cos(np.deg2rad(0.5)) * np.cos(lon)
    inside = np.rad2deg(np.arccos(cosine)) <= 1.5
    assert 20 < inside.sum() < N
    np.testing.assert_array_equal(table["id"], columns["num"][inside])
    np.testing.assert_allclose(table["ra"], columns["lon"][inside] % 360, rtol=0, atol=1e-12)
    np.testing.assert_allclose(table["dec"], columns["lat"][inside], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(table["star"], columns["star"][inside] == 1)


@pytest.mark.parametrize("name", NAMES)
def test_codes_for_missing_magnitudes_are_nan_and_keep_their_position(name, columns, tmp_path):
    table = converted(configuration(write(columns, tmp_path / name)), "r", 0.0, 0.0, 10.0)
    assert len(table) == N
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(table["mag"])), np.arange(5))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(table["mag_err"])), np.arange(5, 8))
    np.testing.assert_allclose(table["mag"][5:], columns["rmag"][5:], rtol=1e-6)


@pytest.mark.parametrize("name", ["a.fits", "a.parquet", "a.csv"])
def test_stars_are_selected_by_text_and_by_several_columns(name, columns, tmp_path):
    settings = configuration(write(columns, tmp_path / name), keep={"kind": "STAR", "star": 1})
    table = converted(settings, "r", 0.0, 0.0, 10.0)
    np.testing.assert_array_equal(table["star"], (columns["kind"] == "STAR") & (columns["star"] == 1))


@pytest.mark.parametrize("name", ["a.fits", "a.parquet", "a.csv"])
def test_stars_are_selected_by_truth_values(name, columns, tmp_path):
    columns["star"] = columns["star"] == 1
    settings = configuration(write(columns, tmp_path / name), keep={"star": False})
    np.testing.assert_array_equal(converted(settings, "r", 0.0, 0.0, 10.0)["star"], ~columns["star"])


def test_without_keep_and_errors_all_rows_are_stars_of_unknown_error(columns, tmp_path):
    table = converted(configuration(write(columns, tmp_path / "a.csv"), keep={}, errors={}), "r", 0.0, 0.0, 10.0)
    assert table["star"].all()
    assert np.isnan(table["mag_err"]).all()


def test_text_of_stars_and_galaxies_in_three_bands_serves_images_in_six(tmp_path):
    rows = ["id, ra, dec, g, r, i, starnotgal, isvariable"]
    rows += ["1, -0.5, 10.0, 18.1, 17.5, 17.3, 1, 0", "2, 0.5, 10.0, 19.1, 18.5, 18.3, 1, 1"]
    rows += ["3, 179.9, 10.0, 20.1, 19.5, 19.3, 1, 0", "4, -179.9, 10.1, 21.1, 20.5, 20.3, 0, 0"]
    (tmp_path / "stars.txt").write_text("\n".join(rows) + "\n")
    settings = {"bands": {"u": "g", "g": "g", "r": "r", "i": "i", "z": "i", "y": "i"}, "errors": {}}
    settings |= {"id": "id", "ra": "ra", "dec": "dec", "keep": {"starnotgal": 1, "isvariable": 0}}
    settings = configuration(tmp_path / "stars.txt", **settings)
    check(settings, "ugrizy")
    for band, mag in zip("ugrizy", (18.1, 18.1, 17.5, 17.3, 17.3, 17.3)):
        near_zero, near_180 = (converted(settings, band, ra, 10.0, 1.0) for ra in (0.0, 180.0))
        assert near_zero["id"].tolist() == [1, 2] and near_180["id"].tolist() == [3, 4]
        np.testing.assert_allclose(near_zero["ra"], [359.5, 0.5])
        np.testing.assert_allclose(near_180["ra"], [179.9, 180.1])
        np.testing.assert_allclose(near_zero["mag"], [mag, mag + 1], rtol=1e-6)
        # Variable stars and galaxies keep their place but are no stars to calibrate with.
        assert near_zero["star"].tolist() == [True, False] and near_180["star"].tolist() == [True, False]


def test_circle_reaches_over_the_pole(columns, tmp_path):
    columns["lon"], columns["lat"] = np.linspace(0, 359, N), np.full(N, 89.5)
    table = converted(configuration(write(columns, tmp_path / "a.parquet")), "r", 10.0, 89.9, 0.7)
    assert len(table) == N


def test_negative_and_wrapped_right_ascensions_are_the_same(columns, tmp_path):
    negative = converted(configuration(write(columns, tmp_path / "a.parquet")), "r", 359.5, 0.0, 1.0)
    columns["lon"] = columns["lon"] % 360
    wrapped = converted(configuration(write(columns, tmp_path / "b.parquet")), "r", -0.5, 0.0, 1.0)
    np.testing.assert_array_equal(negative["id"], wrapped["id"])
    assert len(negative) > 10


@pytest.mark.parametrize("name", ["a.fits", "a.parquet", "a.csv"])
def test_missing_column_is_named_with_what_is_there(name, columns, tmp_path):
    path = write(columns, tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: no column 'RAJ2000' \(there are: num, lon, lat, rmag"):
        converted(configuration(path, ra="RAJ2000"), "r", 0.0, 0.0, 1.0)


def test_band_without_a_column_is_named_with_the_bands_there_are(columns, tmp_path):
    settings = configuration(write(columns, tmp_path / "a.csv"), bands={"g": "rmag", "r": "rmag"})
    with pytest.raises(InputError, match=r"a.csv is named for band i, z \(there are: g, r\)"):
        check(settings, ["z", "g", "i", "z"])
    with pytest.raises(InputError, match="no magnitudes in band i"):
        converted(settings, "i", 0.0, 0.0, 1.0)
    check(settings, ["g", "r", "g"])


def test_bands_may_share_a_column(columns, tmp_path):
    settings = configuration(write(columns, tmp_path / "a.csv"), bands={"g": "rmag", "u": "rmag"}, errors={"u": "rerr"})
    u, g = (converted(settings, band, 0.0, 0.0, 10.0) for band in "ug")
    np.testing.assert_array_equal(u["mag"], g["mag"])
    assert np.isnan(g["mag_err"]).all() and np.isfinite(u["mag_err"]).sum() == N - 3


def test_proper_motion_without_an_epoch_is_refused(columns, tmp_path):
    settings = configuration(write(columns, tmp_path / "a.csv"), pm=["lon", "lat"])
    with pytest.raises(InputError, match="refcat.epoch is missing"):
        check(settings, ["r"])
    with pytest.raises(InputError, match="a.csv: refcat.epoch 57000 is no Julian year"):
        converted(configuration(settings["path"], pm=["lon", "lat"], epoch=57000), "r", 0.0, 0.0, 1.0)


@pytest.mark.parametrize("name", ["none.fits", "none.parquet", "none.csv", "none.csv.gz"])
def test_missing_file_is_named(name, tmp_path):
    with pytest.raises(InputError, match=name):
        converted(configuration(tmp_path / name), "r", 0.0, 0.0, 1.0)


@pytest.mark.parametrize("name", ["bad.fits", "bad.fits.gz", "bad.parquet", "bad.csv.gz", "bad.csv"])
def test_file_of_another_kind_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x89PNG nothing of the kind\xff\n" * 200)
    with pytest.raises(InputError, match=name):
        converted(configuration(tmp_path / name), "r", 0.0, 0.0, 1.0)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.parquet", "a.csv.gz"])
def test_truncated_file_is_named(name, columns, tmp_path):
    path = write(columns, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=name):
        converted(configuration(path), "r", 0.0, 0.0, 10.0)


def test_text_where_numbers_belong_is_named(columns, tmp_path):
    path = write(columns, tmp_path / "a.csv")
    with pytest.raises(InputError, match="'kind' is not numeric"):
        converted(configuration(path, bands={"r": "kind"}), "r", 0.0, 0.0, 1.0)
    with pytest.raises(InputError, match=r"column 'kind' \(refcat.id\) must tell stars apart"):
        converted(configuration(path, id="kind"), "r", 0.0, 0.0, 1.0)


@pytest.mark.parametrize(("unit", "reason"), [("furlong", "unknown unit furlong"), ("s", "s, which cannot")])
def test_impossible_unit_is_named(unit, reason, columns, tmp_path):
    path = write(columns, tmp_path / "a.fits", {"lon": unit})
    with pytest.raises(InputError, match=f"a.fits: column 'lon' .*{reason}"):
        converted(configuration(path), "r", 0.0, 0.0, 1.0)


def test_catalogue_without_a_position_is_refused_and_leaves_nothing(columns, tmp_path):
    columns["lat"] = np.full(N, np.nan)
    path = write(columns, tmp_path / "a.fits")
    with pytest.raises(InputError, match="a.fits: no row with a position"):
        convert([path], configuration(path), tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["a.fits"]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_blanks_around_values_and_empty_lines_do_not_matter(end, tmp_path):
    rows = [
        "# made for a test",
        "#  num   lon  lat rmag rerr star",
        "",
        " 1  10.5\t-1.5 18.0 0.01 1  ",
        "2 11 -1  - 1 0 ",
    ]
    (tmp_path / "a.txt").write_bytes(end.join([*rows, "   ", ""]).encode())
    table = converted(configuration(tmp_path / "a.txt"), "r", 10.0, -1.0, 5.0)
    assert table["id"].tolist() == [1, 2]
    assert table["ra"].tolist() == [10.5, 11.0] and table["dec"].tolist() == [-1.5, -1.0]
    assert table["star"].tolist() == [True, False] and np.isnan(table["mag"]).tolist() == [False, True]


@pytest.mark.parametrize("name", NAMES)
def test_blocks_of_a_file_add_up_to_the_whole(name, columns, tmp_path, monkeypatch):
    path = write(columns, tmp_path / name)
    whole = converted(configuration(path), "r", 0.0, 0.0, 10.0)
    monkeypatch.setattr(formats, "BLOCK_ROWS", 37)
    monkeypatch.setattr(textfiles, "BLOCK_BYTES", 1000)
    n_rows = [len(block["num"][0]) for block in formats.blocks(path, {"num"})]
    assert len(n_rows) > 5 and sum(n_rows) == N
    assert converted(configuration(path), "r", 0.0, 0.0, 10.0).tobytes() == whole.tobytes()


def test_files_of_a_folder_and_of_a_glob_are_one_catalogue(columns, tmp_path):
    for k in range(4):
        write({name: value[k::4] for name, value in columns.items()}, tmp_path / f"{k}.fits")
    (tmp_path / "README").write_text("of the catalogue")
    for path in (tmp_path, tmp_path / "*.fits"):
        table = converted(configuration(path), "r", 0.0, 0.0, 10.0)
        np.testing.assert_array_equal(table["id"], columns["num"])
    with pytest.raises(InputError, match=rf"refcat.path: no file matches .*\*\.dat \(looked in {tmp_path}\)"):
        formats.paths(str(tmp_path / "*.dat"))


def test_tables_that_are_numbered_alike_are_refused_and_leave_nothing(columns, tmp_path):
    for name in ("a.fits", "b.fits"):
        write(columns | {"num": np.arange(N)}, tmp_path / name)
    (tmp_path / "out").mkdir()
    with pytest.raises(InputError, match=rf"column 'num' \(refcat.id\) must tell stars apart, but {N} rows .* as 0"):
        convert(formats.paths(str(tmp_path)), configuration(tmp_path), tmp_path / "out" / "store")
    assert not list((tmp_path / "out").iterdir())


def test_an_identifier_may_come_back_where_there_is_no_position(columns, tmp_path):
    columns["num"][1] = columns["num"][0]
    columns["lat"][1] = np.nan
    path = write(columns, tmp_path / "a.fits")
    assert len(converted(configuration(path), "r", 0.0, 0.0, 10.0)) == N - 1
    columns["lat"][1] = 1.0
    path = write(columns, tmp_path / "b.fits")
    with pytest.raises(InputError, match=f"b.fits: column 'num' .* 1 rows repeat an identifier, such as {2**60}"):
        convert([path], configuration(path), tmp_path / "store")


def test_missing_column_names_its_file_of_several(columns, tmp_path):
    write(columns, tmp_path / "0.fits")
    write({name: value for name, value in columns.items() if name != "rerr"}, tmp_path / "1.fits")
    with pytest.raises(InputError, match="1.fits: no column 'rerr'"):
        converted(configuration(tmp_path), "r", 0.0, 0.0, 1.0)


def test_real_catalogue_of_the_sdss_stripe_has_the_stars_of_a_frame(shared):
    path = shared / "sdss_stripe82_r" / "refcat_stars.fits"
    columns = {"id": "id", "ra": "ra", "dec": "dec", "bands": {"r": "r"}, "errors": {"r": "r_err"}}
    table = converted(configuration(path, **columns, keep={"starnotgal": 1}), "r", 351.65, 0.10, 0.1)
    assert 50 < len(table) < 200
    assert np.all((table["ra"] > 351.5) & (table["ra"] < 351.8))
    assert np.median(table["mag_err"]) < 0.1
