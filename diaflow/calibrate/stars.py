"""What `calexp` (one image) and `jointcal` (the first visits together) both begin with: an image and its stars.

In come pixels, header and exposure-table row of an image; out go an exposure in DN with its PSF model, the sources on
it, and which of them are which reference stars.
"""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from scipy import fft
from scipy.spatial import cKDTree

from diaflow.calibrate import focus, psf_stamp, psf_stars
from diaflow.calibrate.match import match
from diaflow.errors import BadData, data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.instruments.images import Pixels
from diaflow.isr import noise
from diaflow.isr.detrend import detrend
from diaflow.measure import sources
from diaflow.pixels import background
from diaflow.sky.sphere import unit_vectors
from diaflow.sky.wcs import central_pixel_scale, header_wcs
from diaflow.units import ARCSEC

CALIBRATION_SNR = 10.0  # least S/N of the stars of WCS and zero point, chosen
UNKNOWN_CENTROID = 1.0  # error of a position that could not be fitted [pixel], chosen: many times that of a star
RESERVED = 5  # one star in this many judges the PSF model, chosen
MIN_RESERVING = 60  # PSF stars from which some are reserved, chosen: 48 are left to the model
# Distance within which a source is a PSF star, or an entry of a catalogue the star again [pixel]; less than any PSF:
# chosen.
SAME_PLACE = 1.0


@dataclass(frozen=True)
class Measured:
    """An image as it is before it is calibrated against anything.

    Attributes
    ----------
    exposure : Exposure
        In the DN of the pixels, without sky, with the WCS of the header and a PSF model.
    table : "source" table
        Positions, fluxes [DN], shapes and flags; psfStar and psfReserved tell the stars of the model and its judges.
    sky : float
        Median of the sky that was subtracted [DN]; 0 where the image came without it.
    chi2 : float
        Median chi2 per pixel of the stars of the model, as `psf_model.fit` gives it.
    """

    exposure: Exposure
    table: np.ndarray
    sky: float
    chi2: float


def measure_image(pixels: Pixels, row: np.void, config: dict) -> Measured:
    """Measure an image before it is calibrated against anything.

    Parameters
    ----------
    pixels : Pixels
        The image with its header; variance and mask where they are known.
    row : row of the "exposure" table
    config : dict
        The `calexp` section of the configuration.

    Returns
    -------
    Measured

    Raises
    ------
    BadData
        When hardly any pixel is usable, the header has no usable WCS, or there is no PSF.
    """
    exposure = detrend(pixels, pixels.row(row), config["edge"], config["cosmic_rays"])
    exposure.wcs = header_wcs(pixels.header, exact="wcs" in config["trust"])
    sky = 0.0
    if "background" not in config["trust"]:
        sky = float(np.median(noise.sparse(background.subtract(exposure, config["background_mesh"]))))
    try:
        candidates = psf_stars.select(exposure, config["psf_size"] or psf_stamp.SMALLEST)
        reserved = _reserved(candidates.snr)
        order = psf_stars.varying_order(exposure, candidates, config["psf_order"])
        x, y = candidates.x[~reserved], candidates.y[~reserved]
        exposure.psf, used, chi2 = psf_stamp.fit(exposure, x, y, candidates.fwhm, config["psf_size"], order)
    except BadData as error:
        raise BadData(focus.explained(exposure, str(error)), error.kind) from error
    table = sources.find(exposure, config["threshold"], config["aperture"])
    table["psfStar"] = _at(table, x[used], y[used])
    if reserved.any():
        table["psfReserved"] = _at(table, candidates.x[reserved], candidates.y[reserved])
    sources.classify(table, exposure)
    return Measured(exposure, table, sky, chi2)


