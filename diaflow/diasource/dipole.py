"""Dipoles: a positive and a negative PSF that a star leaves where it is subtracted at a slightly wrong place.

On the difference alone, the flux of the star and the distance of the lobes are degenerate when they are closer than
the PSF is wide (DMTN-007).  The star itself is on the science image and on the template, so the three planes are
fitted together: f+ P(x+) - f- P(x-) on the difference, f+ P(x+) and f- P(x-) plus a plane of background on the other
two, whose residuals count half.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from diaflow.detect.footprints import Footprints
from diaflow.errors import data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.jit import EXACT
from diaflow.measure import levenberg, photometry
from diaflow.measure.subpixel import TAPS, place
from diaflow.psf.stampfield import resized
from diaflow.sky import localplane

# Parameters: both fluxes; background of science and template (level, slope in x, slope in y); both positions.
N_LINEAR, N_PARAMETERS = 8, 12
POSITIONS = slice(N_LINEAR, N_PARAMETERS)
# Which of them each plane depends on: difference, science, template.
COLUMNS = np.array([[0, 1, 8, 9, 10, 11], [0, 2, 3, 4, 8, 9], [1, 5, 6, 7, 10, 11]])
PLANE_WEIGHTS = np.array([1.0, 0.25, 0.25])  # of squared residuals (LSST ip_diffim DipoleFit: half of the residual)
BOX_SIGMA = 5.0  # half of the fitted box [sigma of the PSF]
MAX_MOVE = 5.0  # of a lobe from its start along x or y: it is still in the box then [sigma of the PSF]
START = 0.5  # the lobes' peaks are further apart than the lobes: 2.8 sigma where these coincide
NO_DAMPING = 1e-9  # of the linear parameters at the start, enough to make the matrix regular
MAX_EVALUATIONS = 60
MIN_SNR = 5 * np.sqrt(2)  # of both lobes together: 5 for each (LSST ip_diffim DipoleFit)
MAX_SHARE = 0.65  # largest share of one lobe in a dipole (LSST ip_diffim DipoleFit)


@dataclass(frozen=True)
class Dipoles:
    """Fits of n dipoles; the first row of each pair is the positive lobe.

    Attributes
    ----------
    flux, err : (2, n) arrays
        Flux of the star on the science image and on the template, both positive for a dipole [unit of the image].
    x, y : (2, n) arrays
        Positions of the lobes [pixel].
    mean_err, diff_err : (n,) arrays
        Errors of the mean and of the difference of the two fluxes, which are correlated.
    chi2, n_data : (n,) arrays
        Of the pixels of the difference.
    failed : (n,) bool array
        Did not converge; everything else is NaN.
    """

    flux: np.ndarray
    err: np.ndarray
    x: np.ndarray
    y: np.ndarray
    mean_err: np.ndarray
    diff_err: np.ndarray
    chi2: np.ndarray
    n_data: np.ndarray
    failed: np.ndarray

    @property
    def is_dipole(self) -> np.ndarray:
        """Two significant lobes, neither of which dominates (LSST's rule)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            snr = np.hypot(*(self.flux / self.err))
            share = self.flux.max(axis=0) / self.flux.sum(axis=0)
            return (snr > MIN_SNR) & (share < MAX_SHARE) & (self.flux > 0).all(axis=0)


def is_balanced(found: Footprints) -> np.ndarray:
    """Which footprints have peaks of both signs, neither of which dominates.

    A variable star that leaves a faint ring has two nearly equal fluxes as well, but no balanced lobes.

    Parameters
    ----------
    found : Footprints

    Returns
    -------
    (n,) bool array
    """
    return np.maximum(found.positive, found.negative) < MAX_SHARE * (found.positive + found.negative)


def set_columns(
    table: np.ndarray,
    difference: Exposure,
    science: Exposure,
    matched_template: Exposure,
    found: Footprints,
    steps: np.ndarray,
    sigma: float,
) -> np.ndarray:
    """Fit the sources with peaks of both signs and set what is known of them as dipoles.

    Parameters
    ----------
    table : (n,) table "dia_source"
        Its columns of dipoles are set in place.
    difference, science, matched_template : Exposure
        On the same pixels, each with its own PSF.
    found : Footprints
        Of the n sources.
    steps : (n, 2, 2) array
        See `localplane.steps` [arcsec].
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    (2, n) array
        x and y of the middle of those that are dipoles, NaN for the others [pixel].

    Raises
    ------
    BadData
        When the equations of a fit cannot be solved.
    """
    rows = np.flatnonzero(found.has_both_signs & (found.bbox_size <= 4 * BOX_SIGMA * sigma))
    middle = np.full((2, len(table)), np.nan)
    table["dipoleFitAttempted"][rows] = True
    fits = fit(difference, science, matched_template, found.positive_peak[:, rows], found.negative_peak[:, rows], sigma)
    table["dipoleMeanFlux"][rows], table["dipoleMeanFluxErr"][rows] = fits.flux.mean(0), fits.mean_err
    table["dipoleFluxDiff"][rows], table["dipoleFluxDiffErr"][rows] = fits.flux[0] - fits.flux[1], fits.diff_err
    along = np.array([fits.x[0] - fits.x[1], fits.y[0] - fits.y[1]])
    table["dipoleLength"][rows], table["dipoleAngle"][rows] = localplane.bearing(steps[rows], along)
    table["dipoleChi2"][rows], table["dipoleNdata"][rows] = fits.chi2, fits.n_data
    table["isDipole"][rows] = fits.is_dipole & is_balanced(found)[rows]
    middle[:, rows] = np.where(table["isDipole"][rows], [fits.x.mean(0), fits.y.mean(0)], np.nan)
    return middle


def fit(
    difference: Exposure,
    science: Exposure,
    matched_template: Exposure,
    positive: np.ndarray,
    negative: np.ndarray,
    sigma: float,
) -> Dipoles:
    """Fit dipoles on difference, science image and template together.

    Parameters
    ----------
    difference, science, matched_template : Exposure
        On the same pixels, each with its own PSF.
    positive, negative : (2, n) arrays
        x and y of the highest peak of each sign [pixel].
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    Dipoles

    Raises
    ------
    BadData
        When the equations of a fit cannot be solved.

    Notes
    -----
    Pixels of a plane have equal weights, as in `photometry.psf_flux`.  The errors propagate the variances of the pixels
    through the fit, knowing that the difference holds the noise of the other two planes.
    """
    exposures = difference, science, matched_template
    positive, negative = np.asarray(positive, float), np.asarray(negative, float)
    n, half = positive.shape[1], int(np.ceil(BOX_SIGMA * sigma))
    centre = np.rint((positive + negative) / 2).astype(int)
    use = photometry.cutouts(~difference.flagged(*photometry.UNUSABLE), *centre, half).astype(bool)
    data = np.stack([photometry.cutouts(e.image, *centre, half) for e in exposures], 1).astype(float)
    variance = np.stack([photometry.cutouts(e.variance, *centre, half) for e in exposures], 1).astype(float)
    use &= (np.isfinite(data) & np.isfinite(variance) & (variance > 0)).all(1)
    data[~use[:, None].repeat(3, 1)] = variance[~use[:, None].repeat(3, 1)] = 0
    side = max(e.psf.size if hasattr(e.psf, "size") else 2 * half + 1 for e in exposures)
    stamps = np.stack([resized(e.psf(*centre), side) for e in exposures], 1)
    middle = (positive + negative) / 2
    start = np.stack([middle + START * (peak - middle) - centre for peak in (positive, negative)])
    start = start.transpose(2, 0, 1).reshape(n, 4)
    values, covariance = np.full((n, N_PARAMETERS), np.nan), np.full((n, 2, 2), np.nan)
    chi2 = np.full(n, np.nan)
    for i in np.flatnonzero((use.sum((1, 2)) >= 2 * N_PARAMETERS) & np.isfinite(stamps).all((1, 2, 3))):
        solution = _Box(data[i], variance[i], use[i], stamps[i], start[i], MAX_MOVE * sigma).solve()
        if solution is not None:
            values[i], covariance[i], chi2[i] = solution
    flux, x, y = values[:, :2].T, values[:, [8, 10]].T + centre[0], values[:, [9, 11]].T + centre[1]
    plus, minus, both = covariance[:, 0, 0], covariance[:, 1, 1], covariance[:, 0, 1]
    return Dipoles(
        flux=flux,
        err=np.sqrt([plus, minus]),
        x=x,
        y=y,
        mean_err=np.sqrt(plus + minus + 2 * both) / 2,
        diff_err=np.sqrt(plus + minus - 2 * both),
        chi2=chi2,
        n_data=use.sum((1, 2)),
        failed=np.isnan(chi2),
    )


@dataclass
class _Box:
    """The fit of one dipole.

    Attributes
    ----------
    data, variance : (3, m, m) arrays
        Pixels of difference, science image and template; 0 where they may not be used.
    use : (m, m) bool array
    stamps : (3, k, k) array
        PSFs.
    start : (4,) array
        x and y of the positive, then of the negative lobe, from the centre of the box [pixel].
    max_move : float
        Of a lobe along an axis [pixel].
    """

    data: np.ndarray
    variance: np.ndarray
    use: np.ndarray
    stamps: np.ndarray
    start: np.ndarray
    max_move: float

    def __post_init__(self):
        m = self.data.shape[-1]
        self.weights = _plane_weights(self.variance, self.use)
        self.work, self.lobes = np.empty((2 * m + 4 * TAPS, m + 2 * TAPS)), np.empty((4, 3, m, m))
        self.design, self.residual = np.zeros((3, 6, m, m)), np.empty((3, m, m))

    def solve(self) -> tuple[np.ndarray, np.ndarray, float] | None:
        """Parameters, covariance of the fluxes and chi-squared; None where the fit does not converge."""
        values = np.zeros(N_PARAMETERS)
        values[POSITIONS] = self.start
        _, normal, projection = self.evaluate(values)
        linear = slice(N_LINEAR)
        values[linear] = levenberg.damped_step(normal[linear, linear], projection[linear], NO_DAMPING)
        solution = levenberg.minimise(self.evaluate, values, POSITIONS, MAX_EVALUATIONS)
        if solution is None:
            return None
        values, normal = solution
        self.evaluate(values)
        with data_may_fail("error of a dipole"):
            errors = _errors(self.design, self.residual, self.variance, self.use, self.weights, normal)
        return values, *errors

    def evaluate(self, values: np.ndarray) -> levenberg.Equations:
        """Cost and normal equations; the cost is infinite where a lobe has moved too far."""
        normal, projection = np.empty((N_PARAMETERS, N_PARAMETERS)), np.empty(N_PARAMETERS)
        if np.abs(values[POSITIONS] - self.start).max() > self.max_move:
            return np.inf, normal, projection
        planes = self.data, self.use, self.stamps, self.weights
        cost = _evaluate(values, *planes, self.work, self.lobes, self.design, self.residual, normal, projection)
        return cost, normal, projection


@njit(**EXACT)
def _plane_weights(variance, use):
    """Weights (3,) of the squared residuals of the planes, from their variances (3, m, m), 0 where not in `use`."""
    count, weights = use.sum(), np.empty(3)
    for plane in range(3):
        weights[plane] = PLANE_WEIGHTS[plane] * count / variance[plane].sum()
    return weights


@njit(**EXACT)
def _evaluate(values, data, use, stamps, weights, work, lobes, design, residual, normal, projection):
    """Design matrix, residuals and normal equations at `values`; returns the weighted sum of squared residuals."""
    m = data.shape[-1]
    xp, yp, xn, yn = values[8], values[9], values[10], values[11]
    place(stamps[0], xp, yp, work, lobes[0])
    place(stamps[0], xn, yn, work, lobes[1])
    place(stamps[1], xp, yp, work, lobes[2])
    place(stamps[2], xn, yn, work, lobes[3])
    plus, minus = values[0], values[1]
    cost = 0.0
    for j in range(m):
        for i in range(m):
            if not use[j, i]:
                design[:, :, j, i] = 0.0
                residual[:, j, i] = 0.0
                continue
            design[0, 0, j, i], design[0, 1, j, i] = lobes[0, 0, j, i], -lobes[1, 0, j, i]
            design[1, 0, j, i], design[2, 0, j, i] = lobes[2, 0, j, i], lobes[3, 0, j, i]
            for axis in range(2):
                design[0, 2 + axis, j, i] = plus * lobes[0, 1 + axis, j, i]
                design[0, 4 + axis, j, i] = -minus * lobes[1, 1 + axis, j, i]
                design[1, 4 + axis, j, i] = plus * lobes[2, 1 + axis, j, i]
                design[2, 4 + axis, j, i] = minus * lobes[3, 1 + axis, j, i]
            for plane in (1, 2):
                design[plane, 1, j, i] = 1.0
                design[plane, 2, j, i] = (i - m // 2) / m
                design[plane, 3, j, i] = (j - m // 2) / m
            residual[0, j, i] = data[0, j, i] - plus * design[0, 0, j, i] - minus * design[0, 1, j, i]
            for plane in (1, 2):
                model = values[plane - 1] * design[plane, 0, j, i]
                for a in range(1, 4):
                    model += values[COLUMNS[plane, a]] * design[plane, a, j, i]
                residual[plane, j, i] = data[plane, j, i] - model
            for plane in range(3):
                cost += weights[plane] * residual[plane, j, i] ** 2
    normal[:], projection[:] = 0.0, 0.0
    for plane in range(3):
        columns, rows = COLUMNS[plane], design[plane].reshape(6, -1)
        squares, products = rows @ rows.T, rows @ residual[plane].copy().reshape(-1)
        for a in range(6):
            projection[columns[a]] += weights[plane] * products[a]
            for b in range(6):
                normal[columns[a], columns[b]] += weights[plane] * squares[a, b]
    return cost


@njit(**EXACT)
def _errors(design, residual, variance, use, weights, normal):
    """Covariance (2, 2) of the fluxes by propagation of the pixels' noise, and chi-squared on the difference."""
    m = design.shape[-1]
    scatter = np.zeros((N_PARAMETERS, N_PARAMETERS))
    total = 0.0
    shared = np.zeros((3, 3))
    for j in range(m):
        for i in range(m):
            if not use[j, i]:
                continue
            total += residual[0, j, i] ** 2 / variance[0, j, i]
            for plane in range(3):
                shared[plane, plane] = variance[plane, j, i]
            # what the difference has in common with science and template, never more than there is in it
            scale = min(1.0, variance[0, j, i] / (variance[1, j, i] + variance[2, j, i]))
            shared[0, 1] = shared[1, 0] = scale * variance[1, j, i]
            shared[0, 2] = shared[2, 0] = -scale * variance[2, j, i]
            for p in range(3):
                for q in range(3):
                    if shared[p, q] == 0.0:
                        continue
                    product = weights[p] * weights[q] * shared[p, q]
                    for a in range(6):
                        left = product * design[p, a, j, i]
                        for b in range(6):
                            scatter[COLUMNS[p, a], COLUMNS[q, b]] += left * design[q, b, j, i]
    for a in range(N_PARAMETERS):
        normal[a, a] *= 1 + 1e-12
    inverse = np.linalg.inv(normal)
    return (inverse @ scatter @ inverse)[:2, :2].copy(), total
