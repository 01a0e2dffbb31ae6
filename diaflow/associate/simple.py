"""Sequential nearest-neighbour association, visit by visit.

The sources of a visit are paired with the objects known so far, closest pairs first, each source and each object
at most once, no pair farther apart than the radius and three standard errors of both positions allow; sources left
over found new objects.  The position of an object is the mean direction of its sources.  After `simpleAssociation` of
LSST's pipe_tasks, with the greedy choice made over the whole visit, and with the errors: in a seeing of 2 arcsec two
sources of S/N 5 at one place are 0.4 arcsec apart or more in half of all cases, and would be two objects.  Objects live
in a hash of cubic cells on the unit sphere, so that neither the poles nor RA = 0 are special and the cost grows
linearly.
"""

import numpy as np
from numba import njit

from diaflow.jit import EXACT
from diaflow.sky import sphere
from diaflow.units import ARCSEC

OPTIONS = {
    "radius": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 0.5,
        "description": "matching radius, in quadrature with three standard errors of both positions [arcsec]",
    },
}

SIGMAS = 3.0  # of the distance of source and object: noise alone exceeds it for 1 of 8000 (Rayleigh)
# Largest error of a position that counts, in both coordinates together [radius]: so pairs are never farther apart than
# 4.4 radii, and what is known worse than that joins what it fits by chance.
MAX_ERROR = 1.0
# Cells of four radii: a search looks into 3.4 cells on average, and a cell seldom holds more than a few objects.
CELL_RADII = 4.0
# A cell index has 21 bits, three of them make the key of a cell.
KEY_BITS = 21
SMALLEST_CELL = 2.0 ** (2 - KEY_BITS)


def associate(sources: np.ndarray, rows: np.ndarray, config: dict) -> np.ndarray:
    """Object index of each of the sources `rows`.

    Parameters
    ----------
    sources : "dia_source" table
    rows : (n,) int array
        Rows that take part, visit after visit.
    config : dict
        `radius`: largest distance of a source from its object without errors [arcsec].

    Returns
    -------
    (n,) int64 array
        Objects are numbered in the order in which they were founded.
    """
    visits = sources["visit"][rows]
    starts = np.flatnonzero(np.concatenate([[True], visits[1:] != visits[:-1], [True]]))
    if len(rows) == 0:
        return np.zeros(0, np.int64)
    chord = 2 * np.sin(config["radius"] * ARCSEC / 2)
    points = sphere.unit_vectors(sources["ra"][rows], sources["dec"][rows])
    return _associate(points, _allowance(sources[rows], chord), starts, chord, max(CELL_RADII * chord, SMALLEST_CELL))


def _allowance(sources: np.ndarray, radius: float) -> np.ndarray:
    """What the error of each source adds to the square of the radius (n,) [rad**2]; an unknown error adds nothing."""
    error2 = np.radians(sources["raErr"].astype(float)) ** 2 + np.radians(sources["decErr"].astype(float)) ** 2
    return SIGMAS**2 * np.minimum(np.nan_to_num(error2, nan=0.0), (MAX_ERROR * radius) ** 2)


