"""Sequential nearest-neighbour association, visit by visit.

The sources of a visit are paired with the objects known so far, closest pairs first, each source and each object
at most once, no pair farther apart than the radius and three standard errors of both positions allow; sources left
over found new objects.  The position of an object is the mean direction of its sources.  After `simpleAssociation` of
LSST's pipe_tasks, with the greedy choice made over the whole visit, and with the errors.
"""

import numpy as np
from numba import njit

from diaflow.associate import neighbours
from diaflow.jit import EXACT

OPTIONS = {}


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
    return pair_visits(*neighbours.positions(sources, rows, config), True)


@njit(**EXACT)
def pair_visits(points, allowance, starts, radius, follows):
    """Pair the sources of each visit with the objects of those before, closest pairs first.

    Parameters
    ----------
    points, allowance, starts, radius
        As in `neighbours.Positions`.
    follows : bool
        Whether an object is at the mean of its sources; otherwise it stays where its first one is.

    Returns
    -------
    (n,) int64 array
        Object of each source, in the order in which they were founded.
    """
    n = len(points)
    objects = np.full(n, -1, np.int64)
    if n == 0:
        return objects
    farthest = np.sqrt(radius * radius + 2 * allowance.max())
    hash_ = neighbours.cells(np.empty((n, 3)), radius)
    total = np.empty((n, 3))  # sum of the unit vectors of its sources
    spread, count = np.zeros(n), np.zeros(n)  # sum of their allowances, and their number
    limit = np.empty(n)  # square of the radius with the allowance of the mean
    claimed = np.full(n, np.inf)  # squared distance of the source that holds the object in this visit
    claimant = np.full(n, -1, np.int64)
    found, distance = np.empty(64, np.int64), np.empty(64)
    n_objects = 0

    for visit in range(len(starts) - 1):
        begin, end = starts[visit], starts[visit + 1]
        for i in range(begin, end):
            # An object leaves a source for a closer one; the source then looks for its next best.  With distances
            # as the preference of both sides, this ends in the pairing that takes the closest pairs first.
            source = i
            while source >= 0:
                n_near = neighbours.near(points[source], farthest, hash_, found, distance)
                if n_near > len(found):
                    found, distance = np.empty(2 * n_near, np.int64), np.empty(2 * n_near)
                    n_near = neighbours.near(points[source], farthest, hash_, found, distance)
                best, closest = -1, np.inf
                for j in range(n_near):
                    k = found[j]
                    if distance[j] < min(closest, claimed[k], limit[k] + allowance[source]):
                        best, closest = k, distance[j]
                objects[source] = best
                if best < 0:
                    break
                previous = claimant[best]
                claimant[best], claimed[best] = source, closest
                source = previous
        for i in range(begin, end):
            k = objects[i]
            if k < 0:
                objects[i] = k = n_objects
                n_objects += 1
                hash_.points[k] = total[k] = points[i]
                spread[k], count[k] = allowance[i], 1
                neighbours.link(k, hash_)
            else:
                claimant[k], claimed[k] = -1, np.inf
                if follows:
                    total[k] += points[i]
                    spread[k] += allowance[i]
                    count[k] += 1
                    hash_.points[k] = total[k] / np.sqrt((total[k] ** 2).sum())
                    neighbours.move(k, hash_)
            limit[k] = radius * radius + spread[k] / count[k] ** 2
    return objects
