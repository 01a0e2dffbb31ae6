"""The exposure table: one row for every detector image, from headers alone.

In come paths and an instrument map, whose rules say which header keys hold what (`translate`); out goes an "exposure"
table.  An image that cannot be used is a row with status "failed" and the reason.
"""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, InputError, Kind
from diaflow.instruments import headers, translate
from diaflow.instruments.columns import CALIBRATIONS, COLUMNS, checked
from diaflow.instruments.fits_files import readable
from diaflow.instruments.maps import load
from diaflow.sky.wcs import central_pixel_scale, header_wcs, image_centre, image_corners
from diaflow.store import tables
from diaflow.store.files import existing

_log = logging.getLogger(__name__)
LEFT_OUT = "left out"  # status of an image that could be used and shall not be


def ingest_images(
    images: str | Sequence[str],
    instrument: str,
    metadata: dict | None = None,
    bands: Sequence[str] = (),
    detectors: Sequence[int] = (),
) -> np.ndarray:
    """The exposure table of image files, from their headers alone, without the images that are `LEFT_OUT`.

    Parameters
    ----------
    images, instrument, metadata, bands, detectors
        As of `all_images`.

    Returns
    -------
    "exposure" table

    Raises
    ------
    InputError
        As `all_images`.
    """
    table = all_images(images, instrument, metadata, bands, detectors)
    return table[table["status"] != LEFT_OUT]


def all_images(
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
        Use these only; empty for all.

    Returns
    -------
    "exposure" table
        Sorted by visit and detector.  An image that cannot be used has status "failed" and a reason, one that shall not
        be used the status `LEFT_OUT` and a reason, a bias, dark or flat frame the status "calibration".

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
    leave_out(table, table["imagetype"] == "other", "neither a science nor a calibration frame")
    further = table["status"] == LEFT_OUT
    for number in np.unique(table["hdu"][further]):
        which = further & (table["hdu"] == number)
        leave_out(table, which, f"HDU {number} is not the first image of its file, nor does the instrument map name it")
    for row in table[table["status"] == "failed"]:
        _log.warning("%s: %s", row["path"], row["reason"])
    if not np.any(table["status"] == "ok"):
        first = next((f"; the first is {row['path']}: {row['reason']}" for row in table if row["reason"]), "")
        raise InputError(f"no usable image{first}")
    _choose(table, bands, detectors)
    _refuse_conflicts(table[table["status"] == "ok"])
    order = sorted(range(len(table)), key=lambda i: (table["visit"][i], table["detector"][i], table["path"][i]))
    return table[order]


def leave_out(table: np.ndarray, which: np.ndarray, reason: str, kind: Kind = Kind.NOT_WANTED) -> None:
    """Name images that shall not be used in a warning, and say so in their rows.

    Parameters
    ----------
    table : "exposure" table
        Changed in place.
    which : (n,) bool array
    reason : str
    kind : Kind
        What the reason is about.
    """
    if which.any():
        table["status"][which], table["reason"][which], table["kind"][which] = LEFT_OUT, reason, kind
        _log.warning("left out, %s: %s", reason, ", ".join(dict.fromkeys(table["path"][which].tolist())))


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
    paths = [path for pattern in patterns for path in existing(pattern, "images")]
    if not paths:
        raise InputError("images: no pattern given")
    return list(dict.fromkeys(paths))


def _rows(path: str, rules: dict, recipe: dict) -> list[np.ndarray]:
    """One row for each detector in a file."""
    try:
        if not os.path.isfile(path):
            raise BadData(f"broken link to {os.readlink(path)}" if os.path.islink(path) else "is no file", Kind.FILE)
        with readable("unreadable header"):
            stored, others, primary = headers.of_detectors(path, recipe)
    except BadData as problem:
        return [_filled(path, _refused(problem))]
    rows = [_row(path, number, header, primary, rules, recipe) for number, header in stored]
    return rows + [_filled(path, {"hdu": number, "status": LEFT_OUT}) for number in others]


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


def _choose(table: np.ndarray, bands: Sequence[str], detectors: Sequence[int]) -> None:
    """Leave out what is not of some bands and detectors."""
    usable = table["status"] == "ok"
    for column, wanted, unknown in (("band", bands, ""), ("detector", detectors, -1)):
        if len(wanted):
            # What an unusable image would have been may be unknown; it stays as it is, to be seen.
            others = ~np.isin(table[column], [*wanted, unknown]) & (table["status"] != LEFT_OUT)
            if not np.any((table["status"] == "ok") & ~others):
                present = ", ".join(str(value) for value in sorted(set(table[column][usable].tolist())))
                raise InputError(f"{column}s: no image in {', '.join(map(str, wanted))} (the images have {present})")
            for value in np.unique(table[column][others]):
                leave_out(table, others & (table[column] == value), f"{column} {value} is not among the {column}s")


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
