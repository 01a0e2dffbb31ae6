"""Calibration of one detector image: from counts to nJy with variance, mask, PSF, WCS, zero point and sources.

In come the pixels, header and exposure-table row of an image and reference stars; out go the calibrated exposure,
its source catalogue and its row of the visit summary.  Without a reference catalogue the stars of another visit
serve instead, and without those the header.

Convention: a flux measured on the calibrated pixels with the unit-sum PSF is the total flux of a star, and so is the
sum of all its pixels.  `aperture_correction` is the ratio of aperture to PSF flux of the PSF stars; `apFlux` of the
source table has been divided by it.
"""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from diaflow import units
from diaflow.calibrate import astrometry, photocal, psf_check
from diaflow.calibrate.psf_stamp import missing_light
from diaflow.calibrate.stars import centroid_errors, flux_errors, match_sources, measure_image
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.planes import row_blocks
from diaflow.instruments.images import Pixels
from diaflow.isr import noise
from diaflow.measure import sources
from diaflow.psf.stampfield import fwhm, moments_sigma
from diaflow.sky.localplane import steps
from diaflow.sky.wcs import central_pixel_scale, image_centre, image_corners
from diaflow.statistics import excess_scatter
from diaflow.store import tables

# Without any zero point the counts are kept: 1 DN is called 1 nJy.
NOMINAL_ZERO_POINT = units.NANOJANSKY_ZERO_POINT
MAX_WORSE = 1.5  # scatter with the camera's distortion over that with the image's own, from which it is another one
APERTURE_ORDER = 2  # of the aperture correction in position, chosen
APERTURE_FLOOR = 0.003  # least scatter of aperture over PSF flux of bright stars, chosen as of `photocal`
APERTURE_CLIP, APERTURE_ROUNDS = 3.0, 3  # errors at which a star does not tell it, and rounds of that: chosen
MIN_APERTURE_STARS = 3  # with fewer there is no correction
DEPTH_SNR = 5.0  # at which the depth of an image is told


@dataclass(frozen=True)
class _Reference:
    """What an image is calibrated against: a "refcat" table, `star` where one can give a zero point, and its name.

    The catalogue is that of the stars with all else that it has.
    """

    stars: np.ndarray
    catalogue: np.ndarray
    name: str


def calibrate(
    pixels: Pixels,
    row: np.void,
    refcat: np.ndarray | None,
    config: dict,
    first_visit: np.ndarray | None = None,
    distortion: np.ndarray | None = None,
) -> tuple[Exposure, np.ndarray, np.ndarray]:
    """Calibrate one detector image.

    Parameters
    ----------
    pixels : Pixels
        The image with its header; variance and mask where they are known.
    row : row of the "exposure" table
    refcat : "refcat" table or None
        Reference stars in the image's band.
    config : dict
        The `calexp` section of the configuration.
    first_visit : "source" table, optional
        Calibrated sources of another visit, used without `refcat`: for the WCS whatever their band, for the zero
        point those in the band of the image.
    distortion : (n_terms, 2) array, optional
        Of the detector, from `jointcal`.

    Returns
    -------
    exposure : Exposure
        In nJy; metadata has visit, detector, band, mjd, exptime, gain [electron/nJy], noise_model, zero_point,
        aperture_correction, psf_fwhm and psf_sigma [pixel], seeing [arcsec], sky [DN], bunit, status.
    sources : "source" table
    summary : "visit_summary" table of one row

    Raises
    ------
    BadData
        When the image cannot be calibrated; the message is the reason.
    """
    measured = measure_image(pixels, row, config)
    exposure, table = measured.exposure, measured.table
    summary = _summary_of(row, status="ok")
    summary["sky"], summary["n_psf_stars"] = measured.sky, table["psfStar"].sum()
    psf_check.check(exposure, table, measured.chi2, summary)
    summary["aperture_correction"] = _correct_apertures(table, exposure.shape)
    reference = _reference(refcat, first_visit, row["band"], config["trust"])
    matches = _astrometry(exposure, table, reference, config, distortion, summary)
    variation = _photometry(table, exposure, reference, matches, pixels.row(row), config, summary)
    _apply_scale(exposure, table, float(summary["zero_point"][0]), variation)
    # The summary speaks of the DN of the file.
    summary["zero_point"] += pixels.magnitude
    summary["sky"] *= pixels.unit
    summary["saturation"] = exposure.metadata.pop("saturation") * pixels.unit
    _set_sky_positions(table, exposure.wcs)
    _describe(exposure, table, summary)
    psf_check.judge(exposure, table[table["psfReserved"]], summary)
    return exposure, table, summary


