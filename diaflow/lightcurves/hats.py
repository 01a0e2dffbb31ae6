"""HATS catalogue: the rows of `nested_parquet` in files of equal HEALPix pixels, as LSDB and hats read them.

One order of pixels for the whole sky, rows sorted by `_healpix_29`, the nested pixel at order 29
(HATS, astronomy-commons/hats).  No package beyond pyarrow is needed to write it.
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from diaflow.lightcurves import nested_parquet
from diaflow.lightcurves.curves import LightCurves
from diaflow.sky import healpix
from diaflow.store.files import replacing, write_text

OPTIONS = {}
HAS_FLAGS = True
CATALOGUE = "light_curves"
INDEX, INDEX_ORDER = "_healpix_29", 29  # the column that HATS sorts by
ORDER = 5  # of the files: pixels of 1.8 degrees, in which a field of one camera is a few files
PER_FOLDER = 10000  # pixels of a folder Dir=...


def write(curves: LightCurves, folder: Path, options: dict) -> None:
    """Write the catalogue light_curves.

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
    fine = healpix.nested(curves.objects["ra"], curves.objects["dec"], INDEX_ORDER)
    order = np.argsort(fine, kind="stable")
    fine = fine[order]
    table = nested_parquet.table(curves)
    table = table.take(order).add_column(0, INDEX, pa.array(fine)).replace_schema_metadata(table.schema.metadata)
    pixels, first = np.unique(fine >> 2 * (INDEX_ORDER - ORDER), return_index=True)
    dataset, parts = folder / CATALOGUE / "dataset", []
    for pixel, begin, end in zip(pixels, first, [*first[1:], len(fine)]):
        name = f"Norder={ORDER}/Dir={pixel // PER_FOLDER * PER_FOLDER}/Npix={pixel}.parquet"
        with replacing(dataset / name) as part:
            pq.write_table(table[begin:end], part, compression="zstd", metadata_collector=parts)
        parts[-1].set_file_path(name)
    with replacing(dataset / "_common_metadata") as part:
        pq.write_metadata(table.schema, part)
    with replacing(dataset / "_metadata") as part:
        pq.write_metadata(table.schema, part, metadata_collector=parts)
    lines = ["Norder,Npix", *(f"{ORDER},{pixel}" for pixel in pixels)]
    write_text("\n".join(lines) + "\n", folder / CATALOGUE / "partition_info.csv")
    write_text(properties(len(fine)), folder / CATALOGUE / "hats.properties")


def properties(rows: int) -> str:
    """What HATS asks a catalogue to say of itself.

    Parameters
    ----------
    rows : int
        Number of objects.

    Returns
    -------
    str
        Lines of key=value.
    """
    said = {
        "obs_collection": CATALOGUE,
        "dataproduct_type": "object",
        "hats_nrows": rows,
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        "hats_col_healpix": INDEX,
        "hats_col_healpix_order": INDEX_ORDER,
        "hats_order": ORDER,
        "hats_npix_suffix": ".parquet",
        "hats_version": "v1.0",
    }
    return "".join(f"{key}={value}\n" for key, value in said.items())
