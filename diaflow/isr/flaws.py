"""Pixels that tell nothing about the sky: saturated, not finite, dead, unlit, filled in, or of hot and constant lines.

What fills the pixels that a camera did not see is not always NaN: a constant, such as 0, is found as squares of equal
pixels larger than noise makes them.
"""

from functools import partial

import numpy as np
from numba import njit
from scipy.ndimage import binary_dilation, maximum_filter, minimum_filter

from diaflow.errors import BadData, Kind
from diaflow.image.planes import bits, in_planes, pixels_where, row_blocks
from diaflow.isr import filled, saturation
from diaflow.jit import EXACT
from diaflow.pixels import background

UNUSABLE = ("BAD", "SAT", "CR", "NO_DATA")
MIN_GOOD = 0.05  # smallest usable fraction of a detector, chosen
IMPOSSIBLE = 15.0  # pixels this many sigma below the sky are dead, chosen: no noise of a working pixel goes there
UNLIT = 0.2  # fraction of the typical light of the sky below which a pixel is vignetted, as `masters.MIN_RESPONSE`
LIT = 20.0  # typical sky, in sigma of a pixel, from which its absence shows: chosen
# Deviation from the sky, over the typical one, that is no light, chosen: full wells hold below 1e7 times their noise,
# and sums of a hundred images ten times that.
ABSURD = 1e8
ACCIDENTS = 1e-3  # squares of equal pixels that noise may make in an image, chosen
HOT = 0.9  # saturated fraction of a row or column from which it is a defect, chosen


def mask_of(
    counts: np.ndarray, saturated: np.ndarray, equal: np.ndarray | None = None, step: float = 0.0
) -> tuple[np.ndarray, float]:
    """Mask of saturated pixels with their neighbours, of what holds no light, and of flawed rows and columns.

    Those are dead, hot, or filled in from their neighbours.

    A hot row or column is saturated (nearly) from end to end, unlike a bleed trail; it holds no starlight, so it is
    BAD only.

    Parameters
    ----------
    counts : (ny, nx) array
        Of any level; rows, columns and squares of one value are dead.
    saturated : (ny, nx) bool array
        As far as it is known; changed in place where stars show that the detector saturates earlier.
    equal : (ny, nx) bool array, optional
        Squares that were of one value as read, and so dead unless they are saturated.
    step : float
        By how much pixels that were equal may differ.

    Returns
    -------
    mask : (ny, nx) int32 array
        Planes BAD and SAT.
    plateau : float
        Counts from which on stars show that pixels are saturated; infinite where none shows it.
    """
    mask = np.zeros(counts.shape, np.int32)
    mask[absurd(counts)] = bits("BAD")
    tolerance = _tolerance(counts, mask != 0, step)
    for lines, axis in ((mask.T, 0), (mask, 1)):
        hot = saturated.mean(axis) > HOT
        lines[hot | (np.ptp(counts, axis=axis) <= tolerance)] = bits("BAD")
    plateau = saturation.plateau(counts, saturated | (mask != 0))
    saturated |= (counts >= plateau) & (mask == 0)
    if equal is not None:
        mask[equal & ~saturated] = bits("BAD")
    mask[constant(counts, saturated | (mask != 0), step)] = bits("BAD")
    mask[filled.pixels(counts, saturated | (mask != 0))] = bits("BAD")
    y, x = pixels_where(saturated & (mask == 0))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            mask[np.clip(y + dy, 0, len(mask) - 1), np.clip(x + dx, 0, mask.shape[1] - 1)] |= bits("SAT")
    return mask, plateau


def absurd(counts: np.ndarray) -> np.ndarray:
    """Pixels that are not finite, or so far from the sky that they are no light.

    Parameters
    ----------
    counts : (ny, nx) array

    Returns
    -------
    (ny, nx) bool array
    """
    middle, typical = saturation.level_and_deviation(counts)
    out = np.empty(counts.shape, bool)
    with np.errstate(over="ignore"):
        for rows in row_blocks(len(counts)):
            # The comparison is never true for what is not finite.
            np.logical_not(np.abs(counts[rows] - middle) <= ABSURD * typical, out=out[rows])
    return out


