"""Straight pieces of lines on an image, and the pixels under them."""

from dataclasses import dataclass

import numpy as np
from numba import njit

from diaflow.detect.binned import BIN
from diaflow.jit import EXACT


@dataclass(frozen=True)
class Streak:
    """A line.

    Attributes
    ----------
    x0, y0, x1, y1 : float
        Its ends [pixel].
    half_width : float
        [pixel]
    """

    x0: float
    y0: float
    x1: float
    y1: float
    half_width: float


def paint(mask: np.ndarray, streaks: list[Streak], bit: int) -> None:
    """Set a bit in the pixels that streaks cover.

    Parameters
    ----------
    mask : (ny, nx) int32 array
        Changed in place.
    streaks : list of Streak
    bit : int
    """
    for s in streaks:
        _paint(mask, s.x0, s.y0, s.x1, s.y1, s.half_width, np.int32(bit))


@njit(**EXACT)
def _paint(mask, x0, y0, x1, y1, half_width, bit):
    ny, nx = mask.shape
    dx, dy = x1 - x0, y1 - y0
    length = np.hypot(dx, dy)
    for y in range(max(0, int(min(y0, y1) - half_width)), min(ny, int(max(y0, y1) + half_width) + 2)):
        for x in range(max(0, int(min(x0, x1) - half_width)), min(nx, int(max(x0, x1) + half_width) + 2)):
            along, off = ((x - x0) * dx + (y - y0) * dy) / length, ((y - y0) * dx - (x - x0) * dy) / length
            # an end lies somewhere in its bin
            if abs(off) <= half_width and -BIN <= along <= length + BIN:
                mask[y, x] |= bit
