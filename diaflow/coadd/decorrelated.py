"""Decorrelated coadd: every input filtered with its PSF, then the sum whitened (Kaiser 2001; Zackay & Ofek 2017).

It holds all that the inputs tell of the static sky, its noise is as white as that of the warps, and its PSF is the
sharpest for which that is so.  The PSF changes with those of the inputs and with which of them there are.
"""

from diaflow.coadd import likelihood, spectra
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile

OPTIONS = {}


def combine(warps: list[ExposureFile], matched: list[ExposureFile]) -> Exposure:
    """Maximum-likelihood coadd with the PSF sqrt(Phi / S) in each cell.

    Parameters
    ----------
    warps, matched : lists of ExposureFile
        Direct and PSF-matched warps of the same visits, in the same order.

    Returns
    -------
    Exposure
        As of `likelihood.combine`.

    Raises
    ------
    BadData
        When no warp has a PSF on the patch.
    """
    return likelihood.combine(warps, matched, lambda patch: spectra.kaiser)