def constant(counts: np.ndarray, unusable: np.ndarray, step: float = 0.0) -> np.ndarray:
    """Squares of equal pixels that noise does not make.

    Where a part p of neighbours are equal, a square of n pixels is so by chance with a probability of at most
    p**(n / 2), that of its separate pairs, however the values are distributed.

    Parameters
    ----------
    counts : (ny, nx) array
    unusable : (ny, nx) bool array
        Pixels that do not count.
    step : float
        By how much pixels that were equal may differ.

    Returns
    -------
    (ny, nx) bool array
    """
    step = _tolerance(counts, unusable, step)
    found = np.zeros(counts.shape, bool)
    while True:
        equal, pairs = _equal_neighbours(counts, unusable | found, step)
        if equal in (0, pairs):
            return found
        needed = 2 * np.log(counts.size / ACCIDENTS) / np.log(pairs / equal)
        # With a constant region found, what is left is noisier, and smaller ones show.
        side = max(2, int(np.ceil(np.sqrt(needed))))
        mark = partial(_mark_alike, step=step) if step else _mark_squares
        if not mark(counts, unusable, side, found):
            return found


def _tolerance(counts: np.ndarray, unusable: np.ndarray, step: float) -> float:
    """The step with what single precision rounds, 0 where there is none."""
    return step and step + float(np.spacing(np.max(np.abs(counts), where=~unusable, initial=0.0)))


def _mark_alike(counts: np.ndarray, unusable: np.ndarray, side: int, found: np.ndarray, step: float) -> bool:
    """The same as `_mark_squares` of pixels that differ by a step at most, in squares of an odd side."""
    side |= 1
    highest = maximum_filter(np.where(unusable, np.inf, counts), side, mode="constant", cval=np.inf)
    lowest = minimum_filter(np.where(unusable, -np.inf, counts), side, mode="constant", cval=-np.inf)
    squares = maximum_filter(highest - lowest <= step, side)
    new = bool(np.any(squares & ~found))
    found |= squares
    return new


@njit(**EXACT)
def _equal_neighbours(counts, unusable, step):
    """Number of usable pixels that are equal to their usable left neighbour within a step, and that have one.

    Parameters
    ----------
    counts : (ny, nx) array
    unusable : (ny, nx) bool array
    step : float

    Returns
    -------
    equal, pairs : int
    """
    equal, pairs = 0, 0
    for y in range(counts.shape[0]):
        for x in range(1, counts.shape[1]):
            if not unusable[y, x] and not unusable[y, x - 1]:
                pairs += 1
                equal += abs(counts[y, x] - counts[y, x - 1]) <= step
    return equal, pairs


@njit(**EXACT)
def _mark_squares(counts, unusable, side, found):
    """Mark the pixels of squares of one value.

    Parameters
    ----------
    counts : (ny, nx) array
    unusable : (ny, nx) bool array
    side : int
        Of the squares [pixel].
    found : (ny, nx) bool array
        Changed in place.

    Returns
    -------
    bool
        Whether any pixel was not marked before.
    """
    ny, nx = counts.shape
    above, here, new = np.zeros(nx, np.int64), np.zeros(nx, np.int64), False
    for y in range(ny):
        for x in range(nx):
            # Side of the largest square whose last pixel this is.
            here[x] = 0 if unusable[y, x] else 1
            if y and x and here[x]:
                value = counts[y, x]
                if value == counts[y, x - 1] and value == counts[y - 1, x] and value == counts[y - 1, x - 1]:
                    here[x] += min(above[x], above[x - 1], here[x - 1])
            if here[x] >= side:
                for j in range(y - side + 1, y + 1):
                    for i in range(x - side + 1, x + 1):
                        new |= not found[j, i]
                        found[j, i] = True
        above, here = here, above
    return new


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
    # A dead pixel takes no more from its block than the light of one.
    total, count = background.block_sums(np.maximum(counts, 0), in_planes(mask, *UNUSABLE))
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
