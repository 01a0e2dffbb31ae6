"""HEALPix pixels (Gorski et al. 2005, ApJ 622, 759): equal areas that four by four make larger ones.

A pixel is one of 12 faces and two steps (x, y) on it, x to the north-east and y to the north-west, both from the
southern corner.  It has two numbers: the nested one, of which neighbours are so on the sky, and that along rings of
equal declination.
"""

import numpy as np

ALL = (1 << 64) - 1  # 64 bits; divided by 2**n + 1, every other n of them
# Of the southern corner of the faces: sides down from the north pole, and eighths of a circle in right ascension.
DOWN, EASTWARDS = np.repeat([2, 3, 4], 4), np.array([1, 3, 5, 7, 0, 2, 4, 6, 1, 3, 5, 7])


def pixels(ra: np.ndarray, dec: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixel that holds each position.

    Parameters
    ----------
    ra, dec : (n,) arrays
        [deg]
    side : int
        Pixels along the side of a face; at most 2**29.

    Returns
    -------
    face, x, y : (n,) int64 arrays
    """
    z, quarter = np.sin(np.radians(dec)), np.asarray(ra, float) % 360 / 90
    # Diagonals through the point, counted from the corners of the base pixels (sections 4.1 and 5.1 there).
    rising = (side * (0.5 + quarter - 0.75 * z)).astype(np.int64)
    falling = (side * (0.5 + quarter + 0.75 * z)).astype(np.int64)
    i, j = rising // side, falling // side
    face = np.where(i == j, i % 4 + 4, np.where(i < j, i, j + 8))
    x, y = falling % side, side - 1 - rising % side

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
    return face, x, y


def positions(face: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `pixels`, for any point of a face.

    Parameters
    ----------
    face : (n,) int array
    x, y : (n,) arrays
        From the southern corner of the face, 0 to 1 along its sides: (k + 0.5) / side for the centre of a pixel.

    Returns
    -------
    ra, dec : (n,) arrays
        [deg]; right ascension in 0 ... 360, 0 at a pole.
    """
    down = DOWN[face] - x - y
    ring = np.minimum(np.minimum(down, 4 - down), 1)  # its length over that at the equator
    # 1 - |z| in the caps, where it keeps its digits at the poles
    lost = np.where(ring < 1, ring**2 / 3, 1 - np.abs(2 - down) * 2 / 3)
    dec = np.copysign(np.degrees(np.arctan2(1 - lost, np.sqrt(lost * (2 - lost)))), 2 - down)
    along = EASTWARDS[face] * ring + x - y
    return np.where(ring > 0, 45 * along / np.where(ring > 0, ring, 1) % 360, 0.0), dec


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
    face, x, y = pixels(ra, dec, 1 << order)
    return (face << 2 * order) | _spread(x) | (_spread(y) << 1)


def nested_centres(pixel: np.ndarray, order: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of nested pixels.

    Parameters
    ----------
    pixel : (n,) int64 array
    order : int

    Returns
    -------
    ra, dec : (n,) arrays
        [deg]
    """
    within = pixel & ((1 << 2 * order) - 1)
    x, y = ((_gathered(bits) + 0.5) / (1 << order) for bits in (within, within >> 1))
    return positions(pixel >> 2 * order, x, y)


def ring_numbers(face: np.ndarray, x: np.ndarray, y: np.ndarray, side: int) -> np.ndarray:
    """Numbers of pixels along the rings, from the north pole on and to the east.

    Parameters
    ----------
    face, x, y : (n,) int arrays
    side : int

    Returns
    -------
    (n,) int64 array
    """
    ring = DOWN[face] * side - x - y - 1  # 1 ... 4 side - 1
    quarter = np.minimum(np.minimum(ring, 4 * side - ring), side)  # pixels of the ring in a quarter of it
    cap = 2 * side * (side - 1)
    before = np.where(ring < side, 2 * ring * (ring - 1), cap + (ring - side) * 4 * side)
    before = np.where(ring > 3 * side, 12 * side**2 - 2 * quarter * (quarter + 1), before)
    shifted = np.where((ring >= side) & (ring <= 3 * side), (ring - side) & 1, 0)
    return before + ((EASTWARDS[face] * quarter + x - y - 1 + shifted) // 2) % (4 * quarter)


def _spread(bits: np.ndarray) -> np.ndarray:
    """A zero between any two of the lower 32 bits."""
    for shift in (16, 8, 4, 2, 1):
        bits = (bits | (bits << shift)) & (ALL // ((1 << shift) + 1))
    return bits


def _gathered(bits: np.ndarray) -> np.ndarray:
    """The inverse of `_spread`; the bits in between are dropped."""
    bits = bits & (ALL // 3)
    for shift in (1, 2, 4, 8, 16):
        bits = (bits | (bits >> shift)) & (ALL // ((1 << 2 * shift) + 1))
    return bits
