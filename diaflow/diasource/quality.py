"""How good a difference image is: every figure of the table "diffim_summary", and its rows.

In come the difference after detection, the calexp with its sources and the DIASources; what the subtraction knows comes
with the difference.  Sky sources are PSF fluxes at quasi-random places without sources: their pulls are zero on the
mean and of unit width where background and errors are right.  They are no DIASources.
"""

import numpy as np

from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.psf.stampfield import FWHM_PER_SIGMA, moments_sigma
from diaflow.psfmatch.solution import MIN_STARS
from diaflow.statistics import robust_width
from diaflow.store import tables
from diaflow.subtract import noise
from diaflow.subtract.result import Difference
from diaflow.subtract.sources import kernel_sources
from diaflow.units import magnitude

DATA_ID = ("visit", "detector", "band", "mjd")
N_SKY, TRIALS = 1000, 5  # sky sources, of which this many times more places are tried
RATIO_SNR = 100.0  # of the stars whose residuals count: noise alone is 2 % of the flux there
DEPTH_SNR = 5.0  # of a source at the limit
DEPTH_ROWS = 500  # of a large image that tell its variance, at least
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


def summary_row(difference: Difference, science: Exposure, sources: np.ndarray, dia_sources: np.ndarray) -> np.ndarray:
    """The row of one difference image.

    Parameters
    ----------
    difference : Difference
        After `detection.dia_sources`, with its detection planes; the metadata of its exposure name the data.
    science : Exposure
        The calexp.
    sources : table "source"
        Sources of the calexp.
    dia_sources : table "dia_source"

    Returns
    -------
    table "diffim_summary", one row
    """
    data_id = {name: difference.exposure.metadata[name] for name in DATA_ID}
    found = difference.figures | figures(difference, science, sources, dia_sources)
    return tables.from_columns("diffim_summary", **data_id, status="ok", reason="", **found)


def failed(row: np.void, error: BadData) -> np.ndarray:
    """The row of a detector image without a difference.

    Parameters
    ----------
    row : row of table "visit_summary"
        Names the data.
    error : BadData
        Why.

    Returns
    -------
    table "diffim_summary", one row
    """
    data_id = {name: row[name] for name in DATA_ID}
    return tables.from_columns("diffim_summary", **data_id, status="failed", reason=str(error), kind=error.kind)


def figures(difference: Difference, science: Exposure, sources: np.ndarray, dia_sources: np.ndarray) -> dict:
    """Columns of "diffim_summary" that are known after detection.

    Parameters
    ----------
    difference : Difference
        After `detection.dia_sources`, with its detection planes.
    science : Exposure
        The calexp.
    sources : table "source"
        Sources of the calexp.
    dia_sources : table "dia_source"

    Returns
    -------
    dict
        By column; NaN where too few stars or places tell.
    """
    image, template = difference.exposure, difference.matched_template
    pulls = sky_pulls(image, science)
    of_kernel = residual_ratios(image, science, *difference.stars)
    of_bright = residual_ratios(image, science, *bright_stars(sources, science, image))
    return {
        "n_dia_sources": len(dia_sources),
        "n_dia_sources_unflagged": int((~dia_sources["pixelFlags"]).sum()),
        "n_positive": int((~dia_sources["isNegative"]).sum()),
        "n_negative": int(dia_sources["isNegative"].sum()),
        "n_dipoles": int(dia_sources["isDipole"].sum()),
        "n_sky_sources": len(pulls),
        "sky_pull_median": float(np.median(pulls)) if len(pulls) > 1 else np.nan,
        "sky_pull_width": robust_width(pulls) if len(pulls) > 1 else np.nan,
        "residual_ratio": float(np.median(of_kernel)) if len(of_kernel) else np.nan,
        "residual_ratio_mean": float(of_bright.mean()) if len(of_bright) else np.nan,
        "residual_ratio_stdev": float(of_bright.std()) if len(of_bright) else np.nan,
        **mask_fractions(image.mask),
        "depth": depth(image),
        "science_depth": depth(science),
        "template_depth": depth(template),
        "limiting_magnitude_lsst": lsst_limiting_magnitude(science, template),
    }


def mask_fractions(mask: np.ndarray) -> dict[str, float]:
    """Fraction of the pixels in each group of `FRACTIONS`.

    Parameters
    ----------
    mask : (ny, nx) int32 array

    Returns
    -------
    dict
        By column.
    """
    masked = mask[mask != 0]
    return {name: np.count_nonzero(masked & bits(*planes)) / mask.size for name, planes in FRACTIONS.items()}


