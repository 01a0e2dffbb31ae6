"""Second moments of sources and of the PSF, with a circular Gaussian weight that is taken out again."""

import numpy as np

from diaflow.measure import kernels
from diaflow.measure.photometry import _pixels, _positions


def source_moments(
    image: np.ndarray, x: np.ndarray, y: np.ndarray, sigma: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Second moments about a position, with a circular Gaussian weight whose effect is taken out again.

    With M the weighted moments and W = sigma**2 those of the weight, a Gaussian source has Q**-1 = M**-1 - W**-1.
    The sum of signed pixels makes them the same for negative sources and lets noise average out.

    Returns
    -------
    ixx, iyy, ixy : (n,) arrays
        Moments [pixel**2]; NaN where noise leaves no ellipse.
    """
    image = _pixels(image)
    x, y = _positions(x, y)
    weighted = np.full((3, len(x)), np.nan)
    kernels.moments(image, x, y, float(sigma), weighted)
    mxx, myy, mxy = weighted
    with np.errstate(invalid="ignore", divide="ignore"):
        m_det = mxx * myy - mxy**2
        axx, ayy, axy = myy / m_det - sigma**-2, mxx / m_det - sigma**-2, -mxy / m_det
        det = axx * ayy - axy**2
        ellipse = (mxx > 0) & (m_det > 0) & (axx > 0) & (det > 0)
        return tuple(np.where(ellipse, value, np.nan) for value in (ayy / det, axx / det, -axy / det))


POINT_LIKE = 0.05  # stars may be broader than the PSF by this fraction, for errors of the model

SIZE_SIGMA = 3.0  # and by so many errors of ln(size), which is 1 / (S/N) for a Gaussian

DECIDABLE_SNR = 10.0  # fainter sources are neither point-like nor extended

BATCH = 2000  # PSF stamps in memory at once


def psf_moments(psf, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """ixx, iyy, ixy (3, n) of the PSF at each position, with the weight of `source_moments` [pixel**2]."""
    out = np.empty((3, len(x)))
    for start in range(0, len(x), BATCH):
        rows = slice(start, start + BATCH)
        stamps = psf(x[rows], y[rows])
        t = np.arange(stamps.shape[-1]) - stamps.shape[-1] // 2
        weight = np.exp(-(t[:, None] ** 2 + t**2) / (2 * sigma**2))
        basis = np.stack([weight * term for term in np.broadcast_arrays(1.0, t**2, t[:, None] ** 2, t[:, None] * t)])
        total, mxx, myy, mxy = np.tensordot(basis, stamps, ((1, 2), (1, 2)))
        mxx, myy, mxy = mxx / total, myy / total, mxy / total
        m_det = mxx * myy - mxy**2
        # inverse of M**-1 - W**-1
        axx, ayy, axy = myy / m_det - sigma**-2, mxx / m_det - sigma**-2, -mxy / m_det
        out[:, rows] = np.array([ayy, axx, -axy]) / (axx * ayy - axy**2)
    return out
