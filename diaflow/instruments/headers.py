"""Headers of image files, read as the instrument map of their camera says.

In come the path of a file and a map (`maps.load`), out go the headers of its detectors: with the shape of the assembled
image where frames are raw, and with a WCS made of the pointing where the map asks for it.  No pixel is read.
"""

import gzip
from itertools import islice
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, Kind
from diaflow.instruments import pointing, raw, translate
from diaflow.instruments.fits_files import is_image, readable
from diaflow.instruments.maps import load

EACH = "each"  # HDU of a map: every 2-d image of a file is a detector


def of_detectors(path: str, hdu: int | str | None) -> tuple[list[tuple[int, fits.Header]], fits.Header]:
    """The headers of the detectors in a file.

    Parameters
    ----------
    path : str
    hdu : int, str or None
        Number or name of the HDU with the pixels; `EACH` for every image of two axes, None for the first.

    Returns
    -------
    headers : list of (int, fits.Header)
        Number and header of each HDU with pixels, as stored.
    primary : fits.Header

    Raises
    ------
    BadData
        When there is no 2-d image in the file or in the HDU.
    Exception
        Whatever astropy raises; to be called in a context `readable`.
    """
    if path.endswith(".gz") and hdu in (None, 0):
        # fits.open would decompress the pixels too, to find out where the file ends.
        with gzip.open(path) as file:
            header = fits.Header.fromfile(file)
        if is_image(header):
            return [(0, header)], header
    with fits.open(path) as hdus:
        named = hdu not in (None, EACH)
        candidates = [(hdus.index_of(hdu), hdus[hdu])] if named else enumerate(hdus)
        images = (entry for entry in candidates if entry[1].is_image and is_image(entry[1].header))
        headers = [(number, image.header) for number, image in (images if hdu == EACH else islice(images, 1))]
        if not headers:
            raise BadData(f"HDU {hdu} is not a 2-d image" if named else "has no 2-d image", Kind.FILE)
        return headers, hdus[0].header


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
        headers, primary = of_detectors(path, int(row["hdu"]))
    return located(Path(path), assembled(path, headers[0][1], recipe), primary, recipe)
