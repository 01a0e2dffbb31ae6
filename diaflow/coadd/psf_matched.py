"""Coadd of PSF-matched warps: a clipped weighted mean, one PSF everywhere.

All inputs have the PSF of the model, so pixels may be clipped without harm to sources, and the PSF of the coadd does
not change where an input ends.  The price is the seeing of the broadest input.
"""

import numpy as np

from diaflow.coadd import means, stack
from diaflow.errors import InputError
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.psf.coadd import CoaddPsf, PsfInput

OPTIONS = {}

N_SIGMA = 3.0  # from the median, beyond which pixels are clipped: `sigmaClip` of assembleCoadd (drp_tasks)


def combine(warps: list[ExposureFile], matched: list[ExposureFile]) -> Exposure:
    """Clipped weighted mean of PSF-matched warps.

    Parameters
    ----------
    warps, matched : lists of ExposureFile
        Direct and PSF-matched warps of the same visits, in the same order.  The direct ones give the weights: the
        noise that matters for sources, at low frequency, is not changed by the matching.

    Returns
    -------
    Exposure
        Its PSF is that of the model.

    Raises
    ------
    InputError
        When the model is sharper than an input, which matching to it would deconvolve, or inputs were matched to
        different models.
    """
    _check_model(warps, matched[0])
    weights = stack.warp_weights(warps)
    noise = stack.noise_scale(matched, weights)
    coadd = stack.unfilled(matched, weights)
    above = means.no_row(coadd.shape[1])
    for first, *planes in stack.blocks(matched):
        rows = slice(first, first + planes[0].shape[1])
        means.mark_outliers(*planes, noise, N_SIGMA)
        out = coadd.image[rows], coadd.variance[rows], coadd.mask[rows]
        means.weighted_mean(*planes, weights, *out, above=above)
    # The inputs share one PSF, so it is exact whichever of them are left out, but where all lack light that matching
    # would have brought from beyond their edges.
    coadd.mask &= ~bits("INEXACT_PSF")
    coadd.mask[coadd.flagged("EDGE")] |= bits("INEXACT_PSF")
    coadd.psf = _model_psf(matched, weights)
    share = weights**2 * [file.metadata["mean_variance"] for file in matched]
    coadd.noise = Noise.mean([file.noise for file in matched], share)
    return coadd


def _check_model(warps: list[ExposureFile], matched: ExposureFile) -> None:
    # The wings count: a Moffat profile of the model's FWHM would have to be deconvolved.
    sigma = matched.metadata.get("psf_sigma", np.inf)
    broadest = max(warps, key=lambda warp: warp.metadata.get("psf_sigma", 0))
    if broadest.metadata.get("psf_sigma", 0) > sigma:
        raise InputError(
            f"config: template.model_fwhm: the model PSF, sigma {sigma:.2f} pixel with its wing, is sharper than visit "
            f"{broadest.metadata['visit']} ({broadest.metadata['psf_sigma']:.2f} pixel), and matching to it would "
            "deconvolve; give a larger one, or null for the broadest input"
        )


def _model_psf(matched: list[ExposureFile], weights: np.ndarray) -> CoaddPsf:
    """The common PSF, as that of one input per visit."""
    model = matched[0].psf
    for file in matched[1:]:
        if file.psf.terms.shape != model.terms.shape or not np.allclose(file.psf.terms, model.terms, atol=1e-6):
            raise InputError(f"{file.path}: matched to another PSF than {matched[0].path}")
    ny, nx = matched[0].shape
    box = (0, 0, nx - 1, ny - 1)
    inputs = [
        PsfInput(file.metadata["visit"], -1, weight, model, file.wcs, box) for file, weight in zip(matched, weights)
    ]
    return CoaddPsf(inputs, matched[0].wcs)