def sky_pulls(difference: Exposure, science: Exposure) -> np.ndarray:
    """PSF flux over error at up to 1000 places away from sources and masks, in a Halton sequence of the image.

    Parameters
    ----------
    difference, science : Exposure
        With their detection planes, on the same pixels.

    Returns
    -------
    (n,) array
    """
    ny, nx = difference.shape
    x, y = np.floor(nx * radical_inverse(TRIALS * N_SKY, 2)), np.floor(ny * radical_inverse(TRIALS * N_SKY, 3))
    occupied = photometry.planes_within(difference.mask | science.mask & bits("DETECTED"), x, y, SKY_RADIUS)
    free = np.flatnonzero((occupied & bits(*OCCUPIED)) == 0)[:N_SKY]
    fit = photometry.exposure_flux(difference, x[free], y[free])
    pulls = fit.flux / fit.err
    return pulls[np.isfinite(pulls)]


def radical_inverse(n: int, base: int) -> np.ndarray:
    """The numbers 1..n with their digits mirrored at the point: evenly spread in (0, 1) (van der Corput).

    Parameters
    ----------
    n, base : int

    Returns
    -------
    (n,) array
    """
    left, out, weight = np.arange(1, n + 1), np.zeros(n), 1.0
    while left.any():
        weight /= base
        left, digit = np.divmod(left, base)
        out += weight * digit
    return out


def bright_stars(sources: np.ndarray, science: Exposure, difference: Exposure) -> tuple[np.ndarray, np.ndarray]:
    """Stars above S/N 100 that a kernel may rest on.

    Parameters
    ----------
    sources : table "source"
        Sources of the calexp.
    science, difference : Exposure

    Returns
    -------
    x, y : (n,) arrays [pixel]
        None where there are fewer than three.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        sources = sources[sources["psfFlux"] / sources["psfFluxErr"] > RATIO_SNR]
    if len(sources) < MIN_STARS:
        return np.zeros(0), np.zeros(0)
    return kernel_sources(sources, science, difference.flagged(*photometry.UNUSABLE))


def residual_ratios(difference: Exposure, science: Exposure, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """What is left of stars: |mean of the difference| over the mean of the science image around each.

    In boxes of twice the FWHM of a Gaussian as broad as the PSF (LSST has the footprints of the stars, in its
    differenceFootprintRatio).

    Parameters
    ----------
    difference, science : Exposure
    x, y : (n,) arrays
        Positions of the stars [pixel].

    Returns
    -------
    (m,) array
        For the stars of positive flux.
    """
    half = max(1, round(FWHM_PER_SIGMA * moments_sigma(science.psf.centre())))
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    residual, flux = (
        photometry.cutouts(exposure.image, column, row, half).sum((1, 2), dtype=float)
        for exposure in (difference, science)
    )
    return np.abs(residual[flux > 0] / flux[flux > 0])


def depth(exposure: Exposure) -> float:
    """5-sigma point-source depth of an image: median variance over the noise-equivalent area of the PSF.

    Parameters
    ----------
    exposure : Exposure
        The pixels of its sources do not count where it has detection planes.

    Returns
    -------
    float [mag]
    """
    rows = slice(None, None, max(1, len(exposure.image) // DEPTH_ROWS))
    variance = noise.typical(exposure.variance[rows], (exposure.mask[rows] & bits(*OCCUPIED)) == 0)
    variance *= exposure.noise.covariance_factor
    return float(magnitude(DEPTH_SNR * np.sqrt(variance / (_central_stamp(exposure) ** 2).sum())))


def lsst_limiting_magnitude(science: Exposure, matched_template: Exposure) -> float:
    """The quantity that LSST's ip_diffim stores as limiting magnitude of a difference, in its own units.

    Flux limit 5 sqrt(pi) sigma for each image, as if the noise were 1 nJy per pixel, added in quadrature.  It does
    not know the noise; `depth` does.

    Parameters
    ----------
    science, matched_template : Exposure

    Returns
    -------
    float [mag]
    """
    radii = [moments_sigma(_central_stamp(exposure)) for exposure in (science, matched_template)]
    return float(magnitude(DEPTH_SNR * np.sqrt(np.pi) * np.hypot(*radii)))


def _central_stamp(exposure: Exposure) -> np.ndarray:
    ny, nx = exposure.shape
    return exposure.psf(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))[0]
