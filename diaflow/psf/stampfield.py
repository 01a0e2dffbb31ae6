"""Small images that vary smoothly over a detector: f(x, y) = sum_m P_m(u, v) T_m.

The same object serves as point-spread function, matching kernel and decorrelation kernel.  P_m are the
monomials u^i v^j with i + j <= order of the position scaled to [-1, 1] over the detector.
"""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from diaflow import polynomials
from diaflow.errors import data_may_fail

FWHM_PER_SIGMA = 2.354820045  # of a Gaussian, 2 sqrt(2 ln 2)
# The search for the size of a stamp begins with this variance [pixel**2] and ends when it changes by less than this
# fraction, or after this many rounds.
FIRST_VARIANCE, TOLERANCE, MAX_ROUNDS = 2.0, 1e-6, 20
# Least determinant of the weighted second moments [pixel**4], and least difference of the inverse variances of these
# and of the weight [pixel**-2]: where it is smaller the stamp is far broader than the weight, and the variance of the
# weight is doubled.
LEAST_DETERMINANT, LEAST_INVERSE = 1e-6, 1e-3
LEAST_WINDOW = 1.0  # variance of the weight [pixel**2], which would be less than the pixels show
# The profile that tells the FWHM: where it is fitted [adaptive sigma], at least to this radius [pixel], widths of its
# Gaussians [adaptive sigma], singular values that are noise, radii at which it is evaluated.  Chosen: Moffat profiles
# and double Gaussians are then met within 1 %.
CORE_SIGMA, CORE_PIXELS = 3.0, 3.2
PROFILE_WIDTHS = np.array([0.5, 0.7, 1.0, 1.4, 2.0])
PROFILE_RCOND, PROFILE_STEPS = 1e-3, 400


