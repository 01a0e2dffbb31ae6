"""Which positions may be one thing: how far apart two of them may be, and a hash in which neighbours are found.

Two positions may be one when no more than the radius and three standard errors of both, added in quadrature, lie
between them: in a seeing of 2 arcsec two sources of S/N 5 at one place are 0.4 arcsec apart or more in half of all
cases.
Distances are chords between points of the unit sphere, and points live in a hash of cubic cells, so that neither
the poles nor RA = 0 are special and the cost grows linearly.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from diaflow.jit import EXACT
from diaflow.sky import sphere
from diaflow.units import ARCSEC

SIGMAS = 3.0  # of the distance of two positions: noise alone exceeds it for 1 of 8000 (Rayleigh)
# Largest error of a position that counts, in both coordinates together [radius]: so pairs are never farther apart than
# 4.4 radii, and what is known worse than that joins what it fits by chance.
MAX_ERROR = 1.0
# Cells of four radii: a search looks into 3.4 cells on average, and a cell seldom holds more than a few points.
CELL_RADII = 4.0
BLOCK = 65536  # sources whose positions are found at once, in memory that stays in the cache
# A cell index has 21 bits, three of them make the key of a cell.
KEY_BITS = 21
SMALLEST_CELL = 2.0 ** (2 - KEY_BITS)


class Positions(NamedTuple):
    """Where the sources are that take part, visit after visit.

    Attributes
    ----------
    points : (n, 3) array
        Unit vectors.
    allowance : (n,) array
        What the error of each source adds to the square of the radius [rad**2]; an unknown error adds nothing.
    starts : (n_visits + 1,) int array
        First source of each visit, and n.
    radius : float
        Largest distance of two positions without errors [rad, of the chord].
    """

    points: np.ndarray
    allowance: np.ndarray
    starts: np.ndarray
    radius: float


class Cells(NamedTuple):
    """Hash of points by the cell they are in; see `link`.

    Attributes
    ----------
    head : (n_buckets,) int32 array
        First point in each bucket; -1 for none.
    following : (n,) int32 array
        Next point in the same bucket.
    keys : (n,) int64 array
        Cell of each point.
    points : (n, 3) array
        The points; they may move, see `move`.
    size : float
        Side of a cell.
    """

    head: np.ndarray
    following: np.ndarray
    keys: np.ndarray
    points: np.ndarray
    size: float


def positions(sources: np.ndarray, rows: np.ndarray, config: dict) -> Positions:
    """Positions of the sources that take part.

    Parameters
    ----------
    sources : "dia_source" table
    rows : (n,) int array
        Rows that take part, visit after visit.
    config : dict
        `radius`: largest distance without errors [arcsec].

    Returns
    -------
    Positions
    """
    visits = sources["visit"][rows]
    starts = np.flatnonzero(np.concatenate([[True], visits[1:] != visits[:-1], [True]])[: len(rows) + 1])
    radius = 2 * np.sin(config["radius"] * ARCSEC / 2)
    points, allowance = np.empty((len(rows), 3)), np.empty(len(rows))
    for begin in range(0, len(rows), BLOCK):
        block = slice(begin, begin + BLOCK)
        ra, dec, ra_err, dec_err = (sources[name][rows[block]] for name in ("ra", "dec", "raErr", "decErr"))
        points[block] = sphere.unit_vectors(ra, dec)
        error2 = np.radians(ra_err.astype(float)) ** 2 + np.radians(dec_err.astype(float)) ** 2
        allowance[block] = allowances(error2, radius)
    return Positions(points, allowance, starts, radius)


def allowances(error2: np.ndarray, radius: float) -> np.ndarray:
    """What the errors of positions add to the square of the radius.

    Parameters
    ----------
    error2 : (n,) array
        Sum of the squared errors of both coordinates; NaN where unknown [rad**2].
    radius : float
        [rad]

    Returns
    -------
    (n,) array
        [rad**2]
    """
    return SIGMAS**2 * np.minimum(np.nan_to_num(error2, nan=0.0), (MAX_ERROR * radius) ** 2)


@njit(**EXACT)
def cells(points, radius):
    """An empty hash for points that are looked for within a radius.

    Parameters
    ----------
    points : (n, 3) array
        May be empty still; `link` puts its rows in.
    radius : float

    Returns
    -------
    Cells
    """
    n = len(points)
    n_buckets = 1
    while n_buckets < n:
        n_buckets *= 2
    size = max(CELL_RADII * radius, SMALLEST_CELL)
    return Cells(np.full(n_buckets, -1, np.int32), np.empty(n, np.int32), np.empty(n, np.int64), points, size)


@njit(**EXACT)
def keys(points, radius):
    """Cell of each point, for points that are looked for within a radius.

    Parameters
    ----------
    points : (n, 3) array
    radius : float

    Returns
    -------
    (n,) int64 array
    """
    cell = np.empty(len(points), np.int64)
    size = max(CELL_RADII * radius, SMALLEST_CELL)
    for i in range(len(points)):
        cell[i] = _key(points[i], size)
    return cell


@njit(**EXACT)
def near(point, radius, hash_, found, distance):
    """Points closer to a point than a radius.

    Parameters
    ----------
    point : (3,) array
    radius : float
    hash_ : Cells
    found, distance : int64 and float arrays of one length
        Take the rows of the points and the squares of their distances, as many as there is room for: where more are
        found, the caller brings longer ones.  To return arrays would take as long as the search.

    Returns
    -------
    int
        Number of points.
    """
    n = 0
    x0, x1 = _cell(point[0] - radius, hash_.size), _cell(point[0] + radius, hash_.size)
    y0, y1 = _cell(point[1] - radius, hash_.size), _cell(point[1] + radius, hash_.size)
    z0, z1 = _cell(point[2] - radius, hash_.size), _cell(point[2] + radius, hash_.size)
    for ix in range(x0, x1 + 1):
        for iy in range(y0, y1 + 1):
            for iz in range(z0, z1 + 1):
                key = _pack(ix, iy, iz)
                k = hash_.head[_bucket(key, len(hash_.head))]
                while k >= 0:
                    # Points of other cells in the bucket would make ties depend on the size of the hash.
                    if hash_.keys[k] == key:
                        distance2 = chord2(hash_.points, k, point)
                        if distance2 < radius * radius:
                            if n < len(found):
                                found[n], distance[n] = k, distance2
                            n += 1
                    k = hash_.following[k]
    return n


@njit(**EXACT)
def chord2(points, i, point):
    """Square of the distance of two points.

    Parameters
    ----------
    points : (n, 3) array
    i : int
        Row of the one.
    point : (3,) array or tuple
        The other.

    Returns
    -------
    float
    """
    dx, dy, dz = points[i, 0] - point[0], points[i, 1] - point[1], points[i, 2] - point[2]
    return dx * dx + dy * dy + dz * dz


@njit(**EXACT)
def link(k, hash_):
    """Put a point into the hash.

    Parameters
    ----------
    k : int
        Its row.
    hash_ : Cells
    """
    key = _key(hash_.points[k], hash_.size)
    bucket = _bucket(key, len(hash_.head))
    hash_.keys[k] = key
    hash_.following[k] = hash_.head[bucket]
    hash_.head[bucket] = k


@njit(**EXACT)
def move(k, hash_):
    """Tell the hash that a point has moved.

    Parameters
    ----------
    k : int
        Its row.
    hash_ : Cells
    """
    if _key(hash_.points[k], hash_.size) != hash_.keys[k]:
        unlink(k, hash_)
        link(k, hash_)


@njit(**EXACT)
def unlink(k, hash_):
    """Take a point out of the hash.

    Parameters
    ----------
    k : int
        Its row.
    hash_ : Cells
    """
    bucket = _bucket(hash_.keys[k], len(hash_.head))
    if hash_.head[bucket] == k:
        hash_.head[bucket] = hash_.following[k]
        return
    before = hash_.head[bucket]
    while hash_.following[before] != k:
        before = hash_.following[before]
    hash_.following[before] = hash_.following[k]


@njit(**EXACT)
def _cell(coordinate, size):
    return int((coordinate + 1) / size)


@njit(**EXACT)
def _pack(ix, iy, iz):
    return (ix << 2 * KEY_BITS) | (iy << KEY_BITS) | iz


@njit(**EXACT)
def _key(point, size):
    return _pack(_cell(point[0], size), _cell(point[1], size), _cell(point[2], size))


@njit(**EXACT)
def _bucket(key, n_buckets):
    # Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4) with 2**64 / golden ratio.
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(n_buckets - 1))
