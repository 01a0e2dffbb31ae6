"""Sources that stand out of the sky but not of their surroundings: parts of ghosts, of haloes and of uneven sky.

The threshold of a detection is that of noise on an even sky.  What is broader than the cells of the background has been
taken off; what is only somewhat broader than the PSF has not, and its brightest parts are beyond the threshold.  Its
level is seen around them.
"""

import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.measure import photometry

RING = 3.0, 8.0  # distance of the surroundings from a source: 1 % of a Gaussian is beyond [sigma of the PSF]
CLIP = 3.0  # pixels beyond belong to neighbours [sigma]
SIGNIFICANT = 3.0  # level of the surroundings over its error from which it counts: chosen, noise has it at 1 of 700
BATCH = 1000  # sources whose surroundings are in memory at once: 40 MB for a PSF of 10 pixels FWHM


def stand_out(image: Exposure, table: np.ndarray, threshold: float, sigma: float) -> np.ndarray:
    """Which sources are beyond the threshold without the level of their surroundings.

    Parameters
    ----------
    image : Exposure
        With independent pixels and its PSF.
    table : (n,) table "dia_source"
        With positions and PSF fluxes.
    threshold : float
        Least S/N of a source.
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    (n,) bool array
        True, too, where no level of the sign of the source is significant.
    """
    half = int(RING[1] * sigma)
    t = np.arange(-half, half + 1)
    distance = np.hypot(t[:, None], t)
    ring = (distance > RING[0] * sigma) & (distance < RING[1] * sigma)
    good = ~image.flagged(*photometry.UNUSABLE)
    level, error = np.zeros((2, len(table)))
    for start in range(0, len(table), BATCH):
        rows = slice(start, start + BATCH)
        column, row = np.rint([table["x"][rows], table["y"][rows]]).astype(int)
        pixels, variance, use = (
            photometry.cutouts(plane, column, row, half)[:, ring] for plane in (image.image, image.variance, good)
        )
        use &= pixels**2 < CLIP**2 * variance
        count = np.maximum(use.sum(1), 1)
        level[rows] = (pixels * use).sum(1) / count
        error[rows] = np.sqrt((variance * use).sum(1)) / count
    flux = table["psfFlux"].astype(float)
    level *= np.sign(flux)
    # the PSF flux of an even level of 1
    share = np.where(level > SIGNIFICANT * error, level, 0) / (image.psf.centre() ** 2).sum()
    return ~(np.abs(flux) - share < threshold * table["psfFluxErr"]) | (share == 0)
