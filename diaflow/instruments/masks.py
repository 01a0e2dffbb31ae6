"""Pixels that a mask file beside the image calls saturated.

Some cameras' frames come with saturated cores filled in, so that the counts no longer tell.  The section `masks` of
an instrument map names the file, its format and the HDU; in come a frame and its header, out goes the frame as the
detector would have delivered it: saturated pixels at the saturation level.
"""

import logging
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData
from diaflow.instruments import translate

_log = logging.getLogger(__name__)
_FIELDS = {"file", "format", "saturated"}


def check(masks: object) -> None:
    """Raise ValueError where the section `masks` of an instrument map is not well formed."""
    if not isinstance(masks, dict) or set(masks) != _FIELDS:
        raise ValueError(f"must have {', '.join(sorted(_FIELDS))}")
    if masks["format"] not in FORMATS:
        raise ValueError(f"unknown format {masks['format']} (known: {', '.join(FORMATS)})")


def apply(image: np.ndarray, masks: dict, path: Path, header: fits.Header, saturation: float) -> None:
    """Put the mask of a frame into its pixels, in place.

    Parameters
    ----------
    image : (ny, nx) float array
    masks : dict
        Section `masks` of the instrument map.
    path, header
        Of the frame; the header fills the braces in the name of the mask file.
    saturation : float
        Level of saturation, in the units of the image.

    Raises
    ------
    BadData
        When the mask file cannot be read.  Without a file there is a warning.
    """
    try:
        found = translate.file_beside(masks["file"], translate.Image(path, translate.header_lookup(header)))
    except BadData as problem:
        _log.warning("%s: %s; saturated pixels are as the counts tell", path, problem)
        return
    try:
        with fits.open(found, memmap=False) as hdus:
            image[FORMATS[masks["format"]](hdus[masks["saturated"]], image.shape)] = saturation
    except (OSError, EOFError, KeyError, IndexError, ValueError, TypeError) as error:
        raise BadData(f"unreadable mask {found.name}: {' '.join(str(error).split())}") from error


def _sdss_fpm(hdu: fits.BinTableHDU, shape: tuple[int, int]) -> np.ndarray:
    """Masked pixels of one plane of an SDSS fpM file: spans (row, first column, last column) as big-endian int16."""
    mask = np.zeros(shape, bool)
    for row in hdu.data:
        spans = np.asarray(row["s"], np.uint8)[: 6 * row["nspan"]].view(">i2").reshape(-1, 3)
        for y, first, last in spans:
            mask[y, first : last + 1] = True
    return mask


FORMATS = {"sdss_fpm": _sdss_fpm}
