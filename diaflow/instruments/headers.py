"""Headers of image files, read as the instrument map of their camera says.

In come the path of a file and a map (`maps.load`), out go the headers of its detectors: with the shape of the assembled
image where frames are raw, and with a WCS made of the pointing where the map asks for it.  No pixel is read.
"""

import gzip
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, Kind
from diaflow.instruments import pointing, raw, translate
from diaflow.instruments.fits_files import decompressed_size, is_image, opened, readable, size_of_pixels
from diaflow.instruments.maps import load

EACH = "each"  # HDU of a map: every 2-d image of a file is a detector


def of_detectors(path: str, recipe: dict) -> tuple[list[tuple[int, fits.Header]], list[int], fits.Header]:
    """The headers of the detectors in a file.

    Parameters
    ----------
    path : str
    recipe : dict
        The instrument map, whose hdu is number or name of the HDU with the pixels; `EACH` for every image of two axes,
        None for the first.

    Returns
    -------
    headers : list of (int, fits.Header)
        Number and header of each HDU with pixels, as stored.
    others : list of int
        Numbers of the images after the first, where that is taken, that the map does not name either.
    primary : fits.Header

    Raises
    ------
    BadData
        When there is no 2-d image in the file or in the HDU.
    Exception
        Whatever astropy or a compression raises; to be called in a context `readable`.
    """
    hdu = recipe["hdu"]
    if path.endswith(".gz") and hdu in (None, 0):
        # Where nothing follows the first image its pixels need not be decompressed.
        with gzip.open(path) as file:
            header = fits.Header.fromfile(file)
            start = file.tell()
        if is_image(header) and (hdu == 0 or start + size_of_pixels(header) == decompressed_size(path)):
            return [(0, header)], [], header
    with opened(path) as hdus:
        named = hdu not in (None, EACH)
        candidates = [(hdus.index_of(hdu), hdus[hdu])] if named else enumerate(hdus)
        images = [(number, image.header) for number, image in candidates if image.is_image and is_image(image.header)]
        if not images:
            raise BadData(f"HDU {hdu} is not a 2-d image" if named else "has no 2-d image", Kind.FILE)
        taken, known = len(images) if hdu == EACH else 1, _named(recipe)
        others = [number for number, header in images[taken:] if not {number, _name(header.get("EXTNAME"))} & known]
        return images[:taken], others, hdus[0].header


def _name(hdu: object) -> object:
    """Number or name of an HDU in one case, since FITS knows no other."""
    return hdu.upper() if isinstance(hdu, str) else hdu


def _named(recipe: dict) -> set:
    """The HDUs with mask, variance and amplifiers that a map names in the file of an image."""
    planes = [recipe[section] or {"file": ""} for section in ("masks", "variance")]
    amplifiers = (recipe["raw"] or {}).get("amplifiers", [])
    return {_name(entry.get("hdu")) for entry in [*planes, *amplifiers] if "file" not in entry} - {None}


def assembled(path: str, header: fits.Header, recipe: dict) -> fits.Header:
    """The header of the assembled image: that of a raw frame with another shape and WCS, any other as it is.

    Parameters
    ----------
    path : str
    header : fits.Header
        As stored.
    recipe : dict
        The instrument map.

    Returns
    -------
    fits.Header

    Raises
    ------
    BadData
        When the file does not have the sections of pixels that the map names.
    """
    if recipe["raw"] is None:
        return header
    with readable("unreadable header"):
        return raw.assembled_header(Path(path), header, recipe["raw"])


def located(path: Path, header: fits.Header, primary: fits.Header, recipe: dict) -> fits.Header:
    """The header with a WCS: its own, or that of the pointing where the map says so.

    Parameters
    ----------
    path : Path
    header, primary : fits.Header
        Of the (assembled) image, and of the file.
    recipe : dict
        The instrument map.

    Returns
    -------
    fits.Header

    Raises
    ------
    BadData
        When the map asks for the pointing and the headers have no usable one.
    """
    if not recipe["pointing"]:
        return header
    image = translate.Image(path, translate.header_lookup(header, primary))
    return pointing.located(header, image, recipe["pointing"])


def read(row: np.void, instrument: str) -> fits.Header:
    """The header of an image with the WCS of its assembled pixels.

    Parameters
    ----------
    row : row of the "exposure" table
    instrument : str
        The map that made the row, as in `maps.load`.

    Returns
    -------
    fits.Header

    Raises
    ------
    BadData
        When the header cannot be read, lacks the sections of pixels that the map names, or has no usable pointing.
    InputError
        When the map cannot be used.
    """
    recipe, path = load(instrument), row["path"]
    with readable(f"unreadable header {path}"):
        headers, _, primary = of_detectors(path, recipe | {"hdu": int(row["hdu"])})
    return located(Path(path), assembled(path, headers[0][1], recipe), primary, recipe)
