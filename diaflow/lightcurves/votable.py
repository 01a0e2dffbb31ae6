"""One VOTable of all points, as TOPCAT and Aladin read it: units, UCDs, time scale, metadata as parameters."""

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
    points, declared = curves.points, tables.schema("dia_forced_source")
    table = Table()
    for name in points.dtype.names:
        values = points[name].astype(str) if name == "band" else points[name]
        table[name] = np.ascontiguousarray(values)
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
        if field.name == "midpointMjdTai":
            field.ref = "tai"
    for name, value in curves.metadata().items():
        kind = {str: {"datatype": "char", "arraysize": "*"}, int: {"datatype": "long"}, float: {"datatype": "double"}}
        written.params.append(Param(document, name=name, value=value, **kind[type(value)]))
    with replacing(folder / "light_curves.vot") as part:
        document.to_xml(str(part), tabledata_format="binary2")
