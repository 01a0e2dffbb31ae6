"""How large the stamps of a PSF are: so large that next to no light is outside of them.

Light beyond its stamp is missing from the flux of a star, but for what the zero point takes in, which differs where
the seeing does.  How much that is a Moffat profile through the stamp tells, whose wings go on as they began.
"""

import numpy as np

from diaflow.calibrate import psf_model
from diaflow.calibrate.psf_profile import BETAS
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.psf.stampfield import StampField, fwhm

# Share of the light that may be outside: 3 mmag, less than zero points are known to.
MISSING_LIGHT = 0.003
# Share from which a size that the configuration demands is refused, chosen: fluxes, and zero points from them, would be
# off by it, 11 mmag, and by another share where the seeing is another.
MOST_MISSING = 0.01
# Smallest and largest side [pixel].  The cost of a fit grows with the third power; 75 hold a Moffat profile of beta 3.5
# up to 12 pixels FWHM, one of beta 2.5 up to 6.5.
SMALLEST, LARGEST = 31, 75
FIRST = 5.0  # side of the first stamps [FWHM]: they show the wings, and suffice for profiles without far ones


def fit(
    exposure: Exposure, x: np.ndarray, y: np.ndarray, width: float, size: int | None, order: int
) -> tuple[StampField, np.ndarray, float]:
    """The PSF of an exposure on stamps that hold its light.

    Parameters
    ----------
    exposure : Exposure
    x, y : (n,) arrays
        Centroids of stars [pixel].
    width : float
        About the FWHM [pixel].
    size : int or None
        Side of the stamps [pixel]; None for what the PSF asks for.
    order : int
        Highest polynomial order in position.

    Returns
    -------
    psf : StampField
    used, chi2
        As `psf_model.fit` gives them.

    Raises
    ------
    BadData
        As `psf_model.fit`; when stamps of the size that is asked for miss more than `MOST_MISSING` of the light.
    """
    wanted = size or _bounded(FIRST * width)
    while True:
        psf, used, chi2 = psf_model.fit(exposure, x, y, wanted | 1, order)
        missing = missing_light(psf.centre())
        if size and missing > MOST_MISSING:
            told = f"{missing:.1%} of the light of a star is outside of PSF stamps of {size} pixels"
            raise BadData(f"{told}: leave out calexp.psf_size, or raise it", Kind.PSF)
        if size or wanted == LARGEST or missing <= MISSING_LIGHT:
            return psf, used, chi2
        wanted = max(wanted + 2, _bounded(_side(psf.centre())))


def missing_light(stamp: np.ndarray) -> float:
    """Share of the light of a star outside of the stamp of its PSF.

    Parameters
    ----------
    stamp : (k, k) array
        PSF of unit sum, k odd.

    Returns
    -------
    float
        NaN where the PSF has no width.
    """
    peak, alpha, beta = _moffat(stamp)
    # Outside of the circle with the area of the stamp.
    outside = np.pi * peak * alpha**2 / (beta - 1) * (1 + stamp.size / np.pi / alpha**2) ** (1 - beta)
    return float(outside / (1 + outside))


def _side(stamp: np.ndarray) -> float:
    """Side of the stamp that holds all but `MISSING_LIGHT` of the Moffat profile through a smaller one [pixel]."""
    _, alpha, beta = _moffat(stamp)
    return float(np.sqrt(np.pi * (MISSING_LIGHT ** (1 / (1 - beta)) - 1)) * alpha)


def _moffat(stamp: np.ndarray) -> tuple[float, float, float]:
    """Peak, alpha [pixel] and beta of the Moffat profile of the FWHM of a stamp that is closest to it.

    Pixels count by their distance squared, for light far out is what matters.
    """
    t = np.arange(len(stamp)) - len(stamp) // 2
    r2 = (t[:, None] ** 2 + t**2).ravel()
    alphas = fwhm(stamp) / 2 / np.sqrt(2 ** (1 / BETAS) - 1)
    profiles = (1 + r2 / alphas[:, None] ** 2) ** -BETAS[:, None]
    peaks = profiles @ (r2 * stamp.ravel()) / (profiles**2 @ r2)
    misfit = ((stamp.ravel() - peaks[:, None] * profiles) ** 2) @ r2
    best = int(np.argmin(misfit))
    return float(peaks[best]), float(alphas[best]), float(BETAS[best])


def _bounded(side: float) -> int:
    """The odd number of pixels from `SMALLEST` to `LARGEST` that is at least a side."""
    return int(np.clip(np.ceil(side), SMALLEST, LARGEST)) | 1
