"""Typed tables: parquet files whose columns, types and units are declared in `schemas/`.

A table in memory is a numpy structured array: ``table["psfFlux"]`` is a column, ``table[good]`` selects rows.
"""

import functools
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diaflow.errors import InputError
from diaflow.store import provenance, yamltext
from diaflow.store.files import replacing

SCHEMAS = Path(__file__).parent / "schemas"
_BAND = "{band}"
_TYPES = {
    "bool": (np.bool_, pa.bool_()),
    "int32": (np.int32, pa.int32()),
    "int64": (np.int64, pa.int64()),
    "float32": (np.float32, pa.float32()),
    "float64": (np.float64, pa.float64()),
    "string": (object, pa.string()),
}


@functools.cache
def schema(name: str) -> dict[str, dict]:
    """The declared columns of a table.

    Parameters
    ----------
    name : str
        Of the table.

    Returns
    -------
    dict
        {type, unit, description} by column, in order.  A name that starts with ``{band}_`` stands for one column in
        each band; a column with an ``option`` is in tables that are made with it.
    """
    return yamltext.load((SCHEMAS / f"{name}.yaml").read_bytes())["columns"]


def columns(name: str, bands: Sequence[str] = (), options: Collection[str] = ()) -> dict[str, dict]:
    """The columns of a table with the per-band ones written out.

    Parameters
    ----------
    name : str
        Of the table.
    bands : sequence of str
    options : collection of str
        For which it has the columns.

    Returns
    -------
    dict
        {type, unit, description} by column.
    """
    declared = {
        column: entry for column, entry in schema(name).items() if entry.get("option", None) in {None, *options}
    }
    single = {column: entry for column, entry in declared.items() if not column.startswith(_BAND)}
    for band in bands:
        single |= {column.format(band=band): entry for column, entry in declared.items() if column.startswith(_BAND)}
    return single


def empty(name: str, n_rows: int = 0, bands: Sequence[str] = (), options: Collection[str] = ()) -> np.ndarray:
    """A table without values.

    Parameters
    ----------
    name : str
        Of the table.
    n_rows : int
    bands : sequence of str
        For which it has the per-band columns.
    options : collection of str
        For which it has the columns.

    Returns
    -------
    (n_rows,) structured array
        Floats NaN, integers 0, booleans False, strings empty.
    """
    declared = columns(name, bands, options)
    table = np.zeros(n_rows, [(column, _TYPES[entry["type"]][0]) for column, entry in declared.items()])
    for column, entry in declared.items():
        if entry["type"].startswith("float"):
            table[column] = np.nan
        elif entry["type"] == "string":
            table[column] = ""
    return table


def from_columns(name: str, bands: Sequence[str] = (), /, **values: np.ndarray) -> np.ndarray:
    """A table from columns.

    Parameters
    ----------
    name : str
        Of the table.
    bands : sequence of str
        For which it has the per-band columns.
    **values : arrays or scalars
        By column; the others stay empty, and scalars fill all rows.

    Returns
    -------
    structured array

    Raises
    ------
    KeyError
        When the table has no such column.
    """
    n_rows = max((len(value) for value in values.values() if np.ndim(value)), default=1)
    table = empty(name, n_rows, bands)
    for column, value in values.items():
        if column not in table.dtype.names:
            raise KeyError(f"table {name} has no column {column}")
        table[column] = value
    return table


def from_rows(name: str, rows: Sequence[tuple]) -> np.ndarray:
    """A table without per-band columns from its rows.

    Parameters
    ----------
    name : str
        Of the table.
    rows : sequence of tuples
        In the order of its columns, as ``table.tolist()`` gives them.

    Returns
    -------
    structured array
    """
    return np.array(rows, empty(name).dtype)


def write(name: str, table: np.ndarray, path: str | Path, note: str = "") -> None:
    """Write a table to parquet; the file appears under its name only when it is complete.

    Parameters
    ----------
    name : str
        Of the table.
    table : structured array
    path : path
    note : str
        Kept in the file, see the function `note`.

    Raises
    ------
    KeyError
        When the table's columns are not exactly those declared for `name`.
    InputError
        When the file cannot be written.
    """
    names = table.dtype.names or ()
    declared = columns(name, _bands(name, names), options_of(name, names))
    if set(names) != set(declared):
        raise KeyError(f"table {name}: columns differ from the schema in {sorted(set(names) ^ set(declared))}")
    whole = to_arrow(name, table).replace_schema_metadata({b"note": note.encode()} | provenance.metadata())
    with replacing(path) as part:
        pq.write_table(whole, part, compression="zstd")


