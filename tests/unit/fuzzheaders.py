"""Headers that are not what they should be: strategies, and what must hold for a row that is made of one.

A header is the control's with one to three changes.  A change is a tuple whose first entry names its kind, so that a
failing example can be read.
"""

import fuzzcontrol as control
import numpy as np
from astropy.io import fits
from astropy.time import Time
from hypothesis import strategies as st

# Columns of the exposure table that are what a card says, and what they are where there is none.
READ = {
    "visit": "VISIT", "detector": "DETECTOR", "exptime": "EXPTIME", "gain": "GAIN", "read_noise": "RDNOISE",
    "saturation": "SATURATE", "bias": "BIASLVL",
}  # fmt: skip
DEFAULTS = {"DETECTOR": 0, "BIASLVL": 0.0}
METADATA = [*READ.values(), "FILTER", "MJD-OBS", "TIMESYS"]
WCS_KEYS = [
    "RADESYS", "CTYPE1", "CTYPE2", "CUNIT1", "CUNIT2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2", "CD1_1", "CD1_2",
    "CD2_1", "CD2_2",
]  # fmt: skip
NOT_NEEDED = [
    "EQUINOX", "LONPOLE", "LATPOLE", "WCSAXES", "PV1_1", "PV2_1", "PV1_3", "CROTA2", "CDELT1", "PC1_2", "A_ORDER",
    "B_ORDER", "A_2_0", "AP_ORDER", "DATE-OBS", "SEEING", "MAGZERO", "OBJECT", "CRDER1", "WCSNAME", "BUNIT",
    "EXTNAME", "DATASUM", "CPDIS1", "DP1", "D2IMDIS1", "OBSGEO-X", "MJD-AVG", "RESTFRQ", "SPECSYS", "CTYPE1A",
    "CTYPE3", "CRVAL3", "CD3_3",
]  # fmt: skip

numbers = st.one_of(
    st.sampled_from([0, 1, -1, 12, 2000, 1950, 30.0, -0.5, 1e-12, 1e12, 1e30, -1e30, 2**31, 2**63, 60000.1, 2460000.6]),
    st.integers(-(10**6), 10**6),
    st.floats(allow_nan=False, allow_infinity=False),
)
WORDS = """|NaN|nan|INF|N/A|none|30,0|30 s|2.0 e/ADU|1e3|0012|1_000|0x10|12:30|10:00:00.0|+02:00:00|2023-02-25|1.5D2|T|
-|2023-02-25T03:00:00|UNKNOWN|True|NOW|B1950|J2000|J2000.0|FK4|FK5|ICRS|icrs|GAPPT|GALACTIC|RA---SIP|RA---TPV|RA---CAR|
RA---TAN-SIP|GLON-TAN|RA---ZPN|DEC--TAN|ra---tan|LINEAR|deg|DEG|degree|degrees|arcsec|rad|hourangle|pixel|UT|UT1|TAI|TT|TDB
|GPS|LOCAL|UTC(NTP)|sdss r|r'|R/100| """.replace("\n", "").split("|")
words = st.one_of(
    st.sampled_from(WORDS),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20),
    st.text("abc '&", min_size=69, max_size=200),  # goes on in CONTINUE cards
)
values = st.one_of(numbers, words, st.booleans(), st.just(fits.card.UNDEFINED), numbers.map(repr))

# Cards that nobody needs; the last of them are no cards of the standard.
KEYS = [
    b"XA      = ",
    b"XB-1    = ",
    b"COMMENT ",
    b"HISTORY ",
    b"",
    b"CONTINUE",
    b"HIERARCH ESO DET = ",
    b"HIERARCH a b = ",
]
ODD = [b"XNAN    = NaN", b"XINF    = INF", b"XOPEN   = 'open", b"XTWO    = 'a' 'b'", b"XEQ     =1", b"xlower  = 1"]
printable = st.lists(st.sampled_from(bytes(range(32, 127))), max_size=60).map(bytes)
junk = st.one_of(
    st.builds(lambda key, rest: key.ljust(8) + rest, st.sampled_from(KEYS), printable),
    st.builds(lambda value: control.card_bytes("XLONG", value), st.text("abc '&", min_size=60, max_size=200)),
    st.sampled_from(ODD),
)
unprintable = st.sampled_from(
    [
        b"ORIGIN  = 'some\nwhere'",
        b"CAMTEMP =  -10.0\0\0",
        b"OBSERVER= 'Jos\xe9'",
        b"COMMENT \xb0C",
        b"XTAB\t  = 1",
        b"\x80" * 8,
    ]
)

