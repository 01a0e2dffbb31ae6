"""Astronomical transient (AT) reports for the Transient Name Server: JSON files of its bulk report, never sent.

Numbers of groups, instruments, filters and kinds of objects are those of the server's lists of values.  A report has
the discovery, which is the first point above `DETECTED` at or after the first DIASource, the last point below it before
that, and the first points from it on.
"""

import json
from pathlib import Path

import numpy as np
from astropy.time import Time

from diaflow.errors import InputError
from diaflow.lightcurves import bands
from diaflow.lightcurves.curves import LightCurves
from diaflow.store.files import write_text
from diaflow.units import MAG_PER_RELATIVE_ERROR, magnitude

OPTIONS = {
    "tns": {
        "type": "object",
        "default": {},
        "additionalProperties": False,
        "properties": {
            "objects": {
                "type": "array",
                "items": {"type": "integer"},
                "uniqueItems": True,
                "default": [],
                "description": "diaObjectId of each object to report",
            },
            "reporter": {"type": ["string", "null"], "default": None, "description": "names of the reporters"},
            "reporting_group": {"type": ["integer", "null"], "default": None, "description": "number of the group"},
            "data_source_group": {
                "type": ["integer", "null"],
                "default": None,
                "description": "number of the group that took the data",
            },
            "instrument": {"type": ["integer", "null"], "default": None, "description": "number of the instrument"},
            "at_type": {"type": ["integer", "null"], "default": None, "description": "number of the kind of object"},
            "bands": {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "default": {},
                "description": "number of the filter of each band",
            },
            "archive": {
                "type": "object",
                "default": {},
                "description": "what to say of an object without an earlier point, as archiveid and archival_remarks",
            },
        },
    },
}
HAS_FLAGS = False

MAX_REPORTS, MAX_POINTS = 100, 10  # in a file, in a report (TNS)
AB_MAGNITUDES = 1  # number of the unit (TNS)
DETECTED = 5.0  # S/N of a detection, and of a limiting magnitude [sigma]


def write(curves: LightCurves, folder: Path, options: dict) -> None:
    """Write at_report_{number}.json, of up to 100 objects each.

    Parameters
    ----------
    curves : LightCurves
    folder : path
    options : dict
        `tns` of the configuration.

    Raises
    ------
    InputError
        When there is nothing to report, an object is not there, was not detected, or has neither an earlier point nor
        `archive`, or a file cannot be written.
    """
    options = options["tns"]
    if not options["objects"]:
        raise InputError("lightcurves.tns.objects is empty")
    wanted = set(options["objects"])
    found = {row["diaObjectId"].item(): (row, points) for row, points, _ in curves if row["diaObjectId"] in wanted}
    missing = [each for each in options["objects"] if each not in found]
    if missing:
        raise InputError(f"lightcurves.tns.objects: DIAObject {missing[0]} has no light curve")
    reports = [report(*found[each], options) for each in options["objects"]]
    for number, first in enumerate(range(0, len(reports), MAX_REPORTS)):
        content = {"at_report": {str(i): each for i, each in enumerate(reports[first : first + MAX_REPORTS])}}
        write_text(json.dumps(content, indent=1) + "\n", folder / f"at_report_{number}.json")


def report(row: np.void, points: np.ndarray, options: dict) -> dict:
    """The report of one object.

    Parameters
    ----------
    row : row of "dia_object"
    points : structured array
        Its points, by time.
    options : dict
        As in `write`.

    Returns
    -------
    dict
        As the server asks for it; times in UTC, magnitudes AB.

    Raises
    ------
    InputError
        As in `write`.
    """
    seen = points["psfFlux"] >= DETECTED * points["psfFluxErr"]
    after = seen & (points["midpointMjdTai"] >= row["firstDiaSourceMjdTai"])
    if not after.any():
        raise InputError(f"lightcurves.tns.objects: DIAObject {row['diaObjectId']} was never above {DETECTED:g} sigma")
    discovery = points["midpointMjdTai"][after].min()
    earlier = points[~seen & (points["midpointMjdTai"] < discovery)][-1:]
    if not len(earlier) and not options["archive"]:
        raise InputError(
            f"lightcurves.tns.archive: DIAObject {row['diaObjectId']} has no point before its discovery, say what has"
        )
    return {
        "ra": {"value": f"{row['ra']:.7f}", "error": _arcsec(row["raErr"]), "units": "arcsec"},
        "dec": {"value": f"{row['dec']:.7f}", "error": _arcsec(row["decErr"]), "units": "arcsec"},
        "reporting_groupid": options["reporting_group"],
        "data_source_groupid": options["data_source_group"],
        "reporter": options["reporter"],
        "discovery_datetime": utc_date(discovery),
        "at_type": options["at_type"],
        "internal_name": str(row["diaObjectId"]),
        "non_detection": _observed(earlier[0], options) if len(earlier) else dict(options["archive"]),
        "photometry": {str(i): _point(each, options) for i, each in enumerate(points[after][:MAX_POINTS])},
    }


def utc_date(mjd_tai: float) -> str:
    """A date with the fraction of the day.

    Parameters
    ----------
    mjd_tai : float
        [d]

    Returns
    -------
    str
        UTC, as 2026-01-02.34567.
    """
    mjd = round(float(Time(mjd_tai, format="mjd", scale="tai").utc.mjd), 5)  # carried into the date
    return f"{Time(mjd, format='mjd').strftime('%Y-%m-%d')}{f'{mjd % 1:.5f}'[1:]}"


def _arcsec(degrees: float) -> float | None:
    return round(float(degrees) * 3600, 4) if np.isfinite(degrees) else None


def _observed(point: np.void, options: dict) -> dict:
    numbers = bands.named(np.array([point["band"]], object), options["bands"], "tns")
    return {
        "obsdate": utc_date(point["midpointMjdTai"]),
        "limiting_flux": round(float(magnitude(DETECTED * point["psfFluxErr"])), 3),
        "flux_unitid": AB_MAGNITUDES,
        "filterid": numbers[0],
        "instrumentid": options["instrument"],
    }


def _point(point: np.void, options: dict) -> dict:
    error = MAG_PER_RELATIVE_ERROR * point["psfFluxErr"] / point["psfFlux"]
    return _observed(point, options) | {
        "flux": round(float(magnitude(point["psfFlux"])), 3),
        "flux_error": round(float(error), 3),
    }
