"""The columns of the exposure table that the rules of an instrument map fill: their order, defaults and ranges.

In comes the value that a rule gave or a user wrote, out goes a number or text of the column's type, or `BadData`.
"""

import re

import numpy as np

from diaflow.errors import BadData, Kind
from diaflow.sky.wcs_cards import finite_number
from diaflow.store.ids import DETECTOR_BITS, MAX_VISIT

# In this order: a rule may use the columns before its own.
COLUMNS = (
    "imagetype", "visit", "detector", "band", "exptime", "mjd", "gain", "read_noise", "saturation", "bias", "seeing",
    "zero_point",
)  # fmt: skip
WHEN_ABSENT = {"imagetype": "science", "bias": 0.0, "seeing": None, "zero_point": None}
MAY_BE_UNKNOWN = ("gain", "read_noise", "saturation", "seeing", "zero_point")
# What a calibration frame need not know of itself; `other` images are left out.
UNIMPORTANT = {
    "bias": {"visit", "band", "exptime", "mjd", "seeing", "zero_point"},
    "dark": {"visit", "band", "mjd", "seeing", "zero_point"},
    "flat": {"visit", "mjd", "seeing", "zero_point"},
}
CALIBRATIONS = tuple(UNIMPORTANT)
IMAGETYPES = ("science", *CALIBRATIONS, "other")
LARGEST = float(np.finfo(np.float32).max)  # of most columns of the table
FIRST_MJD, LAST_MJD = 15020, 88070  # of the years 1900 and 2100


def checked(column: str, value: object) -> int | float | str:
    """The value of a column in its type.

    Parameters
    ----------
    column : str
    value : object
        As a rule gives it.

    Returns
    -------
    int, float or str
        NaN for None where the column may be unknown.

    Raises
    ------
    BadData
        When the value is not usable.
    """
    if value is None and column in MAY_BE_UNKNOWN:
        return np.nan
    if column == "imagetype":
        if value not in IMAGETYPES:
            raise BadData(f"'{value}' is none of {', '.join(IMAGETYPES)}; give it one in `values`", Kind.HEADER)
        return value
    if column == "band":
        if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9.-]+", value):
            raise BadData(f"'{value}' is not a plain name of a filter; give it one in `values`", Kind.HEADER)
        return value
    number = as_number(value)
    if column in ("visit", "detector"):
        limit = MAX_VISIT if column == "visit" else 2**DETECTOR_BITS
        if number != int(number) or not 0 <= number < limit:
            raise BadData(f"{value} is not an integer from 0 to {limit - 1}", Kind.HEADER)
        return int(number)
    if column in ("exptime", "gain", "saturation", "seeing") and number <= 0:
        raise BadData(f"{value} is not positive", Kind.HEADER)
    if column == "read_noise" and number < 0:
        raise BadData(f"{value} is negative", Kind.HEADER)
    if column == "mjd" and not FIRST_MJD < number < LAST_MJD:
        raise BadData(f"{value} is not an MJD between the years 1900 and 2100", Kind.HEADER)
    return number


def as_number(value: object, name: str = "value") -> float:
    """The number that a value is, one that the exposure table can hold.

    Parameters
    ----------
    value : object
    name : str
        For the message.

    Returns
    -------
    float

    Raises
    ------
    BadData
        When it is none.
    """
    number = finite_number(value)
    if number is None:
        raise BadData(f"{name} {value} is not a number", Kind.HEADER)
    if abs(number) > LARGEST:
        raise BadData(f"{name} {value} is too large", Kind.HEADER)
    return number
