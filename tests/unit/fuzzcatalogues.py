"""Catalogues that are not what they should be: formats, units, identifiers, columns and rows.

A try is the format of the file, the kind of change and what it changes.  The columns are id, ra, dec, r and e_r; the
rest is as in the control.
"""

import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import fuzzcontrol as control
import numpy as np
import pyarrow as pa
from astropy import units as u
from astropy.coordinates import Angle
from astropy.io import fits
from astropy.table import MaskedColumn, Table
from hypothesis import strategies as st
from pyarrow import parquet
from scipy.spatial import KDTree

from diaflow.sky import sphere

STATING_UNITS = ["fits", "fits.gz", "ldac", "ecsv", "vot", "parquet", "tsv"]
TEXTS = ["tsv", "csv", "csv.gz", "txt", "bar", "crlf"]
FORMATS = [*STATING_UNITS, *TEXTS[1:]]
SUFFIXES = {"ldac": "fits", "bar": "txt", "crlf": "csv"}  # where they are not the format
COLUMNS = ["id", "ra", "dec", "r", "e_r"]
POSITION = ("ra", "dec")

# Units that say what a number is, and what they make of 1 deg, 1 mag and 1 nJy.
ANGLES = {"deg": 1.0, "degree": 1.0, "rad": np.radians(1.0), "hourangle": 1 / 15, "arcmin": 60.0, "mas": 3.6e6}
MAGNITUDES = {"mag": 1.0, "mmag": 1000.0, "mag(AB)": 1.0}
NANOMAGGY = 10 ** (0.4 * (31.4 - 22.5))  # [nJy]
FLUXES = {"Jy": 1e-9, "mJy": 1e-6, "uJy": 1e-3, "nJy": 1.0, "nanomaggy": 1 / NANOMAGGY, "nmgy": 1 / NANOMAGGY}
UNITS = [
    *({"ra": ra, "dec": "deg" if ra == "hourangle" else ra} for ra in ANGLES),
    *({"r": unit, "e_r": unit} for unit in [*MAGNITUDES, *FLUXES]),
    {"ra": "hms", "dec": "dms"},
]
# Units of something else, or of nothing.
UNKNOWN = ["furlong", "electron", "ADU", "s", "kg", "?", "mag/arcsec2", "log(Jy)", "K", "%", "deg2"]
IDENTIFIERS = [
    "integers", "from 0", "negative", "large", "beyond 63 bits", "floats", "text", "digits", "leading zeros", "bytes",
    "unicode", "none", "all the same", "one twice", "booleans", "empty text", "one missing",
]  # fmt: skip
TELL_NO_STARS_APART = IDENTIFIERS[-5:]
VALUES = [
    ("ra", np.nan), ("ra", np.inf), ("ra", 1e9), ("ra", -360.0), ("dec", np.nan), ("dec", -np.inf), ("dec", 95.0),
    ("dec", -91.0), ("r", np.nan), ("r", np.inf), ("r", 99.0), ("r", -99.0), ("r", -9999.0), ("r", 0.0),
    ("e_r", np.nan), ("e_r", -1.0), ("e_r", 99.0),
]  # fmt: skip
ENTRIES = ["", "nan", "NULL", "--", "abc", "1e", "12:30:00", "1,5", "-", "N/A", "99.9.9", "é"]
NAMES = ["RA", "ra (deg)", "ra,deg", "α", " ra", "'ra'", '"ra"', "", "1", "#ra"]

rows = st.integers(0, 35)  # of 36 stars


def entry_of(change: tuple) -> tuple:
    """Column and row of a changed value."""
    (name, _), row = change
    return name, row


