"""Difference images: science minus template matched to it.

`subtract` prepares the two images (coverage, missing pixels, variance planes that agree with the sky), runs the
algorithm that it gets, takes away what that left of the sky, and then makes variance and errors of fluxes those that
the sky and the stars of the difference show.  An algorithm is one file of this folder with `OPTIONS` and `subtract`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from diaflow.detect import binned
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.psf.coadd import CoaddPsf
from diaflow.subtract import masks, noise, photometric, star_errors
from diaflow.subtract.result import Difference
from diaflow.subtract.sources import kernel_sources
from diaflow.subtract.template_psf import TemplatePsf

MAX_VARIANCE_FACTOR = 10.0  # by which a variance plane may be wrong: beyond it is no noise of that image
# A correction of the final variance is applied when it is this many times its own statistical error.
SIGNIFICANCE = 3.0


def subtract(
    science: Exposure, template: Exposure, sources: np.ndarray, algorithm: Callable, config: dict
) -> Difference:
    """Subtract a template from a science image.

    Parameters
    ----------
    science : Exposure
        Calibrated, background subtracted, with white noise [nJy].
    template : Exposure
        On the pixel grid of the science image [nJy]; NO_DATA where there is none.
        Its `noise` tells how its noise is correlated.
    sources : table "source"
        Sources of the science image; may be empty.
    algorithm : callable
        Function `subtract` of an algorithm, see `alard_lupton.subtract`.
    config : dict
        Section `subtract` of the configuration.

    Returns
    -------
    Difference
        Pixels without data in either image, and those within half a kernel of the border or of missing data in the
        convolved image, are 0 with the median variance and have NO_DATA or EDGE set.  In mode convolve_science the
        matched template has its own, broader PSF.
        `science_variance_factor` in the figures is what the variance plane of the science image must be multiplied
        by to agree with its sky.

    Raises
    ------
    BadData
        When the template covers too little, a PSF or kernel stars are missing, or a variance plane is wrong by more
        than a factor of 10.
    """
    coverage = _coverage(science, template)
    if coverage < config["min_coverage"]:
        reason = f"template covers {100 * coverage:.0f} %, at least {100 * config['min_coverage']:.0f} % needed"
        raise BadData(reason, Kind.TEMPLATE, found=coverage, needed=config["min_coverage"])
    in_template = _contains_visit(template, science.metadata)
    science, science_factor, sky = _prepared(science, "science")
    template, template_factor, template_sky = _prepared(template, "template")
    sky &= template_sky
    unusable = science.flagged(*photometry.UNUSABLE) | template.flagged(*photometry.UNUSABLE)
    stars = kernel_sources(sources, science, unusable)
    science = replace(science, psf=TemplatePsf.of(science.psf, science.shape).field)
    template_psf = TemplatePsf.of(template.psf, template.shape)
    result = algorithm(science, template, template_psf.field, stars, sky, config)
    difference = result.exposure
    difference.metadata["visit_in_template"] = in_template
    masks.flag_cosmic_rays(difference)
    left_over = photometric.left_over(difference, result.matched_template, *stars)
    difference.image -= np.float32(left_over) * result.matched_template.image
    result.matched_template.image *= np.float32(1 + left_over)
    # what is left of the sky would pass for noise
    background_scatter = binned.remove_sky(difference)
    noise_figures = _verify(difference, sky)
    jumps = template_psf.jumps(difference.psf.centre())
    difference.flux_error, star_error = star_errors.flux_error(difference, result.matched_template, *stars, jumps)
    figures = {
        "template_coverage": coverage,
        "visit_in_template": in_template,
        "science_variance_factor": science_factor,
        "template_variance_factor": template_factor,
        "background_scatter": background_scatter,
        "star_left_over": left_over,
        "star_error": star_error.fraction,
        "star_displacement": star_error.displacement,
        "star_wings": star_error.wings,
        "n_error_stars": star_error.n_stars,
    }
    noise_figures["template_noise"] = result.figures["template_noise"] * noise_figures["variance_scale"]
    return replace(result, figures=figures | result.figures | noise_figures)


def _coverage(science: Exposure, template: Exposure) -> float:
    """Fraction of the science pixels with data that have a template."""
    wanted = ~science.flagged("NO_DATA")
    return float((wanted & ~template.flagged("NO_DATA")).sum() / max(wanted.sum(), 1))


def _contains_visit(template: Exposure, metadata: dict) -> bool:
    """Whether the visit is among the inputs of the template, at any depth."""

    def visits(psf):
        for row in psf.inputs if isinstance(psf, CoaddPsf) else ():
            yield row.visit
            yield from visits(row.psf)

    return metadata.get("visit") in set(visits(template.psf))


def _prepared(exposure: Exposure, name: str) -> tuple[Exposure, float, np.ndarray]:
    """Finite pixels, and the variance plane scaled to the scatter of the sky; the factor for it, and the sky.

    The plane of a resampled image describes its pixels, too, so pixels are what it is compared with; its covariance
    factor stays a matter of its own.
    """
    missing = exposure.flagged("NO_DATA") | ~np.isfinite(exposure.image)
    missing |= ~np.isfinite(exposure.variance) | (exposure.variance <= 0)
    if missing.all():
        raise BadData(f"no data in the {name}", Kind.TEMPLATE)
    exposure = replace(exposure, variance=exposure.variance.astype(np.float32))
    if missing.any():
        exposure.image, exposure.mask = exposure.image.copy(), exposure.mask.copy()
        exposure.image[missing] = 0
        exposure.variance[missing] = noise.typical(exposure.variance, ~missing)
        exposure.mask[missing] |= bits("NO_DATA")
    sky = noise.sky(exposure)
    factor = noise.variance_factor(exposure, sky)
    if not 1 / MAX_VARIANCE_FACTOR < factor < MAX_VARIANCE_FACTOR:
        raise BadData(f"the noise of the {name} is {factor:.3g} times its variance plane", Kind.DIFFERENCE)
    exposure.variance *= np.float32(factor)
    return exposure, factor, sky


def _verify(difference: Exposure, sky: np.ndarray) -> dict:
    """Compare the noise of the difference with its variance plane, and scale the plane where it is off."""
    sky = sky & ~difference.flagged(*masks.WITHOUT_MATCH)
    ratio = float(np.sqrt(noise.variance_factor(difference, sky)))
    factor, error = noise.matched_factor(difference, sky, difference.psf.centre())
    if abs(factor - 1) < SIGNIFICANCE * error:
        factor = 1.0
    factor = float(np.clip(factor, 1 / MAX_VARIANCE_FACTOR, MAX_VARIANCE_FACTOR))
    if factor != 1:
        difference.variance *= np.float32(factor)
    return {"noise_ratio": ratio, "variance_scale": factor}
