"""One row for each DIAObject, its light curve as lists in it: parquet, as nested-pandas, LSDB and polars read it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diaflow.lightcurves.curves import COLUMNS, LightCurves
from diaflow.store import provenance, tables
from diaflow.store.files import replacing

OPTIONS = {}
HAS_FLAGS = True
NESTED = "lightcurve"  # the column
OF_OBJECT = ("diaObjectId", "ra", "dec")  # of the points: the row has them already


def table(curves: LightCurves) -> pa.Table:
    """The DIAObjects, with a struct of lists of equal lengths.

    Parameters
    ----------
    curves : LightCurves

    Returns
    -------
    pyarrow.Table
        The columns of "dia_object" and `lightcurve`; lists of objects without points are empty.
    """
    inner = tables.to_arrow("dia_forced_source", curves.points[[name for name in COLUMNS if name not in OF_OBJECT]])
    offsets = pa.array(curves.first.astype(np.int32))
    lists = [pa.ListArray.from_arrays(offsets, column.combine_chunks()) for column in inner.columns]
    fields = [pa.field(field.name, each.type, metadata=field.metadata) for field, each in zip(inner.schema, lists)]
    objects = tables.to_arrow("dia_object", curves.objects)
    said = {key.encode(): str(value).encode() for key, value in curves.metadata().items()}
    whole = objects.append_column(NESTED, pa.StructArray.from_arrays(lists, fields=fields))
    return whole.replace_schema_metadata(said | provenance.metadata())


def write(curves: LightCurves, folder: Path, options: dict) -> None:
    """Write light_curves.parquet.

    Parameters
    ----------
    curves : LightCurves
    folder : path
    options : dict
        None.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    with replacing(folder / "light_curves.parquet") as part:
        pq.write_table(table(curves), part, compression="zstd")