CHANGES = {
    "units": (STATING_UNITS, st.sampled_from(UNITS)),
    "unknown unit": (STATING_UNITS, st.tuples(st.sampled_from(COLUMNS[1:]), st.sampled_from(UNKNOWN))),
    "identifiers": (FORMATS, st.sampled_from(IDENTIFIERS)),
    "values": (FORMATS, st.lists(st.tuples(st.sampled_from(VALUES), rows), min_size=1, max_size=3, unique_by=entry_of)),
    "masked": (FORMATS, st.tuples(st.sampled_from(COLUMNS[1:4]), rows)),
    "everywhere": (FORMATS, st.tuples(st.sampled_from(COLUMNS[1:4]), st.sampled_from([np.nan, 99.0, -9999.0, 0.0]))),
    "as text": (FORMATS, st.sampled_from(COLUMNS[1:])),
    "entry": (FORMATS, st.tuples(st.sampled_from(COLUMNS), st.sampled_from(ENTRIES), rows)),
    "type": (FORMATS, st.sampled_from(["float32", ">f8"])),
    "without": (FORMATS, st.sampled_from(COLUMNS)),
    "twice": (TEXTS, st.sampled_from(COLUMNS)),
    "named": (TEXTS, st.sampled_from(NAMES)),
    "length": (FORMATS, st.integers(0, 3)),
    "damage": (
        FORMATS,
        st.tuples(st.sampled_from(["flip", "cut", "insert"]), st.floats(0, 0.9999), st.integers(0, 255)),
    ),
}
catalogues = st.one_of(
    *(st.tuples(st.sampled_from(formats), st.just(kind), what) for kind, (formats, what) in CHANGES.items())
).filter(lambda attempt: attempt != ("vot", "identifiers", "beyond 63 bits"))  # VOTable has no such numbers
FULL = ("units", "identifiers", "values", "masked", "as text")  # what leaves all that is needed


@dataclass
class Catalogue:
    """A table, what it says of units, the `refcat` section, and which stars keep a position and a magnitude."""

    table: Table
    units: dict[str, str]
    section: dict
    placed: np.ndarray
    bright: np.ndarray

    def spoil(self, name: str, rows: object) -> None:
        """A column says nothing in some rows."""
        self.placed[rows] &= name not in POSITION
        self.bright[rows] &= name != "r"


def made(kind: str, what: object) -> Catalogue:
    """The control's catalogue with a change."""
    stars = control.stars()
    table = Table({"id": np.arange(1, len(stars) + 1), **{name: stars[name].astype(float) for name in POSITION}})
    table["r"], table["e_r"] = stars["mag"].astype(float), np.full(len(stars), 0.01)
    section = {"path": "", "bands": {control.BAND: "r"}, "errors": {control.BAND: "e_r"}}
    catalogue = Catalogue(table, dict.fromkeys(POSITION, "deg"), section, *np.ones((2, len(stars)), bool))
    if kind == "units":
        _convert(catalogue, what)
    elif kind == "unknown unit":
        catalogue.units[what[0]] = what[1]
    elif kind == "identifiers":
        _identify(table, what)
        section |= {"id": None} if what == "none" else {}
    elif kind in ("values", "everywhere"):
        _set_values(catalogue, what if kind == "values" else [(what, slice(None))])
    elif kind == "masked":
        name, row = what
        table[name] = MaskedColumn(table[name], mask=np.arange(len(table)) == row)
        catalogue.spoil(name, row)
    elif kind in ("as text", "entry"):
        name, entry, row = what if kind == "entry" else (what, None, 0)
        texts = [str(value) for value in table[name]]
        if entry is not None:
            texts[row] = entry
            catalogue.spoil(name, row)
        table[name] = texts
    elif kind == "type":
        for name in COLUMNS[1:4]:
            table[name] = table[name].astype(what)
    elif kind == "without":
        table.remove_column(what)
    elif kind == "named":
        section["ra"] = what
        table.rename_column("ra", what)
    elif kind == "length":
        catalogue.table, catalogue.placed, catalogue.bright = (
            table[:what],
            catalogue.placed[:what],
            catalogue.bright[:what],
        )
    return catalogue


