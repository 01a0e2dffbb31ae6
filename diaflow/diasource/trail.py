"""Trails of fast movers: a PSF smeared along a line while the shutter was open.

The model is the flux times the PSF averaged over a line from (x - a, y - b) to (x + a, y + b), fitted to the pixels of
the difference.  LSST's naive measurement gets the length from second moments, and a Gaussian for PSF (Veres et al.
2012) from a fit; this fit has the PSF itself and the moments as its start.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import njit

from diaflow.errors import data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.jit import EXACT
from diaflow.measure import levenberg, photometry
from diaflow.measure.moments import source_moments
from diaflow.measure.subpixel import TAPS, place
from diaflow.sky import localplane

MIN_SNR = 10.0  # of a source that a trail is fitted to
# Longest second moment beyond the PSF's, over sigma**2: twice what noise gives a point source, 2.5 / (S/N), twice over.
ELONGATED, ELONGATED_NOISE = 0.1, 10.0
MAX_LENGTH = 14.0  # [sigma of the PSF]; longer lines are streaks
START_LENGTH = MAX_LENGTH / 2  # longest at the start [sigma of the PSF]
MIN_EXCESS = 0.1  # second moment beyond the PSF's at the start, at least: a point has no direction [sigma**2]
MAX_NODES = 15  # points of the average along a line, which has as many as its length in sigma, and three more
MARGIN = 4.0  # of the fitted box around the longest line [sigma]
MAX_EVALUATIONS = 40
# Parameters: flux, centre x and y, half of the vector of the line.
N_PARAMETERS = 5
POSITIONS = slice(1, N_PARAMETERS)


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


def set_columns(table: np.ndarray, difference: Exposure, excess: np.ndarray, steps: np.ndarray, sigma: float) -> None:
    """Fit the sources that are longer than the PSF and set what is known of them as trails.

    Parameters
    ----------
    table : (n,) table "dia_source"
        With positions, S/N and flags; its columns of trails are set in place.
    difference : Exposure
    excess : (3, n) array
        Second moments beyond those of the PSF [pixel**2].
    steps : (n, 2, 2) array
        See `localplane.steps` [arcsec].
    sigma : float
        Radius of the PSF [pixel].

    Raises
    ------
    BadData
        When the equations of a fit cannot be solved.
    """
    with np.errstate(invalid="ignore"):
        snr = np.abs(table["snr"])
        longest = (excess[0] + excess[1]) / 2 + np.hypot((excess[0] - excess[1]) / 2, excess[2])
        # where a source is much longer than the weight, moments may be undefined
        elongated = ~(longest < (ELONGATED + ELONGATED_NOISE / snr) * sigma**2)
        rows = np.flatnonzero(elongated & (snr > MIN_SNR) & ~table["isDipole"] & ~table["pixelFlags"])
    x, y = table["x"][rows], table["y"][rows]
    start = source_moments(difference.image, x, y, 2 * sigma) - sigma**2 * np.array([[1], [1], [0]])
    fits = fit(difference, x, y, start, sigma)
    table["trail_flag"] = True
    table["trail_flag"][rows], table["trail_flag_edge"][rows] = fits.failed, fits.edge
    variance = np.diagonal(fits.covariance, axis1=1, axis2=2)
    table["trailFlux"][rows], table["trailFluxErr"][rows] = fits.flux, np.sqrt(variance[:, 0])
    table["trailRa"][rows], table["trailDec"][rows] = difference.wcs.all_pix2world(fits.x, fits.y, 0)
    half = np.array([fits.along_x, fits.along_y])
    table["trailLength"][rows], angle = localplane.bearing(steps[rows], 2 * half)
    table["trailAngle"][rows] = angle % 180
    length = np.hypot(*half)
    unit, normal = half / length, np.array([-half[1], half[0]]) / length
    along, across = (np.einsum("in,nij,jn->n", v, fits.covariance[:, 3:, 3:], v) for v in (unit, normal))
    table["trailLengthErr"][rows] = 2 * np.sqrt(along) * table["trailLength"][rows] / (2 * length)
    table["trailAngleErr"][rows] = np.degrees(np.sqrt(across) / length)
    table["trailChi2"][rows], table["trailNdata"][rows] = fits.chi2, fits.n_data


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

    Returns
    -------
    Trails

    Raises
    ------
    BadData
        When the equations of a fit cannot be solved.

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
    start_half = np.sqrt(3 * np.nan_to_num(longest).clip(MIN_EXCESS * sigma**2, (START_LENGTH / 2 * sigma) ** 2 / 3))
    angle = np.nan_to_num(np.arctan2(2 * xy, xx - yy) / 2)
    start = np.stack(
        [np.zeros(len(x)), x - centre[0], y - centre[1], start_half * np.cos(angle), start_half * np.sin(angle)], 1
    )
    values, covariance = np.full((len(x), N_PARAMETERS), np.nan), np.full((len(x), N_PARAMETERS, N_PARAMETERS), np.nan)
    chi2, stamps = np.full(len(x), np.nan), difference.psf(*centre)
    nodes = np.ceil(3 * start_half / sigma + 3).clip(max=MAX_NODES).astype(int)
    for i in np.flatnonzero((use.sum((1, 2)) >= 2 * N_PARAMETERS) & np.isfinite(stamps).all((1, 2))):
        box = _Box(data[i], variance[i], use[i], stamps[i], _rule(nodes[i]), start[i], MAX_LENGTH * sigma)
        solution = box.solve()
        if solution is not None:
            values[i], covariance[i], chi2[i] = solution
    ny, nx = difference.shape
    edge = (centre.min(0) < half) | (nx - 1 - centre[0] < half) | (ny - 1 - centre[1] < half)
    values = values.T
    values[1] += centre[0]
    values[2] += centre[1]
    return Trails(*values, covariance, chi2, use.sum((1, 2)), edge, np.isnan(chi2))


@cache
def _rule(count: int) -> np.ndarray:
    """Gauss-Legendre average over a line from -1 to 1: places and weights of its points, (2, count)."""
    places, weights = np.polynomial.legendre.leggauss(count)
    return np.stack([places, weights / 2])


@dataclass
class _Box:
    """The fit of one trail.

    Attributes
    ----------
    data, variance : (m, m) arrays
        Pixels of the difference; 0 where they may not be used.
    use : (m, m) bool array
    stamp : (k, k) array
        PSF.
    rule : (2, n) array
        Places on the line, from -1 to 1, and weights of the average along it.
    start : (5,) array
        Centre and half vector from which the fit starts, from the centre of the box [pixel].
    max_length : float
        [pixel]
    """

    data: np.ndarray
    variance: np.ndarray
    use: np.ndarray
    stamp: np.ndarray
    rule: np.ndarray
    start: np.ndarray
    max_length: float

    def __post_init__(self):
        m = self.data.shape[-1]
        self.work, self.node = np.empty((2 * m + 4 * TAPS, m + 2 * TAPS)), np.empty((3, m, m))
        self.model = np.empty((N_PARAMETERS, m, m))

    def solve(self) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Parameters, their covariance and chi-squared; None where the fit does not converge."""
        values = self.start.copy()
        _, normal, projection = self.evaluate(values)
        values[0] = projection[0] / normal[0, 0]
        solution = levenberg.minimise(self.evaluate, values, POSITIONS, MAX_EVALUATIONS)
        if solution is None:
            return None
        values, normal = solution
        self.evaluate(values)
        with data_may_fail("error of a trail"):
            errors = _errors(values[0], self.data, self.variance, self.use, self.model, normal)
        return values, *errors

    def evaluate(self, values: np.ndarray) -> levenberg.Equations:
        """Cost and normal equations; the cost is infinite where the line is too long or has moved too far."""
        moved = np.hypot(values[1] - self.start[1], values[2] - self.start[2])
        if 2 * np.hypot(values[3], values[4]) < self.max_length and moved < self.max_length / 2:
            return _evaluate(values, self.data, self.use, self.stamp, self.rule, self.work, self.node, self.model)
        return np.inf, np.empty((N_PARAMETERS, N_PARAMETERS)), np.empty(N_PARAMETERS)


@njit(**EXACT)
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


@njit(**EXACT)
def _errors(flux, data, variance, use, model, normal):
    """Covariance (5, 5) by propagation of the pixels' noise, and chi-squared."""
    design = model.reshape(5, -1)
    scatter = (design * variance.copy().reshape(-1)) @ design.T
    inverse = np.linalg.inv(normal)
    chi2 = 0.0
    for j in range(data.shape[0]):
        for i in range(data.shape[1]):
            if use[j, i]:
                chi2 += (data[j, i] - flux * model[0, j, i]) ** 2 / variance[j, i]
    return inverse @ scatter @ inverse, chi2
