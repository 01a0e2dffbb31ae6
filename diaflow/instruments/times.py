"""Mid-exposure MJD (TAI) of an image, by one of a few named rules.

Headers give the start or the middle of the exposure, in UTC or TAI, as an MJD or a date; a drift scan gives the
moment its first row is read.  Leap seconds come from ERFA (the routines behind astropy.time, without its cost).
Source: FITS standard 4.0, section 9 (MJD-OBS, DATE-OBS, TIMESYS).
"""

import re
import warnings
from collections.abc import Callable
from datetime import UTC, datetime

import erfa

from diaflow.errors import BadData, Kind

DAY = 86400.0  # [s]
MJD_ZERO = 2400000.5  # Julian date of MJD 0 [d]
_MJD_EPOCH = datetime(1858, 11, 17)
# Seconds to add to reach TAI; TDB differs from TT by less than 2 ms.
_TO_TAI = {"TAI": 0.0, "IAT": 0.0, "GPS": 19.0, "TT": -32.184, "TDT": -32.184, "ET": -32.184, "TDB": -32.184}
_UTC = ("UTC", "UT", "GMT", "")
# Keys that hold the time of day where DATE-OBS holds the date only.
_CLOCKS = ("TIME-OBS", "UTSTART", "UT", "UTC", "TIME")
RULES = (
    "fits_start", "fits_middle", "utc_start", "utc_middle", "tai_start", "tai_middle", "tai_drift_scan",
)  # fmt: skip


def utc_to_tai(mjd: float) -> float:
    """MJD in TAI of an MJD in UTC.

    Parameters
    ----------
    mjd : float
        [d]

    Returns
    -------
    float
        [d]
    """
    with warnings.catch_warnings():
        # ERFA calls dates beyond its last announced leap second dubious; simulated surveys live there.
        warnings.simplefilter("ignore", erfa.ErfaWarning)
        return float(erfa.utctai(MJD_ZERO, mjd)[1])


def parse_date(date: str, clock: str | None = None) -> float:
    """MJD of a date, in its time scale.

    Parameters
    ----------
    date : str
        ISO 8601, with or without the time of day.
    clock : str, optional
        HH:MM:SS, the time of day of a date without.

    Returns
    -------
    float
        [d]

    Raises
    ------
    BadData
        When the date is not ISO 8601 or there is no time of day.
    """
    text = date.strip()
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        if clock is None:
            raise BadData(f"DATE-OBS '{text}' has no time of day", Kind.HEADER)
        text = f"{text}T{clock.strip()}"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadData(f"DATE-OBS '{text}' is not an ISO 8601 date", Kind.HEADER) from None
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    since = moment - _MJD_EPOCH
    return since.days + (since.seconds + since.microseconds * 1e-6) / DAY


def fits_time(lookup: Callable[[str], object]) -> float:
    """MJD in TAI of MJD-OBS, or of DATE-OBS where MJD-OBS is missing, in the scale TIMESYS (UTC if not given).

    Parameters
    ----------
    lookup : callable
        Gives the value of a header key, or None.

    Returns
    -------
    float
        [d]

    Raises
    ------
    BadData
        When neither key is there and can be understood, or the scale is not known.
    """
    value, date = lookup("MJD-OBS"), lookup("DATE-OBS")
    if value is not None:
        try:
            mjd = float(value)
        except (TypeError, ValueError):
            raise BadData(f"MJD-OBS '{value}' is not a number", Kind.HEADER) from None
    elif isinstance(date, str):
        clocks = (lookup(key) for key in _CLOCKS)
        mjd = parse_date(date, next((clock for clock in clocks if isinstance(clock, str) and ":" in clock), None))
    else:
        raise BadData("header has no MJD-OBS and no DATE-OBS", Kind.HEADER)
    scale = str(lookup("TIMESYS") or "").strip().upper()
    if scale in _UTC:
        return utc_to_tai(mjd)
    if scale not in _TO_TAI:
        raise BadData(f"TIMESYS '{scale}' is not a time scale that can be converted to TAI", Kind.HEADER)
    return mjd + _TO_TAI[scale] / DAY


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