def _convert(catalogue: Catalogue, columns: dict[str, str]) -> None:
    """Bring columns to other units, and say so."""
    table = catalogue.table
    for name, unit in columns.items():
        if unit in ("hms", "dms"):
            angle, of = Angle(table[name], u.deg), u.hourangle if unit == "hms" else u.deg
            table[name] = angle.to_string(of, sep=":", pad=True, precision=5)
            unit = f'"{":".join(unit)}"'
        elif name in POSITION:
            table[name] *= ANGLES[unit]
        elif unit in MAGNITUDES:
            table[name] *= MAGNITUDES[unit]
        elif name == "r":
            table[name] = 10 ** ((31.4 - table[name]) / 2.5) * FLUXES[unit]
        else:
            table[name] *= table["r"] * np.log(10) / 2.5
        catalogue.units[name] = unit


def _identify(table: Table, kind: str) -> None:
    """Give the stars other identifiers."""
    if kind == "none":
        table.remove_column("id")
        return
    i = np.arange(1, len(table) + 1)
    table["id"] = {
        "integers": i, "from 0": i - 1, "negative": -i, "large": i + 2**62, "floats": i + 0.0,
        "beyond 63 bits": i.astype(np.uint64) + np.uint64(2**63), "text": [f"J{k:04d}+02" for k in i],
        "digits": [str(10**15 + k) for k in i], "leading zeros": [f"{k:06d}" for k in i],
        "bytes": np.array([f"s{k}" for k in i], "S8"), "unicode": [f"é{k}" for k in i], "all the same": i * 0 + 7,
        "one twice": np.maximum(i, 2), "booleans": i % 2 == 0, "empty text": ["" if k == 3 else f"s{k}" for k in i],
        "one missing": MaskedColumn(i, mask=i == 3),
    }[kind]  # fmt: skip


def _set_values(catalogue: Catalogue, changes: list[tuple]) -> None:
    """Set entries of columns."""
    for (name, value), rows in changes:
        if value == -360.0:
            catalogue.table[name][rows] = control.stars()[name][rows] - 360.0  # the same place
        else:
            catalogue.table[name][rows] = value
            catalogue.spoil(name, rows)


def write(form: str, kind: str, what: object, catalogue: Catalogue, folder: Path) -> Path:
    """The catalogue in its file."""
    twice = what if kind == "twice" else None
    if form in ("fits", "fits.gz", "ldac"):
        content = _fits(catalogue, form == "ldac")
    elif form in ("ecsv", "vot"):
        content = _astropy(catalogue, form)
    elif form == "parquet":
        content = _parquet(catalogue)
    else:
        content = _text(catalogue, form, twice)
    if form.endswith(".gz"):
        content = gzip.compress(content, 1, mtime=0)
    if kind == "damage":
        how, where, byte = what
        at = int(where * len(content))
        rest = {
            "flip": bytes([content[at] ^ (byte or 1)]) + content[at + 1 :],
            "cut": b"",
            "insert": bytes([byte]) + content[at:],
        }
        content = content[:at] + rest[how]
    path = folder / f"stars.{SUFFIXES.get(form, form)}"
    path.write_bytes(content)
    return path


def _plain(column: np.ndarray) -> np.ndarray:
    """A column without a mask, NaN where it had one."""
    return np.ma.filled(column, np.nan) if column.dtype.kind == "f" else np.ma.filled(column)


def _fits(catalogue: Catalogue, ldac: bool) -> bytes:
    table = Table({name: _plain(catalogue.table[name]) for name in catalogue.table.colnames})
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            table[name] = np.char.encode(table[name], "utf-8")
    stars = fits.BinTableHDU(table, name="LDAC_OBJECTS")
    for number, name in enumerate(table.colnames, 1):
        if name in catalogue.units:
            stars.header[f"TUNIT{number}"] = catalogue.units[name]
    head = fits.BinTableHDU.from_columns([fits.Column("Field Header Card", "80A", array=["x"])], name="LDAC_IMHEAD")
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *([head] if ldac else []), stars]).writeto(file)
    return file.getvalue()


