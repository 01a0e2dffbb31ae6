"""The stars of one detector image: measured with a PSF fitted to them, and found again in a reference catalogue.

In come the pixels and the exposure-table row of an image; out goes the detrended exposure with its PSF, its source
table, and the pairs with reference stars.
"""

import numpy as np
from astropy.wcs import WCS
from scipy.spatial import cKDTree

from diaflow.calibrate import astrometry, psf_model, psf_stars
from diaflow.image.exposure import Exposure
from diaflow.instruments.images import Pixels
from diaflow.isr import noise
from diaflow.isr.detrend import detrend
from diaflow.measure import sources
from diaflow.pixels import background
from diaflow.sky.wcs import header_wcs

CALIBRATION_SNR = 10.0  # least S/N of the stars of WCS and zero point

UNKNOWN_CENTROID = 1.0  # error of a position that could not be fitted [pixel]

RESERVED, MIN_RESERVING = 5, 60  # one in five PSF stars judges the model, from so many on


def measure_image(pixels: Pixels, row: np.void, config: dict) -> tuple[Exposure, np.ndarray, float]:
    """The image before it is calibrated against anything: exposure in DN with PSF, sources, and typical sky [DN]."""
    exposure = detrend(pixels, row, config["edge"], config["cosmic_rays"], _header_fwhm(row))
    exposure.wcs = header_wcs(pixels.header)
    sky = 0.0
    if "background" not in config["trust"]:
        sky = float(np.median(noise.sparse(background.subtract(exposure, config["background_mesh"]))))
    candidates = psf_stars.select(exposure, config["psf_size"])
    reserved = _reserved(candidates.snr)
    x, y = candidates.x[~reserved], candidates.y[~reserved]
    exposure.psf, used = psf_model.fit(exposure, x, y, config["psf_size"] | 1, config["psf_order"])
    table = sources.find(exposure, config["threshold"], config["aperture"])
    table["psfStar"] = _at(table, x[used], y[used])
    if reserved.any():
        table["psfReserved"] = _at(table, candidates.x[reserved], candidates.y[reserved])
    return exposure, table, sky


def match_sources(
    table: np.ndarray, wcs: WCS, shape: tuple[int, int], reference: np.ndarray, config: dict
) -> tuple[np.ndarray, np.ndarray, WCS]:
    """Rows of sources that can calibrate and of their reference stars, and the WCS corrected linearly.

    Raises
    ------
    BadData
        When no match stands out against chance.
    """
    with np.errstate(invalid="ignore"):
        bright = np.flatnonzero(sources.unflagged(table) & (table["psfFlux"] > CALIBRATION_SNR * table["psfFluxErr"]))
    x, y, flux = (table[name][bright] for name in ("x", "y", "psfFlux"))
    limits = config["max_offset"], config["max_rotation"]
    i, j, wcs = astrometry.match(x, y, flux, wcs, shape, reference, *limits)
    return bright[i], j, wcs


def centroid_errors(table: np.ndarray) -> np.ndarray:
    """Errors of the positions in one coordinate [pixel]."""
    return np.nan_to_num(np.hypot(table["xErr"], table["yErr"]) / np.sqrt(2), nan=UNKNOWN_CENTROID)


def _header_fwhm(row: np.void) -> float | None:
    guess = row["seeing"] / row["pixel_scale"]
    return float(guess) if np.isfinite(guess) else None


def _reserved(snr: np.ndarray) -> np.ndarray:
    """Every fifth star in the order of brightness, where there are enough for the PSF without them."""
    reserved = np.zeros(len(snr), bool)
    if len(snr) >= MIN_RESERVING:
        reserved[np.argsort(-snr, kind="stable")[RESERVED // 2 :: RESERVED]] = True
    return reserved


def _at(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which sources are at one of the positions."""
    distance, _ = cKDTree(np.column_stack([x, y])).query(np.column_stack([table["x"], table["y"]]))
    return distance < 1
