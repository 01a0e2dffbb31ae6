"""Trails of fast movers: a PSF smeared along a line while the shutter was open.

The model is the flux times the PSF averaged over a line from (x - a, y - b) to (x + a, y + b), fitted to the pixels of
the difference.  LSST's naive measurement gets the length from second moments, and a Gaussian for PSF (Veres et al.
2012) from a fit; this fit has the PSF itself and the moments as its start.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from diaflow.image.exposure import Exposure
from diaflow.measure import photometry
from diaflow.measure.kernels import CONVERGED, DAMPING, MAX_DAMPING, TAPS, damped_step, place

MAX_LENGTH = 14.0  # [sigma of the PSF]; longer lines are streaks
# Gauss-Legendre averages along a line of up to so many points: as many as its length in sigma, and three more.
MAX_NODES = 15
RULES = np.zeros((MAX_NODES + 1, 2, MAX_NODES))  # number, (place, weight), point
for count in range(1, MAX_NODES + 1):
    RULES[count, :, :count] = np.polynomial.legendre.leggauss(count)
RULES[:, 1] /= 2
MARGIN = 4.0  # of the fitted box around the longest line [sigma]
MAX_EVALUATIONS = 40
N_PARAMETERS = 5


@dataclass(frozen=True)
class Trails:
    """Fits of n trails.

    Attributes
    ----------
    flux, x, y, along_x, along_y : (n,) arrays
        Total flux, centre and half of the trail's vector [unit of the image, pixel].
    covariance : (n, 5, 5) array
        Of these five.
    chi2, n_data : (n,) arrays
    edge : (n,) bool array
        The fitted box leaves the image.
    failed : (n,) bool array
        Did not converge; everything else is NaN.
    """

    flux: np.ndarray
    x: np.ndarray
    y: np.ndarray
    along_x: np.ndarray
    along_y: np.ndarray
    covariance: np.ndarray
    chi2: np.ndarray
    n_data: np.ndarray
    edge: np.ndarray
    failed: np.ndarray


def fit(difference: Exposure, x: np.ndarray, y: np.ndarray, excess: np.ndarray, sigma: float) -> Trails:
    """Fit trails.

    Parameters
    ----------
    difference : Exposure
        With its PSF; trails may be negative.
    x, y : (n,) arrays
        Centroids, near which the fit starts [pixel].
    excess : (3, n) array
        Second moments xx, yy, xy beyond those of the PSF, which tell where the fit starts; may be NaN [pixel**2].
    sigma : float
        Radius of the PSF [pixel].

    Notes
    -----
    Pixels have equal weights; the errors propagate their variances through the fit, as in `photometry.psf_centroid`.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    half = int(np.ceil((MAX_LENGTH / 2 + MARGIN) * sigma))
    centre = np.rint([x, y]).astype(int)
    good = ~difference.flagged(*photometry.UNUSABLE)
    use = photometry.cutouts(good, *centre, half).astype(bool)
    data, variance = (
        photometry.cutouts(p, *centre, half).astype(float) for p in (difference.image, difference.variance)
    )
    use &= np.isfinite(data) & np.isfinite(variance) & (variance > 0)
    data[~use] = variance[~use] = 0
    xx, yy, xy = excess
    longest = (xx + yy) / 2 + np.hypot((xx - yy) / 2, xy)
    # a line of half length h has a variance of h**2 / 3 along itself
    start_half = np.sqrt(3 * np.nan_to_num(longest).clip(0.1 * sigma**2, (MAX_LENGTH / 4 * sigma) ** 2 / 3))
    angle = np.nan_to_num(np.arctan2(2 * xy, xx - yy) / 2)
    start = np.stack(
        [np.zeros(len(x)), x - centre[0], y - centre[1], start_half * np.cos(angle), start_half * np.sin(angle)], 1
    )
    values, covariance = np.full((len(x), N_PARAMETERS), np.nan), np.full((len(x), N_PARAMETERS, N_PARAMETERS), np.nan)
    chi2 = np.full(len(x), np.nan)
    nodes = np.ceil(3 * start_half / sigma + 3).clip(max=MAX_NODES).astype(int)
    _fit(data, variance, use, difference.psf(*centre), start, nodes, MAX_LENGTH * sigma, values, covariance, chi2)
    ny, nx = difference.shape
    edge = (centre.min(0) < half) | (nx - 1 - centre[0] < half) | (ny - 1 - centre[1] < half)
    values = values.T
    values[1] += centre[0]
    values[2] += centre[1]
    return Trails(*values, covariance, chi2, use.sum((1, 2)), edge, np.isnan(chi2))


