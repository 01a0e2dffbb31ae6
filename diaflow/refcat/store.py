"""The store: one parquet file whose row groups are HEALPix pixels, smaller ones where there are more stars.

The statistics of the file tell the box of each group in right ascension and declination; a reader opens only those
around its image.

Sorting is external: runs of rows are sorted in memory and put one behind the other into a temporary file, then each
group is gathered from its slice of every run.
"""

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diaflow.errors import InputError
from diaflow.sky import healpix, sphere
from diaflow.store import provenance, tables
from diaflow.store.files import replacing

TABLE = "refcat_store"
GROUP_ROWS = 40_000  # at most; fewer make the footer of the file long, more are read in vain around an image
RUN_ROWS = 500_000  # at least, of what is sorted in memory at a time: chosen
ORDER = 13  # pixels of 26 arcsec, numbers of 32 bits


def write(blocks: Iterable[np.ndarray], bands: Sequence[str], path: str | Path) -> int:
    """Write a store.

    Parameters
    ----------
    blocks : iterable of "refcat_store" tables
        With at least one row in all.
    bands : sequence of str
    path : path
        The file appears under its name only when it is complete.

    Returns
    -------
    int
        Number of rows.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    with replacing(path) as part, tempfile.TemporaryFile(dir=part.parent) as file:
        pixels = []
        for run in _runs(blocks):
            pixel = healpix.nested(run["ra"], run["dec"], ORDER).astype(np.uint32)
            order = np.argsort(pixel, kind="stable")
            pixels.append(pixel[order])
            file.write(run.take(order).tobytes())  # a tenth of the time of run[order]
        everything = np.sort(np.concatenate(pixels))
        dtype = tables.empty(TABLE, 0, bands).dtype
        with _writer(part, dtype, bands) as writer:
            for group in _merged(file, dtype, pixels, _first_pixels(everything)):
                arrays = [np.ascontiguousarray(group[name]) for name in dtype.names]
                writer.write_table(pa.table(arrays, schema=writer.schema), row_group_size=len(group))
    return len(everything)


def stars_around(path: str | Path, row: np.void, max_offset: float) -> np.ndarray:
    """The reference stars that may be on an image whose pointing is off by up to `max_offset` [arcsec].

    Parameters
    ----------
    path : path
        A store.
    row : row of the "exposure" table
    max_offset : float

    Returns
    -------
    "refcat" table

    Raises
    ------
    InputError
        As `read`.
    """
    radius = (np.hypot(row["nx"], row["ny"]) / 2 * row["pixel_scale"] + max_offset) / 3600
    return read(path, row["band"], row["ra"], row["dec"], radius, row["mjd"])


def read(path: str | Path, band: str, ra: float, dec: float, radius_deg: float, mjd: float) -> np.ndarray:
    """The reference stars within a circle.

    Parameters
    ----------
    path : path
        A store.
    band : str
        Band of the magnitudes.
    ra, dec, radius_deg : float
        Centre and radius of the circle [deg].
    mjd : float
        Date for which positions are wanted [MJD]; stars without proper motion stay where they are.

    Returns
    -------
    "refcat" table
        In the order of the store.

    Raises
    ------
    InputError
        When the store cannot be read or lacks the band.
    """
    columns = ["id", "ra", "dec", "pos_err", "pm_ra", "pm_dec", "epoch", "star", f"{band}_mag", f"{band}_mag_err"]
    try:
        with pq.ParquetFile(path) as file:
            if f"{band}_mag" not in file.schema_arrow.names:
                raise InputError(f"{path}: no magnitudes in band {band}")
            groups = np.flatnonzero(touched(group_boxes(file), ra, dec, radius_deg)).tolist()
            data = file.read_row_groups(groups, columns, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable reference catalogue ({error})") from error
    values = {name: data[name].to_numpy() for name in columns}
    inside = sphere.within(values["ra"], values["dec"], ra, dec, radius_deg)
    values = {name: column[inside] for name, column in values.items()}
    values["ra"], values["dec"] = sphere.moved(
        *(values[name] for name in ("ra", "dec", "pm_ra", "pm_dec")), mjd - values["epoch"]
    )
    values |= {"mag": values[f"{band}_mag"], "mag_err": values[f"{band}_mag_err"]}
    known = [name for name in tables.columns("refcat") if name in values]
    return tables.from_columns("refcat", **{name: values[name] for name in known})


def _runs(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Blocks put together to at least `RUN_ROWS` rows."""
    waiting = []
    for block in blocks:
        waiting.append(block)
        if sum(map(len, waiting)) >= RUN_ROWS:
            yield np.concatenate(waiting)
            waiting = []
    if waiting:
        yield np.concatenate(waiting)


