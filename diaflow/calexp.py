"""Calibration of one detector image: from counts to nJy with variance, mask, PSF, WCS, zero point and sources.

In come the pixels, header and exposure-table row of an image and reference stars; out go the calibrated exposure,
its source catalogue and its row of the visit summary.  Without a reference catalogue the stars of another visit
serve instead, and without those the header.

Convention: a flux measured on the calibrated pixels with the unit-sum PSF is the total flux of a star, and so is the
sum of all its pixels.  `aperture_correction` is the ratio of aperture to PSF flux of the PSF stars; `apFlux` of the
source table has been divided by it.
"""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from diaflow import astrometry, background, geometry, isr, photocal, sources, tables
from diaflow.exposure import Exposure
from diaflow.psf import pixel, stars
from diaflow.stampfield import fwhm

# Without any zero point the counts are kept: 1 DN is called 1 nJy.
NOMINAL_ZERO_POINT = photocal.NANOJANSKY_ZERO_POINT
CALIBRATION_SNR = 10.0  # least S/N of the stars of WCS and zero point
UNKNOWN_CENTROID = 1.0  # error of a position that could not be fitted [pixel]
APERTURE_FLOOR = 0.003  # least scatter of aperture over PSF flux of bright stars


def calibrate(
    image: np.ndarray,
    header: fits.Header,
    row: np.void,
    refcat: np.ndarray | None,
    config: dict,
    first_visit: np.ndarray | None = None,
) -> tuple[Exposure, np.ndarray, np.ndarray]:
    """Calibrate one detector image.

    Parameters
    ----------
    image : (ny, nx) array
        Counts [DN].
    header : fits.Header
        With a celestial WCS.
    row : row of the "exposure" table
    refcat : "refcat" table or None
        Reference stars in the image's band.
    config : dict
        The `calexp` section of the configuration.
    first_visit : "source" table, optional
        Calibrated sources of another visit, used without `refcat`: for the WCS whatever their band, for the zero
        point those in the band of the image.

    Returns
    -------
    exposure : Exposure
        In nJy; metadata has visit, detector, band, mjd, exptime, gain [electron/nJy], noise_model, zero_point,
        aperture_correction, psf_fwhm [pixel], seeing [arcsec], sky [DN], status.
    sources : "source" table
    summary : "visit_summary" table of one row

    Raises
    ------
    BadData
        When the image cannot be calibrated; the message is the reason.
    """
    exposure = isr.detrend(image, row, config["edge"], config["cosmic_rays"], _header_fwhm(row))
    exposure.wcs = geometry.header_wcs(header)
    sky = background.subtract(exposure, config["background_mesh"])
    candidates = stars.select(exposure, config["psf_size"])
    size, order = config["psf_size"] | 1, config["psf_order"]
    exposure.psf, used = pixel.fit(exposure, candidates.x, candidates.y, size, order)
    table = sources.find(exposure, config["threshold"], config["aperture"])
    table["psfStar"] = _at(table, candidates.x[used], candidates.y[used])
    correction = aperture_correction(table)

    reference, astrometry_from = _reference(refcat, first_visit, row["band"])
    summary = _summary_of(row, "ok", "")
    i, j = np.zeros((2, 0), int)
    if reference is not None:
        i, j, exposure.wcs = _fit_wcs(table, exposure, reference, config, summary)
        table["refMatch"][i] = True
    photometry_from = _set_zero_point(table, i, j, reference, row, astrometry_from, summary)

    scale = photocal.nanojansky_per_dn(float(summary["zero_point"][0]))
    _apply_scale(exposure, table, scale, correction)
    _set_sky_positions(table, exposure.wcs)
    summary["astrometry"], summary["photometry"] = astrometry_from, photometry_from
    summary["sky"], summary["aperture_correction"], summary["n_psf_stars"] = np.median(sky), correction, used.sum()
    _describe(exposure, table, summary)
    return exposure, table, summary