@njit(cache=True, error_model="numpy")
def _fit(data, variance, use, stamps, start, nodes, max_length, values, covariance, chi2):
    """Levenberg-Marquardt for each box; rows of `values` stay NaN where it does not converge."""
    m = data.shape[-1]
    work, node, model = np.empty((2 * m + 4 * TAPS, m + 2 * TAPS)), np.empty((3, m, m)), np.empty((5, m, m))
    for n in range(len(data)):
        if use[n].sum() < 2 * N_PARAMETERS or not np.isfinite(stamps[n]).all():
            continue
        now, rule = start[n].copy(), RULES[nodes[n]][:, : nodes[n]]
        best, normal, projection = _evaluate(now, data[n], use[n], stamps[n], rule, work, node, model)
        now[0] = projection[0] / normal[0, 0]
        best, normal, projection = _evaluate(now, data[n], use[n], stamps[n], rule, work, node, model)
        damping, converged = DAMPING, False
        for _ in range(MAX_EVALUATIONS):
            step = damped_step(normal, projection, damping)
            trial = now + step
            moved = np.hypot(trial[1] - start[n, 1], trial[2] - start[n, 2])
            cost = np.inf
            if 2 * np.hypot(trial[3], trial[4]) < max_length and moved < max_length / 2:
                cost, trial_normal, trial_projection = _evaluate(
                    trial, data[n], use[n], stamps[n], rule, work, node, model
                )
            if cost <= best * (1 + 1e-12):
                converged = np.abs(step[1:]).max() < CONVERGED
                now, best, damping = trial, cost, damping / 5
                normal, projection = trial_normal, trial_projection
            else:
                damping *= 5
            if converged or damping > MAX_DAMPING:
                break
        if not converged:
            continue
        values[n] = now
        _evaluate(now, data[n], use[n], stamps[n], rule, work, node, model)
        _set_errors(variance[n], model, normal, covariance[n])
        chi2[n] = 0.0
        for j in range(m):
            for i in range(m):
                if use[n, j, i]:
                    chi2[n] += (data[n, j, i] - now[0] * model[0, j, i]) ** 2 / variance[n, j, i]


@njit(cache=True, error_model="numpy")
def _evaluate(values, data, use, stamp, rule, work, node, model):
    """Sum of squared residuals and normal equations; `model` becomes the derivatives in the five parameters."""
    flux, x, y, a, b = values
    model[:] = 0.0
    for t, weight in rule.T:
        place(stamp, x + t * a, y + t * b, work, node)
        model[0] += weight * node[0]
        for axis in range(2):
            model[1 + axis] += weight * flux * node[1 + axis]
            model[3 + axis] += weight * t * flux * node[1 + axis]
    model *= use
    residual = (data - flux * model[0]).reshape(-1)
    design = model.reshape(5, -1)
    return (residual**2).sum(), design @ design.T, design @ residual


@njit(cache=True, error_model="numpy")
def _set_errors(variance, model, normal, covariance):
    design = model.reshape(5, -1)
    scatter = (design * variance.copy().reshape(-1)) @ design.T
    inverse = np.linalg.inv(normal)
    covariance[:] = inverse @ scatter @ inverse
