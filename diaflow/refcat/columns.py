"""Columns of a catalogue as numbers in a wanted unit, whatever the file holds: numbers, text, sexagesimal text.

Units are those that astropy knows and a few that files write in other words.  What is understood by none of these is
refused with the column and the unit; where a file states no unit, the caller says what is assumed.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from astropy import units as u

from diaflow import units
from diaflow.errors import InputError

NO_UNIT = ("", "-", "--", "---")  # CDS writes --- where a column has none
# In lower case and without quotes: how catalogues write what astropy calls otherwise, or does not know.
OTHER_NAMES = {
    "h:m:s": u.hourangle, "hms": u.hourangle, "hours": u.hourangle, "hourangles": u.hourangle,
    "d:m:s": u.deg, "dms": u.deg, "degrees": u.deg, "degs": u.deg, "radians": u.rad,
    "mag": u.mag, "mags": u.mag, "magnitude": u.mag, "magnitudes": u.mag, "abmag": u.mag, "ab mag": u.mag,
    "mag (ab)": u.mag, "millimag": u.mmag, "nanomaggies": u.Unit("nmgy"), "maggies": u.Unit("mgy"),
    "microjy": u.uJy, "microjansky": u.uJy, "nanojansky": u.nJy,
    "years": u.yr, "julian year": u.yr, "julian years": u.yr, "jyear": u.yr, "days": u.day, "mjd": u.day,
}  # fmt: skip
# A maggy is the flux of magnitude 0: in a column of AB magnitudes, of AB magnitude 0.
_AB_MAGGY = [(u.Unit("mgy"), u.nJy, lambda f: f * units.nanojansky(0.0), lambda f: f / units.nanojansky(0.0))]
_SEXAGESIMAL = (
    r"^(?P<sign>[-+]?)(?P<whole>\d{{1,3}})(?:\s*[{mark}:]\s*|\s+)(?P<minutes>\d{{1,2}})(?:\s*[m:'′]\s*|\s+)"
    r"(?P<seconds>\d{{1,2}}(?:\.\d*)?)\s*[s\"″]?$"
)
_TRUTH = {"true": "1", "false": "0"}


class Column(NamedTuple):
    """A column of a file.

    Attributes
    ----------
    name : str
    values : pyarrow array
        Text has no blanks around it.
    unit : str
        As the file states it, "" where it states none.
    """

    name: str
    values: pa.Array
    unit: str

    @property
    def is_text(self) -> bool:
        """Whether the file holds text, be it of numbers."""
        return pa.types.is_string(self.values.type)


def column(name: str, values: np.ndarray | pa.Array, unit: str) -> Column:
    """A column whose values may be of any kind of array.

    Parameters
    ----------
    name : str
    values : numpy or pyarrow array
    unit : str

    Returns
    -------
    Column

    Raises
    ------
    InputError
        When a row has more than one value, or a value that is neither number, truth value nor text.
    """
    if isinstance(values, np.ndarray):
        if values.ndim > 1:
            raise InputError(f"column '{name}' has {np.prod(values.shape[1:])} values per row")
        values = pa.array(values.astype(values.dtype.newbyteorder("="), copy=False))
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    kind = values.type
    if pa.types.is_large_string(kind) or pa.types.is_string(kind) or pa.types.is_string_view(kind):
        values = pc.utf8_trim_whitespace(pc.cast(values, pa.string()))
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
        if not pa.types.is_decimal(kind):
            raise InputError(f"column '{name}' holds {kind}: neither numbers nor text")
        values = pc.cast(values, pa.float64(), safe=False)
    return Column(name, values, unit)


def stated(of: Column, default: u.UnitBase) -> u.UnitBase:
    """The unit that the file states of a column, or the default.

    Parameters
    ----------
    of : Column
    default : unit

    Returns
    -------
    unit

    Raises
    ------
    InputError
        When it is not understood.
    """
    text = of.unit.strip().strip("\"'").strip()
    if text in NO_UNIT:
        return default
    if text.lower() in OTHER_NAMES:
        return OTHER_NAMES[text.lower()]
    try:
        return u.Unit(text)
    except (ValueError, TypeError) as error:
        raise InputError(f"column '{of.name}' has the unknown unit {text}") from error


def numbers(of: Column) -> np.ndarray:
    """A column as float64, NaN where there is no value.

    Parameters
    ----------
    of : Column

    Returns
    -------
    (n,) array

    Raises
    ------
    InputError
        When a text is no number.
    """
    try:
        return pc.cast(of.values, pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise InputError(f"column '{of.name}' is not numeric ({' '.join(str(error).split())})") from error


def in_unit(of: Column, default: u.UnitBase, wanted: u.UnitBase) -> np.ndarray:
    """A column in a wanted unit.

    Parameters
    ----------
    of : Column
    default : unit
        Of the column, where the file states none.
    wanted : unit

    Returns
    -------
    (n,) array
        NaN where there is no value.

    Raises
    ------
    InputError
        When it is not numeric, or its unit cannot be brought to the wanted one.
    """
    return _converted(of, numbers(of), stated(of, default), wanted)


def per_year(of: Column) -> np.ndarray:
    """Proper motions [deg/d] of a column in mas/yr, or what the file says; an angle is that of a year, as LSST has it.

    Parameters
    ----------
    of : Column

    Returns
    -------
    (n,) array

    Raises
    ------
    InputError
        As `in_unit`.
    """
    unit = stated(of, u.mas / u.yr)
    if unit.is_equivalent(u.rad):
        unit = unit / u.yr
    return _converted(of, numbers(of), unit, u.deg / u.day)


def right_ascension(of: Column) -> np.ndarray:
    """Right ascensions [deg] of a column in degrees, or what the file says; sexagesimal text is hours.

    Parameters
    ----------
    of : Column

    Returns
    -------
    (n,) array
        NaN where there is no value.

    Raises
    ------
    InputError
        When it is not numeric, there are more than 24 hours, or its unit is none of angles or hours.
    """
    values = _sexagesimal(of, "h")
    if values is None:
        values, unit = numbers(of), stated(of, u.deg)
    else:
        unit = stated(of, u.hourangle)
    if unit == u.hour:
        unit = u.hourangle
    if unit == u.hourangle and np.nanmax(np.abs(values), initial=0.0) > 24:
        raise InputError(f"column '{of.name}' has right ascensions beyond 24 hours: its file must state another unit")
    return _converted(of, values, unit, u.deg)


def declination(of: Column) -> np.ndarray:
    """Declinations [deg] of a column in degrees, or what the file says; sexagesimal text is degrees.

    Parameters
    ----------
    of : Column

    Returns
    -------
    (n,) array
        NaN where there is no value.

    Raises
    ------
    InputError
        When it is not numeric, or its unit is none of angles.
    """
    values = _sexagesimal(of, "d°")
    return _converted(of, numbers(of) if values is None else values, stated(of, u.deg), u.deg)


def magnitudes(of: Column) -> np.ndarray:
    """AB magnitudes of a column of magnitudes, or of fluxes where the file says so [mag].

    Parameters
    ----------
    of : Column

    Returns
    -------
    (n,) array
        NaN where there is no value, or a flux is not positive.

    Raises
    ------
    InputError
        When it is not numeric, or its unit is neither of magnitudes nor of fluxes per frequency.
    """
    unit = stated(of, u.mag)
    if _is_magnitude(unit):
        return _converted(of, numbers(of), unit, u.mag)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return units.magnitude(_converted(of, numbers(of), unit, u.nJy))


def magnitude_errors(of: Column, measured: Column, mag: np.ndarray) -> np.ndarray:
    """Errors of magnitudes [mag] from a column of those, or of errors of fluxes.

    Parameters
    ----------
    of : Column
        In the unit of `measured` where the file states none.
    measured : Column
        What the errors belong to.
    mag : (n,) array
        Its AB magnitudes.

    Returns
    -------
    (n,) array

    Raises
    ------
    InputError
        As `magnitudes`.
    """
    unit = stated(of, stated(measured, u.mag))
    unit = getattr(unit, "function_unit", unit)  # an error of mag(AB) is one in mag
    if _is_magnitude(unit):
        return _converted(of, numbers(of), unit, u.mag)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        return units.MAG_PER_RELATIVE_ERROR * _converted(of, numbers(of), unit, u.nJy) / units.nanojansky(mag)


def epochs(of: Column) -> tuple[np.ndarray, bool]:
    """Dates of a column, and whether they are Julian years, as they are without a unit, or days.

    Parameters
    ----------
    of : Column

    Returns
    -------
    date : (n,) array
        [yr] or [d]
    are_years : bool

    Raises
    ------
    InputError
        When it is not numeric, or its unit is neither a year nor a day.
    """
    unit = stated(of, u.yr)
    if unit not in (u.yr, u.day):
        raise InputError(f"column '{of.name}' is in {of.unit}: dates are Julian years or days (d) of MJD")
    return numbers(of), unit == u.yr


def equals(of: Column, value: bool | float | str) -> np.ndarray:
    """Which rows of a column have a value.

    Parameters
    ----------
    of : Column
    value : bool, float or str
        Text is compared with text alone.

    Returns
    -------
    (n,) bool array

    Raises
    ------
    InputError
        When one of the two is text and the other is not; text of numbers or truth values may be compared with those.
    """
    if isinstance(value, str):
        if not of.is_text:
            raise InputError(f"column '{of.name}' holds no text, '{value}' (refcat.keep) is")
        return pc.fill_null(pc.equal(of.values, value), False).to_numpy(zero_copy_only=False)
    if of.is_text:
        words = pc.utf8_lower(of.values)
        for word, digit in _TRUTH.items():
            words = pc.if_else(pc.equal(words, word), digit, words)
        of = of._replace(values=words)
    return numbers(of) == value


def _converted(of: Column, values: np.ndarray, unit: u.UnitBase, wanted: u.UnitBase) -> np.ndarray:
    try:
        return unit.to(wanted, values, equivalencies=_AB_MAGGY)
    except u.UnitsError as error:
        raise InputError(f"column '{of.name}' is in {of.unit.strip()}, which cannot be brought to {wanted}") from error


def _is_magnitude(unit: u.UnitBase) -> bool:
    """Whether this is mag, mmag and the like: not mag(AB), which is a flux to astropy, nor dex."""
    return not hasattr(unit, "function_unit") and unit.is_equivalent(u.mag) and unit.to(u.mag) > 0


def _sexagesimal(of: Column, marks: str) -> np.ndarray | None:
    """Hours or degrees of text such as 10:00:00.1, 10 00 00.1 or, with one of the marks, 10h00m00.1s; None of other.

    The first value decides what the column is.
    """
    values = of.values.drop_null() if of.is_text else ()
    pattern = _SEXAGESIMAL.format(mark=marks)
    if not len(values) or not pc.match_substring_regex(values[:1], pattern)[0].as_py():
        return None
    parts = pc.extract_regex(of.values, pattern)
    whole, minutes, seconds = (
        pc.cast(pc.struct_field(parts, name), pa.float64()).to_numpy(zero_copy_only=False)
        for name in ("whole", "minutes", "seconds")
    )
    odd = np.isnan(whole) | (minutes >= 60) | (seconds > 60)  # 60 seconds are what rounding makes of 59.99
    odd &= of.values.is_valid().to_numpy(zero_copy_only=False)
    if odd.any():
        raise InputError(f"column '{of.name}' is not sexagesimal where it is '{of.values[np.argmax(odd)]}'")
    negative = pc.fill_null(pc.equal(pc.struct_field(parts, "sign"), "-"), False).to_numpy(zero_copy_only=False)
    return np.where(negative, -1.0, 1.0) * (whole + minutes / 60 + seconds / 3600)