def failed(row: np.void, reason: str) -> np.ndarray:
    """The visit summary (one row) of an image that could not be calibrated."""
    return _summary_of(row, "failed", reason)


def aperture_correction(table: np.ndarray) -> float:
    """Mean ratio of aperture to PSF flux of the unflagged PSF stars, weighted by their errors; 1 for fewer than 3.

    To the errors is added what the better half of the stars scatters beyond them.
    """
    good = table["psfStar"] & sources.unflagged(table) & (table["psfFlux"] > 0) & np.isfinite(table["apFlux"])
    ratio = table["apFlux"][good].astype(float) / table["psfFlux"][good]
    if len(ratio) < 3:
        return 1.0
    error = table["apFluxErr"][good].astype(float) / table["psfFlux"][good]
    better = error <= np.median(error)
    scatter = 1.4826 * np.median(np.abs(ratio - np.median(ratio))[better])
    error = np.hypot(error, np.sqrt(max(scatter**2 - np.median(error[better]) ** 2, APERTURE_FLOOR**2)))
    for _ in range(3):
        kept = np.abs(ratio - np.median(ratio)) < 3 * error
        ratio, error = ratio[kept], error[kept]
    return float(np.average(ratio, weights=error**-2)) if len(ratio) >= 3 else 1.0


def _header_fwhm(row: np.void) -> float | None:
    guess = row["seeing"] / row["pixel_scale"]
    return float(guess) if np.isfinite(guess) else None


