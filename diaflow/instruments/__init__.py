"""Instruments: from image files of any camera to rows of the exposure table.

One YAML map per camera says which header keys hold what (`translate.py` has the rules); nothing but headers is
read until `read_image`.  An image that cannot be translated is a row with status "failed" and the reason.
"""

import glob
import gzip
import logging
import os
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from diaflow import geometry, tables
from diaflow.errors import BadData, InputError
from diaflow.instruments import masks, translate

_log = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent
# What astropy raises for files that are not FITS, are cut short or have impossible headers.
_UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, zlib.error, fits.VerifyError)


def names() -> list[str]:
    """The built-in instruments."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load(name_or_path: str) -> dict:
    """An instrument map: ``{"name", "hdu", "columns": {column: rule}, "masks": dict or None}``.

    Parameters
    ----------
    name_or_path : str
        Name of a built-in instrument or path of a YAML file.

    Raises
    ------
    InputError
        When there is no such map, or it is not well formed.
    """
    path = Path(name_or_path) if str(name_or_path).endswith((".yaml", ".yml")) else _FOLDER / f"{name_or_path}.yaml"
    try:
        with open(path) as file:
            content = yaml.load(file, yaml.CSafeLoader)
    except OSError:
        known = ", ".join(names())
        raise InputError(f"unknown instrument '{name_or_path}' (known: {known}, or the path of a YAML file)") from None
    except yaml.YAMLError as error:
        raise InputError(f"instrument {path}: not valid YAML ({' '.join(str(error).split())})") from None
    if not isinstance(content, dict) or not isinstance(content.get("columns"), dict):
        raise InputError(f"instrument {path}: has no mapping named columns")
    unknown = set(content) - {"description", "hdu", "columns", "masks"}
    if unknown:
        known = "description, hdu, columns, masks"
        raise InputError(f"instrument {path}: unknown key {', '.join(map(str, unknown))} (known: {known})")
    translate.check(str(name_or_path), content["columns"])
    if "masks" in content:
        try:
            masks.check(content["masks"])
        except ValueError as fault:
            raise InputError(f"instrument {path}: masks: {fault}") from None
    return {
        "name": str(name_or_path),
        "hdu": content.get("hdu"),
        "columns": content["columns"],
        "masks": content.get("masks"),
    }


def ingest(
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
        Keep these only; empty for all.

    Returns
    -------
    table "exposure", sorted by visit and detector.  An image that cannot be used has status "failed" and a reason.

    Raises
    ------
    InputError
        When a pattern matches nothing, no image can be used, two images claim the same visit and detector, one
        visit has two bands, or `instrument` or `metadata` is not usable.
    """
    recipe = load(instrument)
    rules = recipe["columns"] | _constants(metadata or {})
    paths = _expand([images] if isinstance(images, str) else images)
    table = np.concatenate([_row(path, rules, recipe["hdu"]) for path in paths])
    for row in table[table["status"] == "failed"]:
        _log.warning("%s: %s", row["path"], row["reason"])
    if not np.any(table["status"] == "ok"):
        raise InputError(f"no usable image; the first is {table['path'][0]}: {table['reason'][0]}")
    table = _chosen(table, bands, detectors)
    _refuse_conflicts(table[table["status"] == "ok"])
    order = sorted(range(len(table)), key=lambda i: (table["visit"][i], table["detector"][i], table["path"][i]))
    return table[order]


