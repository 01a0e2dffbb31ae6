"""Reference catalogues: the same stars from every format, and errors that name what is wrong."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

from diaflow import refcat
from diaflow.errors import InputError

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
    return {
        "path": str(path),
        "id": "num",
        "ra": "lon",
        "dec": "lat",
        "bands": {"r": "rmag"},
        "errors": {"r": "rerr"},
        "keep": {"star": 1},
    } | changes


def write(columns, path):
    if ".fit" in path.name:
        kinds = {"i": "K", "f": "D", "U": "10A"}
        table = [fits.Column(name, kinds[value.dtype.kind], array=value) for name, value in columns.items()]
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
    table = refcat.read(configuration(write(columns, tmp_path / name)), "r", 359.8, 0.5, 1.5)
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
    table = refcat.read(configuration(write(columns, tmp_path / name)), "r", 0.0, 0.0, 10.0)
    assert len(table) == N
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(table["mag"])), np.arange(5))
    np.testing.assert_array_equal(np.flatnonzero(np.isnan(table["mag_err"])), np.arange(5, 8))
    np.testing.assert_allclose(table["mag"][5:], columns["rmag"][5:], rtol=1e-6)


@pytest.mark.parametrize("name", ["a.fits", "a.parquet", "a.csv"])
def test_stars_are_selected_by_text_and_by_several_columns(name, columns, tmp_path):
    settings = configuration(write(columns, tmp_path / name), keep={"kind": "STAR", "star": 1})
    table = refcat.read(settings, "r", 0.0, 0.0, 10.0)
    np.testing.assert_array_equal(table["star"], (columns["kind"] == "STAR") & (columns["star"] == 1))


def test_without_keep_and_errors_all_rows_are_stars_of_unknown_error(columns, tmp_path):
    table = refcat.read(configuration(write(columns, tmp_path / "a.csv"), keep={}, errors={}), "r", 0.0, 0.0, 10.0)
    assert table["star"].all()
    assert np.isnan(table["mag_err"]).all()


def test_circle_reaches_over_the_pole(columns, tmp_path):
    columns["lon"], columns["lat"] = np.linspace(0, 359, N), np.full(N, 89.5)
    table = refcat.read(configuration(write(columns, tmp_path / "a.parquet")), "r", 10.0, 89.9, 0.7)
    assert len(table) == N


def test_negative_and_wrapped_right_ascensions_are_the_same(columns, tmp_path):
    negative = refcat.read(configuration(write(columns, tmp_path / "a.parquet")), "r", 359.5, 0.0, 1.0)
    columns["lon"] = columns["lon"] % 360
    wrapped = refcat.read(configuration(write(columns, tmp_path / "b.parquet")), "r", -0.5, 0.0, 1.0)
    np.testing.assert_array_equal(negative["id"], wrapped["id"])
    assert len(negative) > 10


@pytest.mark.parametrize("name", ["a.fits", "a.parquet", "a.csv"])
def test_missing_column_is_named_with_what_is_there(name, columns, tmp_path):
    path = write(columns, tmp_path / name)
    with pytest.raises(InputError, match=rf"{name}: no column 'RAJ2000' \(there are: num, lon, lat, rmag"):
        refcat.read(configuration(path, ra="RAJ2000"), "r", 0.0, 0.0, 1.0)


def test_band_without_a_column_is_named_with_the_bands_there_are(columns, tmp_path):
    path = write(columns, tmp_path / "a.csv")
    with pytest.raises(InputError, match=r"band i \(there are: g, r\)"):
        refcat.read(configuration(path, bands={"g": "rmag", "r": "rmag"}), "i", 0.0, 0.0, 1.0)


@pytest.mark.parametrize("name", ["none.fits", "none.parquet", "none.csv", "none.csv.gz"])
def test_missing_file_is_named(name, tmp_path):
    with pytest.raises(InputError, match=name):
        refcat.read(configuration(tmp_path / name), "r", 0.0, 0.0, 1.0)


@pytest.mark.parametrize("name", ["bad.fits", "bad.fits.gz", "bad.parquet", "bad.csv.gz", "bad.csv"])
def test_file_of_another_kind_is_named(name, tmp_path):
    (tmp_path / name).write_bytes(b"\x89PNG nothing of the kind\xff\n" * 200)
    with pytest.raises(InputError, match=name):
        refcat.read(configuration(tmp_path / name), "r", 0.0, 0.0, 1.0)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz", "a.parquet", "a.csv.gz"])
def test_truncated_file_is_named(name, columns, tmp_path):
    path = write(columns, tmp_path / name)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(InputError, match=name):
        refcat.read(configuration(path), "r", 0.0, 0.0, 10.0)


def test_text_where_numbers_belong_is_named(columns, tmp_path):
    path = write(columns, tmp_path / "a.csv")
    with pytest.raises(InputError, match="'kind' is not numeric"):
        refcat.read(configuration(path, bands={"r": "kind"}), "r", 0.0, 0.0, 1.0)
    with pytest.raises(InputError, match="'kind' must hold integers"):
        refcat.read(configuration(path, id="kind"), "r", 0.0, 0.0, 1.0)


def test_real_catalogue_of_the_sdss_stripe_has_the_stars_of_a_frame(shared):
    path = shared / "sdss_stripe82_r" / "refcat_stars.fits"
    settings = {
        "path": str(path),
        "id": "id",
        "ra": "ra",
        "dec": "dec",
        "bands": {"r": "r"},
        "errors": {"r": "r_err"},
        "keep": {"starnotgal": 1},
    }
    table = refcat.read(settings, "r", 351.65, 0.10, 0.1)
    assert 50 < len(table) < 200
    assert np.all((table["ra"] > 351.5) & (table["ra"] < 351.8))
    assert np.median(table["mag_err"]) < 0.1
