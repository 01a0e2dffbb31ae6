"""Assignment of the sources of each visit to objects, one to one, at the least total cost.

The cost of a pair is what its distance and the errors of both positions say against it, minus the logarithm of the
likelihood of their difference: a well-known object is preferred to a nearer one that may be anywhere.  Pairs closer
than the radius, with three standard errors of both positions in quadrature, are possible; to leave a source alone costs
more than any of them.  As many sources as can be have an object, then the sum of the costs is the least, where taking
the closest pairs first may leave one source with a bad object or none.  Sources left over found new objects; an object
is at the mean direction of its sources.  After ap_association of LSST, with the costs of its likelihood.
"""

import numpy as np
from numba import njit

from diaflow.associate import neighbours
from diaflow.jit import EXACT
from diaflow.units import ARCSEC

OPTIONS = {}

# As in ap_association: error of a coordinate that is not known, and what is added in quadrature to that of a
# difference, because images are not registered better [arcsec].
UNKNOWN_ERROR, FLOOR = 0.2, 0.05


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
    positions = neighbours.positions(sources, rows, config)
    largest = neighbours.MAX_ERROR * positions.radius
    errors = np.stack([np.radians(sources[name][rows].astype(float)) for name in ("raErr", "decErr")], axis=1)
    errors = np.minimum(np.nan_to_num(errors, nan=UNKNOWN_ERROR * ARCSEC), largest)
    floor2 = (FLOOR * ARCSEC) ** 2
    # No pair costs more: at the largest distance and the least error, and of the largest error.
    distance2 = positions.radius**2 + 2 * neighbours.SIGMAS**2 * largest**2
    alone = distance2 / floor2 / 2 + np.log(2 * largest**2 + floor2) + 1
    return _assign(*positions, errors**2, floor2, alone)


@njit(**EXACT)
def _assign(points, allowance, starts, radius, errors2, floor2, alone):
    """Object of each source; `alone` is the cost of a source without an object."""
    n = len(points)
    objects = np.full(n, -1, np.int64)
    if n == 0:
        return objects
    farthest = np.sqrt(radius * radius + 2 * allowance.max())
    hash_ = neighbours.cells(np.empty((n, 3)), radius)
    total, spread, count = np.zeros((n, 3)), np.zeros(n), np.zeros(n)
    covariance = np.zeros((n, 6))  # sum of those of its sources: xx, xy, xz, yy, yz, zz
    owner = np.full(n, -1, np.int64)  # source that has the object in this visit
    price = np.zeros(n)  # of the objects in this visit
    length, before, final = np.full(n, np.inf), np.empty(n, np.int64), np.zeros(n, np.bool_)
    found, distance = np.empty(64, np.int64), np.empty(64)
    edges, costs = np.empty(8, np.int64), np.empty(8)  # objects possible for each source of a visit
    n_objects = 0
    for visit in range(len(starts) - 1):
        begin, end = starts[visit], starts[visit + 1]
        first, n_edges = np.zeros(end - begin + 1, np.int64), 0
        for i in range(begin, end):
            n_near = neighbours.near(points[i], farthest, hash_, found, distance)
            if n_near > len(found):
                found, distance = np.empty(2 * n_near, np.int64), np.empty(2 * n_near)
                n_near = neighbours.near(points[i], farthest, hash_, found, distance)
            for j in range(n_near):
                k = found[j]
                if distance[j] < radius * radius + spread[k] / count[k] ** 2 + allowance[i]:
                    if n_edges == len(edges):
                        edges, costs = np.append(edges, edges), np.append(costs, costs)
                    edges[n_edges] = k
                    of_object = covariance[k] / count[k] ** 2
                    costs[n_edges] = _cost(points[i] - hash_.points[k], points[i], errors2[i], of_object, floor2)
                    n_edges += 1
            first[i - begin + 1] = n_edges
        least_cost(begin, first, edges, costs, alone, objects, owner, price, length, before, final)
        for k in edges[:n_edges]:
            owner[k], price[k] = -1, 0.0
        for i in range(begin, end):
            k = objects[i]
            if k < 0:
                objects[i] = k = n_objects
                n_objects += 1
                hash_.points[k] = total[k] = points[i]
                neighbours.link(k, hash_)
            else:
                total[k] += points[i]
                hash_.points[k] = total[k] / np.sqrt((total[k] ** 2).sum())
                neighbours.move(k, hash_)
            spread[k] += allowance[i]
            count[k] += 1
            _add_covariance(covariance[k], points[i], errors2[i])
    return objects


