"""Template methods: how the warps of a patch become one image.

A method is a file beside this one with ``combine(warps, matched, **options) -> Exposure`` and one line in `METHODS`.
"""

import numpy as np
from astropy.wcs import WCS

from diaflow.coadd import constant_psf, dcr, decorrelated, direct, inference, psf_matched, stack
from diaflow.errors import BadData, InputError
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.psf.coadd import CoaddPsf

METHODS = {
    "direct": direct.combine,
    "psf_matched": psf_matched.combine,
    "decorrelated": decorrelated.combine,
    "constant_psf": constant_psf.combine,
    "inference": inference.combine,
    "dcr": dcr.combine,
}


def combine_warps(paths: list[str], matched_paths: list[str], method: str = "direct", **options) -> Exposure:
    """Coadd of the warps of a patch; memory does not grow with their number.

    Parameters
    ----------
    paths, matched_paths : lists of str
        Files of the direct warps (see `diaflow.warp.visit_on_patch`) and of the same visits' PSF-matched ones (see
        `diaflow.psfmatch.homogeneous.homogenise`), in the same order.
    method : str
        A key of `METHODS`.
    **options
        What the method needs besides: `settings` of `dcr`.

    Returns
    -------
    Exposure
        Image and variance of the weighted mean; mask with SENSOR_EDGE, REJECTED, CLIPPED and INEXACT_PSF where some
        input was left out; `psf` a `CoaddPsf` that lists the inputs; metadata n_inputs and covariance_factor.

    Raises
    ------
    BadData
        When there is no warp.
    InputError
        When a file is unreadable or does not belong to the others, or the method is unknown.
    """
    if method not in METHODS:
        raise InputError(f"template method {method!r}: not one of {', '.join(METHODS)}")
    if not paths:
        raise BadData("no warps to coadd")
    warps, matched = stack.open_all(paths), stack.open_all(matched_paths)
    visits, matched_visits = ([file.metadata.get("visit") for file in files] for files in (warps, matched))
    if visits != matched_visits:
        raise InputError(f"{matched_paths[0]}: PSF-matched warps are of visits {matched_visits}, not {visits}")
    return METHODS[method](warps, matched, **options)


def failed(wcs: WCS, shape: tuple[int, int], reason: str) -> Exposure:
    """The product of a patch that no warp reaches: NO_DATA everywhere, with the reason."""
    return Exposure(
        image=np.full(shape, np.nan, np.float32),
        variance=np.full(shape, np.inf, np.float32),
        mask=np.full(shape, bits("NO_DATA"), np.int32),
        wcs=wcs,
        psf=CoaddPsf([], wcs),
        metadata={"status": "failed", "reason": reason, "n_inputs": 0},
    )
