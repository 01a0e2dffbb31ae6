"""The exposure table: one row for every detector image, from headers alone.

In come paths and an instrument map, whose rules say which header keys hold what (`translate`); out goes an "exposure"
table.  An image that cannot be used is a row with status "failed" and the reason.
"""

import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, InputError, Kind
from diaflow.instruments import headers, translate
from diaflow.instruments.columns import CALIBRATIONS, COLUMNS, checked
from diaflow.instruments.maps import load
from diaflow.sky.wcs import central_pixel_scale, header_wcs, image_centre, image_corners
from diaflow.store import tables

LEFT_OUT = "left out"

_log = logging.getLogger(__name__)


def ingest_images(
    images: str | Sequence[str],
    instrument: str,
    metadata: dict | None = None,
    bands: Sequence[str] = (),
    detectors: Sequence[int] = (),
) -> np.ndarray:
    """The exposure table of image files, from their headers alone.

    Parameters
    ----------
    images : str or list of str
        Paths or glob patterns (``**`` goes through folders).
    instrument : str
        Name of a built-in instrument, or path of a YAML map.
    metadata : dict
        Constants by column that take the place of the map's rules, e.g. ``{"gain": 1.4}``.
    bands, detectors : list
        Take these only; empty for all.

    Returns
    -------
    "exposure" table
        Sorted by visit and detector, those that are not wanted at the end.  An image that cannot be used has status
        "failed" with a reason and its kind, one that is not wanted "left out" with the same; a bias, dark or flat frame
        "calibration".

    Raises
    ------
    InputError
        When a pattern matches nothing, no image can be used, two images claim the same visit and detector, one
        visit has two bands, or `instrument` or `metadata` is not usable.
    """
    recipe = load(instrument)
    rules = recipe["columns"] | _constants(metadata or {})
    paths = _expand([images] if isinstance(images, str) else images)
    table = np.concatenate([row for path in paths for row in _rows(path, rules, recipe)])
    table = _without_others(table)
    for row in table[table["status"] == "failed"]:
        _log.warning("%s: %s", row["path"], row["reason"])
    if not np.any(table["status"] == "ok"):
        first = next((f"; the first is {row['path']}: {row['reason']}" for row in table if row["reason"]), "")
        raise InputError(f"no usable image{first}")
    _choose(table, bands, detectors)
    for reason in sorted(set(table["reason"][table["status"] == LEFT_OUT])):
        paths = table["path"][table["reason"] == reason]
        _log.info("%d images are left out, %s; the first is %s", len(paths), reason, paths[0])
    _refuse_conflicts(table[table["status"] == "ok"])
    keys = ("visit", "detector", "path")
    order = sorted(range(len(table)), key=lambda i: (table["status"][i] == LEFT_OUT, *(table[key][i] for key in keys)))
    return table[order]


def _constants(metadata: dict) -> dict:
    for column, value in metadata.items():
        if column not in COLUMNS:
            raise InputError(f"metadata: unknown name {column} (known: {', '.join(COLUMNS)})")
        try:
            checked(column, value)
        except BadData as problem:
            raise InputError(f"metadata.{column}: {problem}") from None
    return metadata


def _expand(patterns: Sequence[str]) -> list[str]:
    paths = []
    for pattern in patterns:
        # A file whose name has brackets in it is itself before it is a pattern.
        matches = [pattern] if os.path.isfile(pattern) else sorted(glob.glob(pattern, recursive=True))
        files = [path for path in matches if os.path.isfile(path)]
        if not files:
            raise InputError(f"images: no file matches {pattern}")
        paths += files
    if not paths:
        raise InputError("images: no pattern given")
    return list(dict.fromkeys(paths))


def _rows(path: str, rules: dict, recipe: dict) -> list[np.ndarray]:
    """One row for each detector in a file."""
    try:
        with headers.readable("unreadable header"):
            stored, primary = headers.of_detectors(path, recipe["hdu"])
            return [_row(path, number, header, primary, rules, recipe) for number, header in stored]
    except BadData as problem:
        return [_filled(path, _refused(problem))]


def _row(path: str, number: int, header: fits.Header, primary: fits.Header, rules: dict, recipe: dict) -> np.ndarray:
    columns = {"hdu": number}
    try:
        header = headers.assembled(path, header, recipe)
        columns |= {"nx": header["NAXIS1"], "ny": header["NAXIS2"]}
    except BadData as problem:
        columns |= _refused(problem)
    else:
        columns |= _translated(Path(path), header, primary, rules, recipe)
    return _filled(path, columns)


