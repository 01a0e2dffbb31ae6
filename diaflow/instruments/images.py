"""Image files of any camera: pixels, raw frames and headers, found as the camera's instrument map says."""

import gzip
import warnings
import zlib
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from diaflow.errors import BadData
from diaflow.instruments import delivered, pointing, raw, translate
from diaflow.instruments.maps import load

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
        Bits of `diaflow.image.planes.PLANES`; None where the file does not tell.
    """

    image: np.ndarray
    header: fits.Header = field(default_factory=fits.Header)
    variance: np.ndarray | None = None
    mask: np.ndarray | None = None


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


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