def read_image(row: np.void, instrument: str = "generic") -> tuple[np.ndarray, fits.Header]:
    """The pixels [DN] and header of one row of the exposure table.

    Parameters
    ----------
    row : row of the "exposure" table
    instrument : str
        The map that made the row, as in `load`; it may name a file that masks pixels (see `masks`).

    Returns
    -------
    image : (ny, nx) float32 array
    header : astropy.io.fits.Header
        Of the HDU that holds the pixels.

    Raises
    ------
    BadData
        When the pixels or their mask cannot be read, e.g. from a file that is cut short.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            with fits.open(row["path"], memmap=False) as hdus:
                hdu = hdus[int(row["hdu"])]
                header = hdu.header.copy()
                image = np.ascontiguousarray(hdu.data, dtype=np.float32)
    except _UNREADABLE as error:
        raise BadData(f"unreadable image {row['path']}: {_line(error)}") from error
    if image.shape != (row["ny"], row["nx"]):
        raise BadData(f"unreadable image {row['path']}: {image.shape} pixels where {row['ny']} x {row['nx']} should be")
    section = load(instrument)["masks"]
    if section:
        masks.apply(image, section, Path(row["path"]), header, row["saturation"])
    return image, header


def _constants(metadata: dict) -> dict:
    for column, value in metadata.items():
        if column not in translate.COLUMNS:
            raise InputError(f"metadata: unknown name {column} (known: {', '.join(translate.COLUMNS)})")
        try:
            translate.checked(column, value)
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


def _row(path: str, rules: dict, hdu: int | str | None) -> np.ndarray:
    row = tables.from_columns("exposure", path=path, visit=-1, detector=-1, status="failed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            number, header, primary = _headers(path, hdu)
        columns = {"hdu": number, "nx": header["NAXIS1"], "ny": header["NAXIS2"], "status": "ok", "reason": ""}
    except BadData as problem:
        columns = {"reason": str(problem)}
    except _UNREADABLE as error:
        columns = {"reason": f"unreadable header: {_line(error)}"}
    else:
        columns |= _translated(path, header, primary, rules)
    for column, value in columns.items():
        row[column] = value
    return row


def _headers(path: str, wanted: int | str | None) -> tuple[int, fits.Header, fits.Header]:
    """Number and header of the HDU with the pixels, and the primary header."""
    if path.endswith(".gz") and wanted in (None, 0):
        # fits.open would decompress the pixels too, to find out where the file ends.
        with gzip.open(path) as file:
            header = fits.Header.fromfile(file)
        if header["NAXIS"] == 2:
            return 0, header, header
    with fits.open(path) as hdus:
        if wanted is not None:
            chosen = hdus.index_of(wanted)
            candidates = [(chosen, hdus[chosen])]
        else:
            candidates = enumerate(hdus)
        for number, hdu in candidates:
            if hdu.is_image and hdu.header.get("NAXIS") == 2:
                return number, hdu.header, hdus[0].header
    raise BadData("has no 2-d image" if wanted is None else f"HDU {wanted} is not a 2-d image")


def _translated(path: str, header: fits.Header, primary: fits.Header, rules: dict) -> dict:
    """Columns of an image; status and reason among them when not all of them can be had."""
    image = translate.Image(Path(path), translate.header_lookup(header, primary), header["NAXIS2"])
    sky, reasons = {}, []
    try:
        sky = _sky_columns(header)
        image.pixel_scale = sky["pixel_scale"]
    except BadData as problem:
        reasons.append(str(problem))
    try:
        translate.translate(rules, image)
    except BadData as problem:
        reasons.append(str(problem))
    return image.columns | sky | ({"status": "failed", "reason": "; ".join(reasons)} if reasons else {})


def _sky_columns(header: fits.Header) -> dict:
    wcs = geometry.header_wcs(header)
    shape = header["NAXIS2"], header["NAXIS1"]
    ra, dec = geometry.corners(wcs, shape)
    centre = geometry.centre(wcs, shape)
    columns = {"ra": centre[0], "dec": centre[1], "pixel_scale": geometry.pixel_scale(wcs, shape)}
    for k in range(4):
        columns |= {f"ra_{k + 1}": ra[k], f"dec_{k + 1}": dec[k]}
    return columns


def _chosen(table: np.ndarray, bands: Sequence[str], detectors: Sequence[int]) -> np.ndarray:
    usable = table["status"] == "ok"
    keep = np.ones(len(table), bool)
    for column, wanted, unknown in (("band", bands, ""), ("detector", detectors, -1)):
        if len(wanted):
            # What an unusable image would have been may be unknown; it stays in the table, to be seen.
            keep &= np.isin(table[column], [*wanted, unknown])
            if not np.any(keep & usable):
                present = ", ".join(str(value) for value in sorted(set(table[column][usable].tolist())))
                raise InputError(f"{column}s: no image in {', '.join(map(str, wanted))} (the images have {present})")
    return table[keep]


def _refuse_conflicts(table: np.ndarray) -> None:
    """Two images of one detector in one visit, or two bands in one visit, mean that the visit number is wrong."""
    seen, first = {}, {}
    for row in table:
        other = seen.setdefault((row["visit"], row["detector"]), row)
        if other is not row:
            which = f"visit {row['visit']}, detector {row['detector']}"
            raise InputError(f"{other['path']} and {row['path']} are both {which}")
        other = first.setdefault(row["visit"], row)
        if other["band"] != row["band"]:
            bands = f"{other['band']} ({other['path']}) and {row['band']} ({row['path']})"
            raise InputError(f"visit {row['visit']} has images in two bands: {bands}")


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