def _astropy(catalogue: Catalogue, form: str) -> bytes:
    table = catalogue.table.copy()
    for name in set(table.colnames) & set(catalogue.units):
        table[name].unit = u.Unit(catalogue.units[name], parse_strict="silent")
    file = io.BytesIO() if form == "vot" else io.StringIO()
    table.write(file, format="votable" if form == "vot" else "ascii.ecsv")
    return file.getvalue() if form == "vot" else file.getvalue().encode()


def _parquet(catalogue: Catalogue) -> bytes:
    table = catalogue.table
    arrays = [
        pa.array(np.array(_plain(table[name])).astype(table[name].dtype.newbyteorder("="))) for name in table.colnames
    ]
    units = ({"unit": catalogue.units[name]} if name in catalogue.units else None for name in table.colnames)
    fields = [pa.field(name, array.type, metadata=unit) for name, array, unit in zip(table.colnames, arrays, units)]
    file = io.BytesIO()
    parquet.write_table(pa.table(arrays, schema=pa.schema(fields)), file)
    return file.getvalue()


def _text(catalogue: Catalogue, form: str, twice: str | None) -> bytes:
    mark = {"txt": "  ", "bar": "|", "tsv": "\t"}.get(form, ",")
    names = [*catalogue.table.colnames, *([twice] if twice else [])]
    columns = [["" if np.ma.is_masked(entry) else str(entry) for entry in catalogue.table[name]] for name in names]
    lines = [mark.join(names)]
    if form == "tsv":  # of VizieR
        units, rule = (catalogue.units.get(name, " ") for name in names), ("-" * 8 for _ in names)
        lines = ["#", "#   VizieR", "", *lines, mark.join(units), mark.join(rule)]
    lines += [mark.join(entries) for entries in zip(*columns)]
    return ("\r\n" if form == "crlf" else "\n").join([*lines, ""]).encode()


def must_be_made(form: str, kind: str, what: object) -> bool:
    """Whether the file says all that is needed."""
    unsaid = (
        (form == "txt" and kind == "masked")  # an entry that is not there, where blanks stand between entries
        or (form in ("fits", "fits.gz", "ldac") and what == "unicode")  # text of FITS is ASCII
        or (form == "parquet" and what == "bytes")  # binary there
        or (kind == "identifiers" and what in TELL_NO_STARS_APART)
    )
    return kind in FULL and not unsaid


def must_be_refused(kind: str, what: object) -> bool:
    """Whether nobody can know what the file says."""
    needed = {"without": what in ("ra", "dec", "r"), "length": what == 0, "identifiers": what == "all the same"}
    return kind == "unknown unit" or needed.get(kind, False)


def assert_right(found: np.ndarray, kind: str, catalogue: Catalogue) -> None:
    """The stars of a stored catalogue are those of the control, with their magnitudes where these are known."""
    true = control.stars()
    tree = KDTree(sphere.unit_vectors(true["ra"], true["dec"]))
    distance, star = tree.query(sphere.unit_vectors(found["ra"], found["dec"]))
    rounding = 0.2 if kind == "type" else 0.01  # [arcsec], of float32 and of VizieR's digits
    same = np.degrees(distance) * 3600 < rounding
    if kind == "damage":
        # What is left is right, or it is so few stars that no image matches them.
        assert same.mean() > 0.9 or same.sum() < len(true) / 2
        return
    assert len(np.unique(found["id"])) == len(found)
    assert same.all() and np.array_equal(np.sort(star), np.flatnonzero(catalogue.placed))
    known = np.isfinite(found["mag"])
    assert np.array_equal(known, catalogue.bright[star]), (known.sum(), catalogue.bright.sum())
    assert np.allclose(found["mag"][known], true["mag"][star][known], atol=0.002)
    errors = found["mag_err"][known & np.isfinite(found["mag_err"])]
    assert np.allclose(errors, 0.01, rtol=0.02), errors