@njit(**EXACT)
def _associate(points, allowance, starts, radius, cell):
    n = len(points)
    farthest = np.sqrt(radius * radius + 2 * allowance.max())
    n_buckets = 1
    while n_buckets < n:
        n_buckets *= 2
    head = np.full(n_buckets, -1, np.int32)  # first object in each bucket
    following = np.empty(n, np.int32)  # next object in the same bucket
    keys = np.empty(n, np.int64)  # cell of each object
    total = np.empty((n, 3))  # sum of the unit vectors of its sources
    spread, count = np.zeros(n), np.zeros(n)  # sum of their allowances, and their number
    limit = np.empty(n)  # square of the radius with the allowance of the mean
    centre = np.empty((n, 3))
    claimed = np.full(n, np.inf)  # squared distance of the source that holds the object in this visit
    claimant = np.full(n, -1, np.int64)
    objects = np.full(n, -1, np.int64)
    n_objects = 0

    for visit in range(len(starts) - 1):
        begin, end = starts[visit], starts[visit + 1]
        for i in range(begin, end):
            # An object leaves a source for a closer one; the source then looks for its next best.  With distances
            # as the preference of both sides, this ends in the pairing that takes the closest pairs first.
            source = i
            while source >= 0:
                found, distance = _nearest(
                    points[source], allowance[source], farthest, cell, head, following, keys, centre, limit, claimed
                )
                objects[source] = found
                if found < 0:
                    break
                previous = claimant[found]
                claimant[found], claimed[found] = source, distance
                source = previous
        for i in range(begin, end):
            k = objects[i]
            if k >= 0:
                claimant[k], claimed[k] = -1, np.inf
                total[k] += points[i]
                centre[k] = total[k] / np.sqrt((total[k] ** 2).sum())
                key = _key(centre[k], cell)
                if key != keys[k]:
                    _unlink(k, head, following, keys)
                    _link(k, key, head, following, keys)
            else:
                objects[i] = k = n_objects
                total[k] = points[i]
                centre[k] = points[i]
                _link(k, _key(points[i], cell), head, following, keys)
                n_objects += 1
            spread[k] += allowance[i]
            count[k] += 1
            limit[k] = radius * radius + spread[k] / count[k] ** 2
    return objects


@njit(**EXACT)
def _nearest(point, allowance, radius, cell, head, following, keys, centre, limit, claimed):
    """Nearest object within its limit and `allowance` that no closer source has claimed, and its squared chord; or -1.

    None is farther than `radius`.
    """
    best, best_distance = -1, radius * radius
    x0, x1 = _cell(point[0] - radius, cell), _cell(point[0] + radius, cell)
    y0, y1 = _cell(point[1] - radius, cell), _cell(point[1] + radius, cell)
    z0, z1 = _cell(point[2] - radius, cell), _cell(point[2] + radius, cell)
    for ix in range(x0, x1 + 1):
        for iy in range(y0, y1 + 1):
            for iz in range(z0, z1 + 1):
                key = _pack(ix, iy, iz)
                k = head[_bucket(key, len(head))]
                while k >= 0:
                    # Objects of other cells in the bucket would make ties depend on the size of the hash.
                    if keys[k] == key:
                        dx, dy, dz = centre[k, 0] - point[0], centre[k, 1] - point[1], centre[k, 2] - point[2]
                        distance = dx * dx + dy * dy + dz * dz
                        if distance < min(best_distance, claimed[k], limit[k] + allowance):
                            best, best_distance = k, distance
                    k = following[k]
    return best, best_distance


@njit(**EXACT)
def _cell(coordinate, cell):
    return int((coordinate + 1) / cell)


@njit(**EXACT)
def _pack(ix, iy, iz):
    return (ix << 2 * KEY_BITS) | (iy << KEY_BITS) | iz


@njit(**EXACT)
def _key(point, cell):
    return _pack(_cell(point[0], cell), _cell(point[1], cell), _cell(point[2], cell))


@njit(**EXACT)
def _bucket(key, n_buckets):
    # Multiplicative hashing (Knuth, The Art of Computer Programming 3, 6.4) with 2**64 / golden ratio.
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((mixed >> np.uint64(32)) & np.uint64(n_buckets - 1))


@njit(**EXACT)
def _link(k, key, head, following, keys):
    bucket = _bucket(key, len(head))
    keys[k] = key
    following[k] = head[bucket]
    head[bucket] = k


@njit(**EXACT)
def _unlink(k, head, following, keys):
    bucket = _bucket(keys[k], len(head))
    if head[bucket] == k:
        head[bucket] = following[k]
        return
    before = head[bucket]
    while following[before] != k:
        before = following[before]
    following[before] = following[k]
