"""Instruments: from image files of any camera to rows of the exposure table.

One YAML map per camera says which header keys hold what (`translate.py` has the rules); nothing but headers is
read until `read_image`.  An image that cannot be translated is a row with status "failed" and the reason.
"""

import glob
import gzip
import logging
import os
import re
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import yaml
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from diaflow import geometry, tables
from diaflow.errors import BadData, InputError
from diaflow.instruments import delivered, pointing, raw, translate

_log = logging.getLogger(__name__)
_FOLDER = Path(__file__).parent
_SECTIONS = {
    "masks": delivered.check_masks,
    "variance": delivered.check_variance,
    "raw": raw.check,
    "pointing": pointing.check,
}
EACH = "each"  # HDU of a map: every 2-d image of a file is a detector
# What astropy raises for files that are not FITS, are cut short or have impossible headers.
_UNREADABLE = (OSError, EOFError, ValueError, TypeError, KeyError, IndexError, zlib.error, fits.VerifyError)


@dataclass(frozen=True)
class Pixels:
    """One detector image as its file has it.

    Attributes
    ----------
    image : (ny, nx) float32 array
        Counts [DN].
    header : fits.Header
        With a celestial WCS of the image.
    variance : (ny, nx) float32 array or None
        [DN**2]; None where the file does not tell.
    mask : (ny, nx) int32 array or None
        Bits of `diaflow.exposure.PLANES`; None where the file does not tell.
    """

    image: np.ndarray
    header: fits.Header = field(default_factory=fits.Header)
    variance: np.ndarray | None = None
    mask: np.ndarray | None = None


def names() -> list[str]:
    """The built-in instruments."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load(name_or_path: str) -> dict:
    """An instrument map: its name and folder, hdu, columns {column: rule}, and the sections.

    Sections are masks, variance, raw and pointing; what the map does not have is None.

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
    unknown = set(content) - {"description", "hdu", "columns", *_SECTIONS}
    if unknown:
        known = ", ".join(["description", "hdu", "columns", *_SECTIONS])
        raise InputError(f"instrument {path}: unknown key {', '.join(map(str, unknown))} (known: {known})")
    translate.check(str(name_or_path), content["columns"])
    for section in set(_SECTIONS) & set(content):
        try:
            _SECTIONS[section](content[section])
        except (ValueError, TypeError, re.error) as fault:
            raise InputError(f"instrument {path}: {section}: {fault}") from None
    return {
        "name": str(name_or_path),
        "folder": str(path.parent),
        "columns": content["columns"],
        **{name: content.get(name) for name in ("hdu", *_SECTIONS)},
    }


def is_raw(instrument: str) -> bool:
    """Whether the frames of an instrument need bias, dark and flat."""
    return load(instrument)["raw"] is not None


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
    table "exposure", sorted by visit and detector.  An image that cannot be used has status "failed" and a reason,
    a bias, dark or flat frame the status "calibration".

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
    table = table[table["imagetype"] != "other"]
    for row in table[table["status"] == "failed"]:
        _log.warning("%s: %s", row["path"], row["reason"])
    if not np.any(table["status"] == "ok"):
        first = next((f"; the first is {row['path']}: {row['reason']}" for row in table if row["reason"]), "")
        raise InputError(f"no usable image{first}")
    table = _chosen(table, bands, detectors)
    _refuse_conflicts(table[table["status"] == "ok"])
    order = sorted(range(len(table)), key=lambda i: (table["visit"][i], table["detector"][i], table["path"][i]))
    return table[order]


