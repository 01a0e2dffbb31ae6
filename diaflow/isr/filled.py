"""Columns and rows that hold what their neighbours say: bad ones that whoever reduced the image filled in.

The noise of a pixel is its own.  A line whose noise a linear combination of its neighbours predicts was made of them
(SDSS replaces its bad columns so, Stoughton et al. 2002): it tells nothing of the sky, and stars on it are wrong.
"""

import numpy as np

NEIGHBOURS = 2  # on either side: a line that was not filled in is not told by two that were made of it
MAX_ROWS = 500  # of the image that are looked at: chance predicts 0.1 of the noise with four neighbours
CLIP = 6.0  # differences beyond are sources, and do not count with their neighbours [median of the column: 4 sigma]
# Part of the noise of a line that its neighbours leave, below which they made it, and above which it must be in most
# lines for that to be seen.  Chosen: white noise leaves 0.99, the rounding of noise of 1 DN in a filled line 0.3.
UNEXPLAINED, ORDINARY = 0.5, 0.7
# Of a line that must count to be judged: chance leaves less than UNEXPLAINED of 40 in one line of 10^9 (of the squares
# of n rows four neighbours explain more than x with probability q^b (1 + b x), q = 1 - x, b = n / 2 - 2).
LEAST_ROWS = 40
RIDGE = 1e-6  # of the variance: neighbours that are left out, or equal


def pixels(counts: np.ndarray, unusable: np.ndarray) -> np.ndarray:
    """Pixels of columns and rows that were filled in from their neighbours.

    Parameters
    ----------
    counts : (ny, nx) array
        Of any level.
    unusable : (ny, nx) bool array
        Pixels that do not count.

    Returns
    -------
    (ny, nx) bool array
        None where the noise of all pixels is correlated, as that of resampled images is.
    """
    return _columns(counts, unusable) | _columns(counts.T, unusable.T)[:, None]


def _columns(counts: np.ndarray, unusable: np.ndarray) -> np.ndarray:
    """Which columns (nx,) were filled in."""
    ny, nx = counts.shape
    found = np.zeros(nx, bool)
    side = 2 * NEIGHBOURS + 1
    if nx < side or ny <= side:
        return found
    covariance = _covariances(counts, unusable, side)
    judged = covariance[:, NEIGHBOURS, NEIGHBOURS] > 0
    left = _left(covariance, np.zeros(covariance.shape[:2], bool))
    while judged.any() and np.median(left[judged]) > ORDINARY and left.min() < UNEXPLAINED:
        best = int(left.argmin())
        found[best + NEIGHBOURS] = True
        near = np.arange(max(0, best - NEIGHBOURS), min(len(left), best + NEIGHBOURS + 1))
        left[near] = _left(covariance[near], found[near[:, None] + np.arange(side)])
        left[found[NEIGHBOURS : nx - NEIGHBOURS]] = np.inf
    return found


def _covariances(counts: np.ndarray, unusable: np.ndarray, side: int) -> np.ndarray:
    """Of the differences of rows, between the columns of each window: (nx - side + 1, side, side)."""
    start = max(0, (len(counts) - MAX_ROWS) // 2)
    # Along columns, which are what is sorted and summed.
    counts, unusable = (np.ascontiguousarray(pixels[start : start + MAX_ROWS].T) for pixels in (counts, unusable))
    difference = np.diff(np.where(unusable, 0, counts))
    usable = ~(unusable[:, 1:] | unusable[:, :-1])
    difference -= _middle(difference)
    usable &= np.abs(difference) <= CLIP * _middle(np.abs(difference))
    n = len(usable) - side + 1
    whole = np.logical_and.reduce([usable[i : i + n] for i in range(side)])
    whole &= whole.sum(1, keepdims=True) >= LEAST_ROWS
    covariance = np.empty((n, side, side))
    for i in range(side):
        here = np.where(whole, difference[i : i + n], 0)
        for j in range(i, side):
            covariance[:, i, j] = covariance[:, j, i] = np.einsum("ij,ij->i", here, difference[j : j + n])
    return covariance


def _middle(values: np.ndarray) -> np.ndarray:
    """The middle value of each row (n, 1): `numpy.median` takes ten times as long, for one more value and NaN."""
    middle = values.shape[1] // 2
    return np.partition(values, middle, axis=1)[:, middle, None]


def _left(covariance: np.ndarray, without: np.ndarray) -> np.ndarray:
    """Part of the noise of the middle of each window (n,) that the others leave, but for those that are left out."""
    middle = np.arange(covariance.shape[1]) == NEIGHBOURS
    own = covariance[:, NEIGHBOURS, NEIGHBOURS]
    out = without[:, ~middle]
    shared = np.where(out, 0, covariance[:, NEIGHBOURS, ~middle])
    matrix = np.where(out[:, :, None] | out[:, None, :], 0, covariance[:, ~middle][:, :, ~middle])
    matrix += np.maximum(RIDGE * own, np.finfo(np.float32).tiny)[:, None, None] * np.eye(middle.size - 1)
    explained = (shared * np.linalg.solve(matrix, shared[..., None])[..., 0]).sum(1)
    return np.sqrt(np.clip(1 - np.divide(explained, own, out=np.zeros_like(own), where=own > 0), 0, 1))
