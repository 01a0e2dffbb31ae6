"""Least squares whose unknowns are a few parameters and a correction for each star, which is zero within an error.

A star appears in its own observations only, so the corrections are eliminated exactly, and the linear system that is
left is as large as the number of parameters.
"""

from collections.abc import Sequence

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import SuperLU, splu

from diaflow.statistics import SIGMA_PER_MEDIAN, SIGMA_PER_MEDIAN_LENGTH, median_width

CLIP = 4.0  # observations further out than this many sigma do not take part, nor do stars tie the images to the sky
UNTIED = 1e5  # error of a catalogue that is not believed [mas or mag]
# Stars measured this much better than their catalogue, and at least this many, tell its error: chosen; and as many tie
# the magnitudes to it.
WELL_KNOWN, MIN_STARS = 0.5, 20
SIGMA_PER_LENGTH = {1: SIGMA_PER_MEDIAN, 2: SIGMA_PER_MEDIAN_LENGTH}  # of residuals in one and two coordinates
RIDGE = 1e-9  # of the diagonal, for coefficients that too few stars determine
CHUNK = 1000  # stars whose covariances with all parameters are in memory at a time


def solve(
    blocks: Sequence[sparse.csr_array], values: np.ndarray, weight: np.ndarray, star: np.ndarray, prior: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weighted least squares of blocks[a] @ p - s_a[star] = values[a], and of s_a = 0 within `prior`.

    Parameters
    ----------
    blocks : sequence of (n, n_parameters) sparse arrays
        Design matrices, one for each coordinate a.
    values : (n_axes, n) array
    weight : (n,) array
        Inverse variance of each observation.
    star : (n,) int array
        Which star it is of.
    prior : (m,) array
        Errors within which the corrections of the stars are zero.

    Returns
    -------
    p : (n_parameters,) array
    s : (n_axes, m) array
        Corrections of the stars.
    error : (m,) array
        Of s in one coordinate, for this p.
    """
    gather, precision = _eliminated(weight, star, prior)
    normal, right, sums = 0, 0, []
    for block, value in zip(blocks, values):
        coupling, total = gather @ block, gather @ value
        sums.append((coupling, total))
        normal = normal + _normal(block, coupling, weight, precision)
        right = right + block.T @ (weight * value) - coupling.T @ (total / precision)
    parameters = _factorised(normal).solve(right)
    shift = np.array([(coupling @ parameters - total) / precision for coupling, total in sums])
    return parameters, shift, precision**-0.5


def common_error(
    block: sparse.csr_array, weight: np.ndarray, star: np.ndarray, prior: np.ndarray, catalogue_error: np.ndarray
) -> np.ndarray:
    """Error of the corrections of `solve`, in one coordinate, that comes with its parameters: stars beside share it.

    Parameters
    ----------
    block, weight, star, prior
        As `solve` takes them, of parameters that observations have one of: each adds to the value what it is.
    catalogue_error : (m,) array
        Error of the catalogue, which need not be what the corrections were held to.

    Returns
    -------
    (m,) array
        That of the mean of the parameters of the observations of a star, as far as these tell its correction.
    """
    gather, precision = _eliminated(weight, star, prior)
    coupling = gather @ block
    normal = _normal(block, coupling, weight, precision)
    # The normal equations are the variance of their right side, were the errors of the catalogue those of the prior.
    more = ((catalogue_error / prior) ** 2 - 1) / (prior * precision) ** 2
    variance = (normal + coupling.T @ sparse.diags_array(more) @ coupling).toarray()
    factors = _factorised(normal)
    covariance = factors.solve(factors.solve(variance).T)
    share = sparse.diags_array(1 / precision) @ coupling
    parts = (share[first : first + CHUNK] for first in range(0, len(prior), CHUNK))
    variances = np.concatenate([part.multiply(part @ covariance).sum(1) for part in parts])
    return np.sqrt(np.maximum(variances, 0))  # rounding may make those of parameters that nothing ties negative


def clipped(residual: np.ndarray, error: np.ndarray, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which observations agree, and their errors scaled to what they scatter.

    Parameters
    ----------
    residual : (n_axes, n) array
    error : (n,) array
        In one coordinate.
    valid : (n,) bool array
        Which of them may take part.

    Returns
    -------
    used : (n,) bool array
        Valid ones within `CLIP` errors.
    error : (n,) array
    """
    length = np.sqrt((residual**2).sum(0)) / error
    width = max(1.0, SIGMA_PER_LENGTH[len(residual)] * np.median(length[valid])) if valid.any() else 1.0
    return valid & (length < CLIP * width), error * width


def typical_error(shift: np.ndarray, error: np.ndarray, prior: np.ndarray, least: float) -> float:
    """Error of a catalogue from the corrections of stars that the images know better than it does.

    Parameters
    ----------
    shift : (n_axes, m) array
        The corrections.
    error, prior : (m,) arrays
        Their errors, and those of the catalogue so far.
    least : float
        What is returned at least.

    Returns
    -------
    float
    """
    well_known = error < WELL_KNOWN * prior
    if well_known.sum() < MIN_STARS:
        return float(np.median(prior)) if len(prior) else least
    scatter = median_width(shift[:, well_known])
    return float(max(np.sqrt(scatter**2 + np.median(error[well_known]) ** 2), least))


def smallest_error(error: np.ndarray, star: np.ndarray, valid: np.ndarray, n_stars: int) -> np.ndarray:
    """Smallest error of the valid observations of each star; what neighbours do to it is the same in all.

    Parameters
    ----------
    error, star, valid : (n,) arrays
        Of the observations: the error, which star it is, whether it counts.
    n_stars : int

    Returns
    -------
    (n_stars,) array
        `UNTIED` for stars without one.
    """
    smallest = np.full(n_stars, UNTIED)
    np.minimum.at(smallest, star[valid], error[valid])
    return smallest


def _eliminated(weight: np.ndarray, star: np.ndarray, prior: np.ndarray) -> tuple[sparse.csr_array, np.ndarray]:
    """What sums weighted observations of each star (m, n), and the precisions of its correction (m,)."""
    gather = sparse.csr_array((weight, (star, np.arange(len(star)))), shape=(len(prior), len(star)))
    return gather, np.bincount(star, weight, len(prior)) + prior**-2.0


def _normal(
    block: sparse.csr_array, coupling: sparse.csr_array, weight: np.ndarray, precision: np.ndarray
) -> sparse.csr_array:
    """Normal equations of the parameters without the corrections, of one coordinate."""
    return block.T @ sparse.diags_array(weight) @ block - coupling.T @ sparse.diags_array(1 / precision) @ coupling


def _factorised(normal: sparse.csr_array) -> SuperLU:
    """The normal equations, ready to be solved."""
    diagonal = normal.diagonal()
    return splu(sparse.csc_array(normal + sparse.diags_array(RIDGE * diagonal + (diagonal <= 0))))