def read_image(row: np.void, instrument: str = "generic") -> Pixels:
    """The pixels and header of one row of the exposure table.

    Parameters
    ----------
    row : row of the "exposure" table
    instrument : str
        The map that made the row, as in `load`; it may say where the mask and the variance are.

    Raises
    ------
    BadData
        When the pixels, their mask or their variance cannot be read, e.g. from a file that is cut short.
    """
    recipe, path, number = load(instrument), Path(row["path"]), int(row["hdu"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AstropyWarning)
        try:
            with fits.open(path, memmap=False) as hdus:
                header = _located(path, hdus[number].header.copy(), hdus[0].header, recipe)
                image = np.ascontiguousarray(hdus[number].data, dtype=np.float32)
        except _UNREADABLE as error:
            raise BadData(f"unreadable image {path}: {_line(error)}") from error
        if image.shape != (row["ny"], row["nx"]):
            raise BadData(f"unreadable image {path}: {image.shape} pixels where {row['ny']} x {row['nx']} should be")
        where = path, header, number, image.shape
        variance = delivered.variance(recipe["variance"], *where) if recipe["variance"] else None
        mask = delivered.mask(recipe["masks"], *where) if recipe["masks"] else None
    return Pixels(image, header, variance, mask)


def read_raw(row: np.void, instrument: str) -> raw.Raw:
    """The amplifiers of a raw frame, as `read_image`; the map has a section `raw`."""
    recipe = load(instrument)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            columns = {
                name: row[name].item() if isinstance(row[name], np.generic) else row[name] for name in row.dtype.names
            }
            return raw.read(Path(row["path"]), int(row["hdu"]), recipe["raw"], columns, Path(recipe["folder"]))
    except _UNREADABLE as error:
        raise BadData(f"unreadable image {row['path']}: {_line(error)}") from error


def read_header(row: np.void, instrument: str) -> fits.Header:
    """The header of an image with the WCS of its assembled pixels, as the map of the camera says."""
    recipe = load(instrument)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            header, primary = _header(row["path"], int(row["hdu"]), recipe)
    except _UNREADABLE as error:
        raise BadData(f"unreadable header {row['path']}: {_line(error)}") from error
    return _located(Path(row["path"]), header, primary, recipe)


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


def _rows(path: str, rules: dict, recipe: dict) -> list[np.ndarray]:
    """One row for each detector in a file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            headers, primary = _stored_headers(path, recipe["hdu"])
            return [_row(path, number, header, primary, rules, recipe) for number, header in headers]
    except BadData as problem:
        reason = str(problem)
    except _UNREADABLE as error:
        reason = f"unreadable header: {_line(error)}"
    return [_filled(path, {"reason": reason})]


def _row(path: str, number: int, header: fits.Header, primary: fits.Header, rules: dict, recipe: dict) -> np.ndarray:
    columns = {"hdu": number}
    try:
        header = _assembled(path, header, recipe)
        columns |= {"nx": header["NAXIS1"], "ny": header["NAXIS2"]}
    except BadData as problem:
        columns["reason"] = str(problem)
    else:
        columns |= _translated(Path(path), header, primary, rules, recipe)
    return _filled(path, columns)


def _filled(path: str, columns: dict) -> np.ndarray:
    row = tables.from_columns("exposure", path=path, imagetype="science", visit=-1, detector=-1, status="failed")
    for column, value in columns.items():
        row[column] = value
    return row


def _header(path: str, number: int, recipe: dict) -> tuple[fits.Header, fits.Header]:
    """Header of an HDU with the shape of the assembled image, and the primary header."""
    headers, primary = _stored_headers(path, number)
    return _assembled(path, headers[0][1], recipe), primary


def _assembled(path: str, header: fits.Header, recipe: dict) -> fits.Header:
    return header if recipe["raw"] is None else raw.assembled_header(Path(path), header, recipe["raw"])


def _stored_headers(path: str, wanted: int | str | None) -> tuple[list[tuple[int, fits.Header]], fits.Header]:
    """Numbers and headers of the HDUs with the pixels, and the primary header."""
    if path.endswith(".gz") and wanted in (None, 0):
        # fits.open would decompress the pixels too, to find out where the file ends.
        with gzip.open(path) as file:
            header = fits.Header.fromfile(file)
        if header["NAXIS"] == 2:
            return [(0, header)], header
    with fits.open(path) as hdus:
        named = wanted not in (None, EACH)
        candidates = [(hdus.index_of(wanted), hdus[wanted])] if named else enumerate(hdus)
        images = ((number, hdu.header) for number, hdu in candidates if hdu.is_image and hdu.header.get("NAXIS") == 2)
        found = list(images if wanted == EACH else islice(images, 1))
        if not found:
            raise BadData(f"HDU {wanted} is not a 2-d image" if named else "has no 2-d image")
        return found, hdus[0].header


def _located(path: Path, header: fits.Header, primary: fits.Header, recipe: dict) -> fits.Header:
    """The header with a WCS: its own, or that of the pointing where the map says so."""
    if not recipe["pointing"]:
        return header
    image = translate.Image(path, translate.header_lookup(header, primary))
    return pointing.located(header, image, recipe["pointing"])


def _translated(path: Path, header: fits.Header, primary: fits.Header, rules: dict, recipe: dict) -> dict:
    """Columns of an image; status and reason among them when it is no science image or cannot be used."""
    image = translate.Image(path, translate.header_lookup(header, primary), header["NAXIS2"])
    sky, unplaced, untranslated = {}, "", ""
    try:
        sky = _sky_columns(_located(path, header, primary, recipe))
        image.pixel_scale = sky["pixel_scale"]
    except BadData as problem:
        unplaced = str(problem)
    try:
        translate.translate(rules, image)
    except BadData as problem:
        untranslated = str(problem)
    columns, status = image.columns | sky, "ok"
    kind = columns.get("imagetype")
    if kind in translate.CALIBRATIONS:
        # It belongs to no visit and is nowhere on the sky; only a flat field has a band.
        columns = image.columns | {"visit": -1, "band": columns.get("band", "") if kind == "flat" else ""}
        status, unplaced = "calibration", ""
    reason = "; ".join(filter(None, (unplaced, untranslated)))
    return columns | {"status": "failed" if reason else status, "reason": reason}


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
