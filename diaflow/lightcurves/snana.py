"""SNANA's version of a survey: a text file for each DIAObject, or a HEAD and a PHOT table in FITS for all.

FLUXCAL has the zero point that `zero_point` says, and every file says it in ZP_FLUXCAL: SNANA's own default went from
27.5 to 31.4 in 2026, and other readers still assume 27.5.  The bits of PHOTFLAG are those of `curves.flag_bits`.
Redshifts are unknown (-9); Galactic extinction is left to the reader.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import InputError
from diaflow.lightcurves import bands
from diaflow.lightcurves.curves import TIME_DIGITS, LightCurves, flag_bits
from diaflow.lightcurves.fits import header, table
from diaflow.store.files import replacing, write_text
from diaflow.units import nanojansky

OPTIONS = {
    "snana": {
        "type": "object",
        "default": {},
        "additionalProperties": False,
        "properties": {
            "file": {"enum": ["text", "fits"], "default": "text", "description": "kind of file"},
            "survey": {
                "type": "string",
                "pattern": "^[A-Za-z0-9_]+$",
                "default": "DIAFLOW",
                "description": "name of the survey, and of the folder with its files",
            },
            "zero_point": {
                "type": "number",
                "default": 27.5,
                "description": "AB magnitude of FLUXCAL 1, which many readers assume to be 27.5 [mag]",
            },
            "bands": {
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": "^[A-Za-z0-9]$"},
                "default": {},
                "description": "one letter for each band, e.g. {g: g}",
            },
        },
    },
}
HAS_FLAGS = True

UNKNOWN = -9  # of SNANA
END_OF_EVENT = -777.0  # MJD of the row after each event in a PHOT table
NO_FIELD = "VOID"
COLUMNS = ("MJD", "BAND", "FIELD", "PHOTFLAG", "CCDNUM", "IMGNUM", "FLUXCAL", "FLUXCALERR")


def write(curves: LightCurves, folder: Path, options: dict) -> None:
    """Write {survey}/, with its .LIST, .IGNORE and .README.

    Parameters
    ----------
    curves : LightCurves
    folder : path
    options : dict
        `snana` of the configuration.

    Raises
    ------
    InputError
        When a band has no letter, two have the same, or a file cannot be written.
    """
    options = options["snana"]
    survey, zero_point = options["survey"], options["zero_point"]
    letters = options["bands"]
    if len(set(letters.values())) < len(letters):
        raise InputError(f"lightcurves.snana.bands: one letter for several bands in {letters}")
    columns = _columns(curves.points, bands.named(curves.points["band"], letters, "snana"), zero_point)
    said = {"SURVEY": survey, "FILTERS": "".join(letters.values()), "ZP_FLUXCAL": zero_point}
    metadata = {"flux_unit": "FLUXCAL", "zero_point": zero_point}
    version = folder / survey
    version.mkdir(parents=True, exist_ok=True)
    write_files = {"text": _write_text, "fits": _write_fits}[options["file"]]
    names = write_files(curves, columns, said, metadata, version)
    readme = [f"  {key}: {value}" for key, value in (curves.metadata() | metadata).items()]
    write_text("".join(f"{name}\n" for name in names), version / f"{survey}.LIST")
    write_text("", version / f"{survey}.IGNORE")
    write_text("\n".join(["DOCUMENTATION:", *readme, "DOCUMENTATION_END:", ""]), version / f"{survey}.README")


def _columns(points: np.ndarray, letters: np.ndarray, zero_point: float) -> dict[str, np.ndarray]:
    """The columns of the observations."""
    scale = np.float32(1 / nanojansky(zero_point))
    values = (
        points["midpointMjdTai"],
        letters,
        np.full(len(points), NO_FIELD, object),
        flag_bits(points).astype(np.int32),
        points["detector"],
        points["visit"],
        points["psfFlux"] * scale,
        points["psfFluxErr"] * scale,
    )
    return dict(zip(COLUMNS, values))


def _write_text(curves: LightCurves, columns: dict, said: dict, metadata: dict, version: Path) -> list[str]:
    """A file for each event; the names of the files."""
    rows = [
        f"OBS: {mjd:.{TIME_DIGITS}f} {band} {field} {flag} {ccd} {image} {flux:.9g} {error:.9g}"
        for mjd, band, field, flag, ccd, image, flux, error in zip(*(column.tolist() for column in columns.values()))
    ]
    names, begin = [], 0
    for row, points, of_event in curves:
        lines = [f"{key}: {value}" for key, value in _event(row, said).items()]
        lines += [f"# {key}: {value}" for key, value in (of_event | metadata).items()]
        lines += [f"NOBS: {len(points)}", f"NVAR: {len(COLUMNS)}", f"VARLIST: {' '.join(COLUMNS)}"]
        lines += [*rows[begin : begin + len(points)], "END:", ""]
        begin += len(points)
        names.append(f"{said['SURVEY']}_{row['diaObjectId']}.DAT")
        (version / names[-1]).write_text("\n".join(lines), encoding="utf-8")
    return names


def _event(row: np.void, said: dict) -> dict:
    """The header of an event."""
    first = {"SURVEY": said["SURVEY"], "SNID": row["diaObjectId"], "FAKE": 0}
    return first | said | {"RA": f"{row['ra']:.9f}", "DEC": f"{row['dec']:.9f}", "REDSHIFT_HELIO": UNKNOWN}


def _write_fits(curves: LightCurves, columns: dict, said: dict, metadata: dict, version: Path) -> list[str]:
    """The two tables; the name of the first."""
    sizes = np.diff(curves.first)
    events = np.flatnonzero(sizes)
    end = np.cumsum(sizes[events])  # in the points, without the rows that end events
    objects, sizes = curves.objects[events], sizes[events].astype(np.int32)
    begin = (end - sizes + np.arange(len(events)) + 1).astype(np.int32)
    constants = {"FAKE": np.int32(0), "ZP_FLUXCAL": np.float32(said["ZP_FLUXCAL"])}
    head = {
        "SNID": objects["diaObjectId"].astype(str),
        **{name: np.full(len(events), value) for name, value in constants.items()},
        "RA": objects["ra"],
        "DEC": objects["dec"],
        "NOBS": sizes,
        "PTROBS_MIN": begin,
        "PTROBS_MAX": begin + sizes - 1,
        "REDSHIFT_HELIO": np.full(len(events), UNKNOWN, np.float32),
    }
    fillers = {"MJD": END_OF_EVENT, "BAND": "-", "FIELD": NO_FIELD}
    observed = {name: np.insert(values, end, fillers.get(name, 0)) for name, values in columns.items()}
    names = [f"{said['SURVEY']}_{kind}.FITS" for kind in ("HEAD", "PHOT")]
    cards = {"SURVEY": said["SURVEY"], "VERSION": version.name, "FILTERS": said["FILTERS"], "PHOTFILE": names[1]}
    primary = header(curves.metadata() | metadata)
    primary.extend((cards | {"DATATYPE": "DATA"}).items())
    for name, content in zip(names, (head, observed)):
        with replacing(version / name) as part:
            fits.HDUList([fits.PrimaryHDU(header=primary), table(content)]).writeto(part, overwrite=True)
    return names[:1]
