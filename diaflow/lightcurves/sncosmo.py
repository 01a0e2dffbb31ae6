"""One file for each DIAObject that sncosmo fits as it is: its own ASCII (read_lc), or ECSV (astropy's Table.read).

Bands must be names that sncosmo knows (`lsstg`, `desr`, `ztfg`), which `bands` gives.  Times stay in TAI: sncosmo does
not care, but surveys that are fitted together must agree.
"""

import json
from pathlib import Path

import numpy as np

from diaflow.lightcurves import bands
from diaflow.lightcurves.curves import TIME_DIGITS, LightCurves, flag_bits
from diaflow.units import NANOJANSKY_ZERO_POINT

OPTIONS = {
    "sncosmo": {
        "type": "object",
        "default": {},
        "additionalProperties": False,
        "properties": {
            "file": {
                "enum": ["ascii", "ecsv"],
                "default": "ascii",
                "description": "kind of file, that of sncosmo.read_lc or that of astropy's Table.read",
            },
            "bands": {
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": "^\\S+$"},
                "default": {},
                "description": "name that sncosmo has for each band, e.g. {g: lsstg}",
            },
        },
    },
}
HAS_FLAGS = False  # a fit takes every row

# sncosmo's names of the columns, with their types and units in ECSV.
COLUMNS = {
    "mjd": {"datatype": "float64", "unit": "d"},
    "band": {"datatype": "string"},
    "flux": {"datatype": "float32", "unit": "nJy"},
    "fluxerr": {"datatype": "float32", "unit": "nJy"},
    "zp": {"datatype": "float64"},
    "zpsys": {"datatype": "string"},
    "visit": {"datatype": "int64"},
    "detector": {"datatype": "int32"},
    "flags": {"datatype": "int32", "description": "1 visit is part of the template, 2 bad pixel"},
}


def write(curves: LightCurves, folder: Path, options: dict) -> None:
    """Write {diaObjectId}.txt or .ecsv of every object that has points.

    Parameters
    ----------
    curves : LightCurves
    folder : path
        Which is there.
    options : dict
        `sncosmo` of the configuration.

    Raises
    ------
    InputError
        When a band has no name.
    """
    options = options["sncosmo"]
    names = bands.named(curves.points["band"], options["bands"], "sncosmo")
    suffix, head = {"ascii": ("txt", _ascii_head), "ecsv": ("ecsv", _ecsv_head)}[options["file"]]
    begin = 0
    for row, points, metadata in curves:
        identity = {name: row[name].item() for name in ("diaObjectId", "ra", "dec")}
        lines = _rows(points, names[begin : begin + len(points)])
        begin += len(points)
        text = [*head(identity | metadata), " ".join(COLUMNS), *lines, ""]
        (folder / f"{row['diaObjectId']}.{suffix}").write_text("\n".join(text), encoding="utf-8")


def _rows(points: np.ndarray, names: np.ndarray) -> list[str]:
    columns = (points[name].tolist() for name in ("midpointMjdTai", "psfFlux", "psfFluxErr", "visit", "detector"))
    return [
        f"{mjd:.{TIME_DIGITS}f} {name} {flux:.9g} {error:.9g} {NANOJANSKY_ZERO_POINT} ab {visit} {detector} {flags}"
        for name, flags, mjd, flux, error, visit, detector in zip(names, flag_bits(points).tolist(), *columns)
    ]


def _ascii_head(metadata: dict) -> list[str]:
    return [f"@{key} {value}" for key, value in metadata.items()]


def _ecsv_head(metadata: dict) -> list[str]:
    """The header of ECSV 1.0, which is YAML, of which JSON is a part."""
    types = [f"# - {json.dumps({'name': name} | entry)}" for name, entry in COLUMNS.items()]
    said = [f"#   {key}: {json.dumps(value)}" for key, value in metadata.items()]
    return ["# %ECSV 1.0", "# ---", "# datatype:", *types, "# meta:", *said, "# schema: astropy-2.0"]
