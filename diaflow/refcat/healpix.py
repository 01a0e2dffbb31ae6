"""HEALPix pixels in the nested scheme (Gorski et al. 2005, ApJ 622, 759): neighbours in number are so on the sky."""

import numpy as np

ALL = (1 << 64) - 1  # 64 bits; divided by 2**n + 1, every other n of them


def nested(ra: np.ndarray, dec: np.ndarray, order: int) -> np.ndarray:
    """Nested HEALPix pixel of positions.

    Parameters
    ----------
    ra, dec : (n,) arrays
        [deg]
    order : int
        Each of the 12 base pixels is cut into 4**order; at most 29.

    Returns
    -------
    (n,) int64 array
    """
    side = 1 << order
    z, quarter = np.sin(np.radians(dec)), np.asarray(ra, float) % 360 / 90
    # Diagonals through the point, counted from the corners of the base pixels (sections 4.1 and 5.1 there).
    rising = (side * (0.5 + quarter - 0.75 * z)).astype(np.int64)
    falling = (side * (0.5 + quarter + 0.75 * z)).astype(np.int64)
    i, j = rising >> order, falling >> order
    face = np.where(i == j, i % 4 + 4, np.where(i < j, i, j + 8))
    x, y = falling & (side - 1), side - 1 - (rising & (side - 1))

    cap = np.flatnonzero(np.abs(z) > 2 / 3)
    north = z[cap] > 0
    base = np.minimum(quarter[cap].astype(np.int64), 3)
    along = quarter[cap] - base
    # sqrt(3 (1 - |z|)) without the loss of digits at the poles
    from_pole = side * np.cos(np.radians(dec[cap])) * np.sqrt(3 / (1 + np.abs(z[cap])))
    rising = np.minimum((along * from_pole).astype(np.int64), side - 1)
    falling = np.minimum(((1 - along) * from_pole).astype(np.int64), side - 1)
    face[cap] = np.where(north, base, base + 8)
    x[cap] = np.where(north, side - 1 - falling, rising)
    y[cap] = np.where(north, side - 1 - rising, falling)
    return (face << 2 * order) | _spread(x) | (_spread(y) << 1)


def _spread(bits: np.ndarray) -> np.ndarray:
    """A zero between any two of the lower 32 bits."""
    for shift in (16, 8, 4, 2, 1):
        bits = (bits | (bits << shift)) & (ALL // ((1 << shift) + 1))
    return bits