def _at(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which sources are at one of the positions."""
    distance, _ = cKDTree(np.column_stack([x, y])).query(np.column_stack([table["x"], table["y"]]))
    return distance < 1


def _reference(refcat: np.ndarray | None, first_visit: np.ndarray | None, band: str) -> tuple[np.ndarray | None, str]:
    """The stars to calibrate against, `star` where they can give a zero point, and what they are."""
    if refcat is not None:
        return refcat[refcat["star"]], "refcat"
    if first_visit is None:
        return None, "header"
    good = first_visit[sources.unflagged(first_visit) & (first_visit["psfFlux"] > 0)]
    flux = good["psfFlux"].astype(float)
    reference = tables.from_columns(
        "refcat",
        id=good["sourceId"],
        ra=good["ra"],
        dec=good["dec"],
        mag=photocal.NANOJANSKY_ZERO_POINT - 2.5 * np.log10(flux),
        mag_err=2.5 / np.log(10) * good["psfFluxErr"] / flux,
        star=(good["extendedness"] == 0) & (good["band"] == band),
    )
    return reference, "relative"


def _fit_wcs(
    table: np.ndarray, exposure: Exposure, reference: np.ndarray, config: dict, summary: np.ndarray
) -> tuple[np.ndarray, np.ndarray, WCS]:
    """Match to the reference and fit the WCS; indices of the matches that agree with it."""
    with np.errstate(invalid="ignore"):
        bright = np.flatnonzero(sources.unflagged(table) & (table["psfFlux"] > CALIBRATION_SNR * table["psfFluxErr"]))
    x, y, flux = (table[name][bright] for name in ("x", "y", "psfFlux"))
    limits = config["max_offset"], config["max_rotation"]
    i, j, wcs = astrometry.match(x, y, flux, exposure.wcs, exposure.shape, reference, *limits)
    errors = np.nan_to_num(np.hypot(table["xErr"], table["yErr"])[bright[i]] / np.sqrt(2), nan=UNKNOWN_CENTROID)
    ra, dec = reference["ra"][j], reference["dec"][j]
    wcs, used, scatter = astrometry.fit_wcs(x[i], y[i], ra, dec, wcs, exposure.shape, config["sip_order"], errors)
    summary["astrom_scatter"], summary["n_astrom_stars"] = scatter, used.sum()
    return bright[i[used]], j[used], wcs


def _set_zero_point(
    table: np.ndarray,
    i: np.ndarray,
    j: np.ndarray,
    reference: np.ndarray | None,
    row: np.void,
    reference_kind: str,
    summary: np.ndarray,
) -> str:
    """Fill the zero point into the summary; returns what it rests on: refcat, relative, header or none."""
    if reference is not None and reference["star"].any():
        point_like = (table["extendedness"][i] == 0) & reference["star"][j]
        matched = i[point_like], j[point_like]
        flux, error = (table[name][matched[0]] for name in ("psfFlux", "psfFluxErr"))
        fit = photocal.zero_point(flux, error, reference["mag"][matched[1]], reference["mag_err"][matched[1]])
        summary["zero_point"], summary["zero_point_err"] = fit.value, fit.error
        summary["zero_point_scatter"], summary["n_photo_stars"] = fit.scatter, fit.n_stars
        return reference_kind
    known = np.isfinite(row["zero_point"])
    summary["zero_point"] = row["zero_point"] if known else NOMINAL_ZERO_POINT
    return "header" if known else "none"


def _apply_scale(exposure: Exposure, table: np.ndarray, scale: float, correction: float) -> None:
    """From DN to nJy; the aperture fluxes of stars become total, the PSF fluxes are."""
    exposure.image *= np.float32(scale)
    exposure.variance *= np.float32(scale**2)
    exposure.metadata["gain"] /= scale
    for name in ("psfFlux", "psfFluxErr"):
        table[name] *= scale
    for name in ("apFlux", "apFluxErr"):
        table[name] *= scale / correction


def _set_sky_positions(table: np.ndarray, wcs: WCS) -> None:
    x, y = table["x"], table["y"]
    ra, dec = wcs.all_pix2world(x, y, 0)
    table["ra"], table["dec"] = ra % 360, dec
    # The local scale differs from the mean by the distortion, of no importance for errors.
    (xi_x, xi_y), (eta_x, eta_y) = wcs.pixel_scale_matrix
    table["raErr"] = np.hypot(xi_x * table["xErr"], xi_y * table["yErr"])
    table["decErr"] = np.hypot(eta_x * table["xErr"], eta_y * table["yErr"])


def _describe(exposure: Exposure, table: np.ndarray, summary: np.ndarray) -> None:
    """Fill the summary with what the finished exposure is like, and the metadata with the summary."""
    stamp = exposure.psf.centre()
    summary["psf_fwhm"] = fwhm(stamp)
    summary["seeing"] = fwhm(stamp) * geometry.pixel_scale(exposure.wcs, exposure.shape)
    summary["n_sources"] = len(table)
    usable = (exposure.mask == 0) & np.isfinite(exposure.variance)
    variance = np.median(exposure.variance[usable]) if usable.any() else np.nan
    summary["sky_rms"] = np.sqrt(variance)
    summary["depth"] = photocal.NANOJANSKY_ZERO_POINT - 2.5 * np.log10(5 * np.sqrt(variance / np.sum(stamp**2)))
    summary["ra"], summary["dec"] = geometry.centre(exposure.wcs, exposure.shape)
    corners = geometry.corners(exposure.wcs, exposure.shape)
    for number, (ra, dec) in enumerate(zip(*corners), 1):
        summary[f"ra_{number}"], summary[f"dec_{number}"] = ra, dec
    for name in ("zero_point", "aperture_correction", "psf_fwhm", "seeing", "sky", "status"):
        value = summary[name][0]
        exposure.metadata[name] = value if isinstance(value, str) else float(value)


def _summary_of(row: np.void, status: str, reason: str) -> np.ndarray:
    names = ("visit", "detector", "band", "mjd", "exptime", "nx", "ny", "ra", "dec")
    names += tuple(f"{axis}_{number}" for number in range(1, 5) for axis in ("ra", "dec"))
    return tables.from_columns("visit_summary", **{name: row[name] for name in names}, status=status, reason=reason)
