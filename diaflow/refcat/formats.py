"""Tables in FITS (LDAC too), parquet, VOTable and text files, block by block.

A block is a dictionary of columns: their values and the unit that the file states, empty where it states none.  What a
file is, its first bytes say.  Memory does not grow with the file, but for VOTables, which astropy reads at once.
"""

import gzip
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from astropy.io import fits
from pyarrow import parquet

from diaflow.errors import InputError
from diaflow.refcat import astropymeta, textfiles
from diaflow.store.files import existing

Block = dict[str, tuple[np.ndarray | pa.Array, str]]

BLOCK_ROWS = 200_000  # chosen: a block of ten columns of 8 bytes has 16 MB
FITS_PADDING = 2880  # the length of FITS data is a multiple of this [byte]
SUFFIXES = (".fits", ".fit", ".fts", ".parquet")  # that count in a folder
GZIP = b"\x1f\x8b"
DESCRIPTION = b"table_meta_yaml"  # of the columns, in parquet files of astropy
VOTABLE = b"IVOA.VOTable-Parquet.content"  # the same as a VOTable without rows (VOParquet convention 1.0)


def paths(path: str, key: str = "refcat.path") -> list[str]:
    """The files of a catalogue.

    Parameters
    ----------
    path : str
        A folder, whose FITS and parquet files count; a file; or a glob.
    key : str
        Of the configuration that has the path.

    Returns
    -------
    list of str
        In the order of the alphabet.

    Raises
    ------
    InputError
        When there are none.
    """
    if Path(path).is_dir():
        files = [str(file) for file in Path(path).iterdir() if file.name.lower().removesuffix(".gz").endswith(SUFFIXES)]
        if not files:
            raise InputError(f"{key}: no file of a catalogue in the folder {Path(path).absolute()}")
        return sorted(files)
    return existing(path, key)


def blocks(path: str | Path, names: set[str]) -> Iterator[Block]:
    """The columns `names` of a table in blocks of rows.

    Parameters
    ----------
    path : path
        FITS, parquet, VOTable, ECSV, TSV of VizieR or other text with a header line (commas, tabs, semicolons, bars or
        blanks between columns), also compressed with gzip, but for parquet.
    names : set of str

    Yields
    ------
    Block
        {name: (values, unit)}.

    Raises
    ------
    InputError
        When the file cannot be read, lacks a column, or has several tables with these columns.
    """
    path = Path(path)
    try:
        with _open(path) as file:
            begin = file.read(len(b"<VOTABLE"))
            file.seek(0)
            if begin.startswith(b"SIMPLE"):
                yield from _fits_blocks(path, file, names)
            elif begin.startswith(b"PAR1"):
                yield from _parquet_blocks(path, names)
            elif begin.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
                yield from _votable_blocks(file, names)
            else:
                head = textfiles.header(file)
                _check(names, head.names)
                yield from textfiles.blocks(file, head, names)
    except (InputError, MemoryError):
        raise
    except Exception as error:  # whatever the libraries make of a damaged file
        raise InputError(f"cannot be read ({' '.join(str(error).split())})") from error


def _open(path: Path) -> BinaryIO:
    """A file, unpacked where it is compressed."""
    with open(path, "rb") as file:
        packed = file.read(len(GZIP)) == GZIP
    return (gzip.open if packed else open)(path, "rb")


def _check(names: set[str], present: Iterable[str]) -> None:
    """InputError where a column is missing, or there are two of its name."""
    number = Counter(present)
    missing = ", ".join(f"'{name}'" for name in sorted(names - set(number)))
    if missing:
        raise InputError(f"no column {missing} (there are: {', '.join(number)})")
    doubled = ", ".join(f"'{name}'" for name in sorted(names) if number[name] > 1)
    if doubled:
        raise InputError(f"more than one column {doubled}")


def _only(names: set[str], tables: dict[str, list[str]]) -> str:
    """The one table of a file that has the columns, of {table: its columns}."""
    if not tables:
        raise InputError("no table in the file")
    fitting = [table for table, present in tables.items() if names <= set(present)]
    if len(fitting) > 1:
        raise InputError(f"tables {', '.join(fitting)} all have these columns: a file of one of them is needed")
    table = fitting[0] if fitting else max(tables, key=lambda table: len(names & set(tables[table])))
    _check(names, tables[table])
    return table