def match_sources(
    table: np.ndarray, wcs: WCS, shape: tuple[int, int], reference: np.ndarray, config: dict
) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
    """Find the reference stars among the sources of an image.

    Parameters
    ----------
    table : "source" table
        Unflagged sources above `CALIBRATION_SNR` take part.
    wcs : WCS
        Of the header.
    shape : (ny, nx)
        Of the image.
    reference : "refcat" table
    config : dict
        The `calexp` section of the configuration: max_offset [arcsec] and max_rotation [deg].

    Returns
    -------
    i, j : (n,) int arrays
        Rows of the sources and of their stars.
    centre : (ra, dec)
        Where the centre of the image is [deg], as the stars have it.

    Raises
    ------
    BadData
        When no match stands out against chance.
    """
    with np.errstate(invalid="ignore"):
        bright = np.flatnonzero(sources.unflagged(table) & (table["psfFlux"] > CALIBRATION_SNR * table["psfFluxErr"]))
    x, y, flux = (table[name][bright] for name in ("x", "y", "psfFlux"))
    limits = config["max_offset"], config["max_rotation"]
    i, j, centre = match(x, y, flux, wcs, shape, reference, *limits)
    return bright[i], j, centre


def centroid_errors(table: np.ndarray) -> np.ndarray:
    """Errors of positions in one coordinate.

    Parameters
    ----------
    table : "source" table
        Of n sources.

    Returns
    -------
    (n,) array
        [pixel]; `UNKNOWN_CENTROID` where the fit gave none.
    """
    return np.nan_to_num(np.hypot(table["xErr"], table["yErr"]) / np.sqrt(2), nan=UNKNOWN_CENTROID)


def flux_errors(table: np.ndarray, stars: np.ndarray, catalogue: np.ndarray, exposure: Exposure) -> np.ndarray:
    """Errors of PSF fluxes of reference stars, with the light of the neighbours that the catalogue has.

    Parameters
    ----------
    table : "source" table
        Of n sources.
    stars : "refcat" table
        The star that each of them is.
    catalogue : "refcat" table
        All that may be near them.
    exposure : Exposure
        With its PSF, and a WCS that is right in scale.

    Returns
    -------
    (n,) array
        [unit of the fluxes]
    """
    light = _neighbours_light(stars, catalogue, exposure)
    return np.hypot(table["psfFluxErr"], light * np.nan_to_num(table["psfFlux"]))


def _neighbours_light(stars: np.ndarray, catalogue: np.ndarray, exposure: Exposure) -> np.ndarray:
    """What the PSF flux of each star (n,) has from its neighbours, over its own; what has no magnitude has no light."""
    distances, shares = _share_at_distance(exposure.psf.centre())
    pixel = central_pixel_scale(exposure.wcs, exposure.shape) * ARCSEC
    with data_may_fail("search for neighbours of the stars"):
        of_stars, of_all = (cKDTree(unit_vectors(part["ra"], part["dec"])) for part in (stars, catalogue))
        pairs = of_stars.sparse_distance_matrix(of_all, distances[-1] * pixel, output_type="coo_matrix")
    apart = pairs.data > SAME_PLACE * pixel
    star, neighbour, distance = pairs.row[apart], pairs.col[apart], pairs.data[apart] / pixel
    ratio = 10 ** (-0.4 * (catalogue["mag"][neighbour].astype(float) - stars["mag"][star]))
    light = np.nan_to_num(ratio) * np.interp(distance, distances, shares)
    return np.bincount(star, light, len(stars))


def _share_at_distance(stamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances [pixel], and the PSF flux that a source has there over that at its place, averaged over directions."""
    t = np.arange(2 * len(stamp) - 1) - (len(stamp) - 1)
    overlap = fft.fftshift(fft.irfft2(np.abs(fft.rfft2(stamp, (t.size,) * 2)) ** 2, (t.size,) * 2)).ravel()
    distance = np.hypot(t, t[:, None]).ravel()
    ring = np.rint(distance).astype(int)
    distances, shares = (np.bincount(ring, values)[: len(stamp)] for values in (distance, overlap))
    number = np.bincount(ring)[: len(stamp)]
    return distances / number, np.maximum(shares / number / shares[0], 0)


def _reserved(snr: np.ndarray) -> np.ndarray:
    """One in `RESERVED` stars in the order of brightness, where there are enough for the PSF without them."""
    reserved = np.zeros(len(snr), bool)
    if len(snr) >= MIN_RESERVING:
        reserved[np.argsort(-snr, kind="stable")[RESERVED // 2 :: RESERVED]] = True
    return reserved


def _at(table: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which sources are at one of the positions."""
    with data_may_fail("search for the PSF stars among the sources"):
        distance, _ = cKDTree(np.column_stack([x, y])).query(np.column_stack([table["x"], table["y"]]))
    return distance < SAME_PLACE
