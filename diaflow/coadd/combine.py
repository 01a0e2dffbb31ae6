"""Template methods: how the warps of a patch become one image.

A method is a file beside this one with ``combine(warps, matched, **options) -> Exposure``, where the options are those
that it declares in `OPTIONS`.
"""

from collections.abc import Callable

from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_area

from diaflow.coadd import stack
from diaflow.errors import BadData, InputError, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.pixels.growth import core_radius, grow
from diaflow.psf.coadd import CoaddPsf

# Planes that reach as far as the PSF does: a star has them whose light is partly there.
OF_THE_PSF = bits("SENSOR_EDGE", "INEXACT_PSF")


def combine_warps(paths: list[str], matched_paths: list[str], method: Callable[..., Exposure], **options) -> Exposure:
    """Coadd of the warps of a patch; memory does not grow with their number.

    Parameters
    ----------
    paths, matched_paths : lists of str
        Files of the direct warps (see `diaflow.warp.visit_on_patch`) and of the same visits' PSF-matched ones (see
        `diaflow.psfmatch.homogeneous.homogenise`), in the same order.
    method : callable
        Function `combine` of a method.
    **options
        Of this method.

    Returns
    -------
    Exposure
        Image and variance of the weighted mean; mask with REJECTED and CLIPPED where some input was left out, and with
        SENSOR_EDGE where an input ends and INEXACT_PSF where the image of a star is not that of the PSF, both as far as
        the PSF reaches; `psf` a `CoaddPsf` that lists the inputs; metadata n_inputs.

    Raises
    ------
    BadData
        When there is no warp.
    InputError
        When a file is unreadable or does not belong to the others.
    """
    if not paths:
        raise BadData("no warps to coadd", Kind.TEMPLATE)
    warps, matched = stack.open_all(paths), stack.open_all(matched_paths)
    visits, matched_visits = ([file.metadata.get("visit") for file in files] for files in (warps, matched))
    if visits != matched_visits:
        raise InputError(f"{matched_paths[0]}: PSF-matched warps are of visits {matched_visits}, not {visits}")
    coadd = method(warps, matched, **options)
    coadd.mask |= grow(coadd.mask & OF_THE_PSF, psf_reach(coadd))
    return coadd


def psf_reach(coadd: Exposure) -> int:
    """How far the PSFs of the inputs of a coadd carry what matters of a star's light.

    Parameters
    ----------
    coadd : Exposure

    Returns
    -------
    int
        Radius of the core of the broadest PSF [pixel]; 0 without inputs.
    """
    area = proj_plane_pixel_area(coadd.wcs)
    scales = ((proj_plane_pixel_area(source.wcs) / area) ** 0.5 for source in coadd.psf.inputs)
    radii = (core_radius(source.psf.centre()) for source in coadd.psf.inputs)
    return max((round(radius * scale) for radius, scale in zip(radii, scales)), default=0)


def failed(wcs: WCS, shape: tuple[int, int], error: BadData) -> Exposure:
    """The product of a patch that no warp reaches.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)
    error : BadData
        Why.

    Returns
    -------
    Exposure
        NO_DATA everywhere, with a PSF without inputs and status, reason, kind and n_inputs in the metadata.
    """
    patch = Exposure.empty(wcs, shape)
    patch.psf = CoaddPsf([], wcs)
    patch.metadata = {"status": "failed", "reason": str(error), "kind": str(error.kind), "n_inputs": 0}
    return patch
