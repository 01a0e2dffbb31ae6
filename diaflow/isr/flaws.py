"""Pixels that tell nothing about the sky: saturated, not finite, dead, unlit, and hot or constant rows and columns."""

import numpy as np
from scipy.ndimage import binary_dilation

from diaflow.errors import BadData, Kind
from diaflow.image.planes import bits, in_planes, pixels_where, row_blocks
from diaflow.pixels import background

UNUSABLE = ("BAD", "SAT", "CR", "NO_DATA")
MIN_GOOD = 0.05  # smallest usable fraction of a detector, chosen
IMPOSSIBLE = 15.0  # pixels this many sigma below the sky are dead, chosen: no noise of a working pixel goes there
UNLIT = 0.2  # fraction of the typical light of the sky below which a pixel is vignetted, as `masters.MIN_RESPONSE`
LIT = 20.0  # typical sky, in sigma of a pixel, from which its absence shows: chosen
HOT = 0.9  # saturated fraction of a row or column from which it is a defect, chosen


def mask_of(counts: np.ndarray, saturated: np.ndarray) -> np.ndarray:
    """Mask of saturated pixels with their neighbours, of non-finite pixels and of dead and hot rows and columns.

    A hot row or column is saturated (nearly) from end to end, unlike a bleed trail; it holds no starlight, so it is
    BAD only.

    Parameters
    ----------
    counts : (ny, nx) array
        Of any level; rows and columns of one value are dead.
    saturated : (ny, nx) bool array

    Returns
    -------
    (ny, nx) int32 array
        Planes BAD and SAT.
    """
    mask = np.zeros(counts.shape, np.int32)
    mask[~np.isfinite(counts)] = bits("BAD")
    for lines, axis in ((mask.T, 0), (mask, 1)):
        hot = saturated.mean(axis) > HOT
        lines[hot | (np.ptp(counts, axis=axis) == 0)] = bits("BAD")
    y, x = pixels_where(saturated & (mask == 0))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            mask[np.clip(y + dy, 0, len(mask) - 1), np.clip(x + dx, 0, mask.shape[1] - 1)] |= bits("SAT")
    return mask


def mask_dead(counts: np.ndarray, sky: np.ndarray, sigma: float, mask: np.ndarray) -> None:
    """Mark as BAD what is impossibly far below the sky.

    Parameters
    ----------
    counts, sky : (ny, nx) arrays
    sigma : float
        Noise of the sky, in the unit of the counts.
    mask : (ny, nx) int32 array
        Changed in place.
    """
    for rows in row_blocks(len(mask)):
        usable = ~in_planes(mask[rows], *UNUSABLE)
        mask[rows][usable & (counts[rows] < sky[rows] - IMPOSSIBLE * sigma)] |= bits("BAD")


def mask_unlit(counts: np.ndarray, level: float, sigma: float, mask: np.ndarray) -> bool:
    """Mark as BAD what the light of the sky does not reach, with a margin.

    Light only adds to the sky, so that blocks of pixels far below its typical level are behind something.  An image
    whose sky has been subtracted does not tell.

    Parameters
    ----------
    counts : (ny, nx) array
    level, sigma : float
        Typical sky and its noise, in the unit of the counts.
    mask : (ny, nx) int32 array
        Changed in place.

    Returns
    -------
    bool
        Whether there is any such pixel.
    """
    if not level > LIT * sigma:
        return False
    total, count = background.block_sums(counts, in_planes(mask, *UNUSABLE))
    unlit = binary_dilation(total < UNLIT * level * count, np.ones((3, 3)))
    y, x = np.nonzero(unlit)
    for dy in range(background.BLOCK):
        for dx in range(background.BLOCK):
            row, column = background.BLOCK * y + dy, background.BLOCK * x + dx
            inside = (row < mask.shape[0]) & (column < mask.shape[1])
            mask[row[inside], column[inside]] |= bits("BAD")
    return len(y) > 0


def require_good(mask: np.ndarray, saturated: np.ndarray) -> None:
    """Refuse an image with hardly any usable pixel.

    Parameters
    ----------
    mask : (ny, nx) int32 array
    saturated : (ny, nx) bool array
        For the message.

    Raises
    ------
    BadData
        When fewer than `MIN_GOOD` of the pixels are usable.
    """
    good = 1 - in_planes(mask, *UNUSABLE).mean()
    if good < MIN_GOOD:
        raise BadData(f"only {good:.0%} of the pixels are usable ({saturated.mean():.0%} are saturated)", Kind.PIXELS)
