"""Partially decorrelated coadd: the decorrelated one convolved until its PSF is the same all over the patch.

The PSF is the sharpest whose noise power nowhere rises above the power at low frequencies by more than `MAX_NOISE`
(DMTN-015); no information is lost, but the noise is correlated.
"""

from diaflow.coadd import likelihood, spectra
from diaflow.coadd.cells import Patch
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile

OPTIONS = {}

MAX_NOISE = 1.1  # power of the noise at any frequency over that at low ones


def combine(warps: list[ExposureFile], matched: list[ExposureFile]) -> Exposure:
    """Maximum-likelihood coadd with one PSF.

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
        When no warp has a PSF on the patch, or no PSF that fits into the stamps keeps the noise bounded.
    """
    return likelihood.combine(warps, matched, response)


def response(patch: Patch) -> spectra.Response:
    """The one PSF of a patch.

    Parameters
    ----------
    patch : Patch

    Returns
    -------
    callable
        As `likelihood.combine` takes it.
    """
    powers = (patch.power(node) for node in patch.nodes())
    return spectra.fixed(spectra.bounded(powers, MAX_NOISE, patch.stamps.shape[-1]))
