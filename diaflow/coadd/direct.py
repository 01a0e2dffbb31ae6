"""Coadd of direct warps: the weighted mean, without the artefacts that their PSF-matched versions show.

Warps keep their own seeing, so the PSF is the weighted mean of theirs and the coadd is as deep and sharp as a linear
sum can be.  Source: LSST's CompareWarpAssembleCoadd (drp_tasks) and DMTN-080.
"""

from dataclasses import replace

import numpy as np

from diaflow.coadd import artefacts, means, stack
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.planes import bits
from diaflow.psf.coadd import CoaddPsf

OPTIONS = {}


def combine(warps: list[ExposureFile], matched: list[ExposureFile]) -> Exposure:
    """Weighted mean of direct warps.

    Parameters
    ----------
    warps, matched : lists of ExposureFile
        Direct and PSF-matched warps of the same visits, in the same order.

    Returns
    -------
    Exposure
        With a `CoaddPsf` of all detectors.
    """
    return clean_mean(warps, matched)[0]


def clean_mean(
    warps: list[ExposureFile],
    matched: list[ExposureFile],
    psf_jumps: bool = True,
    bright: float = artefacts.BRIGHT_N_SIGMA,
) -> tuple[Exposure, list[np.ndarray]]:
    """The coadd, and what was left out of it.

    Parameters
    ----------
    warps, matched : lists of ExposureFile
        Direct and PSF-matched warps of the same visits, in the same order.
    psf_jumps : bool
        See `means.weighted_mean`.
    bright : float
        See `artefacts.find` [sigma].

    Returns
    -------
    coadd : Exposure
    clipped : list of int arrays
        Pixels of each warp that are artefacts (flat indices, sorted).
    """
    weights = stack.warp_weights(warps)
    clipped = artefacts.find(matched, weights, bright)
    coadd = stack.unfilled(warps, weights)
    nx = coadd.shape[1]
    above = means.no_row(nx)
    for first, image, variance, mask in stack.blocks(warps):
        rows = slice(first, first + image.shape[1])
        for k, pixels in enumerate(clipped):
            inside = pixels[slice(*np.searchsorted(pixels, (first * nx, rows.stop * nx)))]
            mask[k].ravel()[inside - first * nx] |= bits("CLIPPED")
            _flag_unchecked(mask[k], matched[k], first)
        planes = coadd.image[rows], coadd.variance[rows], coadd.mask[rows]
        means.weighted_mean(image, variance, mask, weights, *planes, psf_jumps, above)
    inputs = [replace(source, weight=w) for warp, w in zip(warps, weights) for source in warp.psf.inputs]
    coadd.psf = CoaddPsf(inputs, coadd.wcs)
    return coadd, clipped


def _flag_unchecked(mask: np.ndarray, matched: ExposureFile, first: int) -> None:
    """Let pixels without PSF-matched counterpart, where artefacts cannot be seen, count as the edge of a sensor."""
    matched_mask = np.empty_like(mask)
    matched.read_rows("MASK", first, matched_mask)
    np.bitwise_or(mask, bits("EDGE"), out=mask, where=matched_mask & bits("NO_DATA") != 0)
