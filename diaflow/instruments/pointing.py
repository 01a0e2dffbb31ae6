"""A WCS for images whose header tells where the telescope pointed and no more.

The section `pointing` of an instrument map says which keys hold the pointing and how the detector lies: in come a
header and the shape of the image, out goes the header with a gnomonic WCS about the centre of the image.
"""

import re

import erfa
import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, Kind
from diaflow.instruments import times, translate
from diaflow.instruments.columns import as_number

_FIELDS = {"ra", "dec", "equinox", "pixel_scale", "rotation", "flipped"}
_WCS_KEYS = re.compile(
    r"(CTYPE|CRVAL|CRPIX|CDELT|CROTA|CUNIT|PV)\d|(CD|PC)\d|RADEC?SYS|EQUINOX|LONPOLE|LATPOLE|[AB]P?_"
)


def check(pointing: object) -> None:
    """Refuse a section `pointing` of an instrument map that is not well formed.

    Parameters
    ----------
    pointing : object
        As YAML has it.

    Raises
    ------
    ValueError, TypeError
        With the fault.
    """
    if not isinstance(pointing, dict) or not {"ra", "dec", "pixel_scale"} <= set(pointing) <= _FIELDS:
        raise ValueError(f"must have ra, dec and pixel_scale, and may have {', '.join(sorted(_FIELDS))}")
    for name in ("ra", "dec"):
        translate.check_rule(pointing[name], name)
    if pointing.get("equinox", 2000) not in (2000, "date"):
        raise ValueError(f"equinox must be 2000 or date, not {pointing['equinox']}")
    if not isinstance(pointing.get("flipped", False), bool):
        raise ValueError("flipped must be true or false")
    if not float(pointing["pixel_scale"]) > 0 or not np.isfinite(float(pointing.get("rotation", 0))):
        raise ValueError("pixel_scale must be positive and rotation a number")


def located(header: fits.Header, image: translate.Image, pointing: dict) -> fits.Header:
    """A copy of the header with the WCS of the pointing in place of what it had.

    Parameters
    ----------
    header : fits.Header
        NAXIS1 and NAXIS2 are the shape of the image, whose centre the telescope pointed at.
    image : translate.Image
        What the rules of `ra` and `dec` look at; numbers are degrees, ``hh:mm:ss`` is hours of right ascension.
    pointing : dict
        Section of the instrument map: pixel_scale [arcsec]; rotation, the position angle of the y axis, north through
        east [deg]; flipped, when the image is a mirror image of the sky; equinox, 2000 or date.

    Returns
    -------
    fits.Header

    Raises
    ------
    BadData
        When the header has no usable pointing.
    """
    ra = _degrees(translate.evaluate(pointing["ra"], "ra", image), 15.0)
    dec = _degrees(translate.evaluate(pointing["dec"], "dec", image), 1.0)
    if not abs(dec) <= 90:
        raise BadData(f"dec {dec} is not a declination", Kind.WCS)
    if pointing.get("equinox") == "date":
        ra, dec = _from_equinox_of_date(ra, dec, times.fits_time(image.lookup, times.DAY))
    angle, parity = np.radians(pointing.get("rotation", 0.0)), -1.0 if pointing.get("flipped") else 1.0
    scale = pointing["pixel_scale"] / 3600
    new = header.copy()
    for key in [key for key in header if _WCS_KEYS.match(key)]:
        new.remove(key, remove_all=True, ignore_missing=True)
    new["CTYPE1"], new["CTYPE2"], new["RADESYS"] = "RA---TAN", "DEC--TAN", "ICRS"
    new["CRVAL1"], new["CRVAL2"] = ra % 360, dec
    new["CRPIX1"], new["CRPIX2"] = (header["NAXIS1"] + 1) / 2, (header["NAXIS2"] + 1) / 2
    # Seen from inside the celestial sphere, x points west where y points north.
    new["CD1_1"], new["CD2_1"] = -parity * scale * np.cos(angle), parity * scale * np.sin(angle)
    new["CD1_2"], new["CD2_2"] = scale * np.sin(angle), scale * np.cos(angle)
    return new


def _degrees(value: object, per_unit: float) -> float:
    """Degrees of a number in degrees, or of ``dd:mm:ss`` in units of `per_unit` degrees."""
    parts = re.fullmatch(r"\s*([+-]?)(\d+)[: ]\s*(\d+)[: ]\s*([\d.]+)\s*", str(value))
    if parts:
        sign, *numbers = parts.groups()
        return (-per_unit if sign == "-" else per_unit) * float(np.dot([1, 1 / 60, 1 / 3600], [*map(float, numbers)]))
    return as_number(value, "pointing")


def _from_equinox_of_date(ra: float, dec: float, mjd: float) -> tuple[float, float]:
    """ICRS of a position in the mean equator and equinox of date [deg] (IAU 2006 precession, with frame bias)."""
    to_date = erfa.bp06(times.MJD_ZERO, mjd)[2]
    lon, lat = erfa.c2s(to_date.T @ erfa.s2c(np.radians(ra), np.radians(dec)))
    return float(np.degrees(lon)), float(np.degrees(lat))