# The same said in another way: the image is made, and its numbers are those of the control.
_CD = control.starfield.PIXEL_SCALE / 3600
_NO_CD = dict.fromkeys(("CD1_1", "CD1_2", "CD2_1", "CD2_2"))
SAME = [
    {"VISIT": float(control.VISIT)},
    {"VISIT": str(control.VISIT)},
    {"DETECTOR": None},
    {"CD1_2": None, "CD2_1": None},
    {"CUNIT1": None, "CUNIT2": None},
    {"TIMESYS": None},
    {"FILTER": "r  "},
    {"CD1_1": -0.5, "CD2_2": 0.5, "CUNIT1": "arcsec", "CUNIT2": "arcsec", "CRVAL1": 540000.0, "CRVAL2": 7200.0},
    _NO_CD | {"CDELT1": -_CD, "CDELT2": _CD},
    _NO_CD | {"CDELT1": -_CD, "CDELT2": _CD, "CROTA2": 0.0},
    _NO_CD | {"CDELT1": -1.0, "CDELT2": 1.0, "PC1_1": _CD, "PC2_2": _CD},
    {"CRVAL1": -210.0},
    {"CRVAL1": 510.0},
    {"EQUINOX": 2000.0},
    {"RADESYS": None},
    {"RADESYS": None, "EQUINOX": 2000.0},
    {"RADESYS": None, "EQUINOX": "J2000"},
    {"RADESYS": "FK5", "EQUINOX": "2000.0"},
    {"RADESYS": "FK5"},
    {"CTYPE1": "RA---ZPN", "CTYPE2": "DEC--ZPN", "PV2_1": 1.0},
    {"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_1": 1.0, "PV2_1": 1.0},
    {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": 2, "B_ORDER": 2},
    {"LONPOLE": 180.0, "LATPOLE": 2.0},
]
# Not J2000: the image is refused.
OTHER_SYSTEM = [
    {"RADESYS": None, "EQUINOX": 1950.0},
    {"RADESYS": None, "EQUINOX": "B1950"},
    {"RADESYS": None, "EQUINOX": "NOW"},
    {"RADESYS": "FK4"},
    {"RADESYS": "FK4-NO-E", "EQUINOX": 1950.0},
    {"RADESYS": "GAPPT"},
    {"RADESYS": "FK5", "EQUINOX": 1975.0},
    {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"},
    {"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"},
]
# Dates without MJD-OBS, and the start in UTC that they say [MJD]; None where nothing says it.
_DAY = 60000.0  # 2023-02-25
DATES = [
    ({"DATE-OBS": "2023-02-25T03:00:00"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-02-25T03:00:00.000"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-02-25T03:00:00Z"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-02-25 03:00:00"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-02-25T05:00:00+02:00"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-02-25", "TIME-OBS": "03:00:00"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-02-25", "UT": "03:00:00"}, _DAY + 0.125),
    ({"DATE-OBS": "20230225", "UT": "03:00:00"}, _DAY + 0.125),
    ({"DATE-OBS": "20230225T030000"}, _DAY + 0.125),
    ({"DATE-OBS": "25/02/23", "UT": "03:00:00"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-056T03:00:00"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-W08-6T03:00:00"}, _DAY + 0.125),
    ({"DATE-OBS": "2023-02-25"}, None),
    ({"DATE-OBS": "20230225"}, None),
    ({"DATE-OBS": "2023-02-30T03:00:00"}, None),
    ({"DATE-OBS": "2023-02-25T25:00:00"}, None),
    ({"DATE-OBS": "2023-02-25T"}, None),
    ({"DATE-OBS": "2023-02"}, None),
    ({"DATE-OBS": "2023-W08"}, None),
    ({"DATE-OBS": "2023-W08-6"}, None),
    ({"DATE-OBS": 2023}, None),
    ({"DATE-OBS": 20230225}, None),
    ({"DATE-OBS": "2023-02-25", "UT": "03"}, None),
    ({"DATE-OBS": "2023-02-25", "UT": 3.0}, None),
    ({"DATE-OBS": "2023-02-25", "UT": "03:00:00 PM"}, None),
    ({}, None),
]

changes = st.one_of(
    st.tuples(st.just("remove"), st.sampled_from([*METADATA, *WCS_KEYS])),
    st.tuples(st.just("set"), st.sampled_from(METADATA), values),
    st.tuples(st.just("set"), st.sampled_from([*WCS_KEYS, *NOT_NEEDED]), values),
    st.tuples(st.just("again"), st.sampled_from([*METADATA, *WCS_KEYS]), values),
    st.tuples(st.just("junk"), junk, st.integers(0, len(control.cards()))),
    st.tuples(st.just("unprintable"), unprintable, st.integers(0, len(control.cards()))),
    st.tuples(st.just("same"), st.sampled_from(SAME)),
    st.tuples(st.just("other system"), st.sampled_from(OTHER_SYSTEM)),
    st.tuples(st.just("date"), st.sampled_from(DATES)),
)
headers = st.one_of(st.lists(changes, min_size=1, max_size=1), st.lists(changes, min_size=1, max_size=3)).filter(
    lambda tried: sum(kind == "date" for kind, *_ in tried) < 2  # of which one would have to be believed
)


def changed(header_changes: list[tuple]) -> list[tuple[str, object]]:
    """Keys and values of the control's header after some changes; cards as they are have the key ""."""
    cards = list(control.cards().items())
    for kind, what, *rest in header_changes:
        if kind == "remove":
            cards = [card for card in cards if card[0] != what]
        elif kind == "set":
            cards = _with(cards, {what: rest[0]})
        elif kind == "again":
            cards.append((what, rest[0]))
        elif kind in ("junk", "unprintable"):
            cards.insert(rest[0], ("", what.ljust(-(-len(what) // 80) * 80)[: max(80, len(what) // 80 * 80)]))
        else:
            cards = _with(cards, {"MJD-OBS": None} | what[0] if kind == "date" else what)
    return cards


def _with(cards: list[tuple], new: dict) -> list[tuple]:
    """Cards with other values in their places or at the end; None removes one."""
    kept = [(key, new.get(key, value)) for key, value in cards]
    kept += [(key, value) for key, value in new.items() if key not in dict(cards)]
    return [(key, value) for key, value in kept if value is not None]


def as_bytes(cards: list[tuple[str, object]]) -> list[bytes]:
    """The cards as they are written."""
    return [value if key == "" else control.card_bytes(key, value) for key, value in cards]


def assert_as_written(row: np.void, cards: list[tuple[str, object]]) -> None:
    """A usable row says what the header says, of each key the first card."""
    first = {key: value for key, value in reversed(cards) if value is not fits.card.UNDEFINED}
    for column, key in READ.items():
        written = control.number(first.get(key, DEFAULTS.get(key)))
        assert written is not None and np.isclose(row[column], written, rtol=1e-6), (
            column,
            row[column],
            first.get(key),
        )
    assert row["band"] == first["FILTER"].strip()
    key = READ["exptime"]
    start, exposure = start_utc(first), control.number(first.get(key, DEFAULTS.get(key))) / 2 / 86400
    assert start is not None and abs(row["mjd"] - start - exposure) < 0.01 / 86400 + 1e-9, (row["mjd"], start)


def start_utc(first: dict) -> float | None:
    """The start of the exposure in TAI that the header says [MJD]."""
    said = control.number(first.get("MJD-OBS"))
    if "MJD-OBS" not in first:
        said = max((date for date in DATES if date[0].items() <= first.items()), key=lambda date: len(date[0]))[1]
    scale = str(first.get("TIMESYS", "")).strip().upper()
    scale = {"": "UTC", "UT": "UTC", "GMT": "UTC", "IAT": "TAI", "TDT": "TT", "ET": "TT"}.get(scale, scale)
    if said is None:
        return None
    if scale == "GPS":
        return said + 19 / 86400
    return Time(said, format="mjd", scale=scale.lower()).tai.mjd if scale in ("UTC", "TAI", "TT", "TDB") else None


def must_be_made(header_changes: list[tuple]) -> bool:
    """Whether nothing is wrong with the image: what changed says the same, or is not needed.

    A CONTINUE that continues nothing spoils the card before it, which may be a needed one.  Two changes of one key may
    say together what neither says.
    """
    cards = [what[0] if kind == "date" else what for kind, what, *_ in header_changes if kind in ("same", "date")]
    said = [key for changed_cards in cards for key in changed_cards]
    return len(said) == len(set(said)) and all(
        kind == "same"
        or (kind == "junk" and not what.startswith(b"CONTINUE"))
        or (kind == "date" and DATES.index(what) < 7)
        for kind, what, *_ in header_changes
    )


def must_be_refused(header_changes: list[tuple]) -> bool:
    """Whether the image is of another system than J2000, and nothing else was changed."""
    return len(header_changes) == 1 and header_changes[0][0] == "other system"
