"""Inference: the sky behind all warps, regularised, as the sharpest of them would show it with less noise.

The sky H of greatest posterior probability, for a prior whose power falls as frequency squared, needs no PSF matching.
What is stored is H seen with the PSF of the sharpest warp that covers the patch: no science image of worse seeing asks
for more, and the matching kernel takes it to the PSF of that image.  Its noise rises with frequency, up to that of the
sharpest warp.
"""

import numpy as np

from diaflow.coadd import likelihood, spectra
from diaflow.coadd.cells import Patch
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile

OPTIONS = {}

# Inverse power of the prior at the Nyquist frequency, in units of S (see `likelihood.combine`); with 1e-3 bright stars
# had rings.
RIDGE = 1e-5
# A warp that covers less than this fraction of what others do does not set the PSF.
MIN_COVERAGE = 0.9


def combine(warps: list[ExposureFile], matched: list[ExposureFile]) -> Exposure:
    """Maximum-posterior coadd with the PSF of the sharpest warp.

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
    return likelihood.combine(warps, matched, response, RIDGE)


def response(patch: Patch) -> spectra.Response:
    """The PSF of the sharpest warp that covers the patch.

    Parameters
    ----------
    patch : Patch

    Returns
    -------
    callable
        The mean PSF of that warp over the cells in which it has data, as `likelihood.combine` takes it.
    """
    n_cells = (patch.coverage > 0).sum((0, 1))
    stamps = patch.stamps.sum((0, 1)) / np.maximum(n_cells, 1)[:, None, None]
    coverage = patch.coverage.mean((0, 1))
    covers = coverage >= MIN_COVERAGE * coverage.max()
    return spectra.fixed(stamps[np.argmax(np.where(covers, (stamps**2).sum((1, 2)), 0))])