def _filled(path: str, columns: dict) -> np.ndarray:
    row = tables.from_columns("exposure", path=path, imagetype="science", visit=-1, detector=-1, status="failed")
    for column, value in columns.items():
        row[column] = value
    return row


def _translated(path: Path, header: fits.Header, primary: fits.Header, rules: dict, recipe: dict) -> dict:
    """Columns of an image; status and reason among them when it is no science image or cannot be used."""
    image = translate.Image(path, translate.header_lookup(header, primary), header["NAXIS2"])
    sky, unplaced, untranslated = {}, None, None
    try:
        sky = _sky_columns(headers.located(path, header, primary, recipe))
        image.pixel_scale = sky["pixel_scale"]
    except BadData as problem:
        unplaced = problem
    try:
        translate.translate(rules, image)
    except BadData as problem:
        untranslated = problem
    columns = image.columns | sky | {"status": "ok"}
    imagetype = columns.get("imagetype")
    if imagetype in CALIBRATIONS:
        # It belongs to no visit and is nowhere on the sky; only a flat field has a band.
        band = columns.get("band", "") if imagetype == "flat" else ""
        columns, unplaced = image.columns | {"visit": -1, "band": band, "status": "calibration"}, None
    problems = [problem for problem in (unplaced, untranslated) if problem]
    return columns | _refused(*problems) if problems else columns


def _refused(*problems: BadData) -> dict:
    """Status, reason and kind of an image that cannot be used; the first problem tells the kind."""
    return {"status": "failed", "reason": "; ".join(map(str, problems)), "kind": problems[0].kind}


def _sky_columns(header: fits.Header) -> dict:
    wcs = header_wcs(header)
    shape = header["NAXIS2"], header["NAXIS1"]
    ra, dec = image_corners(wcs, shape)
    centre = image_centre(wcs, shape)
    columns = {"ra": centre[0], "dec": centre[1], "pixel_scale": central_pixel_scale(wcs, shape)}
    for k in range(4):
        columns |= {f"ra_{k + 1}": ra[k], f"dec_{k + 1}": dec[k]}
    return columns


def _without_others(table: np.ndarray) -> np.ndarray:
    """The table with files that the map calls `other` left out, one row for each: they are no images of a detector."""
    others = table["imagetype"] == "other"
    _leave_out(table, others, "`imagetype` is other")
    table["visit"][others] = table["detector"][others] = -1
    first = np.unique(table["path"][others], return_index=True)[1]
    return np.concatenate([table[~others], table[others][first]])


def _leave_out(table: np.ndarray, rows: np.ndarray, reason: str) -> None:
    """Say of some rows that they are not wanted."""
    table["status"][rows], table["reason"][rows], table["kind"][rows] = LEFT_OUT, reason, Kind.NOT_WANTED


def _choose(table: np.ndarray, bands: Sequence[str], detectors: Sequence[int]) -> None:
    """Leave out what is of other bands or detectors."""
    for column, wanted, unknown in (("band", bands, ""), ("detector", detectors, -1)):
        if len(wanted):
            present = table[column][table["status"] == "ok"].tolist()
            # What an unusable image would have been may be unknown; it stays what it is.
            _leave_out(table, ~np.isin(table[column], [*wanted, unknown]), f"{column} not in `{column}s`")
            if not np.any(table["status"] == "ok"):
                present = ", ".join(str(value) for value in sorted(set(present)))
                raise InputError(f"{column}s: no image in {', '.join(map(str, wanted))} (the images have {present})")


def _refuse_conflicts(table: np.ndarray) -> None:
    """Two images of one detector in one visit, or two bands in one visit, mean that the visit number is wrong."""
    row_of_image, row_of_visit = {}, {}
    for row in table:
        other = row_of_image.setdefault((row["visit"], row["detector"]), row)
        if other is not row:
            image = f"visit {row['visit']}, detector {row['detector']}"
            raise InputError(f"{other['path']} and {row['path']} are both {image}")
        other = row_of_visit.setdefault(row["visit"], row)
        if other["band"] != row["band"]:
            bands = f"{other['band']} ({other['path']}) and {row['band']} ({row['path']})"
            raise InputError(f"visit {row['visit']} has images in two bands: {bands}")
