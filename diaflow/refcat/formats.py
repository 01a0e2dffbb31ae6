"""Tables in FITS, parquet and text files, block by block, so that memory does not grow with the file.

A block is a dictionary of columns: their values and the unit that the file states, empty where it states none.
"""

import glob
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
from astropy.io import fits
from pyarrow import parquet

from diaflow.errors import InputError

Block = dict[str, tuple[np.ndarray, str]]

BLOCK_ROWS = 200_000  # chosen: a block of ten columns of 8 bytes has 16 MB
BLOCK_BYTES = 1 << 24  # of text, chosen
FITS_PADDING = 2880  # the length of FITS data is a multiple of this [byte]
FITS_SUFFIXES = (".fits", ".fit", ".fts")
NULLS = ["", "nan", "NaN", "null", "NULL", "--", "-"]
_UNREADABLE = (OSError, EOFError, zlib.error, UnicodeDecodeError, pa.ArrowException)


def paths(path: str) -> list[str]:
    """The files of a catalogue.

    Parameters
    ----------
    path : str
        A folder, whose FITS and parquet files count; a file; or a glob.

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
        files = [str(file) for file in Path(path).iterdir() if _suffix(file) in (*FITS_SUFFIXES, ".parquet")]
    else:
        files = [path] if Path(path).exists() else glob.glob(path, recursive=True)
    if not files:
        raise InputError(f"refcat.path: no reference catalogue {path}")
    return sorted(files)


def blocks(path: str | Path, names: set[str]) -> Iterator[Block]:
    """The columns `names` of a table in blocks of rows.

    Parameters
    ----------
    path : path
        .fits, .fit or .fts for the first binary table of a FITS file, .parquet, and anything else for text with a
        header line (commas, tabs, semicolons, bars or blanks between columns); .gz may follow, but for parquet.
    names : set of str

    Yields
    ------
    Block
        {name: (values, unit)}.

    Raises
    ------
    InputError
        When the file cannot be read or lacks a column.
    """
    path = Path(path)
    suffix = _suffix(path)
    try:
        if suffix in FITS_SUFFIXES:
            yield from _fits_blocks(path, names)
        elif suffix == ".parquet":
            yield from _parquet_blocks(path, names)
        else:
            yield from _text_blocks(path, names)
    except _UNREADABLE as error:
        raise InputError(str(error)) from error


def _suffix(path: Path) -> str:
    """The suffix of a file name in lower case, but for .gz."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix.lower()


def _open(path: Path) -> BinaryIO:
    return (gzip.open if path.suffix == ".gz" else open)(path, "rb")


def _check(names: set[str], present: Iterable[str]) -> None:
    """InputError where a column is missing."""
    present = list(present)
    missing = ", ".join(f"'{name}'" for name in sorted(names - set(present)))
    if missing:
        raise InputError(f"no column {missing} (there are: {', '.join(present)})")


def _fits_blocks(path: Path, names: set[str]) -> Iterator[Block]:
    with fits.open(path) as hdus:
        table = next((hdu for hdu in hdus if isinstance(hdu, fits.BinTableHDU)), None)
        if table is None:
            raise InputError("no binary table in the file")
        header, start = table.header, table.fileinfo()["datLoc"]
        _check(names, table.columns.names)
        units = {column.name: column.unit or "" for column in table.columns}
    row_bytes, n_rows = header["NAXIS1"], header["NAXIS2"]
    # A table of some rows alone: astropy would map or unpack the whole of it.
    header["PCOUNT"] = 0
    with _open(path) as file:
        file.seek(start)
        for first in range(0, n_rows, BLOCK_ROWS):
            header["NAXIS2"] = min(BLOCK_ROWS, n_rows - first)
            n_bytes = row_bytes * header["NAXIS2"]
            data = file.read(n_bytes)
            if len(data) < n_bytes:
                raise OSError(f"truncated: {n_rows} rows are announced")
            block = fits.BinTableHDU.fromstring(header.tostring().encode() + data + bytes(-n_bytes % FITS_PADDING))
            yield {name: (block.data[name], units[name]) for name in names}


def _parquet_blocks(path: Path, names: set[str]) -> Iterator[Block]:
    file = parquet.ParquetFile(path)
    schema = file.schema_arrow
    _check(names, schema.names)
    units = {name: (schema.field(name).metadata or {}).get(b"unit", b"").decode() for name in names}
    for batch in file.iter_batches(BLOCK_ROWS, columns=sorted(names), use_threads=False):
        yield {name: (batch[name].to_numpy(zero_copy_only=False), units[name]) for name in names}


def _text_blocks(path: Path, names: set[str]) -> Iterator[Block]:
    from pyarrow import csv

    with _open(path) as file:
        header, delimiter, begin = _header(file)
        _check(names, header)
        for rows in _whole_lines(begin, file):
            data = csv.read_csv(
                pa.BufferReader(_single_blanks(rows) if delimiter == " " else rows),
                csv.ReadOptions(column_names=header, use_threads=False),
                csv.ParseOptions(delimiter=delimiter),
                csv.ConvertOptions(include_columns=sorted(names), null_values=NULLS),
            )
            yield {name: (data[name].to_numpy(), "") for name in names}


def _header(file: BinaryIO) -> tuple[list[str], str, bytes]:
    """Column names and delimiter of a text table, and what was read of its rows.

    The header is the first line that is no comment or, where that one already holds numbers, the last comment.
    """
    comment, line = b"", b""
    for line in file:
        if line.strip() and not line.lstrip().startswith(b"#"):
            break
        comment = line.strip(b"#\xef\xbb\xbf \t\r\n") or comment
    in_comment = bool(comment and re.match(rb"\s*[-+.\d]", line))
    header = (comment if in_comment else line).decode("utf-8-sig").strip()
    delimiter = next((mark for mark in ",\t;|" if mark in header), " ")
    columns = [name.strip().strip('"') for name in header.split(None if delimiter == " " else delimiter)]
    return columns, delimiter, line if in_comment else b""


def _whole_lines(begin: bytes, file: BinaryIO) -> Iterator[bytes]:
    """Blocks of lines: `begin` and what is left of the file."""
    rows = begin + file.read(BLOCK_BYTES)
    while rows:
        rows += file.readline()
        if not rows.isspace():
            yield rows
        rows = file.read(BLOCK_BYTES)


def _single_blanks(rows: bytes) -> bytes:
    """Lines whose fields are separated by one blank each, with none at their ends."""
    text = np.frombuffer(rows.translate(bytes.maketrans(b"\t\r", b"  ")), np.uint8)
    blank = text == ord(" ")
    keep = ~blank
    keep[1:] |= blank[1:] & ~(blank | (text == ord("\n")))[:-1]
    text = text[keep]
    keep = np.ones(len(text), bool)
    keep[:-1] = (text[:-1] != ord(" ")) | (text[1:] != ord("\n"))
    return text[keep].tobytes()
