"""How good a difference image is: kernel-star residuals, sky, counts, masked area, depth.

In come the three images, the sources of the calexp and the DIASources; out go columns of the table "diffim_summary".
Sky sources are PSF fluxes at quasi-random places without sources: their pulls are zero on the mean and of unit width
where background and errors are right.  They are no DIASources.
"""

import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.psf.stampfield import fwhm, moments_sigma
from diaflow.psfmatch.solution import MIN_STARS
from diaflow.statistics import robust_width
from diaflow.subtract import noise
from diaflow.subtract.sources import kernel_sources
from diaflow.units import NANOJANSKY_ZERO_POINT

N_SKY, TRIALS = 1000, 5  # sky sources, of which so many times more places are tried
RATIO_SNR = 100.0  # of the stars whose residuals count: noise alone is 2 % of the flux there
DEPTH_ROWS = 500  # that tell the variance
SKY_RADIUS = 8.0  # free of the planes below around a sky source [pixel]
OCCUPIED = ("DETECTED", "DETECTED_NEGATIVE", "STREAK", *photometry.UNUSABLE)
FRACTIONS = {
    "no_data_fraction": ("NO_DATA",),
    "edge_fraction": ("EDGE",),
    "saturated_fraction": ("SAT", "SAT_TEMPLATE"),
    "cosmic_ray_fraction": ("CR",),
    "streak_fraction": ("STREAK",),
    "detected_fraction": ("DETECTED", "DETECTED_NEGATIVE"),
    "unusable_fraction": photometry.UNUSABLE,
}


def metrics(
    difference: Exposure, science: Exposure, matched_template: Exposure, sources: np.ndarray, dia_sources: np.ndarray
) -> dict:
    """Columns of "diffim_summary" that are known after detection.

    Parameters
    ----------
    difference, science, matched_template : Exposure
        The difference after `diaflow.diasource.detection.dia_sources`, with its detection planes.
    sources : table "source"
        Sources of the calexp.
    dia_sources : table "dia_source"
    """
    pulls = sky_pulls(difference, science)
    ratios = residual_ratios(difference, science, sources)
    enough = len(pulls) > 1
    return {
        "n_positive": int((~dia_sources["isNegative"]).sum()),
        "n_negative": int(dia_sources["isNegative"].sum()),
        "n_dipoles": int(dia_sources["isDipole"].sum()),
        "background_scatter": difference.metadata["background_scatter"],
        "n_sky_sources": len(pulls),
        "sky_pull_median": float(np.median(pulls)) if enough else np.nan,
        "sky_pull_width": robust_width(pulls) if enough else np.nan,
        "residual_ratio_mean": float(ratios.mean()) if len(ratios) else np.nan,
        "residual_ratio_stdev": float(ratios.std()) if len(ratios) else np.nan,
        **mask_fractions(difference.mask),
        "science_depth": depth(science),
        "template_depth": depth(matched_template),
        "limiting_magnitude_lsst": lsst_limiting_magnitude(science, matched_template),
    }


def mask_fractions(mask: np.ndarray) -> dict[str, float]:
    """Fraction of the pixels in each group of `FRACTIONS`."""
    masked = mask[mask != 0]
    return {name: np.count_nonzero(masked & bits(*planes)) / mask.size for name, planes in FRACTIONS.items()}


def sky_pulls(difference: Exposure, science: Exposure) -> np.ndarray:
    """PSF flux over error at up to 1000 places away from sources and masks, in a Halton sequence of the image."""
    ny, nx = difference.shape
    x, y = np.floor(nx * radical_inverse(TRIALS * N_SKY, 2)), np.floor(ny * radical_inverse(TRIALS * N_SKY, 3))
    occupied = photometry.planes_within(difference.mask | science.mask & bits("DETECTED"), x, y, SKY_RADIUS)
    free = np.flatnonzero((occupied & bits(*OCCUPIED)) == 0)[:N_SKY]
    fit = photometry.exposure_flux(difference, x[free], y[free])
    pulls = fit.flux / fit.err
    return pulls[np.isfinite(pulls)]


def radical_inverse(n: int, base: int) -> np.ndarray:
    """The numbers 1..n with their digits mirrored at the point: evenly spread in (0, 1) (van der Corput)."""
    left, out, weight = np.arange(1, n + 1), np.zeros(n), 1.0
    while left.any():
        weight /= base
        left, digit = np.divmod(left, base)
        out += weight * digit
    return out


def residual_ratios(difference: Exposure, science: Exposure, sources: np.ndarray) -> np.ndarray:
    """|Mean of the difference| over the mean of the science image, for each star above S/N 100 a kernel may rest on.

    In boxes of twice the FWHM (LSST's differenceFootprintRatio, there in the footprints of the stars).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        sources = sources[sources["psfFlux"] / sources["psfFluxErr"] > RATIO_SNR]
    if len(sources) < MIN_STARS:
        return np.zeros(0)
    x, y = kernel_sources(sources, science, difference.flagged(*photometry.UNUSABLE))
    half = max(1, round(fwhm(science.psf.centre())))
    residual, flux = (
        photometry.cutouts(e.image, np.rint(x).astype(int), np.rint(y).astype(int), half).sum((1, 2), dtype=float)
        for e in (difference, science)
    )
    return np.abs(residual[flux > 0] / flux[flux > 0])


def depth(exposure: Exposure) -> float:
    """5-sigma point-source depth [mag]: median variance over the noise-equivalent area of the PSF."""
    rows = slice(None, None, max(1, len(exposure.image) // DEPTH_ROWS))
    variance = noise.typical(exposure.variance[rows], (exposure.mask[rows] & bits(*OCCUPIED)) == 0)
    variance *= exposure.noise.covariance_factor
    return _magnitude(5 * np.sqrt(variance / (_central_stamp(exposure) ** 2).sum()))


def lsst_limiting_magnitude(science: Exposure, matched_template: Exposure) -> float:
    """The quantity that LSST's ip_diffim stores as limiting magnitude of a difference, in its own units.

    Flux limit 5 sqrt(pi) sigma for each image, as if the noise were 1 nJy per pixel, added in quadrature.  It does
    not know the noise; `depth` does.
    """
    radii = [moments_sigma(_central_stamp(exposure)) for exposure in (science, matched_template)]
    return _magnitude(5 * np.sqrt(np.pi) * np.hypot(*radii))


def _magnitude(flux: float) -> float:
    return float(NANOJANSKY_ZERO_POINT - 2.5 * np.log10(flux))


def _central_stamp(exposure: Exposure) -> np.ndarray:
    ny, nx = exposure.shape
    return exposure.psf(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))[0]