def to_arrow(name: str, table: np.ndarray) -> pa.Table:
    """A table, or some columns of it, as parquet files have it, with units and descriptions.

    Parameters
    ----------
    name : str
        Of the table.
    table : structured array

    Returns
    -------
    pyarrow.Table
        The declared columns that there are, in their order.
    """
    names = table.dtype.names or ()
    declared = columns(name, _bands(name, names), options_of(name, names))
    present = {column: entry for column, entry in declared.items() if column in names}
    fields = [pa.field(c, _TYPES[e["type"]][1], metadata=_field_metadata(e)) for c, e in present.items()]
    arrays = [pa.array(np.ascontiguousarray(table[c]), _TYPES[e["type"]][1]) for c, e in present.items()]
    return pa.table(arrays, schema=pa.schema(fields))


def write_visits(name: str, table: np.ndarray, paths: Sequence[str | Path]) -> None:
    """Write the rows of each visit to the file that is named after the visit.

    Parameters
    ----------
    name : str
        Of the table.
    table : structured array
        With a column `visit`.
    paths : sequence of paths
        {visit}.parquet; rows of other visits are not written.

    Raises
    ------
    KeyError, InputError
        As `write`.
    """
    for path in paths:
        write(name, table[table["visit"] == int(Path(path).stem)], path)


def read(name: str, path: str | Path, only: Sequence[str] | None = None) -> np.ndarray:
    """Read a table.

    Parameters
    ----------
    name : str
        Of the table.
    path : path
    only : sequence of str, optional
        Columns to read; all by default.

    Returns
    -------
    structured array

    Raises
    ------
    InputError
        When the file is missing, truncated or lacks a declared column; the message names it.
    """
    try:
        file = pq.ParquetFile(path)
        present = file.schema_arrow.names
        declared = columns(name, _bands(name, present), options_of(name, present))
        wanted = list(only or declared)
        missing = set(wanted) - set(present)
        if missing:
            raise InputError(f"{path}: table {name} lacks the columns {sorted(missing)}")
        data = file.read(columns=wanted)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a readable parquet table ({error})") from error
    table = np.zeros(data.num_rows, [(c, _TYPES[declared[c]["type"]][0]) for c in wanted])
    for column in wanted:
        table[column] = data[column].to_numpy()
    return table


def note(path: str | Path) -> str:
    """The note that a table was written with.

    Parameters
    ----------
    path : path

    Returns
    -------
    str
        Empty where the file cannot be read.
    """
    try:
        return (pq.read_schema(path).metadata or {}).get(b"note", b"").decode()
    except (OSError, pa.ArrowException):
        return ""


def concatenate(name: str, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Tables of one kind under each other.

    Parameters
    ----------
    name : str
        Of the table.
    parts : sequence of structured arrays

    Returns
    -------
    structured array
        With columns for the bands and options of all parts; without rows for no parts.
    """
    bands = sorted({band for part in parts for band in _bands(name, part.dtype.names)})
    options = {option for part in parts for option in options_of(name, part.dtype.names)}
    stacked = [empty(name, len(part), bands, options) for part in parts]
    for whole, part in zip(stacked, parts):
        for column in part.dtype.names:
            whole[column] = part[column]
    return np.concatenate([empty(name, 0, bands, options), *stacked])


def bands(name: str, table: np.ndarray) -> list[str]:
    """The bands that a table has columns for.

    Parameters
    ----------
    name : str
        Of the table.
    table : structured array

    Returns
    -------
    list of str
        In the order of the columns.
    """
    return _bands(name, table.dtype.names)


def options_of(name: str, names: Collection[str]) -> set[str]:
    """The options that a table is made with.

    Parameters
    ----------
    name : str
        Of the table.
    names : collection of str
        Its columns.

    Returns
    -------
    set of str
    """
    of_bands = columns(name, _bands(name, names), {entry.get("option") for entry in schema(name).values()})
    return {entry["option"] for column, entry in of_bands.items() if "option" in entry and column in names}


def _bands(name: str, names: Sequence[str]) -> list[str]:
    """The bands among the names of the columns of a table."""
    suffix = next((column.removeprefix(_BAND) for column in schema(name) if column.startswith(_BAND)), None)
    return [column.removesuffix(suffix) for column in names if column.endswith(suffix)] if suffix else []


def _field_metadata(entry: dict) -> dict[str, str]:
    return {key: str(entry[key]) for key in ("unit", "description") if key in entry}
