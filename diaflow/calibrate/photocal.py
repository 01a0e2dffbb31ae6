"""Zero point of an exposure: instrumental fluxes and catalogue magnitudes of the same stars in, AB zero point out.

The most populated magnitude offset starts a clipped median, which settles who takes part; the mean of Student's
t-distribution through them is the zero point.  Variable stars, galaxies and wrong matches fall to the clipping (LSST
pipe_tasks, photoCal); the light of faint neighbours, which makes most faint stars too bright, counts by what it is.
What the stars that decide scatter beyond their errors (flat field, colour terms) is added to the error of each.
"""

from dataclasses import dataclass

import numpy as np

from diaflow import polynomials
from diaflow.errors import BadData, Kind
from diaflow.statistics import excess_of_deciding, excess_scatter, median_width, student_mean
from diaflow.units import MAG_PER_RELATIVE_ERROR

MIN_STARS = 3  # of two that disagree, either may be wrong
MAX_SIGMA = 0.25  # widest clipping scale [mag], chosen
INTRINSIC_SCATTER = 0.003  # least of a single star [mag], chosen; without it a few bright stars would decide
STARS_PER_TERM = 10  # of a polynomial in position, chosen
MODE_BIN = 0.1  # of the histogram that finds the most populated offset [mag], chosen
GRID = 33  # points along each axis that the mean of a variation over the detector is taken of


@dataclass(frozen=True)
class ZeroPoint:
    """The AB magnitude of 1 DN in the whole exposure.

    Attributes
    ----------
    value, error : float
        Zero point and its standard error [mag].
    scatter : float
        Robust scatter about it of the brighter half of the stars used [mag].
    n_stars : int
        Number of stars that the value rests on.
    used : (n,) bool array
        Which of the stars these are.
    residuals, errors : (n,) arrays
        Of each star: its own zero point minus `value`, and the error of that [mag].
    """

    value: float
    error: float
    scatter: float
    n_stars: int
    used: np.ndarray
    residuals: np.ndarray
    errors: np.ndarray


def zero_point(
    flux: np.ndarray,
    flux_err: np.ndarray,
    ref_mag: np.ndarray,
    ref_mag_err: np.ndarray,
    *,
    n_sigma: float = 4.0,
    n_iter: int = 20,
) -> ZeroPoint:
    """Zero point from matched stars: ref_mag = -2.5 log10(flux) + zero point.

    Parameters
    ----------
    flux, flux_err : (n,) arrays
        Instrumental flux and its error [DN]; stars without a positive flux do not take part.
    ref_mag, ref_mag_err : (n,) arrays
        Catalogue AB magnitudes [mag]; NaN magnitudes do not take part, NaN errors count as none.
    n_sigma, n_iter : float, int
        Clipping radius in robust standard deviations, and the most rounds of it.

    Returns
    -------
    ZeroPoint

    Raises
    ------
    BadData
        When fewer than 3 stars can be used.

    Notes
    -----
    The error is that which the residuals as they are give (`student_mean`), so it includes scatter that the flux errors
    do not know of.  It does not know what all stars share: the sum of the PSF, and the mean error of magnitudes that a
    joint calibration has tied to a catalogue.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        offset = ref_mag + 2.5 * np.log10(np.asarray(flux, float))
        flux_mag_err = MAG_PER_RELATIVE_ERROR * np.asarray(flux_err, float) / flux
    error = np.hypot(flux_mag_err, np.nan_to_num(np.asarray(ref_mag_err, float)))
    usable = np.isfinite(offset) & np.isfinite(error)
    if usable.sum() < MIN_STARS:
        raise BadData(
            f"no zero point: of {len(offset)} stars {np.sum(np.asarray(flux) > 0)} have a flux and "
            f"{np.isfinite(ref_mag).sum()} a catalogue magnitude, {usable.sum()} both",
            Kind.ZERO_POINT,
            found=usable.sum(),
            needed=MIN_STARS,
        )

    used = usable.copy()
    used[usable] = _clipped(offset[usable], error[usable], n_sigma, n_iter)
    n_stars = int(used.sum())
    if n_stars < MIN_STARS:
        raise BadData(f"no zero point: only {n_stars} of {usable.sum()} stars agree", Kind.ZERO_POINT)
    error = np.hypot(error, excess_of_deciding(offset[used], error[used], INTRINSIC_SCATTER))
    value, value_error = student_mean(offset[used], error[used])
    residual = offset[used] - value
    bright = flux[used] >= np.median(flux[used])
    return ZeroPoint(
        value=value,
        error=value_error,
        scatter=median_width(residual[bright]),
        n_stars=n_stars,
        used=used,
        residuals=offset - value,
        errors=error,
    )


def variation(
    x: np.ndarray, y: np.ndarray, values: np.ndarray, errors: np.ndarray, shape: tuple[int, int], order: int
) -> np.ndarray:
    """How a quantity varies over a detector: a weighted polynomial fit.

    Parameters
    ----------
    x, y, values, errors : (n,) arrays
        Positions [pixel], values there and their standard errors.
    shape : (ny, nx)
    order : int
        Highest degree in position; lowered until there are ten values per term.

    Returns
    -------
    (n_terms,) array
        Coefficients for `evaluated`, whose mean over the detector is zero: what the values differ from their mean.
    """
    order = polynomials.affordable(order, len(values), STARS_PER_TERM)
    design = polynomials.terms(*polynomials.centred(x, y, shape), order)
    coefficients, _ = polynomials.fit(design, values, errors)
    ny, nx = shape
    middles = ((np.arange(GRID) + 0.5) / GRID * n - 0.5 for n in (nx, ny))
    grid = (g.ravel() for g in np.meshgrid(*middles))
    coefficients[0] -= evaluated(coefficients, *grid, shape).mean()
    return coefficients


def evaluated(coefficients: np.ndarray, x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The polynomial of `variation` at pixel positions.

    Parameters
    ----------
    coefficients : (n_terms,) array
    x, y : arrays of one shape
        Positions [pixel].
    shape : (ny, nx)
        Of the detector.

    Returns
    -------
    array
        Of the shape of the positions, in the unit of the values.
    """
    return polynomials.evaluated(coefficients, *polynomials.centred(x, y, shape))


def _clipped(offset: np.ndarray, error: np.ndarray, n_sigma: float, n_iter: int) -> np.ndarray:
    """Which offsets remain after iterating a median and the scatter beyond the errors, from the mode."""
    good = np.abs(offset - _mode(offset)) <= n_sigma * MAX_SIGMA
    for _ in range(n_iter):
        if good.sum() < MIN_STARS:
            break
        sigma = np.minimum(np.hypot(error, excess_scatter(offset[good], error[good], INTRINSIC_SCATTER)), MAX_SIGMA)
        agreeing = np.abs(offset - np.median(offset[good])) <= n_sigma * sigma
        if np.array_equal(agreeing, good):
            break
        good = agreeing
    return good


def _mode(values: np.ndarray) -> float:
    """Centre of the fullest three neighbouring bins."""
    edges = np.arange(values.min() - 2 * MODE_BIN, values.max() + 3 * MODE_BIN, MODE_BIN)
    counts = np.convolve(np.histogram(values, edges)[0], np.ones(3), "same")
    return edges[np.argmax(counts)] + MODE_BIN / 2
