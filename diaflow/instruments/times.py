"""Mid-exposure MJD (TAI) of an image, by one of a few named rules.

Headers give the start or the middle of the exposure, in UTC or TAI, as an MJD or a date; a drift scan gives the
moment its first row is read.  Leap seconds come from ERFA (the routines behind astropy.time, without its cost).
Source: FITS standard 4.0, section 9 (MJD-OBS, DATE-OBS, TIMESYS).
"""

import re
import warnings
from collections.abc import Callable

import erfa

from diaflow.errors import BadData, Kind
from diaflow.instruments.columns import as_number, checked

DAY = 86400.0  # [s]
MJD_ZERO = 2400000.5  # Julian date of MJD 0 [d]
# Seconds to add to reach TAI; TDB differs from TT by less than 2 ms.
_TO_TAI = {"TAI": 0.0, "IAT": 0.0, "GPS": 19.0, "TT": -32.184, "TDT": -32.184, "ET": -32.184, "TDB": -32.184}
_UTC = ("UTC", "UT", "GMT", "Z", "")
# Keys that hold the time of day where DATE-OBS holds the date only.
_CLOCKS = ("TIME-OBS", "UTSTART", "UT", "UTC", "TIME")
_DATE = re.compile(r"(\d{4})(?:-(\d\d?)-(\d\d?)|/(\d\d?)/(\d\d?)|(\d\d)(\d\d))(?:[T ]\s*(\S.*))?")
_CLOCK = re.compile(
    r"(?P<hour>\d\d?)(?P<colon>:?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d(?:[.,]\d*)?))?"
    r"\s*(?P<zone>Z|UTC?|[+-]\d\d:?\d\d)?"
)
_DUBIOUS_YEAR = 1  # status of ERFA: beyond its last announced leap second
ROUNDING = 1.0  # by which two keys with the same time may differ: often it is written in whole seconds [s]
RULES = (
    "fits_start", "fits_middle", "utc_start", "utc_middle", "tai_start", "tai_middle", "tai_drift_scan",
)  # fmt: skip


def utc_to_tai(mjd: float) -> float:
    """MJD in TAI of an MJD in UTC.

    Parameters
    ----------
    mjd : float
        [d]; on the day of a leap second a fraction of its 86401 s.

    Returns
    -------
    float
        [d]

    Raises
    ------
    BadData
        When it is not of this century or the last, and may be of no calendar.
    """
    mjd = checked("mjd", mjd)
    with warnings.catch_warnings():
        # ERFA calls dates beyond its last announced leap second dubious; simulated surveys live there.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        return float(erfa.utctai(MJD_ZERO, mjd)[1])


def parse_date(text: str, clock: str | None = None, scale: str = "UTC") -> float:
    """MJD of a date, in its time scale.

    Parameters
    ----------
    text : str
        ISO 8601 (2023-02-25T03:00:00), compact (20230225T030000) or with slashes (2023/02/25 03:00:00).
    clock : str, optional
        HH:MM:SS, which takes the place of the time of day of the date.
    scale : str
        UTC knows leap seconds, as 23:59:60, and time zones; any other has none.

    Returns
    -------
    float
        [d]; of a UTC as `utc_to_tai` takes it.

    Raises
    ------
    BadData
        When it is no such date, or there is no time of day.
    """
    date = _DATE.fullmatch(text.strip())
    if date is None:
        raise BadData(f"'{text}' is not an ISO 8601 date", Kind.HEADER)
    *parts, own_clock = date.groups()
    if clock is None and own_clock is None:
        raise BadData(f"'{text}' has no time of day", Kind.HEADER)
    time = _CLOCK.fullmatch(clock or own_clock)
    if time is None:
        raise BadData(f"'{clock or own_clock}' is not a time of day", Kind.HEADER)
    if time["zone"] and scale != "UTC":
        raise BadData(f"'{time[0]}' is in UTC, and the time scale is {scale}", Kind.HEADER)
    year, month, day = (int(part) for part in parts if part)
    second = float((time["second"] or "0").replace(",", "."))
    zero, mjd, status = erfa.ufunc.dtf2d(scale, year, month, day, int(time["hour"]), int(time["minute"]), second)
    if status not in (0, _DUBIOUS_YEAR):
        raise BadData(f"'{text}'{f' with {clock}' if clock else ''} is not in the calendar", Kind.HEADER)
    return float(zero - MJD_ZERO + mjd) - _ahead(time["zone"] or "")


