"""One FITS table of all points, as TOPCAT reads it: units, descriptions, metadata in the header."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.lightcurves.curves import LightCurves
from diaflow.store import provenance, tables
from diaflow.store.files import replacing

OPTIONS = {}
HAS_FLAGS = True

# Keywords of the metadata; those of the standard where it has one.
KEYWORDS = {
    "flux": "FLUX",
    "flux_unit": "FLUXUNIT",
    "zero_point": "ZEROPNT",
    "magnitude_system": "MAGSYS",
    "time": "TIME",
    "time_scale": "TIMESYS",
    "dropped_flags": "DROPPED",
    "points": "NPOINTS",
    "dropped_without_flux": "NDROPNOF",
    "dropped_flagged": "NDROPFLG",
    "objects": "NOBJECTS",
    "objects_without_points": "NOBJNONE",
}
FORMS = {"int64": "K", "int32": "J", "float64": "D", "float32": "E", "bool": "L"}


def header(metadata: dict) -> fits.Header:
    """The metadata of light curves as cards.

    Parameters
    ----------
    metadata : dict
        From `LightCurves`.

    Returns
    -------
    astropy.io.fits.Header
        With what made the file.
    """
    cards = [(KEYWORDS[key], value, key) for key, value in metadata.items() if key in KEYWORDS]
    return fits.Header([*cards, *provenance.cards()])


def table(columns: dict[str, np.ndarray], units: dict[str, str] | None = None) -> fits.BinTableHDU:
    """A binary table.

    Parameters
    ----------
    columns : dict of str to array
        Numbers, booleans or text.
    units : dict of str to str, optional
        By column.

    Returns
    -------
    astropy.io.fits.BinTableHDU
    """
    made = []
    for name, values in columns.items():
        if values.dtype == object or values.dtype.kind in "US":
            values = np.array([str(value).encode() for value in values], "S")
            form = f"{max(values.dtype.itemsize, 1)}A"
        else:
            form = FORMS[values.dtype.name]
        made.append(fits.Column(name, form, unit=(units or {}).get(name), array=values))
    return fits.BinTableHDU.from_columns(made)


def write(curves: LightCurves, folder: Path, options: dict) -> None:
    """Write light_curves.fits.

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
    units = {name: declared[name].get("unit") for name in points.dtype.names}
    hdu = table({name: points[name] for name in points.dtype.names}, units)
    for number, name in enumerate(points.dtype.names, 1):
        hdu.header[f"TCOMM{number}"] = declared[name]["description"]
    hdu.header.extend(header(curves.metadata()))
    with replacing(folder / "light_curves.fits") as part:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(part, overwrite=True)
