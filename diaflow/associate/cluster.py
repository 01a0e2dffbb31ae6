"""Friends of friends of all visits at once, groups wider than the radius split.

Sources closer than the radius, with three standard errors of both positions in quadrature, are friends; friends of
friends are a group.  A group whose sources all lie within the radius of their mean, and are of different visits, is an
object.  The sources of any other group are clusters of one, which grow: two clusters that are the closest to each
other of all with which they can be one object become one, until none can.  No visit comes before another: what the
first source of an object is like does not matter.
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
        `radius`: largest distance of a source from the mean of its object without errors [arcsec].

    Returns
    -------
    (n,) int64 array
        Objects are numbered in the order of their first sources.
    """
    points, allowance, starts, radius = neighbours.positions(sources, rows, config)
    visit = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    labels = np.empty(len(rows), np.int64)
    order = np.argsort(neighbours.keys(points, radius))  # what is near on the sky is near in memory
    groups = _friends(np.take(points, order, axis=0), allowance[order], radius)
    _name_after_first(groups, order, labels)
    wide = np.flatnonzero(_too_wide(labels, points, allowance, visit, radius)[labels])
    wide = wide[np.argsort(labels[wide], kind="stable")]
    labels[wide] = wide[_split(points[wide], allowance[wide], visit[wide], radius)]
    number = np.cumsum(labels == np.arange(len(labels))) - 1
    return number[labels]


@njit(**EXACT)
def _friends(points, allowance, radius):
    """Group of each source, named after one of its sources."""
    n = len(points)
    parent = np.arange(n)
    if n == 0:
        return parent
    farthest = np.sqrt(radius * radius + 2 * allowance.max())
    hash_ = neighbours.cells(points, radius)
    found, distance = np.empty(64, np.int64), np.empty(64)
    for i in range(n):
        n_near = neighbours.near(points[i], farthest, hash_, found, distance)
        if n_near > len(found):
            found, distance = np.empty(2 * n_near, np.int64), np.empty(2 * n_near)
            n_near = neighbours.near(points[i], farthest, hash_, found, distance)
        root = i
        for j in range(n_near):
            if distance[j] < radius * radius + (allowance[i] + allowance[found[j]]):
                other = _root(found[j], parent)
                parent[root] = other  # the older root stays, so that the way to it stays short
                root = other
        neighbours.link(i, hash_)
    for i in range(n):
        parent[i] = _root(i, parent)
    return parent


@njit(**EXACT)
def _name_after_first(groups, order, labels):
    """Label each source with the first of its group; `order` has the source of each row of `groups`."""
    first = np.full(len(groups), len(groups), np.int64)
    for i in range(len(groups)):
        first[groups[i]] = min(first[groups[i]], order[i])
    for i in range(len(groups)):
        labels[order[i]] = first[groups[i]]


@njit(**EXACT)
def _root(i, parent):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(**EXACT)
def _too_wide(labels, points, allowance, visit, radius):
    """Whether each group, at the place of its first source, is more than one object."""
    n = len(points)
    total, spread, count = np.zeros((n, 3)), np.zeros(n), np.zeros(n)
    wide, last_visit = np.zeros(n, np.bool_), np.full(n, -1, np.int64)
    for i in range(n):
        k = labels[i]
        total[k] += points[i]
        spread[k] += allowance[i]
        count[k] += 1
        wide[k] |= last_visit[k] == visit[i]
        last_visit[k] = visit[i]
    limit = radius * radius + spread / count**2
    for k in range(n):
        if count[k] > 1:
            total[k] /= np.sqrt((total[k] ** 2).sum())  # their mean now
    for i in range(n):
        k = labels[i]
        wide[k] |= count[k] > 1 and neighbours.chord2(points, i, total[k]) >= limit[k] + allowance[i]
    return wide


