"""Whether matches between two catalogues may be accidents: how many as many would be expected of unrelated ones.

Bright members are counted by themselves too: of the sources of a deep image a shallow catalogue can have the brightest
only, and the many others would make any number of right matches look like accidents.
"""

import numpy as np
from scipy.spatial import cKDTree
from scipy.special import gammainc

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


def probability(a: np.ndarray, b: np.ndarray, radius: float, density: float) -> float:
    """Probability that unrelated catalogues have matches as good, for one way to lay them upon each other.

    Parameters
    ----------
    a, b : (n, 2), (m, 2) arrays
        Positions in both catalogues, the brightest first.
    radius : float
        Of the matches, in the unit of the positions.
    density : float
        Probability that one of a and one of b are that close, if both are spread evenly.

    Returns
    -------
    float
        The smallest that any number of the brightest of each gives, by halves; times the number of these, 1 at most.

    Notes
    -----
    The number of accidental matches is a Poisson deviate.  What is expected of it is that of evenly spread catalogues
    or of these, slightly displaced, whichever is larger.
    """
    n, m = _halves(len(a)), _halves(len(b))
    turn = np.arange(DIRECTIONS) * 2 * np.pi / DIRECTIONS
    aside = ASIDE * radius * np.column_stack([np.cos(turn), np.sin(turn)])
    displaced = np.mean([_counted(*mutual_neighbours(a + step, b, radius), n, m) for step in aside], axis=0)
    matches = _counted(*mutual_neighbours(a, b, radius), n, m)
    expected = np.maximum(displaced, np.outer(n, m) * density)
    chance = np.where(matches >= MIN_MATCHES, gammainc(np.maximum(matches, 1), expected), 1.0)
    return min(chance.min() * chance.size, 1.0)


def _halves(n: int) -> np.ndarray:
    """n, n / 2, n / 4 ... down to the least number of matches."""
    return n >> np.arange(max(n // MIN_MATCHES, 1).bit_length())


def _counted(i: np.ndarray, j: np.ndarray, n: np.ndarray, m: np.ndarray) -> np.ndarray:
    """Matches (len(n), len(m)) among the first n and the first m."""
    return (i < n[:, None]).astype(int) @ (j < m[:, None]).astype(int).T
