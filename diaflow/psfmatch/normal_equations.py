"""Gram matrices of stamps, and the normal equations of a kernel that varies in space made of them.

A stamp whose kernel is a sum of basis functions needs no more of its pixels than the scalar products of the basis
images, of a constant and of the target.  Coefficients that are polynomials in position are solved for from the products
of all stamps (Alard 2000).
"""

import numpy as np
import scipy.fft
from scipy.linalg import cho_factor, cho_solve

from diaflow.errors import data_may_fail

# Added to the unit diagonal of the scaled normal matrix: suppresses combinations of basis functions that no star
# constrains; a well constrained kernel changes by less than 1e-6 of its peak.
RIDGE = 1e-9


def gram_matrices(inputs: np.ndarray, targets: np.ndarray, good: np.ndarray, basis: np.ndarray) -> np.ndarray:
    """Scalar products of [basis (x) input, 1, target] over the good pixels of each stamp.

    Parameters
    ----------
    inputs : (n, r + k - 1, r + k - 1) array
    targets, good : (n, r, r) arrays
    basis : (nb, k, k) array

    Returns
    -------
    (n, nb + 2, nb + 2) float64 array
    """
    n_functions, k, _ = basis.shape
    side = inputs.shape[-1]
    fft_side = scipy.fft.next_fast_len(side, True)
    # the wrapped part of the circular convolution falls on the k - 1 rows and columns that are cut off
    transforms = scipy.fft.rfft2(basis, (fft_side, fft_side))
    out = np.empty((len(inputs), n_functions + 2, n_functions + 2))
    for i, (stamp, target, mask) in enumerate(zip(inputs, targets, good)):
        spectrum = scipy.fft.rfft2(np.asarray(stamp, float), (fft_side, fft_side))
        images = scipy.fft.irfft2(transforms * spectrum, (fft_side, fft_side), overwrite_x=True)
        columns = np.concatenate([images[:, k - 1 : side, k - 1 : side], np.ones((1, *target.shape)), target[None]])
        columns = (columns * mask).reshape(n_functions + 2, -1)
        out[i] = columns @ columns.T
    return out


def normal_matrix(gram: np.ndarray, weights: np.ndarray, design: np.ndarray) -> np.ndarray:
    """The matrix sum_i w_i gram_i[c, d] P_m(i) P_n(i) of the normal equations.

    Parameters
    ----------
    gram : (n, n_columns, n_columns) array
        Of each stamp.
    weights : (n,) array
    design : (n_terms, n) array
        Terms P_m of the polynomial at the position of each.

    Returns
    -------
    (n_columns * n_terms, n_columns * n_terms) array
        The terms of a column follow each other.
    """
    n_terms, n_columns = len(design), gram.shape[-1]
    products = (design[:, None] * design * weights).reshape(n_terms**2, -1)
    blocks = (products @ gram.reshape(len(gram), -1)).reshape(n_terms, n_terms, n_columns, n_columns)
    return blocks.transpose(2, 0, 3, 1).reshape(n_columns * n_terms, -1)


def solve_ridge(matrix: np.ndarray, right: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """Cholesky solution of a symmetric positive system.

    Parameters
    ----------
    matrix : (n, n) array
    right : (n,) or (n, m) array
    ridge : float
        Added to the diagonal after it was scaled to ones.

    Returns
    -------
    (n,) or (n, m) array

    Raises
    ------
    BadData
        When the matrix is not positive definite, or not finite.
    """
    scale = 1 / np.sqrt(np.maximum(np.diag(matrix), np.finfo(float).tiny))
    scaled = matrix * scale[:, None] * scale
    scaled[np.diag_indices_from(scaled)] += ridge
    right = (right.T * scale).T
    with data_may_fail("fit of the kernel"):
        solution = cho_solve(cho_factor(scaled), right)
    return (solution.T * scale).T
