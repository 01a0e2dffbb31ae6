"""Sources of a background-subtracted exposure with a PSF: found by matched filter, measured in the exposure's unit.

In comes an `Exposure` with PSF, out goes a "source" table with pixel positions, fluxes, shapes and flags; sky
positions and calibration are filled in by `diaflow.calibrate.calexp`.
"""

import numpy as np

from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.measure.extraction import extract
from diaflow.measure.matchedfilter import smooth_snr
from diaflow.measure.moments import extendedness, psf_moments, source_moments
from diaflow.psf.stampfield import moments_sigma
from diaflow.store import ids, tables

# Column of each flag, and the planes that set it: in the footprint or the central 3 x 3, and in the latter alone.
FLAGS = {
    "pixelFlags_edge": ("EDGE", "NO_DATA"),
    "pixelFlags_saturated": ("SAT",),
    "pixelFlags_cr": ("CR",),
    "pixelFlags_interpolated": ("INTRP",),
    "pixelFlags_bad": ("BAD",),
}

CENTRE_FLAGS = {"pixelFlags_saturatedCenter": ("SAT",), "pixelFlags_interpolatedCenter": ("INTRP",)}


def find(exposure: Exposure, threshold: float, aperture: float) -> np.ndarray:
    """Detect and measure sources; sets DETECTED in the exposure's mask.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted, with PSF and with visit, detector and band in its metadata.
    threshold : float
        Least S/N of the PSF-smoothed image.
    aperture : float
        Radius of apFlux [pixel].

    Returns
    -------
    table "source"
        In the order of y; fluxes in the unit of the image, ra, dec and their errors and extendedness NaN.

    Raises
    ------
    BadData
        When nothing is found, or more than an identifier can hold.
    """
    stamp = exposure.psf.centre()
    snr = smooth_snr(exposure.image, exposure.variance, exposure.flagged("BAD", "NO_DATA"), stamp)
    found, segments = extract(snr, threshold, minarea=1, clean=False, segmentation_map=True)
    if not 0 < len(found) <= 2**ids.NUMBER_BITS:
        raise BadData(f"{len(found)} sources detected", Kind.PIXELS, found=len(found))
    order = np.lexsort((found["xpeak"], found["ypeak"]))
    planes = _planes_in(segments, exposure.mask, len(found))[order]
    exposure.mask[segments > 0] |= bits("DETECTED")
    metadata = exposure.metadata
    table = tables.from_columns(
        "source",
        sourceId=ids.source_ids(metadata["visit"], metadata["detector"], len(found)),
        visit=metadata["visit"],
        detector=metadata["detector"],
        band=metadata["band"],
    )
    _set_positions(table, exposure, *summits(snr, found["xpeak"][order], found["ypeak"][order]), moments_sigma(stamp))
    _set_fluxes(table, exposure, aperture)
    moments = source_moments(exposure.image, table["x"], table["y"], moments_sigma(stamp))
    table["ixx"], table["iyy"], table["ixy"] = moments
    _set_flags(table, exposure.mask, planes)
    return table


def classify(table: np.ndarray, exposure: Exposure) -> None:
    """Set which sources are extended.

    Parameters
    ----------
    table : table "source"
        Of `find`; psfStar tells the stars of the PSF.
    exposure : Exposure
    """
    of_psf = psf_moments(exposure.psf, table["x"], table["y"], moments_sigma(exposure.psf.centre()))
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = table["psfFlux"] / table["psfFluxErr"]
    moments = np.array([table["ixx"], table["iyy"], table["ixy"]], float)
    table["extendedness"] = extendedness(moments, of_psf, snr, table["psfStar"])


def unflagged(table: np.ndarray) -> np.ndarray:
    """Sources with a flux and without flawed pixels that matter.

    Parameters
    ----------
    table : (n,) table "source"

    Returns
    -------
    (n,) bool array
    """
    flaws = ("edge", "saturated", "bad", "cr", "interpolatedCenter")
    return np.isfinite(table["psfFlux"]) & ~np.any([table[f"pixelFlags_{flaw}"] for flaw in flaws], axis=0)


def _planes_in(segments: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """All mask bits in each of the segments 1..count."""
    pixels = np.flatnonzero(segments)
    planes = np.zeros(count, np.int32)
    np.bitwise_or.at(planes, segments.ravel()[pixels] - 1, mask.ravel()[pixels])
    return planes


def summits(snr: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where parabolas through the highest pixels and those beside them peak, a tenth of a pixel from the positions.

    Parameters
    ----------
    snr : (ny, nx) array
        Image of the sources.
    x, y : (n,) int arrays
        Their highest pixels.

    Returns
    -------
    x, y : (n,) arrays
        [pixel], within half a pixel of the highest one.
    """

    def offset(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        bend = 2 * snr[y, x] - before - after
        return np.clip((after - before) / (2 * np.maximum(bend, 1e-6)), -0.5, 0.5)

    ny, nx = snr.shape
    return x + offset(snr[y, x - 1], snr[y, (x + 1) % nx]), y + offset(snr[y - 1, x], snr[(y + 1) % ny, x])


def _set_positions(table: np.ndarray, exposure: Exposure, x: np.ndarray, y: np.ndarray, sigma: float) -> None:
    good = ~exposure.flagged("BAD", "SAT", "CR", "NO_DATA")
    fit = photometry.psf_centroid(exposure.image, exposure.variance, exposure.psf, x, y, good, max_shift=2 * sigma)
    table["x"], table["y"], table["xErr"], table["yErr"], _ = fit


def _set_fluxes(table: np.ndarray, exposure: Exposure, aperture: float) -> None:
    good = ~exposure.flagged(*photometry.UNUSABLE)
    fit = photometry.psf_flux(exposure.image, exposure.variance, good, exposure.psf, table["x"], table["y"])
    table["psfFlux"], table["psfFluxErr"] = fit.flux, fit.err
    table["apFlux"], table["apFluxErr"], _ = photometry.aperture_flux(
        exposure.image, exposure.variance, table["x"], table["y"], aperture
    )


def _set_flags(table: np.ndarray, mask: np.ndarray, planes: np.ndarray) -> None:
    centre = photometry.planes_within(mask, table["x"], table["y"], photometry.CENTRE_RADIUS)
    for column, names in FLAGS.items():
        table[column] = ((planes | centre) & bits(*names)) != 0
    for column, names in CENTRE_FLAGS.items():
        table[column] = (centre & bits(*names)) != 0
