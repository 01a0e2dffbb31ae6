"""One VOTable of all points, as TOPCAT and Aladin read it: units, UCDs, time scale, metadata as parameters."""

import base64
import io
from pathlib import Path

import numpy as np
from astropy.io.votable import from_table
from astropy.io.votable.tree import Param, TimeSys
from astropy.table import Table

from diaflow.lightcurves.curves import LightCurves
from diaflow.store import tables
from diaflow.store.files import replacing

OPTIONS = {}
HAS_FLAGS = True

# Unified content descriptors (IVOA UCD list 1.5).
UCDS = {
    "diaForcedSourceId": "meta.id",
    "diaObjectId": "meta.id.parent",
    "ra": "pos.eq.ra",
    "dec": "pos.eq.dec",
    "visit": "meta.id;obs.exposure",
    "detector": "meta.id;instr.det",
    "band": "meta.id;instr.filter",
    "midpointMjdTai": "time.epoch;obs.exposure",
    "psfFlux": "phot.flux;em.opt",
    "psfFluxErr": "stat.error;phot.flux;em.opt",
    "pixelFlags": "meta.code.error",
    "visitInTemplate": "meta.code",
}
VERSION = "1.4"  # the first with time systems
HAS_TIME_SYSTEMS = {"version_1_4_or_later": True}  # in astropy's words
MJD_ORIGIN = 2400000.5  # Julian date of MJD 0


def write(curves: LightCurves, folder: Path, options: dict) -> None:
    """Write light_curves.vot.

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
    points = _packed(curves.points)
    table, declared = Table(points[:0]), tables.schema("dia_forced_source")
    for name in table.colnames:
        table[name].unit, table[name].description = declared[name].get("unit"), declared[name]["description"]
    document = from_table(table)
    document.version = VERSION
    written = document.get_first_table()
    document.resources[0].time_systems.append(
        TimeSys(ID="tai", timeorigin=MJD_ORIGIN, timescale="TAI", refposition="TOPOCENTER", config=HAS_TIME_SYSTEMS)
    )
    written.name = "light_curves"
    for field in written.fields:
        field.ucd = UCDS[field.name]
        if field.datatype == "bit":  # what astropy makes of booleans
            field.datatype = "boolean"
        if field.name == "midpointMjdTai":
            field.ref = "tai"
    for name, value in curves.metadata().items():
        kind = {str: {"datatype": "char", "arraysize": "*"}, int: {"datatype": "long"}, float: {"datatype": "double"}}
        written.params.append(Param(document, name=name, value=value, **kind[type(value)]))
    frame = io.BytesIO()
    document.to_xml(frame, tabledata_format="binary2")
    before, end, after = frame.getvalue().partition(b"</TABLE>")  # astropy writes no DATA without rows
    with replacing(folder / "light_curves.vot") as part, open(part, "wb") as file:
        file.write(before + b'<DATA><BINARY2><STREAM encoding="base64">')
        file.write(base64.b64encode(_binary2(points)))
        file.write(b"</STREAM></BINARY2></DATA>\n" + end + after)


def _packed(points: np.ndarray) -> np.ndarray:
    """The points with the names of the bands as bytes."""
    bands = points["band"].astype("S")
    fields = {name: points.dtype[name] for name in points.dtype.names} | {"band": bands.dtype}
    packed = np.empty(len(points), list(fields.items()))
    for name in fields:
        packed[name] = bands if name == "band" else points[name]
    return packed


def _binary2(points: np.ndarray) -> bytes:
    """Rows as BINARY2 has them (VOTable 1.4, section 5.5): a bit for each null field, then big-endian values.

    By astropy they would take 100 s for a million rows.
    """
    fields = {name: points.dtype[name] for name in points.dtype.names}
    types = [(name, "S1" if dtype.kind == "b" else dtype.newbyteorder(">")) for name, dtype in fields.items()]
    rows = np.zeros(len(points), [("null", np.uint8, (-(-len(types) // 8),)), *types])
    for name, dtype in fields.items():
        rows[name] = np.where(points[name], b"T", b"F") if dtype.kind == "b" else points[name]
    return rows.tobytes()
