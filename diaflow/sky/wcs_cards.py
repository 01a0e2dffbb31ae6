"""The cards of a header that the celestial WCS of its first two axes rests on, checked one by one.

wcslib passes over what it cannot read: a CRVAL that is text, or missing, puts an image at RA 0.  In comes the header of
an image, out goes one that holds nothing but these cards, so that no other one can be in the way; or `BadData` that
names the card.  Further axes, as of a plane cut out of a cube, are left behind.
Source: FITS standard 4.0, section 8; the SIP convention (Shupe et al. 2005).
"""

import re

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, Kind

# Of the old forms that wcslib knows, PC001001 is a matrix as well; AP_ and BP_ only approximate the inverse.
_NUMBERS = re.compile(
    r"(CRVAL|CRPIX|CDELT|CROTA)[12]|(CD|PC)(?:[12]_|00[12]00)[12]|PV[12]_\d+|PROJP\d+|LONPOLE|LATPOLE"
    r"|[AB]_(?:ORDER|\d+_\d+)"
)
_CD, _REPLACED = re.compile(r"CD(?:[12]_|00[12]00)[12]"), re.compile(r"(CDELT|CROTA)[12]")  # the first counts, if any
_TEXTS = re.compile(r"(CTYPE|CUNIT)[12]|PS[12]_\d+")
_TABLES = re.compile(r"(CPDIS|CQDIS|D2IMDIS)[12]")  # distortions in tables or records of their own
_MIXED = re.compile(r"(CD|PC)[12]_[3-9]")  # what further axes add to the first two
_REQUIRED = ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2")
# The cards of a projection that is a distortion without which it is another one, or none at all.
_DISTORTED = {
    "-SIP": ("A_ORDER", "B_ORDER"),
}
_FRAMES = ("ICRS", "FK5")
_EQUINOX_2000 = re.compile(r"J?2000(\.0*)?")


def celestial(header: fits.Header) -> fits.Header:
    """The cards of a celestial WCS.

    Parameters
    ----------
    header : fits.Header

    Returns
    -------
    fits.Header
        Numbers are numbers; RADESYS is ICRS or FK5 of equinox 2000, or missing as in the header.

    Raises
    ------
    BadData
        When a card is missing, is of another type, is there twice with two values, or names another frame.
    """
    cards = fits.Header({"WCSAXES": 2})
    with_matrix = any(_CD.match(key) for key in header)
    for key in dict.fromkeys(header):
        if with_matrix and _REPLACED.match(key):
            continue
        if _NUMBERS.fullmatch(key):
            cards[key] = _number(header, key)
        elif _TEXTS.fullmatch(key):
            cards[key] = _text(header, key)
        elif _TABLES.fullmatch(key):
            raise BadData(
                f"unusable WCS: {key} '{only_value(header, key)}' is a kind of distortion that is not read", Kind.WCS
            )
        elif _MIXED.match(key) and _number(header, key):
            raise BadData(f"unusable WCS: {key} mixes a third axis into the image", Kind.WCS)
    if "CTYPE1" in cards and "CTYPE2" in cards:
        _require_whole(cards)
    frame = _frame(header)
    if frame:
        cards["RADESYS"] = frame
    return cards


def only_value(header: fits.Header, key: str) -> object:
    """The value of a card that may be there once only, or with one value.

    Parameters
    ----------
    header : fits.Header
    key : str

    Returns
    -------
    object
        Text without blanks around it; None where there is no such card, or no value.

    Raises
    ------
    BadData
        When the card cannot be read, or is there twice with two values.
    """
    try:
        values = [header[key, number] for number in range(header.count(key))] if key in header else []
    except (fits.VerifyError, ValueError):
        raise BadData(f"unreadable header card {key}", Kind.WCS) from None
    values = [value.strip() if isinstance(value, str) else value for value in values]
    values = [value for value in values if not isinstance(value, fits.card.Undefined) and value is not None]
    for value in values[1:]:
        if value != values[0]:
            raise BadData(f"header card {key} is there twice, as {values[0]} and as {value}", Kind.WCS)
    return values[0] if values else None


def finite_number(value: object) -> float | None:
    """The number that the value of a card is.

    Parameters
    ----------
    value : object
        A number, or text.

    Returns
    -------
    float or None
        None where it is none, or not finite.
    """
    try:
        # Python reads 1_5 as 15.
        number = np.nan if isinstance(value, bool) or "_" in str(value) else float(value)
    except (TypeError, ValueError):
        return None
    return number if np.isfinite(number) else None


def _number(header: fits.Header, key: str) -> float:
    value = only_value(header, key)
    number = finite_number(value)
    if number is None:
        raise BadData(f"unusable WCS: {key} '{value}' is not a number", Kind.WCS)
    # The order of a polynomial stays an integer, as astropy wants it.
    return int(number) if key.endswith("ORDER") else number


def _text(header: fits.Header, key: str) -> str:
    value = only_value(header, key) or ""
    if not isinstance(value, str):
        raise BadData(f"unusable WCS: {key} {value} is not text", Kind.WCS)
    return value


def _require_whole(cards: fits.Header) -> None:
    """BadData where the reference point or a part of a distortion is missing, or CTYPE does not speak of it."""
    missing = [key for key in _REQUIRED if key not in cards]
    if missing:
        raise BadData(f"unusable WCS: header has no {', '.join(missing)}", Kind.WCS)
    for axis in ("CTYPE1", "CTYPE2"):
        for kind, needed in _DISTORTED.items():
            missing = [key for key in needed if key not in cards]
            if cards[axis].endswith(kind) and missing:
                raise BadData(
                    f"unusable WCS: {axis} {cards[axis]} without {', '.join(missing)}: no whole distortion", Kind.WCS
                )
        for order in _DISTORTED["-SIP"]:
            if cards.get(order) and not cards[axis].endswith("-SIP"):
                raise BadData(
                    f"unusable WCS: {order} is there, but {axis} {cards[axis]} does not end in -SIP", Kind.WCS
                )


def _frame(header: fits.Header) -> str:
    """ICRS, FK5 (of equinox 2000), or nothing where the header does not say; BadData of any other."""
    frame = ""
    for key in ("RADESYS", "RADECSYS", "EQUINOX", "EPOCH"):
        value = only_value(header, key)
        # ICRS has no equinox, and EPOCH is an old name of EQUINOX: a number there can mean something else.
        number = isinstance(value, int | float) and not isinstance(value, bool)
        unasked = (number and frame == "ICRS") or (key == "EPOCH" and (frame == "ICRS" or "EQUINOX" in header))
        if value in (None, "") or unasked:
            continue
        for word in re.findall(r"[^\s,;()]+", str(value).upper()):
            if word in _FRAMES:
                frame = frame or word
            elif not _EQUINOX_2000.fullmatch(word):
                raise BadData(f"the WCS must be ICRS or FK5 of equinox 2000, not {key} {value}", Kind.WCS)
            else:
                frame = frame or "FK5"
    return frame
