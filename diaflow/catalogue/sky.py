"""The sky of a deep coadd: the level that is left where nothing is found in any band.

The sky of a visit holds the light of sources that only many visits show.  Where these are not, the coadd is too low by
what was taken off with the sky, and all fluxes are.  LSST's detectCoaddSources has a background of the coadd for that;
here it is one level for a patch, for no mesh is so coarse that it holds nothing of the halo of a galaxy.

A source lies on the light of all that is too faint to be found anywhere.  The mean of the sky has it, while a mode, or
the sky of places that are truly empty, has not.
"""

import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.pixels.growth import grow
from diaflow.statistics import robust_width
from diaflow.subtract.noise import FLAWS

CLIP = 5.0  # sigma of the pixels that enter the mean: nearly all of a normal distribution, no flaw that no plane knows
SAMPLE = 200_000  # pixels that tell their median and width: to 0.3 % of a sigma, for a clip at five
# Least number of pixels with sky: they tell the level to 0.7 % of the noise of one in noise of a resampling, which is
# 0.05 of the error of a PSF flux for a FWHM of 5 pixels.
LEAST_PIXELS = 30_000


def level(exposure: Exposure, found: np.ndarray, distance: float) -> float:
    """Mean of the pixels that are far from all that was found.

    Parameters
    ----------
    exposure : Exposure
        Deep coadd.
    found : (ny, nx) bool array
        Pixels of sources, of all bands.
    distance : float
        Least distance of the sky from these along rows and columns [pixel].

    Returns
    -------
    float
        [unit of the image]; 0 where there is too little sky to tell.
    """
    near = grow(found.astype(np.uint8), int(np.ceil(distance))) > 0
    values = exposure.image[~near & ~exposure.flagged(*FLAWS)]
    if len(values) < LEAST_PIXELS:
        return 0.0
    some = values[:: 1 + len(values) // SAMPLE]
    within = np.abs(values - np.median(some)) < CLIP * robust_width(some)
    return float(values.mean(dtype=float, where=within))
