"""Sources of a patch with the pixels that are each one's own: what deblending hands to measurement."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Blends:
    """Sources of one patch, leaves and parents, and for one band the pixels that are each one's own.

    Parents (`n_child` > 0) have all pixels of their footprint, leaves their share: the sum of the children is the
    parent, in every band.

    Attributes
    ----------
    x, y : (n,) float arrays
        Reference position in the patch [pixel].
    parent : (n,) int array
        Row of the parent, -1 where it is none's child.
    n_child : (n,) int array
        0 for leaves.
    boxes : (n, 4) int array
        x0, y0, x1, y1 of the pixels of each, inclusive.
    offsets : (n + 1,) int array
        Where the pixels of each begin in `pixels`.
    pixels : float32 array
        Image of each, row by row of its box; 0 outside its footprint [nJy].
    footprint : bool array
        As `pixels`: which pixels of the box are in the footprint.
    """

    x: np.ndarray
    y: np.ndarray
    parent: np.ndarray
    n_child: np.ndarray
    boxes: np.ndarray
    offsets: np.ndarray
    pixels: np.ndarray
    footprint: np.ndarray

    def __len__(self) -> int:
        return len(self.x)