def failed(row: np.void, error: BadData) -> np.ndarray:
    """The visit summary of an image that could not be calibrated.

    Parameters
    ----------
    row : row of the "exposure" table
    error : BadData
        Why.

    Returns
    -------
    "visit_summary" table of one row
    """
    return _summary_of(row, status="failed", reason=str(error), kind=error.kind)


def aperture_correction(table: np.ndarray, shape: tuple[int, int]) -> tuple[float, np.ndarray]:
    """Ratio of aperture to PSF flux of the unflagged PSF stars: its mean, weighted by errors, and how it varies.

    To the errors is added what the better half of the stars scatters beyond them.

    Parameters
    ----------
    table : "source" table
    shape : (ny, nx)
        Of the detector.

    Returns
    -------
    mean : float
        1 for fewer than 3 stars.
    variation : (n_terms,) array
        Of the ratio over the detector, for `photocal.evaluated`.
    """
    good = table["psfStar"] & sources.unflagged(table) & (table["psfFlux"] > 0) & np.isfinite(table["apFlux"])
    stars = table[good]
    ratio = stars["apFlux"].astype(float) / stars["psfFlux"]
    if len(ratio) < MIN_APERTURE_STARS:
        return 1.0, np.zeros(1)
    error = stars["apFluxErr"].astype(float) / stars["psfFlux"]
    error = np.hypot(error, excess_scatter(ratio, error, APERTURE_FLOOR))
    for _ in range(APERTURE_ROUNDS):
        kept = np.abs(ratio - np.median(ratio)) < APERTURE_CLIP * error
        stars, ratio, error = stars[kept], ratio[kept], error[kept]
    if len(ratio) < MIN_APERTURE_STARS:
        return 1.0, np.zeros(1)
    mean = float(np.average(ratio, weights=error**-2))
    return mean, photocal.variation(stars["x"], stars["y"], ratio - mean, error, shape, APERTURE_ORDER)


def _reference(
    refcat: np.ndarray | None, first_visit: np.ndarray | None, band: str, trust: list[str]
) -> _Reference | None:
    """The stars to calibrate against, or None where only the header tells, or need be asked."""
    if {"wcs", "zero_point"} <= set(trust):
        return None
    if refcat is not None:
        return _Reference(refcat[refcat["star"]], refcat, "refcat")
    if first_visit is None:
        return None
    good = first_visit[sources.unflagged(first_visit) & (first_visit["psfFlux"] > 0)]
    flux = good["psfFlux"].astype(float)
    stars = tables.from_columns(
        "refcat",
        id=good["sourceId"],
        ra=good["ra"],
        dec=good["dec"],
        mag=units.magnitude(flux),
        mag_err=units.MAG_PER_RELATIVE_ERROR * good["psfFluxErr"] / flux,
        star=(good["extendedness"] == 0) & (good["band"] == band),
    )
    return _Reference(stars, stars, "relative")


