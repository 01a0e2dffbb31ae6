"""Reference catalogues: the stars of a FITS, parquet or text file within a circle on the sky.

In comes the `refcat` section of the configuration, which names the file and its columns; out goes a "refcat"
table with AB magnitudes in one band.  A row without a credible magnitude keeps its position: it serves the
astrometry, not the photometry.
"""

import gzip
import io
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
from astropy.io import fits
from pyarrow import parquet

from diaflow import tables
from diaflow.errors import InputError

# Outside of these, a number is a code for "not measured" (0, 99, -99, -9999, ...).
CREDIBLE_MAG = (0.0, 40.0)
CREDIBLE_ERROR = (0.0, 5.0)


def read(config_refcat: dict, band: str, ra: float, dec: float, radius_deg: float) -> np.ndarray:
    """The reference stars within a circle.

    Parameters
    ----------
    config_refcat : dict
        Keys path, id, ra, dec, bands, errors and keep, as in the configuration.  The path ends in .fits, .fit or
        .fts, in .parquet, or in anything else for text with a header line (commas, tabs, semicolons, bars or
        blanks between columns); .gz may follow, but for parquet.  Right ascensions may be 0..360 or -180..180.
    band : str
        Band of the magnitudes.
    ra, dec, radius_deg : float
        Centre and radius of the circle [deg].

    Returns
    -------
    structured array
        A "refcat" table, in the order of the file.  `mag` is NaN where it is not credible, `star` is whether the
        row has every value that `keep` asks for.

    Raises
    ------
    InputError
        When the file cannot be read, a column is missing or not numeric, or the band has no column.
    """
    path = Path(config_refcat["path"])
    mag = config_refcat["bands"].get(band)
    if mag is None:
        known = ", ".join(config_refcat["bands"]) or "none"
        raise InputError(f"refcat.bands: no column of {path} is named for band {band} (there are: {known})")
    mag_err = (config_refcat.get("errors") or {}).get(band)
    keep = config_refcat.get("keep") or {}
    identifier, ra_name, dec_name = (config_refcat.get(key, key) for key in ("id", "ra", "dec"))
    get = _columns(path, {identifier, ra_name, dec_name, mag, *keep} | ({mag_err} if mag_err else set()))

    all_ra, all_dec = _floats(get, path, ra_name), _floats(get, path, dec_name)
    rows = _inside(all_ra, all_dec, ra, dec, radius_deg)
    errors = _floats(get, path, mag_err, rows) if mag_err else np.full(len(rows), np.nan)
    star = np.ones(len(rows), bool)
    for name, value in keep.items():
        star &= _equal(get(name)[rows], value)
    return tables.from_columns(
        "refcat",
        id=_identifiers(get, path, identifier, rows),
        ra=all_ra[rows] % 360,
        dec=all_dec[rows],
        mag=_credible(_floats(get, path, mag, rows), *CREDIBLE_MAG),
        mag_err=_credible(errors, *CREDIBLE_ERROR),
        star=star,
    )


def _inside(all_ra: np.ndarray, all_dec: np.ndarray, ra: float, dec: float, radius_deg: float) -> np.ndarray:
    """Indices of the positions within the circle; the haversine is exact for small angles and at the poles."""
    near = np.flatnonzero(np.abs(all_dec - dec) <= radius_deg)
    lon, lat = np.deg2rad(all_ra[near] - ra), np.deg2rad(all_dec[near])
    lat0 = np.deg2rad(dec)
    haversine = np.sin((lat - lat0) / 2) ** 2 + np.cos(lat) * np.cos(lat0) * np.sin(lon / 2) ** 2
    return near[haversine <= np.sin(np.deg2rad(min(radius_deg, 180)) / 2) ** 2]


def _credible(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.where((values > low) & (values < high), values, np.nan)


def _equal(column: np.ndarray, value: object) -> np.ndarray:
    if isinstance(value, str):
        return np.array([str(entry).strip() == value for entry in column.tolist()], bool)
    return np.asarray(column == value) & np.ones(len(column), bool)


def _floats(get: Callable, path: Path, name: str, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
    try:
        return np.asarray(get(name)[rows], np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"reference catalogue {path}: column '{name}' is not numeric ({error})") from error


def _identifiers(get: Callable, path: Path, name: str, rows: np.ndarray) -> np.ndarray:
    column = get(name)[rows]
    # Text would be parsed and a float rounded without a word: both are refused.
    if column.dtype.kind not in "iu":
        raise InputError(f"reference catalogue {path}: column '{name}' must hold integers for refcat.id")
    return column.astype(np.int64)


def _columns(path: Path, names: set[str]) -> Callable[[str], np.ndarray]:
    """A function that gives the columns of the file by name; only `names` are read."""
    suffix = (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()
    try:
        if suffix in (".fits", ".fit", ".fts"):
            return _fits_columns(path, names)
        return _parquet_columns(path, names) if suffix == ".parquet" else _text_columns(path, names)
    except (OSError, EOFError, UnicodeDecodeError, pa.ArrowException) as error:
        raise InputError(f"reference catalogue {path}: {error}") from error


def _check(path: Path, names: set[str], present: Iterable[str]) -> None:
    present = list(present)
    missing = ", ".join(f"'{name}'" for name in sorted(names - set(present)))
    if missing:
        raise InputError(f"reference catalogue {path}: no column {missing} (there are: {', '.join(present)})")


def _fits_columns(path: Path, names: set[str]) -> Callable[[str], np.ndarray]:
    with fits.open(path) as hdus:
        table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
        if table is None:
            raise InputError(f"reference catalogue {path}: no binary table in the file")
        _check(path, names, table.columns.names)
        try:
            return table.data.field
        except (TypeError, ValueError) as error:  # what astropy raises for a file that ends early
            raise OSError(f"truncated ({error})") from error


def _parquet_columns(path: Path, names: set[str]) -> Callable[[str], np.ndarray]:
    file = parquet.ParquetFile(path)
    _check(path, names, file.schema_arrow.names)
    data = file.read(columns=sorted(names))
    return lambda name: data[name].to_numpy()


def _text_columns(path: Path, names: set[str]) -> Callable[[str], np.ndarray]:
    from pyarrow import csv

    with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
        header, delimiter, body = _split_header(file.read())
    _check(path, names, header)
    data = csv.read_csv(
        io.BytesIO(body),
        csv.ReadOptions(column_names=header),
        csv.ParseOptions(delimiter=delimiter),
        csv.ConvertOptions(include_columns=sorted(names), null_values=["", "nan", "NaN", "null", "NULL", "--", "-"]),
    )
    return lambda name: data[name].to_numpy()


def _split_header(text: bytes) -> tuple[list[str], str, bytes]:
    """Column names, delimiter and rows of a text table.

    The header is the first line that is no comment or, where that one already holds numbers, the last comment.
    """
    top = re.match(rb"(?:[ \t]*#[^\n]*\n|[ \t]*\r?\n)*", text).group()
    comments, body = top.decode().split("#")[1:], text[len(top) :]
    first, _, rest = body.partition(b"\n")
    if comments and re.match(rb"\s*[-+.\d]", first):
        header, rest = comments[-1].strip(), body
    else:
        header = first.decode()
    delimiter = next((mark for mark in ",\t;|" if mark in header), " ")
    if delimiter == " ":
        rest = re.sub(rb"(?m)^[ \t]+|[ \t\r]+$", b"", rest)
        rest = re.sub(rb"[ \t]+", b" ", rest)
    return [name.strip().strip('"') for name in header.split(None if delimiter == " " else delimiter)], delimiter, rest
