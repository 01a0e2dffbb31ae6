"""Non-linear least squares of one source by Levenberg (1944) and Marquardt (1963), for models with a position in them.

The step solves the normal equations with a damped diagonal: short and downhill while the damping is large, that of
Gauss and Newton when it is small.  It is done when the positions stand still, which is long after the fluxes do.
"""

from collections.abc import Callable

import numpy as np
from numba import njit

from diaflow.errors import data_may_fail
from diaflow.jit import EXACT
from diaflow.measure.kernels import CONVERGED

# Of the diagonal: at the start; the factor by which it falls when a step helps and grows when none does; where no step
# helps any more.
DAMPING, DAMPING_FACTOR, MAX_DAMPING = 1e-3, 5.0, 1e6
ROUNDING = 1e-12  # by which a cost may grow and still be the same

# Sum of squared residuals, normal matrix (n, n) and the design on the residuals (n,).
Equations = tuple[float, np.ndarray, np.ndarray]


def minimise(
    evaluate: Callable[[np.ndarray], Equations], start: np.ndarray, positions: slice, max_steps: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Parameters of least cost.

    Parameters
    ----------
    evaluate : callable
        Cost, normal matrix and projection at the parameters (n,), in arrays of their own; the cost is infinite where
        the parameters may not be.
    start : (n,) array
    positions : slice
        Parameters that are positions [pixel].
    max_steps : int
        Steps tried.

    Returns
    -------
    values : (n,) array
    normal : (n, n) array
        Normal matrix there.  None instead of both where the fit does not converge.

    Raises
    ------
    BadData
        When the damped matrix is singular.
    """
    values, damping = start, DAMPING
    cost, normal, projection = evaluate(values)
    for _ in range(max_steps):
        step = damped_step(normal, projection, damping)
        trial = values + step
        equations = evaluate(trial)
        if equations[0] <= cost * (1 + ROUNDING):
            values, (cost, normal, projection) = trial, equations
            if np.abs(step[positions]).max() < CONVERGED:
                return values, normal
            damping /= DAMPING_FACTOR
        else:
            damping *= DAMPING_FACTOR
            if damping > MAX_DAMPING:
                break
    return None


def damped_step(normal: np.ndarray, projection: np.ndarray, damping: float) -> np.ndarray:
    """Solve the normal equations with a diagonal times 1 + damping; parameters without any effect do not move.

    Parameters
    ----------
    normal : (n, n) array
    projection : (n,) array
    damping : float

    Returns
    -------
    (n,) array

    Raises
    ------
    BadData
        When the damped matrix is singular.
    """
    with data_may_fail("fit of a source"):
        return _damped_step(np.ascontiguousarray(normal), projection, damping)


@njit(**EXACT)
def _damped_step(normal, projection, damping):
    n = len(projection)
    matrix = normal.copy()
    for a in range(n):
        matrix[a, a] = normal[a, a] * (1 + damping) if normal[a, a] > 0 else 1.0
    return np.linalg.solve(matrix, projection)
