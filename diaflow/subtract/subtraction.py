"""Difference images: science minus template matched to it.

`subtract` prepares the two images (coverage, missing pixels, variance planes that agree with the sky), runs the
algorithm that it gets and measures the result.  An algorithm is one file of this folder with `OPTIONS` and `subtract`.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from diaflow import polynomials
from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.pixels import cosmicrays
from diaflow.psf.coadd import CoaddPsf
from diaflow.psf.stampfield import StampField, fit_stamps, fwhm
from diaflow.psfmatch.homogeneous import sample_psf
from diaflow.subtract import model_error, noise
from diaflow.units import NANOJANSKY_ZERO_POINT

PSF_GRID, PSF_ORDER = 5, 2

MAX_VARIANCE_FACTOR = 10.0

# A correction of the final variance is applied when it is this many times its own statistical error.
SIGNIFICANCE = 3.0

MIN_CR_FWHM = 2.0  # of the PSF, below which stars look like cosmic rays [pixel]

MATCHED_PLANES = ("NO_DATA", "EDGE", "BAD", "SAT", "SAT_TEMPLATE")


def subtract(
    science: Exposure, template: Exposure, sources: np.ndarray, algorithm: Callable, config: dict
) -> tuple[Exposure, Exposure, dict]:
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
    difference : Exposure
        White noise, with the variance plane and the unit-sum PSF (`StampField`) that belong to it, in the photometric
        scale of the science image.  The variance contains what matching is likely to miss of bright stars.  Pixels
        without data in either image, and those within half a kernel of the border or of missing data in the convolved
        image, are 0 with the median variance and have NO_DATA or EDGE set.
    matched_template : Exposure
        The template as subtracted; in mode convolve_science with its own, broader PSF.
    summary : dict
        The columns of table "diffim_summary" that are known here, for `summary_row`.

    Raises
    ------
    BadData
        When the template covers too little, a PSF or kernel stars are missing, or a variance plane is wrong by more
        than a factor of 10.
    """
    coverage = _coverage(science, template)
    if coverage < config["min_coverage"]:
        raise BadData(f"template covers {100 * coverage:.0f} %, at least {100 * config['min_coverage']:.0f} % needed")
    prior = {"template_coverage": coverage, "visit_in_template": _contains_visit(template, science.metadata)}
    science, science_factor, sky = _prepared(science, "science")
    template_psf = template.psf
    template, template_factor, template_sky = _prepared(template, "template")
    sky &= template_sky
    difference, matched, found = algorithm(science, template, sources, sky, config)
    stars, error = found.pop("stars"), found.pop("model_error")
    difference.metadata["visit_in_template"] = prior["visit_in_template"]
    _flag_cosmic_rays(difference)
    quality = _verify(difference, sky)
    model_error.add(difference, matched, error, model_error.psf_jumps(template_psf, template.shape))
    summary = {
        "status": "ok",
        "reason": "",
        **prior,
        "science_variance_factor": science_factor,
        "template_variance_factor": template_factor,
        **found,
        **quality,
        "residual_ratio": _residual_ratio(difference, science, stars, found["science_fwhm"]),
        "depth": _depth(difference),
    }
    return difference, matched, summary


def psf_field(exposure: Exposure) -> StampField:
    """The PSF as a polynomial field: itself, or a fit of order 2 (or what can be had) to samples of a `CoaddPsf`.

    Raises
    ------
    BadData
        When there is no PSF anywhere in the image.
    """
    if isinstance(exposure.psf, StampField):
        return exposure.psf
    x, y, stamps = sample_psf(exposure, max(exposure.shape) / PSF_GRID)
    order = polynomials.affordable(PSF_ORDER, len(x), per_term=1)
    return fit_stamps(stamps, x, y, order, exposure.shape).normalised()


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
    """Finite pixels, PSF as a field, variance plane scaled to the scatter of the sky; the factor for it, and the sky.

    The plane of a resampled image describes its pixels, too, so pixels are what it is compared with; its covariance
    factor stays a matter of its own.
    """
    missing = exposure.flagged("NO_DATA") | ~np.isfinite(exposure.image)
    missing |= ~np.isfinite(exposure.variance) | (exposure.variance <= 0)
    if missing.all():
        raise BadData(f"no data in the {name}")
    exposure = replace(exposure, psf=psf_field(exposure), variance=exposure.variance.astype(np.float32))
    if missing.any():
        exposure.image, exposure.mask = exposure.image.copy(), exposure.mask.copy()
        exposure.image[missing] = 0
        exposure.variance[missing] = noise.typical(exposure.variance, ~missing)
        exposure.mask[missing] |= bits("NO_DATA")
    sky = noise.sky(exposure)
    factor = noise.variance_factor(exposure, sky)
    if not 1 / MAX_VARIANCE_FACTOR < factor < MAX_VARIANCE_FACTOR:
        raise BadData(f"the noise of the {name} is {factor:.3g} times its variance plane")
    exposure.variance *= np.float32(factor)
    return exposure, factor, sky


def _flag_cosmic_rays(difference: Exposure) -> None:
    """Set CR where a difference is steeper than its PSF: without stars, hits stand out that hid beside one."""
    if fwhm(difference.psf.centre()) > MIN_CR_FWHM:
        hit = cosmicrays.find(difference.image, difference.variance, difference.flagged(*MATCHED_PLANES))
        difference.mask |= hit * np.int32(bits("CR"))


def _verify(difference: Exposure, sky: np.ndarray) -> dict:
    """Compare the noise of the difference with its variance plane, and scale the plane where it is off."""
    sky = sky & ~difference.flagged(*MATCHED_PLANES)
    ratio = float(np.sqrt(noise.variance_factor(difference, sky)))
    factor, error = noise.matched_factor(difference, sky, difference.psf.centre())
    if abs(factor - 1) < SIGNIFICANCE * error:
        factor = 1.0
    factor = float(np.clip(factor, 1 / MAX_VARIANCE_FACTOR, MAX_VARIANCE_FACTOR))
    if factor != 1:
        difference.variance *= np.float32(factor)
    return {"noise_ratio": ratio, "variance_scale": factor}


def _residual_ratio(difference: Exposure, science: Exposure, stars: np.ndarray, fwhm: float) -> float:
    """Median over kernel stars of |sum of the difference| / sum of the science image, in boxes of twice the FWHM."""
    half = max(1, round(fwhm))
    offsets = np.arange(-half, half + 1)
    col, row = np.rint(stars).astype(int)
    rows, cols = row[:, None, None] + offsets[:, None], col[:, None, None] + offsets
    residual, flux = (exposure.image[rows, cols].sum((1, 2)) for exposure in (difference, science))
    return float(np.median(np.abs(residual) / flux))


def _depth(difference: Exposure) -> float:
    """5-sigma point-source depth [mag]: median variance over the noise-equivalent area of the PSF."""
    variance = noise.typical(difference.variance, ~difference.flagged(*MATCHED_PLANES))
    flux = 5 * np.sqrt(variance / (difference.psf.centre() ** 2).sum())
    return float(NANOJANSKY_ZERO_POINT - 2.5 * np.log10(flux))
