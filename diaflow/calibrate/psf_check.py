"""How good the PSF model of an image is: whether it fits its own stars, and what stars show that it has not seen."""

import numpy as np

from diaflow.calibrate import focus
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.measure import photometry, sources
from diaflow.measure.moments import psf_moments
from diaflow.psf.stampfield import fwhm, moments_sigma

RESERVED_CLIP = 5.0  # sigma at which a reserved star is not one, chosen
RESERVED_FLOOR = 0.005  # least relative error of the size of a star, chosen: a few bright stars must not decide
# Of the PSF stars, from which the model is wrong, chosen: what aperture over PSF flux may be off, beyond this many
# errors, and chi2 per pixel; right ones are within 0.03 and below 2.
MAX_FLUX_RATIO, RATIO_SIGMAS, MAX_CHI2 = 0.05, 5.0, 5.0
CHECK_FWHM = 1.7  # radius of that aperture [FWHM], chosen: it holds nearly all light and few neighbours
MIN_STARS = 3  # of two that differ, either may be no star


def check(exposure: Exposure, table: np.ndarray, chi2: float, summary: np.ndarray) -> None:
    """Fill the summary with how well the PSF fits its own stars.

    Parameters
    ----------
    exposure : Exposure
        With the model in `psf`.
    table : table "source"
        Whose `psfStar` are the stars of the model; fewer than three judge nothing.
    chi2 : float
        Median chi2 per pixel of these stars, as `psf_model.fit` gives it.
    summary : table "visit_summary"
        Its row gets psf_flux_ratio and psf_chi2.

    Raises
    ------
    BadData
        When it does not.
    """
    stars = table[table["psfStar"] & sources.unflagged(table) & (table["psfFlux"] > 0)]
    stamp = exposure.psf.centre()
    radius, middle = CHECK_FWHM * fwhm(stamp), len(stamp) // 2
    held, *_ = photometry.aperture_flux(stamp, np.ones_like(stamp), middle, middle, radius)
    flux, error, _ = photometry.aperture_flux(exposure.image, exposure.variance, stars["x"], stars["y"], radius)
    known = np.isfinite(flux)
    if known.sum() < MIN_STARS:
        return
    scale = held * stars["psfFlux"][known]
    ratio, error = np.median(flux[known] / scale), np.median(error[known] / scale) / np.sqrt(known.sum())
    summary["psf_flux_ratio"], summary["psf_chi2"] = ratio, chi2
    if abs(ratio - 1) > MAX_FLUX_RATIO + RATIO_SIGMAS * error or chi2 > MAX_CHI2:
        reason = (
            f"the PSF, {fwhm(stamp):.2f} pixel FWHM, does not fit its own stars: aperture over PSF flux is "
            f"{ratio:.2f} of what the model says, chi2 {chi2:.1f} per pixel"
        )
        raise BadData(focus.explained(exposure, reason), Kind.PSF)


def judge(exposure: Exposure, stars: np.ndarray, summary: np.ndarray) -> None:
    """Fill the summary with the residuals of size and ellipticity of stars that the model has not seen.

    Parameters
    ----------
    exposure : Exposure
        With the model in `psf`.
    stars : table "source"
        The reserved stars.
    summary : table "visit_summary"
        Its row gets n_reserved_stars, psf_size_residual (a fraction of the PSF's size, the sum of its second moments),
        psf_e1_residual and psf_e2_residual (measured less model); without a star these stay as they are.
    """
    stars = stars[sources.unflagged(stars) & np.isfinite(stars["ixx"])]
    summary["n_reserved_stars"] = len(stars)
    if not len(stars):
        return
    model = psf_moments(exposure.psf, stars["x"], stars["y"], moments_sigma(exposure.psf.centre()))
    measured = np.array([stars[name] for name in ("ixx", "iyy", "ixy")], float)
    (size, e1, e2), (psf_size, psf_e1, psf_e2) = _shape(measured), _shape(model)
    # the size of a star of S/N n is known to 2 / n (Gaussian), its ellipticity as well
    weight = 1 / (4 * (stars["psfFluxErr"] / stars["psfFlux"]) ** 2 + RESERVED_FLOOR**2)
    for name, residual in (("size", size / psf_size - 1), ("e1", e1 - psf_e1), ("e2", e2 - psf_e2)):
        close = np.abs(residual - np.median(residual)) < RESERVED_CLIP / np.sqrt(weight)
        summary[f"psf_{name}_residual"] = np.average(residual[close], weights=weight[close])


def _shape(moments: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Size and both ellipticities of moments xx, yy, xy."""
    xx, yy, xy = moments
    return xx + yy, (xx - yy) / (xx + yy), 2 * xy / (xx + yy)
