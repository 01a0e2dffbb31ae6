"""Text tables of a catalogue, block by block: plain ones, ECSV, and TSV of VizieR with its line of units.

Values stay text, without the blanks around it: a column is a number, a date or sexagesimal where someone asks for it.
"""

import csv
import re
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diaflow.errors import InputError
from diaflow.refcat import astropymeta

BLOCK_BYTES = 1 << 24  # chosen
NULLS = ["", "nan", "NaN", "null", "NULL", "--", "-"]
ECSV = b"# %ECSV"


class Header(NamedTuple):
    """What stands above the rows.

    Attributes
    ----------
    names, units : list of str
    delimiter : str
        A blank stands for any number of blanks, but in ECSV.
    masks : dict or None
        Of ECSV, see `astropymeta.Description`.
    rows : bytes
        What was read of the rows.
    """

    names: list[str]
    units: list[str]
    delimiter: str
    masks: dict[str, str] | None
    rows: bytes


def header(file: BinaryIO) -> Header:
    """Read the header of a text table.

    Parameters
    ----------
    file : binary file
        Stands behind the header afterwards, and behind `Header.rows`.

    Returns
    -------
    Header

    Raises
    ------
    InputError
        When that of an ECSV file is not one.
    """
    comments, line = [], b""
    for line in file:
        if line.strip() and not line.lstrip().startswith(b"#"):
            break
        comments.append(line)
    if comments and comments[0].startswith(ECSV):
        return _ecsv_header(comments, line)
    return _plain_header(comments, line, file)


def blocks(file: BinaryIO, head: Header, names: set[str]) -> Iterator[dict[str, tuple[pa.Array, str]]]:
    """The rows behind a header in blocks.

    Parameters
    ----------
    file : binary file
    head : Header
    names : set of str
        Columns to read.

    Yields
    ------
    dict
        {name: (text, unit)}, null where there is no value.
    """
    from pyarrow import csv as arrow_csv

    units, masks = dict(zip(head.names, head.units)), head.masks or {}
    read = sorted(names | {masks[name] for name in names if name in masks})
    any_blanks = head.delimiter == " " and head.masks is None
    for rows in _whole_lines(head.rows, file):
        data = arrow_csv.read_csv(
            pa.BufferReader(_single_blanks(rows) if any_blanks else rows),
            arrow_csv.ReadOptions(column_names=head.names, use_threads=False),
            arrow_csv.ParseOptions(delimiter=head.delimiter),
            arrow_csv.ConvertOptions(include_columns=read, column_types=dict.fromkeys(read, pa.string())),
        )
        text = {name: _without_nulls(data[name].combine_chunks()) for name in read}
        for name in names & masks.keys():
            text[name] = astropymeta.without_masked(text[name], text[masks[name]])
        yield {name: (text[name], units[name]) for name in names}


def _plain_header(comments: list[bytes], line: bytes, file: BinaryIO) -> Header:
    """The names are the first line that is no comment or, where that one already holds numbers, the last comment."""
    words = [comment.strip(b"#\xef\xbb\xbf \t\r\n") for comment in comments]
    comment = next(filter(None, reversed(words)), b"")
    in_comment = bool(comment and re.match(rb"\s*[-+.\d]", line))
    text = (comment if in_comment else line).decode("utf-8-sig").strip("\r\n" if not in_comment else " \t\r\n")
    delimiter = next((mark for mark in ",\t;|" if mark in text), " ")
    names = _fields(text, delimiter)
    if in_comment:
        return Header(names, [""] * len(names), delimiter, None, line)
    # VizieR underlines its columns, with their units between the names and the lines.
    second, third = file.readline(), file.readline()
    for units, underline, rows in ((b"", second, third), (second, third, b"")):
        if re.fullmatch(rb"[-\s,;|]*-[-\s,;|]*", underline):
            return Header(names, _padded(_fields(units.decode(), delimiter), len(names)), delimiter, None, rows)
    return Header(names, [""] * len(names), delimiter, None, second + third)


def _ecsv_header(comments: list[bytes], line: bytes) -> Header:
    described = astropymeta.read([comment.decode().rstrip("\r\n")[2:] for comment in comments[1:]])
    names = next(csv.reader([line.decode().rstrip("\r\n")], delimiter=described.delimiter), [])
    if names != list(described.units):
        raise InputError(f"ECSV: the columns {', '.join(names)} are described as {', '.join(described.units)}")
    return Header(names, list(described.units.values()), described.delimiter, described.masks, b"")


def _fields(text: str, delimiter: str) -> list[str]:
    """The fields of a line of a plain text table."""
    if delimiter == " ":
        return [field.strip('"') for field in text.split()]
    return [field.strip() for field in next(csv.reader([text], delimiter=delimiter, skipinitialspace=True), [])]


def _padded(units: list[str], n: int) -> list[str]:
    return (units + [""] * n)[:n]


def _whole_lines(begin: bytes, file: BinaryIO) -> Iterator[bytes]:
    """Blocks of lines without comments: `begin` and what is left of the file."""
    rows = begin + file.read(BLOCK_BYTES)
    while rows:
        rows += file.readline()
        if b"#" in rows:
            rows = re.sub(rb"(?m)^[ \t]*#.*\n?", b"", rows)
        if rows and not rows.isspace():
            yield rows
        rows = file.read(BLOCK_BYTES)


def _without_nulls(text: pa.Array) -> pa.Array:
    """Text without the blanks around it, null where that says so."""
    text = pc.utf8_trim_whitespace(text)
    return pc.if_else(pc.is_in(text, pa.array(NULLS)), None, text)


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