@njit(**EXACT)
def least_cost(begin, first, edges, costs, alone, objects, owner, price, length, before, final):
    """Give the sources of a visit their objects: shortest augmenting paths (Jonker & Volgenant 1987), source by source.

    Parameters
    ----------
    begin : int
        First source of the visit.
    first : (n + 1,) int array
        Source begin + i may have the objects edges[first[i] : first[i + 1]].
    edges, costs : arrays
        These objects, and what each costs.
    alone : float
        What it costs to have no object.
    objects : int array
        Filled: object of each source, -1 for none.
    owner, price : arrays
        Of every object: its source and its price in this visit; -1 and 0 before.
    length, before, final : arrays
        Of every object, for the search: infinite length of the shortest path to it, the source on that path, and False;
        left as they were.
    """
    n = len(first) - 1
    bound = np.zeros(n)  # what a source pays at least
    touched = np.empty(len(edges), np.int64)
    for start in range(n):
        n_touched = 0
        source, paid = start, 0.0
        bound[start] = alone
        for e in range(first[start], first[start + 1]):
            bound[start] = min(bound[start], costs[e] - price[edges[e]])
        give_up, shortest_alone = start, np.inf  # the source that is left alone
        while True:
            if paid + alone - bound[source] < shortest_alone:
                give_up, shortest_alone = source, paid + alone - bound[source]
            for e in range(first[source], first[source + 1]):
                k = edges[e]
                if final[k]:
                    continue
                if length[k] == np.inf:
                    touched[n_touched] = k
                    n_touched += 1
                candidate = paid + costs[e] - bound[source] - price[k]
                if candidate < length[k]:
                    length[k], before[k] = candidate, source
            best = -1
            for t in range(n_touched):
                k = touched[t]
                if not final[k] and length[k] < shortest_alone and (best < 0 or length[k] < length[best]):
                    best = k
            if best < 0 or owner[best] < 0:
                break
            final[best] = True
            source, paid = owner[best], length[best]
        paid = shortest_alone if best < 0 else length[best]
        bound[start] += paid
        for t in range(n_touched):
            k = touched[t]
            if final[k]:
                bound[owner[k]] += paid - length[k]
                price[k] -= paid - length[k]
            length[k], final[k] = np.inf, False
        _hand_over(begin, start, give_up, best, objects, owner, before)


@njit(**EXACT)
def _hand_over(begin, start, give_up, last, objects, owner, before):
    """Change owners along a path: from the object `last`, or from the source that gives up its own, to the start."""
    k = last
    if k < 0:
        k, objects[begin + give_up] = objects[begin + give_up], -1
        source = give_up
        if source == start:
            return
    while True:
        source = before[k]
        owner[k] = source
        k, objects[begin + source] = objects[begin + source], k
        if source == start:
            return


@njit(**EXACT)
def _cost(difference, point, errors2, of_object, floor2):
    """Minus the logarithm of the likelihood of a difference of two positions, but for a constant.

    Near the poles east and north of source and object differ: covariances are added in space, and seen from the source.
    """
    east, north = _axes(point)
    inflated = of_object.copy()
    _add_covariance(inflated, point, errors2)
    ee = _form(inflated, east, east) + floor2
    nn = _form(inflated, north, north) + floor2
    en = _form(inflated, east, north)
    x, y = (difference * east).sum(), (difference * north).sum()
    determinant = ee * nn - en * en
    chi2 = (x * x * nn - 2 * x * y * en + y * y * ee) / determinant
    return (chi2 + np.log(determinant)) / 2


@njit(**EXACT)
def _axes(point):
    """Unit vectors to the east and to the north of a point."""
    axis = max(np.sqrt(point[0] ** 2 + point[1] ** 2), np.finfo(np.float64).tiny)
    east = np.array([-point[1] / axis, point[0] / axis, 0.0])
    north = np.array([-point[2] * east[1], point[2] * east[0], axis])
    return east, north


@njit(**EXACT)
def _add_covariance(covariance, point, errors2):
    """Add the covariance of a position in space, of its squared errors to the east and to the north."""
    east, north = _axes(point)
    place = 0
    for a in range(3):
        for b in range(a, 3):
            covariance[place] += errors2[0] * east[a] * east[b] + errors2[1] * north[a] * north[b]
            place += 1


@njit(**EXACT)
def _form(covariance, v, w):
    """v C w of a covariance in space."""
    place, form = 0, 0.0
    for a in range(3):
        for b in range(a, 3):
            form += covariance[place] * (v[a] * w[b] + v[b] * w[a]) / (2.0 if a == b else 1.0)
            place += 1
    return form