def _fits_blocks(path: Path, file: BinaryIO, names: set[str]) -> Iterator[Block]:
    with fits.open(path) as hdus:
        found = {f"{k} {hdu.name}".strip(): hdu for k, hdu in enumerate(hdus) if isinstance(hdu, fits.BinTableHDU)}
        table = found[_only(names, {label: hdu.columns.names for label, hdu in found.items()})]
        header, start = table.header, table.fileinfo()["datLoc"]
        columns = {column.name: column for column in table.columns if column.name in names}
    for name, column in columns.items():
        if column.format.format in "PQ":
            raise InputError(f"column '{name}' has a varying number of values per row")
    row_bytes, n_rows = header["NAXIS1"], header["NAXIS2"]
    # A table of some rows alone: astropy would map or unpack the whole of it.
    header["PCOUNT"] = 0
    file.seek(start)
    for first in range(0, n_rows, BLOCK_ROWS):
        header["NAXIS2"] = min(BLOCK_ROWS, n_rows - first)
        n_bytes = row_bytes * header["NAXIS2"]
        data = file.read(n_bytes)
        if len(data) < n_bytes:
            raise InputError(f"truncated: {n_rows} rows are announced")
        padded = data + bytes(-n_bytes % FITS_PADDING)
        block = fits.BinTableHDU.fromstring(header.tostring().encode() + padded, uint=True)
        yield {name: (_fits_values(block.data, column), column.unit or "") for name, column in columns.items()}


def _fits_values(data: fits.FITS_rec, column: fits.Column) -> np.ndarray | pa.Array:
    """The values of a column, null where they are what TNULL says."""
    values = data[column.name]
    if column.null is None:
        return values
    stored = np.rec.recarray.field(data, column.name)
    return pa.array(values.astype(values.dtype.newbyteorder("=")), mask=stored == column.null)


def _parquet_blocks(path: Path, names: set[str]) -> Iterator[Block]:
    file = parquet.ParquetFile(path)
    schema = file.schema_arrow
    _check(names, schema.names)
    stated = schema.metadata or {}
    units = {name: (schema.field(name).metadata or {}).get(b"unit", b"").decode() for name in names}
    masks = {}
    if DESCRIPTION in stated:
        described = astropymeta.read(stated[DESCRIPTION].decode().splitlines())
        masks = {name: mask for name, mask in described.masks.items() if name in names}
        units = {name: unit or described.units.get(name, "") for name, unit in units.items()}
    if VOTABLE in stated:
        (table,) = _votable(pa.BufferReader(stated[VOTABLE])).iter_tables()
        units |= {name: unit for name, unit in _votable_units(table).items() if name in names}
    for batch in file.iter_batches(BLOCK_ROWS, columns=sorted(names | set(masks.values())), use_threads=False):
        values = {name: batch[name] for name in names}
        for name, mask in masks.items():
            values[name] = astropymeta.without_masked(values[name], batch[mask])
        yield {name: (values[name], units[name]) for name in names}


def _votable_blocks(file: BinaryIO, names: set[str]) -> Iterator[Block]:
    tables = {f"{k} {table.name or ''}".strip(): table for k, table in enumerate(_votable(file).iter_tables(), 1)}
    table = tables[_only(names, {label: [field.name for field in table.fields] for label, table in tables.items()})]
    units = _votable_units(table)
    keys = {field.name: field.ID for field in table.fields if field.name in names}
    yield {name: (_votable_values(table.array[key]), units[name]) for name, key in keys.items()}


def _votable(file: BinaryIO):
    from astropy.io import votable

    return votable.parse(file)


def _votable_units(table) -> dict[str, str]:
    return {field.name: field.unit.to_string() if field.unit is not None else "" for field in table.fields}


def _votable_values(values: np.ma.MaskedArray) -> np.ndarray | pa.Array:
    if values.ndim > 1:
        return values.data
    return pa.array(values.data, mask=np.ma.getmaskarray(values))
