"""How many sources of known S/N are detected: what noise alone lets through, and the curve that a sample follows.

Theory: a source is detected where a pixel of the matched filter within `REACH` of it exceeds the threshold.  The filter
of noise has the correlation of the PSF with itself, and at a pixel the source has its S/N times the correlation of
its own stamp with that of the pixel; both are drawn for a PSF that is a Moffat profile, sampled at the pixels.

A sample: the binomial likelihood of its unbinned list, with Fisher errors.
"""

import functools
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize
from scipy.special import erf, erfinv, ndtr, ndtri

REACH = 2.0  # largest distance of the peak from the source [pixel]
BETA = 3.5  # of the Moffat profile: between a Gaussian core with wings and a real PSF, chosen
PHASES, DRAWS = 200, 500  # positions inside of a pixel, and draws of the noise at each: 0.005 in the S/N of 50 %
FWHM_STEP = 0.1  # to which widths are rounded [pixel]: theory changes by 0.03 at most from one to the next
HALF_STAMP = 2.5  # half side of a stamp [FWHM], chosen
SHRINK = 1e-9  # of the covariance, so that broad PSFs have a Cholesky factor too
PEAK_DRAWS = 20_000  # of pixels above the threshold; 1 % in the number of peaks
FEWEST = 30  # sources whose detection a curve is fitted to, chosen
LEAST = 1e-6  # probability of a detection or its absence in the likelihood: one outlier shall not decide


@dataclass(frozen=True)
class Curve:
    """Fitted efficiency: plateau / 2 (1 + erf((S/N - middle) / (sqrt(2) width))).

    Attributes
    ----------
    plateau, middle, width : float
    covariance : (3, 3) array
        Of the three, in this order.
    """

    plateau: float
    middle: float
    width: float
    covariance: np.ndarray

    def __call__(self, snr: np.ndarray) -> np.ndarray:
        """Efficiency at some S/N.

        Parameters
        ----------
        snr : array

        Returns
        -------
        array
        """
        return _curve((self.plateau, self.middle, self.width), snr)

    def top(self) -> tuple[float, float]:
        """The plateau.

        Returns
        -------
        value, error : float
        """
        return self.plateau, float(np.sqrt(self.covariance[0, 0]))

    def half(self) -> tuple[float, float]:
        """The S/N at which every second source is found.

        Returns
        -------
        value, error : float
            NaN where the plateau is below one half.
        """
        if self.plateau <= 0.5:
            return np.nan, np.nan

        def place(plateau: float, middle: float, width: float) -> float:
            return middle + np.sqrt(2) * width * erfinv(1 / plateau - 1)

        at = np.array([self.plateau, self.middle, self.width])
        step = 1e-5 * np.eye(3) * at
        # Towards a lower plateau, which cannot exceed 1.
        slope = np.array([(place(*at) - place(*(at - each))) / each.sum() for each in step])
        return float(place(*at)), float(np.sqrt(slope @ self.covariance @ slope))


def fit(snr: np.ndarray, found: np.ndarray) -> Curve | None:
    """The curve of a sample by its binomial likelihood.

    Parameters
    ----------
    snr : (n,) array
        True S/N.
    found : (n,) bool array

    Returns
    -------
    Curve or None
        None where there are too few sources, or none found, or none missed.
    """
    if len(snr) < FEWEST or found.all() or not found.any():
        return None

    def loss(parameters: np.ndarray) -> float:
        p = np.clip(_curve(parameters, snr), LEAST, 1 - LEAST)
        return -float(np.sum(np.log(np.where(found, p, 1 - p))))

    bounds = [(0.05, 1.0), (snr.min(), snr.max()), (0.05, 10.0)]
    starts = [(plateau, np.clip(middle, *bounds[1]), 1.0) for plateau in (0.99, 0.7) for middle in (4.0, 5.0, 7.0)]
    best = min((minimize(loss, start, bounds=bounds, method="L-BFGS-B") for start in starts), key=lambda r: r.fun)
    return Curve(*(float(value) for value in best.x), _covariance(best.x, snr))


def _covariance(parameters: np.ndarray, snr: np.ndarray) -> np.ndarray:
    """Inverse of the Fisher information of a curve."""
    step = 1e-5 * np.eye(3) * parameters
    slope = np.array([(_curve(parameters, snr) - _curve(parameters - each, snr)) / each.sum() for each in step])
    p = np.clip(_curve(parameters, snr), LEAST, 1 - LEAST)
    return np.linalg.pinv((slope / (p * (1 - p))) @ slope.T)


def _curve(parameters: np.ndarray, snr: np.ndarray) -> np.ndarray:
    plateau, middle, width = parameters
    return plateau / 2 * (1 + erf((snr - middle) / (np.sqrt(2) * width)))


