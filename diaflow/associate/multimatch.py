"""Matching of the catalogues of all visits to first positions, ambiguous objects left out or resolved.

Every source of a visit is matched to all objects of earlier visits within the radius of their first sources, where
objects stay; sources without a match found new objects.  An object is ambiguous that is matched by two sources of a
visit, or by a source that matches another object too: all sources of ambiguous objects are left out, or else pairs are
made closest first, and sources left over found new objects.  After `MultiMatch` of LSST's afw, with the errors; what is
ambiguous there without being left out is in several objects.
"""

import numpy as np
from numba import njit

from diaflow.associate import neighbours
from diaflow.associate.simple import pair_visits
from diaflow.jit import EXACT

OPTIONS = {
    "remove_ambiguous": {
        "type": "boolean",
        "default": True,
        "description": "leave out all sources of ambiguous objects: their diaObjectId stays 0",
    },
}


def associate(sources: np.ndarray, rows: np.ndarray, config: dict) -> np.ndarray:
    """Object index of each of the sources `rows`.

    Parameters
    ----------
    sources : "dia_source" table
    rows : (n,) int array
        Rows that take part, visit after visit.
    config : dict
        `radius`: largest distance of a source from the first one of its object without errors [arcsec];
        `remove_ambiguous`.

    Returns
    -------
    (n,) int64 array
        Objects are numbered in the order in which they were founded; -1 for sources of ambiguous objects.
    """
    positions = neighbours.positions(sources, rows, config)
    if not config["remove_ambiguous"]:
        return pair_visits(*positions, False)
    objects, ambiguous = _match(*positions)
    number = np.where(ambiguous, -1, np.cumsum(~ambiguous) - 1)
    return number[objects]


@njit(**EXACT)
def _match(points, allowance, starts, radius):
    """Object of each source, the nearest where it matches several, and whether each object is ambiguous."""
    n = len(points)
    objects, ambiguous = np.full(n, -1, np.int64), np.zeros(n, np.bool_)
    if n == 0:
        return objects, ambiguous
    farthest = np.sqrt(radius * radius + 2 * allowance.max())
    hash_ = neighbours.cells(np.empty((n, 3)), radius)
    limit = np.empty(n)  # square of the radius with the allowance of the first source
    last_visit = np.full(n, -1, np.int64)  # in which the object was matched
    found, distance = np.empty(64, np.int64), np.empty(64)
    n_objects = 0
    for visit in range(len(starts) - 1):
        for i in range(starts[visit], starts[visit + 1]):
            n_near = neighbours.near(points[i], farthest, hash_, found, distance)
            if n_near > len(found):
                found, distance = np.empty(2 * n_near, np.int64), np.empty(2 * n_near)
                n_near = neighbours.near(points[i], farthest, hash_, found, distance)
            closest, first = np.inf, -1
            for j in range(n_near):
                k = found[j]
                if distance[j] < limit[k] + allowance[i]:
                    if first < 0:
                        first = k
                    else:
                        ambiguous[first] = ambiguous[k] = True
                    if last_visit[k] == visit:
                        ambiguous[k] = True
                    last_visit[k] = visit
                    if distance[j] < closest:
                        objects[i], closest = k, distance[j]
        for i in range(starts[visit], starts[visit + 1]):
            if objects[i] < 0:
                objects[i] = k = n_objects
                hash_.points[k] = points[i]
                limit[k] = radius * radius + allowance[i]
                neighbours.link(k, hash_)
                n_objects += 1
    return objects, ambiguous
