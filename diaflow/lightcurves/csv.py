"""One CSV file of all points, for spreadsheets and everything else.

A CSV has no place for metadata: they are in the file metadata.json beside it.  Flags are 0 and 1: some readers take
"false" for a text, which is true.
"""

import json
from pathlib import Path

import pyarrow as pa
from pyarrow import csv

from diaflow.lightcurves.curves import LightCurves
from diaflow.store import tables
from diaflow.store.files import replacing, write_text

OPTIONS = {}
HAS_FLAGS = True


def write(curves: LightCurves, folder: Path, options: dict) -> None:
    """Write light_curves.csv and metadata.json.

    Parameters
    ----------
    curves : LightCurves
    folder : path
    options : dict
        None.

    Raises
    ------
    InputError
        When a file cannot be written.
    """
    table = tables.to_arrow("dia_forced_source", curves.points)
    numbers = pa.schema((field.name, pa.int8() if field.type == pa.bool_() else field.type) for field in table.schema)
    with replacing(folder / "light_curves.csv") as part:
        csv.write_csv(table.cast(numbers), part)
    write_text(json.dumps(curves.metadata(), indent=1) + "\n", folder / "metadata.json")