@njit(**EXACT)
def _split(points, allowance, visit, radius):
    """First source of the cluster of each source, when the closest ones have become one as long as they can."""
    n = len(points)
    cluster = np.arange(n)
    if n == 0:
        return cluster
    farthest = np.sqrt(radius * radius + 2 * allowance.max())
    hash_ = neighbours.cells(points.copy(), radius)
    total, spread, count = points.copy(), allowance.copy(), np.ones(n)
    following = np.full(n, -1, np.int64)  # next source of the same cluster, in the order of visits
    partner = np.full(n, -1, np.int64)
    found, distance = np.empty(64, np.int64), np.empty(64)
    for k in range(n):
        neighbours.link(k, hash_)
    growing = np.arange(n)
    while len(growing):
        for k in growing:
            partner[k], closest = -1, np.inf
            n_near = neighbours.near(hash_.points[k], farthest, hash_, found, distance)
            if n_near > len(found):
                found, distance = np.empty(2 * n_near, np.int64), np.empty(2 * n_near)
                n_near = neighbours.near(hash_.points[k], farthest, hash_, found, distance)
            _closest_first(k, n_near, found, distance)  # so that it is often the only one to be looked at
            for j in range(n_near):
                other = found[j]
                # Of pairs at the same distance the one of the earlier sources: so one pair is each other's closest.
                if other == k or distance[j] > closest or (distance[j] == closest and other > partner[k]):
                    continue
                limit = radius * radius + (spread[k] / count[k] ** 2 + spread[other] / count[other] ** 2)
                if distance[j] < limit and _are_one(
                    k, other, following, points, allowance, visit, total, spread, count, radius
                ):
                    partner[k], closest = other, distance[j]
        n_growing = 0
        for k in growing:
            if partner[k] < 0:
                neighbours.unlink(k, hash_)
                continue
            other = partner[k]
            if partner[other] == k and other < k:
                continue
            if partner[other] == k:
                neighbours.unlink(other, hash_)
                _chain(k, other, following)
                total[k] += total[other]
                spread[k] += spread[other]
                count[k] += count[other]
                hash_.points[k] = total[k] / np.sqrt((total[k] ** 2).sum())
                neighbours.move(k, hash_)
            growing[n_growing] = k
            n_growing += 1
        growing = growing[:n_growing]
    for k in range(n):  # the first source of a cluster comes before the others
        if following[k] >= 0:
            cluster[following[k]] = cluster[k]
    return cluster


@njit(**EXACT)
def _closest_first(k, n, found, distance):
    """Bring the closest of the first n found to the front, but k itself."""
    closest = -1
    for j in range(n):
        if found[j] != k and (closest < 0 or distance[j] < distance[closest]):
            closest = j
    if closest >= 0:
        found[0], found[closest] = found[closest], found[0]
        distance[0], distance[closest] = distance[closest], distance[0]


@njit(**EXACT)
def _are_one(a, b, following, points, allowance, visit, total, spread, count, radius):
    """Whether two clusters can be one: all sources of different visits, and within the radius of their mean."""
    x, y, z = total[a, 0] + total[b, 0], total[a, 1] + total[b, 1], total[a, 2] + total[b, 2]
    norm = np.sqrt(x * x + y * y + z * z)
    mean = x / norm, y / norm, z / norm
    limit = radius * radius + (spread[a] + spread[b]) / (count[a] + count[b]) ** 2
    while a >= 0 or b >= 0:
        if a >= 0 and b >= 0 and visit[a] == visit[b]:
            return False
        i = a if b < 0 or (a >= 0 and a < b) else b
        if neighbours.chord2(points, i, mean) >= limit + allowance[i]:
            return False
        if i == a:
            a = following[a]
        else:
            b = following[b]
    return True


@njit(**EXACT)
def _chain(a, b, following):
    """Join two lists of sources, each in the order of visits, into one that begins with a, the earlier of both."""
    last = a
    a = following[a]
    while a >= 0 or b >= 0:
        if b < 0 or (a >= 0 and a < b):
            following[last] = last = a
            a = following[a]
        else:
            following[last] = last = b
            b = following[b]
    following[last] = -1
