"""Round mean profile of the stars of an image: a sum of Gaussians that is near to a Moffat profile.

In come stamps of stars, their fluxes and centres; out goes a `Profile`, around which `psf_model` looks for the pixels
of the PSF.  All pixels at one distance from the centres of the stars tell one point of it, so that wings far below the
noise of a pixel are known, and with them the sum of the PSF; what noise and faint neighbours leave open is told by the
Moffat profile that is closest to the rest.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.special import gamma

from diaflow.errors import data_may_fail

TAPS = 5  # half-width of the Lanczos kernel [pixel]; it narrows stars by 1e-3
RING, RING_SIGMA = 0.5, 0.4  # width of the rings that the round profile is told in [pixel], at most this many sigma
PROFILE_WIDTHS = np.array([0.6, 0.8, 1.05, 1.4, 1.9, 2.5, 3.4])  # of its Gaussians, in units of the PSF's
WIDTH_STEP = 1.335  # from one of the widths to the next
BETAS = np.arange(1.5, 8.05, 0.1)  # of the Moffat profiles tried; beyond the last the wings are those of a Gaussian
# Sigma of the core of the Moffat profiles tried, in units of that of the PSF, whose moments the wings make larger.
CORES = np.geomspace(0.6, 1.2, 30)
# Amplitudes are expected within this fraction of those of the Moffat profile, and of the largest: chosen.
PROFILE_PRIOR, AMPLITUDE_FLOOR = 0.1, 1e-3
RESOLVED = 1.06  # of a PSF, 2.5 pixels FWHM, below which the shape of the pixels is in its profile: no Moffat [pixel]


@dataclass(frozen=True)
class Profile:
    """A sum of round Gaussians.

    Attributes
    ----------
    amplitudes, widths : (m,) arrays
        Values at the centre, and sigmas [pixel].
    """

    amplitudes: np.ndarray
    widths: np.ndarray

    def times(self, factor: float) -> "Profile":
        """The profile with all amplitudes times a factor.

        Parameters
        ----------
        factor : float

        Returns
        -------
        Profile
        """
        return Profile(self.amplitudes * factor, self.widths)

    def stamp(self, size: int) -> np.ndarray:
        """Its values about the central pixel.

        Parameters
        ----------
        size : int
            Side of the stamp, odd [pixel].

        Returns
        -------
        (size, size) array
        """
        t = np.arange(size) - size // 2
        return np.exp(-0.5 * (np.hypot(t, t[:, None])[..., None] / self.widths) ** 2) @ self.amplitudes

    def left_out(self, dx: np.ndarray, dy: np.ndarray, size: int) -> np.ndarray:
        """The moved profile less what `shift_matrices` make of it.

        Parameters
        ----------
        dx, dy : (n,) arrays
            Where its centre is moved to [pixel].
        size : int
            Side of the stamps, odd [pixel].

        Returns
        -------
        (n, size, size) array
        """
        t, total = np.arange(size) - size // 2, np.zeros((len(dx), size, size))
        for amplitude, width in zip(self.amplitudes, self.widths):
            moved_x, moved_y = (np.exp(-0.5 * ((t - shift[:, None]) / width) ** 2) for shift in (dx, dy))
            still = np.exp(-0.5 * (t / width) ** 2)
            shifted_x, shifted_y = (shift_matrices(shift, size) @ still for shift in (dx, dy))
            total += amplitude * (moved_y[..., None] * moved_x[:, None] - shifted_y[..., None] * shifted_x[:, None])
        return total


def shift_matrices(shift: np.ndarray, size: int) -> np.ndarray:
    """Matrices that move rows of pixels with Lanczos-5 weights of unit sum.

    Parameters
    ----------
    shift : (n,) array
        [pixel], towards higher pixel numbers.
    size : int
        Pixels of a row.

    Returns
    -------
    (n, size, size) array
        To be multiplied with rows as columns; what leaves the row is lost.
    """
    taps = np.arange(-TAPS, TAPS + 1)
    t = taps + np.asarray(shift, float)[:, None]
    weights = np.sinc(t) * np.sinc(t / TAPS) * (np.abs(t) < TAPS)
    weights /= weights.sum(1, keepdims=True)
    out = np.zeros((len(t), size, size))
    for tap, weight in zip(taps, weights.T):
        i = np.arange(max(0, -tap), min(size, size - tap))
        out[:, i, i + tap] = weight[:, None]
    return out


def of_stars(
    data: np.ndarray, weights: np.ndarray, flux: np.ndarray, dx: np.ndarray, dy: np.ndarray, sigma: float
) -> Profile:
    """Round mean profile of stars, with amplitudes that are not negative.

    Parameters
    ----------
    data, weights : (n, k, k) arrays
        Stamps of the stars and the inverse variances of their pixels.
    flux, dx, dy : (n,) arrays
        Of the stars; offsets from the central pixel [pixel].
    sigma : float
        Of the PSF [pixel].

    Returns
    -------
    Profile
        Per unit of flux.
    """
    size = data.shape[-1]
    t = np.arange(size) - size // 2
    dx, dy, flux = (column[:, None, None] for column in (dx, dy, flux))
    radius = np.hypot(t - dx, t[:, None] - dy)
    width = min(RING, RING_SIGMA * sigma)
    ring = np.minimum(radius / width, size / width).astype(int).ravel()
    power = np.bincount(ring, (weights * flux**2).ravel())
    filled = power > 0
    mean, middle = (
        np.bincount(ring, (weights * flux * value).ravel())[filled] / power[filled] for value in (data, flux * radius)
    )
    widths = sigma * PROFILE_WIDTHS
    root = np.sqrt(power[filled])
    design, values = np.exp(-0.5 * (middle[:, None] / widths) ** 2) * root[:, None], mean * root
    if sigma < RESOLVED:
        amplitudes = _non_negative(design, values)
        return Profile(amplitudes[amplitudes > 0], widths[amplitudes > 0])
    expected = _moffat(design, values)
    precision = 1 / (PROFILE_PRIOR * expected + AMPLITUDE_FLOOR * expected.max())
    amplitudes = _non_negative(np.vstack([design, np.diag(precision)]), np.append(values, precision * expected))
    return Profile(amplitudes[amplitudes > 0], widths[amplitudes > 0])


def _moffat(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Amplitudes of the Gaussians `PROFILE_WIDTHS` of the Moffat profile that is closest to the values.

    (1 + r^2 / alpha^2)^-beta is the integral of exp(-s - s r^2 / alpha^2) s^beta / Gamma(beta) over ln s, hence a sum
    of Gaussians in even steps of ln(width), with s = alpha^2 / (2 width^2).
    """
    beta, core = (g.ravel()[:, None] for g in np.meshgrid(BETAS, CORES))
    s = beta * (core / PROFILE_WIDTHS) ** 2
    tried = s**beta * np.exp(-s) / gamma(beta) * 2 * np.log(WIDTH_STEP)
    models = tried @ design.T
    peaks = np.maximum(models @ values, 0) / (models**2).sum(1)
    best = np.argmin(((values - peaks[:, None] * models) ** 2).sum(1))
    return peaks[best] * tried[best]


def _non_negative(design: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Least squares by coefficients of which none is negative: of the fits by some of the few columns the best such."""
    n = design.shape[1]
    some = np.array(list(product((False, True), repeat=n)))
    normal, projection = design.T @ design, design.T @ values
    normal += np.finfo(float).eps * np.trace(normal) * np.eye(n)  # columns without values
    matrices = np.where(some[:, :, None] & some[:, None, :], normal, np.eye(n))
    with data_may_fail("fit of the profile of the PSF"):
        coefficients = np.linalg.solve(matrices, np.where(some, projection, 0)[..., None])[..., 0]
    explained = np.where((coefficients >= 0).all(1), coefficients @ projection, -np.inf)
    return coefficients[np.argmax(explained)]