@dataclass(frozen=True)
class StampField:
    """A polynomial field of stamps on a detector.

    Attributes
    ----------
    terms : (n_terms, k, k) float array, k odd
        Coefficient stamps, in the order of `diaflow.polynomials.terms`; the centre pixel is (k // 2, k // 2).
    order : int
        Total degree of the polynomial; n_terms = (order + 1) (order + 2) / 2.
    shape : (ny, nx)
        Shape of the detector, which scales positions to [-1, 1].
    """

    terms: np.ndarray
    order: int
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Side of the stamps [pixel]."""
        return self.terms.shape[-1]

    def polynomials(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Values of the spatial terms.

        Parameters
        ----------
        x, y : (n,) arrays
            Positions [pixel].

        Returns
        -------
        (n_terms, n) array
        """
        return polynomials.terms(*polynomials.spanned(x, y, self.shape), self.order)

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The stamps at some positions.

        Parameters
        ----------
        x, y : (n,) arrays or floats
            Positions [pixel].

        Returns
        -------
        (n, k, k) float64 array
        """
        weights = self.polynomials(np.atleast_1d(x), np.atleast_1d(y))
        return np.tensordot(weights.T, self.terms.astype(float), 1)

    def centre(self) -> np.ndarray:
        """The stamp at the middle of the detector.

        Returns
        -------
        (k, k) float64 array
        """
        ny, nx = self.shape
        return self((nx - 1) / 2, (ny - 1) / 2)[0]

    def normalised(self) -> "StampField":
        """The field scaled to unit sum at the centre of the detector, and changed to have the same sum everywhere.

        Returns
        -------
        StampField
        """
        terms = self.terms.astype(float)
        flat = np.abs(terms[0]) / np.abs(terms[0]).sum()
        terms[1:] -= terms[1:].sum((1, 2))[:, None, None] * flat
        return StampField(terms / terms[0].sum(), self.order, self.shape)

    def convolved(self, other: "StampField", size: int | None = None) -> "StampField":
        """The field of convolutions of the stamps of two fields.

        A product of polynomials of degree p and q is one of degree p + q, so the result is exact but for the pixels
        that are cut off.

        Parameters
        ----------
        other : StampField
            On a detector of the same shape.
        size : int, optional
            Odd side to which the stamps are cut or padded [pixel]; that of the larger stamp by default.

        Returns
        -------
        StampField
        """
        size = size or max(self.size, other.size)
        order = self.order + other.order
        n_grid = order + 3
        ny, nx = self.shape
        gx, gy = (g.ravel() for g in np.meshgrid(np.linspace(0, nx - 1, n_grid), np.linspace(0, ny - 1, n_grid)))
        full = (self.size + other.size - 1,) * 2
        product = fft.rfft2(self(gx, gy), full) * fft.rfft2(other(gx, gy), full)
        return fit_stamps(resized(fft.irfft2(product, full), size), gx, gy, order, self.shape)


def fit_stamps(stamps: np.ndarray, x: np.ndarray, y: np.ndarray, order: int, shape: tuple[int, int]) -> StampField:
    """Least-squares polynomial field through stamps.

    Parameters
    ----------
    stamps : (n, k, k) array
        All finite.
    x, y : (n,) arrays
        Their positions [pixel].
    order : int
        Highest total degree; with fewer positions than terms the field of least norm is taken.
    shape : (ny, nx)
        Of the detector.

    Returns
    -------
    StampField

    Raises
    ------
    BadData
        When the positions are not finite.
    """
    field = StampField(np.zeros((0, *stamps.shape[1:])), order, shape)
    design = field.polynomials(x, y).T
    with data_may_fail("fit of a field of stamps"):
        terms = np.linalg.lstsq(design, stamps.reshape(len(stamps), -1), rcond=None)[0]
    return StampField(terms.reshape(-1, *stamps.shape[1:]), order, shape)


def resized(stamps: np.ndarray, size: int) -> np.ndarray:
    """Stamps cut or zero-padded about their centre.

    Parameters
    ----------
    stamps : (..., k, k) array
        k odd.
    size : int
        Side of the result, odd [pixel].

    Returns
    -------
    (..., size, size) array
        A view where the stamps are cut.
    """
    k = stamps.shape[-1]
    if k >= size:
        cut = (k - size) // 2
        return stamps[..., cut : cut + size, cut : cut + size]
    pad = (size - k) // 2
    return np.pad(stamps, [(0, 0)] * (stamps.ndim - 2) + [(pad, pad)] * 2)


def moments_sigma(stamp: np.ndarray) -> float:
    """Gaussian-weighted (adaptive) radius sigma = det(Q)**(1/4) of a stamp.

    Second moments with a circular Gaussian weight of the current size, corrected for the weight
    (Bernstein & Jarvis 2002) and for its sampling; exact for a Gaussian and insensitive to noise in the wings.

    Parameters
    ----------
    stamp : (k, k) array
        k odd.

    Returns
    -------
    float
        [pixel]; NaN where the weighted sum is not positive.
    """
    return float(np.sqrt(_adaptive_moments(stamp)[0]))


def major_sigma(stamp: np.ndarray) -> float:
    """Adaptive radius of a stamp along its longer axis, the square root of the larger eigenvalue of Q.

    Parameters
    ----------
    stamp : (k, k) array
        k odd.

    Returns
    -------
    float
        [pixel]; NaN where the weighted sum is not positive.
    """
    _, xx, yy, xy = _adaptive_moments(stamp)
    return float(np.sqrt((xx + yy) / 2 + np.hypot((xx - yy) / 2, xy)))


def fwhm(stamp: np.ndarray) -> float:
    """Full width at half maximum of a PSF: the diameter of the circle with the area inside of it.

    A smooth profile is fitted to the core, as a function of the elliptical radius of the adaptive moments: single
    pixels are too few where the PSF is sharp and too noisy where it is broad.

    Parameters
    ----------
    stamp : (k, k) array
        k odd.

    Returns
    -------
    float
        [pixel], of the outermost places of half of the maximum; NaN where `moments_sigma` is.
    """
    s2, qxx, qyy, qxy = _adaptive_moments(stamp)
    if not np.isfinite(s2):
        return float("nan")
    t = np.arange(stamp.shape[-1]) - stamp.shape[-1] // 2
    area = np.sqrt(qxx * qyy - qxy**2)
    r2 = (qyy * t[None] ** 2 + qxx * t[:, None] ** 2 - 2 * qxy * t[:, None] * t[None]) / area
    core = r2 < max(CORE_SIGMA * np.sqrt(s2), CORE_PIXELS) ** 2
    terms = np.linalg.lstsq(_profile_basis(r2[core], s2), stamp[core], rcond=PROFILE_RCOND)[0]
    r = np.linspace(0, CORE_SIGMA * np.sqrt(s2), PROFILE_STEPS)
    profile = _profile_basis(r**2, s2) @ terms
    half = profile.max() / 2
    last = np.flatnonzero(profile >= half)[-1]
    if last + 1 == len(r):
        return float("nan")
    return float(2 * np.interp(-half, -profile[last : last + 2], r[last : last + 2]))


def _profile_basis(r2: np.ndarray, s2: float) -> np.ndarray:
    """Gaussians of geometric widths (n, m) at squared radii (n,) [pixel**2] about the variance `s2`."""
    return np.exp(-0.5 * r2[:, None] / (PROFILE_WIDTHS**2 * s2))


def _adaptive_moments(stamp: np.ndarray) -> tuple[float, float, float, float]:
    """Variance det(Q)**(1/2) of the Gaussian weight that is as large as the stamp, and Q itself: xx, yy, xy [pixel**2].

    NaN where the weighted sum is not positive.
    """
    k = stamp.shape[-1]
    t = np.arange(k) - k // 2
    r2 = t[:, None] ** 2 + t[None] ** 2
    s2 = FIRST_VARIANCE
    for _ in range(MAX_ROUNDS):
        window = max(s2, LEAST_WINDOW)
        weight = np.exp(-r2 / (2 * window)) * stamp
        total = weight.sum()
        if not total > 0:
            return (float("nan"),) * 4
        # What the pixels make of the variance of a weighted Gaussian.
        variance = 1 / (1 / s2 + 1 / window)
        gaussian = np.exp(-r2 / (2 * variance))
        sampling = 2 * variance * gaussian.sum() / (gaussian * r2).sum()
        qxx, qyy, qxy = (sampling * (weight * m).sum() / total for m in (t[None] ** 2, t[:, None] ** 2, t[:, None] * t))
        weighted = np.sqrt(max(qxx * qyy - qxy**2, LEAST_DETERMINANT))
        inverse = 1 / weighted - 1 / window
        new = 1 / inverse if inverse > LEAST_INVERSE else 2 * s2
        if abs(new - s2) < TOLERANCE * s2:
            break
        s2 = min(new, k**2 / 4)
    return s2, *_without_weight(qxx, qyy, qxy, window)


def _without_weight(qxx: float, qyy: float, qxy: float, window: float) -> tuple[float, float, float]:
    """Moments of a Gaussian from those of its product with a round one; the same where that leaves no ellipse."""
    inverse = np.linalg.inv([[qxx, qxy], [qxy, qyy]]) - np.eye(2) / window
    if not (inverse[0, 0] > 0 and np.linalg.det(inverse) > 0):
        return qxx, qyy, qxy
    (xx, xy), (_, yy) = np.linalg.inv(inverse)
    return xx, yy, xy