def _astrometry(
    exposure: Exposure,
    table: np.ndarray,
    reference: _Reference | None,
    config: dict,
    distortion: np.ndarray | None,
    summary: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Put the WCS that the reference stars tell into the exposure; rows of sources and of stars that are the same.

    A WCS that is trusted stays, and so does one without reference stars.
    """
    summary["astrometry"] = "header"
    if reference is None:
        return np.zeros((2, 0), int)
    if "wcs" in config["trust"]:
        i, j, _ = match_sources(table, exposure.wcs, exposure.shape, reference.stars, config)
    else:
        summary["astrometry"] = reference.name
        i, j, exposure.wcs = _fit_wcs(table, exposure, reference.stars, config, distortion, summary)
    table["refMatch"][i] = True
    return i, j


def _fit_wcs(
    table: np.ndarray,
    exposure: Exposure,
    reference: np.ndarray,
    config: dict,
    distortion: np.ndarray | None,
    summary: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, WCS]:
    """Match to the reference and fit the WCS; indices of the matches that agree with it.

    A distortion that is known serves unless the image itself shows another one.
    """
    i, j, centre = match_sources(table, exposure.wcs, exposure.shape, reference, config)
    pixel_scale = central_pixel_scale(exposure.wcs, exposure.shape)
    errors = np.hypot(centroid_errors(table[i]), 3600 * np.nan_to_num(reference["pos_err"][j]) / pixel_scale)
    positions = table["x"][i], table["y"][i], reference["ra"][j], reference["dec"][j]
    stars = *positions, centre, pixel_scale, exposure.shape
    fitted = astrometry.fit_wcs(*stars, config["sip_order"], errors)
    if distortion is not None:
        of_camera = astrometry.fit_wcs(*stars, 1, errors, distortion)
        if of_camera[2] < MAX_WORSE * fitted[2]:
            fitted = of_camera
    wcs, used, scatter = fitted
    summary["astrom_scatter"], summary["n_astrom_stars"] = scatter, used.sum()
    return i[used], j[used], wcs


def _photometry(
    table: np.ndarray,
    exposure: Exposure,
    reference: _Reference | None,
    matches: tuple[np.ndarray, np.ndarray],
    row: np.void,
    config: dict,
    summary: np.ndarray,
) -> np.ndarray:
    """Fill the zero point and what it rests on into the summary; returns how it varies over the detector [mag]."""
    trusted = "zero_point" in config["trust"]
    if reference is not None and reference.stars["star"].any() and not trusted:
        i, j = matches
        summary["photometry"] = reference.name
        stars, order = table[i], config["zero_point_order"]
        errors = flux_errors(stars, reference.stars[j], reference.catalogue, exposure)
        return _fit_zero_point(stars, errors, reference.stars[j], exposure.shape, order, summary)
    if np.isfinite(row["zero_point"]):
        summary["photometry"], summary["zero_point"] = "header", row["zero_point"]
    elif trusted:
        raise BadData("the header has no zero point that could be trusted", Kind.ZERO_POINT)
    else:
        summary["photometry"], summary["zero_point"] = "none", NOMINAL_ZERO_POINT
    return np.zeros(1)


def _correct_apertures(table: np.ndarray, shape: tuple[int, int]) -> float:
    """Make the aperture fluxes of stars total; returns the mean correction."""
    mean, variation = aperture_correction(table, shape)
    ratio = mean + photocal.evaluated(variation, table["x"], table["y"], shape)
    for name in ("apFlux", "apFluxErr"):
        table[name] /= ratio
    return mean


def _fit_zero_point(
    stars: np.ndarray,
    errors: np.ndarray,
    reference: np.ndarray,
    shape: tuple[int, int],
    order: int,
    summary: np.ndarray,
) -> np.ndarray:
    """Fill the zero point from matched stars into the summary; returns how it varies over the detector [mag]."""
    point_like = (stars["extendedness"] == 0) & reference["star"]
    if point_like.sum() < photocal.MIN_STARS:
        raise BadData(
            f"no zero point: of {len(stars)} matched stars {np.sum(stars['extendedness'] == 0)} look like stars on the "
            f"image and {reference['star'].sum()} are stars of its band in the reference, {point_like.sum()} both",
            Kind.ZERO_POINT,
        )
    stars, errors, reference = stars[point_like], errors[point_like], reference[point_like]
    fit = photocal.zero_point(stars["psfFlux"], errors, reference["mag"], reference["mag_err"])
    # What the magnitudes have in common does not show in their scatter.
    common = reference["mag_common_err"][fit.used]
    common = np.median(common[np.isfinite(common)]) if np.isfinite(common).any() else 0.0
    summary["zero_point"], summary["zero_point_err"] = fit.value, np.hypot(fit.error, common)
    summary["zero_point_scatter"], summary["n_photo_stars"] = fit.scatter, fit.n_stars
    used = stars[fit.used]
    return photocal.variation(used["x"], used["y"], fit.residuals[fit.used], fit.errors[fit.used], shape, order)


def _apply_scale(exposure: Exposure, table: np.ndarray, zero_point: float, variation: np.ndarray) -> None:
    """From DN to nJy by a zero point and its variation over the detector [mag]."""
    ny, nx = exposure.shape
    scale = units.nanojansky(zero_point)
    exposure.metadata["gain"] /= scale
    columns = np.arange(nx)
    for rows in row_blocks(ny):
        factor = scale
        if len(variation) > 1:
            x, y = np.meshgrid(columns, np.arange(rows.start, rows.stop))
            factor = scale * 10 ** (-0.4 * photocal.evaluated(variation, x, y, exposure.shape))
        exposure.image[rows] *= np.float32(factor)
        exposure.variance[rows] *= np.float32(factor) ** 2
    factor = scale * 10 ** (-0.4 * photocal.evaluated(variation, table["x"], table["y"], exposure.shape))
    for name in ("psfFlux", "psfFluxErr", "apFlux", "apFluxErr"):
        table[name] *= factor


def _set_sky_positions(table: np.ndarray, wcs: WCS) -> None:
    """Fill right ascension, declination and their errors from the pixel positions."""
    x, y = table["x"], table["y"]
    ra, dec = wcs.all_pix2world(x, y, 0)
    table["ra"], table["dec"] = ra % 360, dec
    errors = steps(wcs, x, y) * np.column_stack([table["xErr"], table["yErr"]])[:, None] / 3600
    table["raErr"], table["decErr"] = np.hypot(errors[..., 0], errors[..., 1]).T


def _describe(exposure: Exposure, table: np.ndarray, summary: np.ndarray) -> None:
    """Fill the summary with what the finished exposure is like, and the metadata with the summary."""
    stamp = exposure.psf.centre()
    summary["psf_fwhm"], summary["psf_sigma"] = fwhm(stamp), moments_sigma(stamp)
    summary["seeing"] = fwhm(stamp) * central_pixel_scale(exposure.wcs, exposure.shape)
    summary["psf_stamp_size"], summary["psf_missing_light"] = exposure.psf.size, missing_light(stamp)
    summary["n_sources"] = len(table)
    variance, mask = noise.sparse(exposure.variance), noise.sparse(exposure.mask)
    usable = (mask == 0) & np.isfinite(variance)
    variance = np.median(variance[usable]) if usable.any() else np.nan
    summary["sky_rms"] = np.sqrt(variance)
    summary["depth"] = units.magnitude(DEPTH_SNR * np.sqrt(variance / np.sum(stamp**2)))
    summary["ra"], summary["dec"] = image_centre(exposure.wcs, exposure.shape)
    corners = image_corners(exposure.wcs, exposure.shape)
    for number, (ra, dec) in enumerate(zip(*corners), 1):
        summary[f"ra_{number}"], summary[f"dec_{number}"] = ra, dec
    exposure.metadata["bunit"] = "adu" if summary["photometry"][0] == "none" else "nJy"
    for name in ("zero_point", "aperture_correction", "psf_fwhm", "psf_sigma", "seeing", "sky", "status"):
        value = summary[name][0]
        exposure.metadata[name] = value if isinstance(value, str) else float(value)


def _summary_of(row: np.void, **outcome: str) -> np.ndarray:
    """A visit summary of one row with what the exposure table tells, and its status with reason and kind."""
    names = ("visit", "detector", "band", "mjd", "exptime", "nx", "ny", "ra", "dec")
    names += tuple(f"{axis}_{number}" for number in range(1, 5) for axis in ("ra", "dec"))
    return tables.from_columns("visit_summary", **{name: row[name] for name in names}, **outcome)
