"""Whether matches between two catalogues may be accidents: how many as many would be expected of unrelated ones.

Bright members are counted by themselves too: of the sources of a deep image a shallow catalogue can have the brightest
only, and the many others would make any number of right matches look like accidents.

Stars that keep their distance from each other, as near the nodes of a lattice, may lie upon others in greater numbers
than evenly spread ones do; but accidents fill the circle about a star evenly, where right matches gather in its middle.
"""

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import gammainc, gammaincc

from diaflow.errors import data_may_fail

MIN_MATCHES = 6  # three stars fit any affine map; as many again must agree with it
# Catalogues displaced by this many matching radii, in as many directions, have accidental matches only: chosen.
ASIDE, DIRECTIONS = 4.0, 8


def mutual_neighbours(a: np.ndarray, b: np.ndarray, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """Points of two sets that are each other's nearest.

    Parameters
    ----------
    a, b : (n, 2), (m, 2) arrays
        Points of the two sets, finite.
    radius : float
        Largest distance, in the unit of the points.

    Returns
    -------
    i, j : (k,) int arrays
        Indices in a, ascending, and in b.

    Raises
    ------
    BadData
        When a point is not finite.
    """
    with data_may_fail("search for neighbours"):
        distance, nearest = cKDTree(b).query(a, distance_upper_bound=radius)
        back = np.append(cKDTree(a).query(b, distance_upper_bound=radius)[1], -1)
    i = np.flatnonzero(np.isfinite(distance) & (back[nearest] == np.arange(len(a))))
    return i, nearest[i]


def accidents(a: np.ndarray, b: np.ndarray, radius: float, density: float, n_trials: float = 1) -> float:
    """How often unrelated catalogues would have matches as good, in as many ways to lay them upon each other.

    Parameters
    ----------
    a, b : (n, 2), (m, 2) arrays
        Positions in both catalogues, the brightest first.
    radius : float
        Of the matches, in the unit of the positions.
    density : float
        Probability that one of a and one of b are that close, if both are spread evenly.
    n_trials : float
        Ways that were tried, of which this is the best.

    Returns
    -------
    float
        The smallest that any number of the brightest of each gives, by halves; times the number of these.

    Notes
    -----
    The number of accidental matches is a Poisson deviate.  What is expected of it is that of evenly spread catalogues
    or of these, slightly displaced, whichever is larger.  The squares of their distances, over that of the radius, are
    uniform deviates, of which Fisher's sum of logarithms tells how small they are together: it is as likely in each way
    that is tried, since these are chosen for the number of matches.
    """
    n, m = _halves(len(a)), _halves(len(b))
    turn = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    aside = ASIDE * radius * np.column_stack([np.cos(turn), np.sin(turn)])
    displaced = np.mean([_summed(1, *mutual_neighbours(a + step, b, radius), n, m) for step in aside], axis=0)
    i, j = mutual_neighbours(a, b, radius)
    matches = _summed(1, i, j, n, m)
    expected = np.maximum(displaced, np.outer(n, m) * density)
    as_many = np.where(matches >= MIN_MATCHES, gammainc(np.maximum(matches, 1), expected), 1.0)
    distance = np.hypot(*(a[i] - b[j]).T) / radius
    logarithms = -2 * np.log(np.maximum(distance, np.finfo(float).eps))  # also of a star that alone fixes the map
    as_close = gammaincc(np.maximum(matches, 1), _summed(logarithms, i, j, n, m))
    return float(np.maximum(n_trials * as_many, as_close).min() * matches.size)


def _halves(n: int) -> np.ndarray:
    """n, n / 2, n / 4 ... down to the least number of matches."""
    return n >> np.arange(max(n // MIN_MATCHES, 1).bit_length())


def _summed(values: np.ndarray | float, i: np.ndarray, j: np.ndarray, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Sums (len(n), len(m)) of values of matches among the first n and the first m."""
    return (values * (i < n[:, None])) @ (j < m[:, None]).astype(float).T