def _ahead(zone: str) -> float:
    """How far the clocks of a zone are ahead of UTC [d]."""
    if not zone.startswith(("+", "-")):
        return 0.0
    minutes = 60 * int(zone[1:3]) + int(zone[-2:])
    return (-minutes if zone.startswith("-") else minutes) * 60 / DAY


def fits_time(lookup: Callable[[str], object], exptime: float) -> float:
    """MJD in TAI of MJD-OBS, or of DATE-OBS where MJD-OBS is missing, in the scale TIMESYS (UTC if not given).

    Parameters
    ----------
    lookup : callable
        Gives the value of a header key, or None.
    exptime : float
        Exposure time [s]: keys that differ by more than it contradict each other.

    Returns
    -------
    float
        [d]

    Raises
    ------
    BadData
        When neither key is there and can be understood, they contradict each other, or the scale is not known.
    """
    scale = _scale(lookup)
    mjd, date = lookup("MJD-OBS"), lookup("DATE-OBS")
    if mjd is None and date is None:
        raise BadData("header has no MJD-OBS and no DATE-OBS", Kind.HEADER)
    tolerance = max(exptime, ROUNDING) / DAY
    try:
        dated = _date_obs(str(date), lookup, "UTC" if scale in _UTC else "TAI", tolerance)
    except BadData as problem:
        if mjd is None:
            raise BadData(f"DATE-OBS {problem}", Kind.HEADER) from None
        dated = None  # it is not needed
    found = dated if mjd is None else _mjd_obs(mjd)
    # An MJD of four decimals is told to 9 s.
    written = 10.0 ** -len(str(mjd).partition(".")[2])
    if dated is not None and abs(found - dated) > max(tolerance, written):
        raise BadData(f"MJD-OBS {mjd} and DATE-OBS {date} are {abs(found - dated) * 24:.3g} h apart", Kind.HEADER)
    return utc_to_tai(found) if scale in _UTC else found + _TO_TAI[scale] / DAY


def _scale(lookup: Callable[[str], object]) -> str:
    """The time scale of the header, without its realisation, as in TT(TAI)."""
    value = lookup("TIMESYS")
    text = "" if value is None else str(value).strip().upper()
    scale = re.sub(r"\(.*\)$", "", text)
    if scale not in _UTC and scale not in _TO_TAI:
        raise BadData(f"TIMESYS '{text}' is not a time scale that can be converted to TAI", Kind.HEADER)
    return scale


def _mjd_obs(value: object) -> float:
    if re.fullmatch(r"\s*\d+\s*", str(value)):
        raise BadData(f"MJD-OBS {value} has no time of day", Kind.HEADER)
    return as_number(value, "MJD-OBS")


def _date_obs(date: str, lookup: Callable[[str], object], scale: str, tolerance: float) -> float:
    """MJD of DATE-OBS; of a date without a time of day, or at midnight, with the clocks of other keys."""
    clocks = {key: str(lookup(key)) for key in _CLOCKS if _CLOCK.fullmatch(str(lookup(key)))}
    times = {key: parse_date(date, clock, scale) for key, clock in clocks.items() if ":" in clock}
    try:
        own = parse_date(date, scale=scale)
    except BadData:
        if not times:
            raise
    else:
        if own % 1:
            return own
        times["DATE-OBS"] = own
    (first, mjd), *others = times.items()
    for key, other in others:
        if abs(other - mjd) > tolerance:
            raise BadData(f"{date}: {first} and {key} are {abs(other - mjd) * 24:.3g} h apart", Kind.HEADER)
    return mjd


def middle(rule: str, mjd: float, exptime: float, scan_seconds: float = 0.0) -> float:
    """Mid-exposure MJD in TAI from the MJD that a rule speaks of.

    Parameters
    ----------
    rule : str
        One of `RULES`.
    mjd : float
        As the rule says; the result of `fits_time` for the rules ``fits_*`` [d].
    exptime : float
        Exposure time [s].
    scan_seconds : float
        ``tai_drift_scan`` only: time between the read-out of the first row, at `mjd`, and that of the central
        row, whose exposure ends when it is read [s].

    Returns
    -------
    float
        [d]
    """
    tai = utc_to_tai(mjd) if rule.startswith("utc") else mjd
    if rule.endswith("start"):
        return tai + exptime / 2 / DAY
    if rule == "tai_drift_scan":
        return tai + (scan_seconds - exptime / 2) / DAY
    return tai
