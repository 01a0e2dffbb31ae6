"""Partially decorrelated coadd: the decorrelated one convolved until its PSF is the same all over the patch.

The PSF is the sharpest whose noise power nowhere rises above the power at low frequencies by more than `MAX_NOISE`
(DMTN-015); no information is lost, but the noise is correlated.
"""

from diaflow.coadd import likelihood, spectra
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile

OPTIONS = {}

MAX_NOISE = 1.1


def combine(warps: list[ExposureFile], matched: list[ExposureFile]) -> Exposure:
    """Maximum-likelihood coadd with one PSF, see `likelihood.combine`."""
    return likelihood.combine(warps, matched, response)


def response(patch: likelihood.Patch) -> spectra.Response:
    """The one PSF of a patch."""
    powers = (patch.power(node) for node in patch.nodes())
    return spectra.fixed(spectra.bounded(powers, MAX_NOISE, patch.stamps.shape[-1]))
