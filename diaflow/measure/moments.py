"""Second moments of sources and of the PSF, and what they say together: whether a source is a point.

Moments are taken with a circular Gaussian weight, which keeps the noise of the wings out, and the effect of the
weight is taken out again, as if the source were a Gaussian (after Bernstein & Jarvis 2002).
"""

import numpy as np

from diaflow.measure import kernels
from diaflow.measure.photometry import Psf, as_pixels, as_positions
from diaflow.statistics import median_width

# Of the size sqrt(det(moments)): stars may be broader than the PSF by this fraction, for errors of the model, at least,
# by this many times what stars show of these,
POINT_LIKE, MODEL_SIGMA = 0.05, 2.0
# and by this many errors of ln(size), which is 1 / (S/N) for a Gaussian.
SIZE_SIGMA = 3.0
FEWEST_STARS = 10  # that show how wrong the model is: fewer tell it to worse than a quarter
DECIDABLE_SNR = 10.0  # fainter sources are neither point-like nor extended: 3 errors of their size are 30 %
BATCH = 2000  # PSF stamps in memory at once: 16 MB of 31 x 31 pixels


def source_moments(image: np.ndarray, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """Second moments about positions, the effect of the weight taken out.

    The sum of signed pixels makes them the same for negative sources and lets noise average out.

    Parameters
    ----------
    image : (ny, nx) array
    x, y : (n,) arrays
        Positions [pixel].
    sigma : float
        Radius of the weight [pixel].

    Returns
    -------
    (3, n) array
        ixx, iyy, ixy [pixel**2]; NaN where noise leaves no ellipse and off the image.
    """
    x, y = as_positions(x, y)
    weighted = np.full((3, len(x)), np.nan)
    kernels.moments(as_pixels(image), x, y, float(sigma), weighted)
    return without_weight(weighted, sigma)


def psf_moments(psf: Psf, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """Second moments of the PSF at positions, with the weight of `source_moments` and without its effect.

    Parameters
    ----------
    psf : callable
        ``psf(x, y)`` gives stamps (n, k, k), k odd.
    x, y : (n,) arrays
        Positions [pixel].
    sigma : float
        Radius of the weight [pixel].

    Returns
    -------
    (3, n) array
        ixx, iyy, ixy [pixel**2]; NaN where the PSF is not known.
    """
    out = np.empty((3, len(x)))
    for start in range(0, len(x), BATCH):
        rows = slice(start, start + BATCH)
        stamps = psf(x[rows], y[rows])
        t = np.arange(stamps.shape[-1]) - stamps.shape[-1] // 2
        weight = np.exp(-(t[:, None] ** 2 + t**2) / (2 * sigma**2))
        basis = np.stack([weight * term for term in np.broadcast_arrays(1.0, t**2, t[:, None] ** 2, t[:, None] * t)])
        total, *sums = np.tensordot(basis, stamps, ((1, 2), (1, 2)))
        out[:, rows] = without_weight(np.array([s / total for s in sums]), sigma)
    return out


def without_weight(weighted: np.ndarray, sigma: float) -> np.ndarray:
    """Moments of a Gaussian source from those of the source times a Gaussian weight.

    With M the weighted moments and W = sigma**2 those of the weight, the source has Q**-1 = M**-1 - W**-1.

    Parameters
    ----------
    weighted : (3, n) array
        xx, yy, xy of M [pixel**2].
    sigma : float
        Radius of the weight [pixel].

    Returns
    -------
    (3, n) array
        xx, yy, xy of Q [pixel**2]; NaN where M or Q is no ellipse.
    """
    mxx, myy, mxy = weighted
    with np.errstate(invalid="ignore", divide="ignore"):
        m_det = mxx * myy - mxy**2
        axx, ayy, axy = myy / m_det - sigma**-2, mxx / m_det - sigma**-2, -mxy / m_det
        det = axx * ayy - axy**2
        ellipse = (mxx > 0) & (m_det > 0) & (axx > 0) & (det > 0)
        return np.where(ellipse, [ayy / det, axx / det, -axy / det], np.nan)


def extendedness(
    moments: np.ndarray, of_psf: np.ndarray, snr: np.ndarray, is_star: np.ndarray | None = None
) -> np.ndarray:
    """Whether sources are broader than the PSF.

    Parameters
    ----------
    moments, of_psf : (3, n) arrays
        xx, yy, xy of each source and of the PSF at its place [pixel**2].
    snr : (n,) array
        S/N of the PSF flux.
    is_star : (n,) bool array, optional
        Stars whose scatter about the PSF shows how wrong that is, as pixels that undersample it make it.

    Returns
    -------
    (n,) array
        1 where the size exceeds that of the PSF by more than noise and errors of the PSF explain, else 0; NaN for
        sources that are too faint or have no moments.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        area, psf_area = (m[0] * m[1] - m[2] ** 2 for m in (moments, of_psf))
        broader = 0.25 * np.log(area / psf_area)
        decided = (snr > DECIDABLE_SNR) & np.isfinite(broader)
    limit = POINT_LIKE
    if is_star is not None and (is_star & decided).sum() >= FEWEST_STARS:
        stars = is_star & decided
        beyond_noise2 = median_width(broader[stars]) ** 2 - np.median(1 / snr[stars]) ** 2
        limit = max(limit, MODEL_SIGMA * np.sqrt(max(beyond_noise2, 0)))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(decided, broader > limit + SIZE_SIGMA / snr, np.nan)
