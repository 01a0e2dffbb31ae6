"""Images of the children of blends, of any size: one that is nowhere negative for each."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from diaflow.jit import EXACT
from diaflow.measure.subpixel import TAPS, add_core, core_of, filter_columns, filter_rows, shift_weights


@dataclass(frozen=True)
class Templates:
    """Images of n children that are nowhere negative.

    Attributes
    ----------
    boxes : (n, 4) int array
        x0, y0, x1, y1 of each, inclusive; x1 < x0 of one that has none.
    offsets : (n + 1,) int array
        Where the pixels of each begin.
    pixels : (m,) float32 array
        Row by row.
    point : (n,) bool array
        Which are the PSF.
    """

    boxes: np.ndarray
    offsets: np.ndarray
    pixels: np.ndarray
    point: np.ndarray


def none(n: int) -> Templates:
    """Children without templates.

    Parameters
    ----------
    n : int

    Returns
    -------
    Templates
    """
    boxes = np.tile(np.array([0, 0, -1, 0]), (n, 1))
    return Templates(boxes, np.zeros(n + 1, int), np.empty(0, np.float32), np.zeros(n, bool))


def spread(some: Templates, rows: np.ndarray, n: int) -> Templates:
    """Templates of some of n children, and none of the others.

    Parameters
    ----------
    some : Templates
    rows : (m,) int array
        Which they are, ascending.
    n : int

    Returns
    -------
    Templates
    """
    out, sizes = none(n), np.zeros(n, int)
    sizes[rows] = np.diff(some.offsets)
    out.boxes[rows], out.point[rows] = some.boxes, some.point
    return Templates(out.boxes, np.concatenate([[0], np.cumsum(sizes)]), some.pixels, out.point)


def of_stamps(stamps: np.ndarray, x: np.ndarray, y: np.ndarray) -> Templates:
    """PSFs at the places of sources.

    Parameters
    ----------
    stamps : (n, k, k) array
        PSF of each; not finite where it is unknown, which gives none.
    x, y : (n,) arrays
        [pixel]

    Returns
    -------
    Templates
    """
    n, k = len(stamps), stamps.shape[-1]
    known = np.isfinite(stamps).all((1, 2))
    ix, iy = (np.floor(p + 0.5).astype(np.int64) for p in (x, y))
    pixels = np.zeros((n, k, k), np.float32)
    move(np.where(known[:, None, None], stamps, 0), x - ix, y - iy, pixels)
    boxes = np.stack([ix - k // 2, iy - k // 2, ix + k // 2, iy + k // 2], axis=1)
    boxes[~known, 2] = boxes[~known, 0] - 1
    return Templates(boxes, np.arange(n + 1) * k * k, pixels.ravel(), np.ones(n, bool))


def joined(one: Templates, other: Templates, use_other: np.ndarray) -> Templates:
    """Templates of two sets.

    Parameters
    ----------
    one, other : Templates
        Of the same n children.
    use_other : (n,) bool array
        Of which children the other set has the template.

    Returns
    -------
    Templates
    """
    sizes = np.where(use_other, np.diff(other.offsets), np.diff(one.offsets))
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    start = np.where(use_other, len(one.pixels) + other.offsets[:-1], one.offsets[:-1])
    index = np.repeat(start - offsets[:-1], sizes) + np.arange(offsets[-1])
    return Templates(
        np.where(use_other[:, None], other.boxes, one.boxes),
        offsets,
        np.concatenate([one.pixels, other.pixels])[index],
        np.where(use_other, other.point, one.point),
    )


@njit(**EXACT)
def move(stamps, dx, dy, out):
    """Stamps moved by parts of a pixel; what is negative is 0.

    Parameters
    ----------
    stamps : (n, k, k) array
    dx, dy : (n,) arrays
        [pixel]
    out : (n, k, k) array
        Set.
    """
    k = stamps.shape[1]
    wx, wy, slope = np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1)
    padded, rows = np.zeros((k + 2 * TAPS, k + 2 * TAPS)), np.empty((k + 2 * TAPS, k))
    moved, core = np.empty((1, k, k)), np.empty(5)
    for n in range(len(stamps)):
        shift_weights(dx[n], wx, slope)
        shift_weights(dy[n], wy, slope)
        padded[TAPS : TAPS + k, TAPS : TAPS + k] = stamps[n]
        filter_rows(padded, wx, rows)
        filter_columns(rows, wy, moved[0])
        core_of(stamps[n], core)
        if core[0] > 0:
            add_core(core, (k // 2, k // 2), (dx[n], dy[n]), (wx, wy), (slope, slope), moved)
        for j in range(k):
            for i in range(k):
                out[n, j, i] = max(moved[0, j, i], 0.0)