def probability(snr: np.ndarray, fwhm: np.ndarray, threshold: float) -> np.ndarray:
    """Theory: the probability that sources are detected.

    Parameters
    ----------
    snr, fwhm : (n,) arrays
        True S/N; full width at half maximum of the PSF [pixel].
    threshold : float
        [sigma]

    Returns
    -------
    (n,) array
        NaN where the width is.
    """
    out = np.full(len(snr), np.nan)
    rounded = np.round(fwhm / FWHM_STEP)
    for value in np.unique(rounded[np.isfinite(rounded)]):
        rows = rounded == value
        needed = needed_snr(round(value * FWHM_STEP, 3), threshold)
        out[rows] = np.searchsorted(needed, snr[rows]) / len(needed)
    return out


def expected_half(fwhm: np.ndarray, threshold: float) -> float:
    """Theory: the S/N at which every second source of a sample is found.

    Parameters
    ----------
    fwhm : (n,) array
        Full width at half maximum of the PSF of each [pixel], NaN where unknown.
    threshold : float
        [sigma]

    Returns
    -------
    float
        NaN without sources.
    """
    values, counts = np.unique(np.round(fwhm[np.isfinite(fwhm)] / FWHM_STEP), return_counts=True)
    if not len(values):
        return np.nan
    needed = np.concatenate([needed_snr(round(value * FWHM_STEP, 3), threshold) for value in values])
    order, share = np.argsort(needed), np.repeat(counts, PHASES * DRAWS)
    return float(needed[order][np.searchsorted(np.cumsum(share[order]), share.sum() / 2)])


@functools.cache
def needed_snr(fwhm: float, threshold: float) -> np.ndarray:
    """The true S/N that a source must have for its detection, in draws of the noise.

    At a pixel where the source has the fraction rho of its S/N and the noise is g, the filter exceeds the threshold T
    from S/N = (T - g) / rho on; a draw needs the smallest of these.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum of the PSF [pixel].
    threshold : float
        [sigma]

    Returns
    -------
    (PHASES * DRAWS,) array
        Ascending: the fraction of them below an S/N is the efficiency there.
    """
    rng = np.random.default_rng(0)
    offsets = np.array([(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3)], float)
    filters = _unit_stamps(fwhm, offsets)
    factor = np.linalg.cholesky(filters @ filters.T + SHRINK * np.eye(len(filters)))
    phases = rng.uniform(-0.5, 0.5, (PHASES, 2))
    near = np.hypot(*(offsets - phases[:, None]).transpose(2, 0, 1)) < REACH
    rho = np.where(near, _unit_stamps(fwhm, phases) @ filters.T, 0)
    noise = rng.normal(size=(PHASES, DRAWS, len(filters))) @ factor.T
    with np.errstate(divide="ignore"):
        needed = np.where(rho[:, None] > 0, (threshold - noise) / rho[:, None], np.inf)
    return np.sort(needed.min(-1).ravel())


def noise_peaks(stamp: np.ndarray, threshold: float) -> float:
    """Theory: peaks of both signs beyond a threshold in the matched filter of white noise.

    A pixel beyond the threshold is a peak when its eight neighbours are below it; they are drawn given the pixel, which
    is drawn from the tail of the normal distribution.  For a well-sampled PSF the number is that of Gaussian random
    fields (Kaiser 2004; LSST DMTN-006).

    Parameters
    ----------
    stamp : (k, k) array
        PSF, k odd.
    threshold : float
        [sigma]

    Returns
    -------
    float
        Per pixel.
    """
    shifts = [(0, 0), *((dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0))]
    norm = np.sum(stamp**2)
    wide = np.pad(stamp, 2)
    lag = {
        (dy - 2, dx - 2): np.sum(wide * np.roll(wide, (dy - 2, dx - 2), (0, 1))) / norm for dy, dx in np.ndindex(5, 5)
    }
    correlation = np.array([[lag[a[0] - b[0], a[1] - b[1]] for b in shifts] for a in shifts])
    to_centre = correlation[1:, 0]
    conditional = correlation[1:, 1:] - np.outer(to_centre, to_centre)
    values, vectors = np.linalg.eigh(conditional)
    rng = np.random.default_rng(0)
    tail = rng.uniform(0, 1, PEAK_DRAWS)
    centre = -ndtri(tail * ndtr(-threshold))
    noise = rng.normal(size=(PEAK_DRAWS, len(values))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    is_peak = (centre[:, None] * to_centre + noise < centre[:, None]).all(1)
    return float(2 * ndtr(-threshold) * is_peak.mean())


def _unit_stamps(fwhm: float, centres: np.ndarray) -> np.ndarray:
    """Moffat profiles (n, k * k) about centres (n, 2) [pixel] of y and x, sampled at the pixels, of unit norm."""
    half = int(np.ceil(HALF_STAMP * fwhm)) + 3
    t = np.arange(-half, half + 1)
    r2 = (t[:, None] - centres[:, 0, None, None]) ** 2 + (t - centres[:, 1, None, None]) ** 2
    stamps = (1 + r2 * 4 * (2 ** (1 / BETA) - 1) / fwhm**2) ** -BETA
    stamps = stamps.reshape(len(centres), -1)
    return stamps / np.linalg.norm(stamps, axis=1)[:, None]