def _first_pixels(pixels: np.ndarray) -> np.ndarray:
    """The first pixel of each group, for the sorted pixels of all rows: base pixels, cut into four where too full."""
    pixels = pixels.astype(np.int64)
    groups, coarse = [], np.arange(12)
    for order in range(ORDER + 1):
        first, width = coarse << 2 * (ORDER - order), 1 << 2 * (ORDER - order)
        n_rows = np.searchsorted(pixels, first + width) - np.searchsorted(pixels, first)
        full = (n_rows > GROUP_ROWS) & (order < ORDER)
        groups.append(first[~full & (n_rows > 0)])
        coarse = (4 * coarse[full][:, None] + np.arange(4)).ravel()
    return np.sort(np.concatenate(groups))


def _merged(file, dtype: np.dtype, pixels: list[np.ndarray], first_pixels: np.ndarray) -> Iterator[np.ndarray]:
    """Groups of rows in the order of their pixels.

    Parameters
    ----------
    file : binary file
        Runs of rows of `dtype`.
    pixels : list of arrays
        Of each run, sorted.
    first_pixels : array
        Of each group, sorted.
    """
    starts = np.cumsum([0, *map(len, pixels)])
    cuts = np.array([np.append(np.searchsorted(run, first_pixels), len(run)) for run in pixels])
    for group in range(len(first_pixels)):
        parts, of_rows = [], []
        for run in np.flatnonzero(cuts[:, group] < cuts[:, group + 1]):
            begin, end = cuts[run, group : group + 2]
            file.seek((starts[run] + begin) * dtype.itemsize)
            parts.append(np.frombuffer(file.read((end - begin) * dtype.itemsize), dtype))
            of_rows.append(pixels[run][begin:end])
        yield np.concatenate(parts).take(np.argsort(np.concatenate(of_rows), kind="stable"))


def _writer(path: Path, dtype: np.dtype, bands: Sequence[str]) -> pq.ParquetWriter:
    """A writer with statistics of positions, and with units and descriptions of the columns."""
    described = tables.columns(TABLE, bands)
    fields = [
        pa.field(
            name,
            pa.from_numpy_dtype(dtype[name]),
            metadata={key: str(described[name][key]) for key in described[name] if key != "type"},
        )
        for name in dtype.names
    ]
    numbers = [name for name in dtype.names if dtype[name].kind != "b"]
    return pq.ParquetWriter(
        path,
        pa.schema(fields, provenance.metadata()),
        compression="zstd",
        use_dictionary=False,
        use_byte_stream_split=numbers,
        write_statistics=["ra", "dec"],
    )


def group_boxes(file: pq.ParquetFile) -> np.ndarray:
    """The box on the sky of every row group of a stored catalogue.

    Parameters
    ----------
    file : ParquetFile
        With statistics of its columns ra and dec.

    Returns
    -------
    (4, n) array
        Smallest and largest right ascension, smallest and largest declination [deg].
    """
    where = [file.schema_arrow.get_field_index(name) for name in ("ra", "dec")]
    groups = [file.metadata.row_group(k) for k in range(file.num_row_groups)]
    limits = [[group.column(k).statistics for k in where] for group in groups]
    return np.array([(ra.min, ra.max, dec.min, dec.max) for ra, dec in limits]).T


def touched(boxes: np.ndarray, ra: float, dec: float, radius_deg: float) -> np.ndarray:
    """Whether boxes may reach into a circle.

    Parameters
    ----------
    boxes : (4, n) array
        As of `group_boxes` [deg].
    ra, dec, radius_deg : float
        The circle [deg].

    Returns
    -------
    (n,) bool array
    """
    ra_min, ra_max, dec_min, dec_max = boxes
    width = 180.0
    if abs(dec) + radius_deg < 90:
        width = np.degrees(np.arcsin(np.sin(np.radians(radius_deg)) / np.cos(np.radians(dec))))
    near = (dec_min <= dec + radius_deg) & (dec_max >= dec - radius_deg)
    turns = ra % 360 + np.array([[-360.0], [0.0], [360.0]])
    return near & ((ra_min <= turns + width) & (ra_max >= turns - width)).any(axis=0)
