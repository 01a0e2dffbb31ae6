"""Translate one image header into columns of the exposure table by the rules of an instrument map.

A rule is a constant or a mapping with one of the keys key, file, column, first, sum, product, time (see
`docs/bring_your_own_camera.md`).  `check` refuses a map that cannot work before any image is read; `translate`
applies it.  Whatever is wrong with one image is a `BadData` whose message starts with the column's name.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, InputError, Kind
from diaflow.instruments import companions, times
from diaflow.instruments.columns import COLUMNS, UNIMPORTANT, WHEN_ABSENT, as_number, checked
from diaflow.sky.wcs_cards import only_value
from diaflow.store import tables

# Fields that any rule with a value may have, and those of each kind of rule.
_COMMON = {"values", "unit", "power", "scale", "offset", "magnitude"}
_FIELDS = {
    "key": {"key", "pattern", "default"},
    "file": {"file", "hdu", "field", "index", "pattern"},
    "column": {"column"},
    "first": {"first"},
    "sum": {"sum"},
    "product": {"product"},
}
# What a value in a unit is multiplied with, by the unit of the column.
_UNITS = {
    "s": {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": times.DAY},
    "d": {"s": 1 / times.DAY, "min": 1 / 1440.0, "h": 1 / 24.0, "d": 1.0},
    "arcsec": {"arcsec": 1.0, "arcmin": 60.0, "deg": 3600.0, "pixel": None},
}


@dataclass
class Image:
    """What the rules can look at.

    Attributes
    ----------
    path : Path
        Of the file; rules see its name and the files beside it.
    lookup : callable
        Gives the value of a header key, or None.
    ny : int
        Rows of the image.
    pixel_scale : float
        [arcsec]; NaN where there is no WCS.
    columns : dict
        Columns of the exposure table that are known so far.
    tables : dict
        First rows of tables beside the image by their path, read once.
    """

    path: Path
    lookup: Callable[[str], object]
    ny: int = 0
    pixel_scale: float = np.nan
    columns: dict = field(default_factory=dict)
    tables: dict = field(default_factory=dict)


def header_lookup(*headers: fits.Header) -> Callable[[str], object]:
    """A function that looks up keys.

    Parameters
    ----------
    *headers : fits.Header
        The first that has a key counts.

    Returns
    -------
    callable
        Gives the value of a key, strings stripped, or None; raises BadData where its card cannot be read, or is there
        twice with two values.
    """

    def lookup(key: str) -> object:
        values = (only_value(header, key) for header in headers)
        return next((value for value in values if value is not None), None)

    return lookup


def translate(rules: dict, image: Image) -> None:
    """Fill the columns of an image by the rules of a map, in the order of `COLUMNS`.

    Parameters
    ----------
    rules : dict
        Rule by column.
    image : Image
        Its `columns` are filled.

    Raises
    ------
    BadData
        When a rule does not work for this image; the columns that do are filled all the same.
    """
    problems = []
    for column in COLUMNS:
        try:
            value = evaluate(rules.get(column, WHEN_ABSENT.get(column)), column, image)
            image.columns[column] = checked(column, value)
        except BadData as problem:
            if column not in UNIMPORTANT.get(image.columns.get("imagetype"), ()):
                problems.append(f"{column}: {problem}")
    if problems:
        raise BadData("; ".join(problems), Kind.HEADER)


def check(name: str, rules: dict) -> None:
    """Refuse a map that has a column missing or unknown, or a rule that is not well formed.

    Parameters
    ----------
    name : str
        Of the map.
    rules : dict
        Rule by column.

    Raises
    ------
    InputError
        Naming the map, the column and the fault.
    """
    for column in COLUMNS:
        if column not in rules and column not in WHEN_ABSENT:
            raise InputError(f"instrument {name}: column {column} is missing")
    for column, rule in rules.items():
        if column not in COLUMNS:
            raise InputError(f"instrument {name}: unknown column {column} (known: {', '.join(COLUMNS)})")
        try:
            check_rule(rule, column)
        except (ValueError, TypeError, re.error) as fault:
            raise InputError(f"instrument {name}: column {column}: {fault}") from None


def check_rule(rule: object, column: str) -> None:
    """Refuse a rule that is not well formed.

    Parameters
    ----------
    rule : object
        As YAML has it.
    column : str

    Raises
    ------
    ValueError, TypeError, re.error
        With the fault.
    """
    if not isinstance(rule, dict):
        if isinstance(rule, list):
            raise ValueError("a rule is a constant or a mapping, not a list")
        return
    if "time" in rule:
        _check_time(rule, column)
        return
    kinds = [kind for kind in _FIELDS if kind in rule]
    if len(kinds) != 1:
        raise ValueError(f"a rule has exactly one of {', '.join(_FIELDS)}, time")
    unknown = set(rule) - _FIELDS[kinds[0]] - _COMMON
    if unknown:
        raise ValueError(f"unknown field {', '.join(sorted(unknown))} in a rule with {kinds[0]}")
    if "file" in rule:
        companions.check(rule)
    elif "pattern" in rule and re.compile(rule["pattern"]).groups != 1:
        raise ValueError(f"pattern {rule['pattern']} must have one group")
    if "unit" in rule and rule["unit"] not in _UNITS.get(_unit(column), {}):
        raise ValueError(f"unit {rule['unit']} cannot be converted to {_unit(column)}")
    if "file" in rule and "field" not in rule:
        raise ValueError("a rule with file needs the field (column) to read")
    if "column" in rule and rule["column"] not in COLUMNS[: COLUMNS.index(column)]:
        raise ValueError(f"column {rule['column']} is not known before {column} (order: {', '.join(COLUMNS)})")
    if kinds[0] in ("first", "sum", "product"):
        for part in rule[kinds[0]]:
            check_rule(part, column)


def _check_time(rule: dict, column: str) -> None:
    if column != "mjd":
        raise ValueError("only mjd can have a rule with time")
    if rule["time"] not in times.RULES:
        raise ValueError(f"unknown time rule {rule['time']} (known: {', '.join(times.RULES)})")
    value = _value_part(rule)
    if rule["time"].startswith("fits"):
        if value:
            raise ValueError(f"time rule {rule['time']} takes no {', '.join(value)}")
        return
    check_rule(value, column)
    if ("row_seconds" in rule) != (rule["time"] == "tai_drift_scan"):
        raise ValueError("row_seconds belongs to the time rule tai_drift_scan, which needs it")
    check_rule(rule.get("row_seconds"), "exptime")


def evaluate(rule: object, column: str, image: Image) -> object:
    """The value that a rule gives for an image.

    Parameters
    ----------
    rule : object
        A constant or a mapping, well formed.
    column : str
        For its unit.
    image : Image

    Returns
    -------
    object
        For `columns.checked`.

    Raises
    ------
    BadData
        When the rule does not work for this image.
    """
    if not isinstance(rule, dict):
        return rule
    kind = next(kind for kind in _KINDS if kind in rule)
    value = _KINDS[kind](rule, column, image)
    return value if kind == "time" or value is None else _modified(value, rule, column, image)


def _from_key(rule: dict, column: str, image: Image) -> object:
    """The value of the first key that is in the header and matches the pattern, or the default."""
    keys = [rule["key"]] if isinstance(rule["key"], str) else rule["key"]
    pattern = rule.get("pattern", "(.*)")
    for key in keys:
        value = image.path.name if key == "file_name" else image.lookup(key)
        if value is not None and "pattern" not in rule:
            return value
        match = re.search(pattern, str(value)) if value is not None else None
        if match:
            return match.group(1)
    if "default" in rule:
        return rule["default"]
    raise BadData(
        f"header has no {' or '.join(keys)}" + (f" that matches {pattern}" if "pattern" in rule else ""), Kind.HEADER
    )


def _from_file(rule: dict, column: str, image: Image) -> object:
    """A field of the first row of a table beside the image."""
    path = companions.path(rule, image)
    if path not in image.tables:
        image.tables[path] = companions.first_row(path, rule.get("hdu", 1))
    try:
        value = image.tables[path][rule["field"]]
        if "index" in rule:
            value = value[rule["index"][image.columns["band"]]]
        return np.asarray(value).item()
    except (KeyError, IndexError, ValueError):
        raise BadData(f"{path.name} has no {rule['field']} for this image", Kind.HEADER) from None


def _from_column(rule: dict, column: str, image: Image) -> object:
    if rule["column"] not in image.columns:
        raise BadData(f"{rule['column']} is not known", Kind.HEADER)
    return image.columns[rule["column"]]


def _first(rule: dict, column: str, image: Image) -> object:
    """The value of the first rule that works."""
    reasons = []
    for part in rule["first"]:
        try:
            return evaluate(part, column, image)
        except BadData as problem:
            reasons.append(str(problem))
    raise BadData("; ".join(dict.fromkeys(reasons)), Kind.HEADER)


def _sum(rule: dict, column: str, image: Image) -> float:
    return sum(as_number(evaluate(part, column, image)) for part in rule["sum"])


def _product(rule: dict, column: str, image: Image) -> float:
    return float(np.prod([as_number(evaluate(part, column, image)) for part in rule["product"]]))


def _time(rule: dict, column: str, image: Image) -> float:
    """Mid-exposure MJD by a named rule."""
    if "exptime" not in image.columns:
        raise BadData("exptime is not known", Kind.HEADER)
    exptime = image.columns["exptime"]
    if rule["time"].startswith("fits"):
        return times.middle(rule["time"], times.fits_time(image.lookup, exptime), exptime)
    mjd = evaluate(_value_part(rule), column, image)
    scale = "UTC" if rule["time"].startswith("utc") else "TAI"
    try:
        mjd = as_number(mjd)
    except BadData:
        mjd = times.parse_date(str(mjd), scale=scale)
    row_seconds = as_number(evaluate(rule.get("row_seconds", 0.0), "exptime", image))
    return times.middle(rule["time"], mjd, exptime, (image.ny - 1) / 2 * row_seconds)


_KINDS = {
    "time": _time, "key": _from_key, "file": _from_file, "column": _from_column,
    "first": _first, "sum": _sum, "product": _product,
}  # fmt: skip


def _value_part(rule: dict) -> dict:
    return {name: entry for name, entry in rule.items() if name not in ("time", "row_seconds")}


def _modified(value: object, rule: dict, column: str, image: Image) -> object:
    """The value after the common fields of its rule."""
    if "values" in rule:
        names = {str(name): entry for name, entry in rule["values"].items()}
        if str(value) not in names:
            raise BadData(f"'{value}' is not among the values {', '.join(names)}", Kind.HEADER)
        value = names[str(value)]
    if "unit" in rule:
        factor = _UNITS[_unit(column)][rule["unit"]]
        value = as_number(value) * (image.pixel_scale if factor is None else factor)
    if "power" in rule:
        value = _positive(value) ** rule["power"]
    if "scale" in rule:
        value = as_number(value) * rule["scale"]
    if "offset" in rule:
        value = as_number(value) + rule["offset"]
    if "magnitude" in rule:
        value = rule["magnitude"] + 2.5 * np.log10(_positive(value))
    return value


def _unit(column: str) -> str:
    return tables.schema("exposure")[column].get("unit", "")


def _positive(value: object) -> float:
    if as_number(value) <= 0:
        raise BadData(f"{value} is not positive", Kind.HEADER)
    return as_number(value)
