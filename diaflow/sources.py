"""Sources of a background-subtracted exposure with a PSF: found by matched filter, measured in the exposure's unit.

In comes an `Exposure` with PSF, out goes a "source" table with pixel positions, fluxes, shapes and flags; sky
positions and calibration are filled in by `diaflow.calexp`.
"""

import numpy as np

from diaflow import ids, measure, tables
from diaflow.errors import BadData
from diaflow.exposure import Exposure, bits
from diaflow.extraction import extract
from diaflow.matchedfilter import smooth_snr
from diaflow.stampfield import moments_sigma

POINT_LIKE = 0.05  # stars may be broader than the PSF by this fraction, for errors of the model
SIZE_SIGMA = 3.0  # and by so many errors of ln(size), which is 1 / (S/N) for a Gaussian
DECIDABLE_SNR = 10.0  # fainter sources are neither point-like nor extended
BATCH = 2000  # PSF stamps in memory at once

FLAGS = {  # column of the footprint's flag: planes
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
        In the order of y; fluxes in the unit of the image, ra, dec and their errors NaN.

    Raises
    ------
    BadData
        When nothing is found, or more than an identifier can hold.
    """
    stamp = exposure.psf.centre()
    snr = smooth_snr(exposure.image, exposure.variance, exposure.flagged("BAD", "NO_DATA"), stamp)
    found, segments = extract(snr, threshold, minarea=1, clean=False, segmentation_map=True)
    if not 0 < len(found) <= 2**ids.NUMBER_BITS:
        raise BadData(f"{len(found)} sources detected")
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
    _set_positions(table, exposure, *_summits(snr, found["xpeak"][order], found["ypeak"][order]), moments_sigma(stamp))
    _set_fluxes(table, exposure, aperture)
    _set_shapes(table, exposure, moments_sigma(stamp))
    _set_flags(table, exposure.mask, planes)
    return table


def unflagged(table: np.ndarray) -> np.ndarray:
    """Sources with a flux and without flawed pixels that matter, (n,) bool."""
    flaws = ("edge", "saturated", "bad", "cr", "interpolatedCenter")
    return np.isfinite(table["psfFlux"]) & ~np.any([table[f"pixelFlags_{flaw}"] for flaw in flaws], axis=0)


def _planes_in(segments: np.ndarray, mask: np.ndarray, count: int) -> np.ndarray:
    """All mask bits in each of the segments 1..count."""
    pixels = np.flatnonzero(segments)
    planes = np.zeros(count, np.int32)
    np.bitwise_or.at(planes, segments.ravel()[pixels] - 1, mask.ravel()[pixels])
    return planes


def _summits(snr: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where parabolas through the highest pixels and those beside them peak, a tenth of a pixel from the positions."""

    def offset(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        bend = 2 * snr[y, x] - before - after
        return np.clip((after - before) / (2 * np.maximum(bend, 1e-6)), -0.5, 0.5)

    ny, nx = snr.shape
    return x + offset(snr[y, x - 1], snr[y, (x + 1) % nx]), y + offset(snr[y - 1, x], snr[(y + 1) % ny, x])


def _set_positions(table: np.ndarray, exposure: Exposure, x: np.ndarray, y: np.ndarray, sigma: float) -> None:
    good = ~exposure.flagged("BAD", "SAT", "CR", "NO_DATA")
    fit = measure.psf_centroid(exposure.image, exposure.variance, exposure.psf, x, y, good, max_shift=2 * sigma)
    table["x"], table["y"], table["xErr"], table["yErr"], _ = fit


def _set_fluxes(table: np.ndarray, exposure: Exposure, aperture: float) -> None:
    good = ~exposure.flagged(*measure.UNUSABLE)
    fit = measure.psf_flux(exposure.image, exposure.variance, good, exposure.psf, table["x"], table["y"])
    table["psfFlux"], table["psfFluxErr"] = fit.flux, fit.err
    table["apFlux"], table["apFluxErr"], _ = measure.aperture_flux(
        exposure.image, exposure.variance, table["x"], table["y"], aperture
    )


def _set_shapes(table: np.ndarray, exposure: Exposure, sigma: float) -> None:
    """Moments, and whether they are those of the PSF at the place."""
    x, y = table["x"], table["y"]
    ixx, iyy, ixy = measure.moments(exposure.image, x, y, sigma)
    table["ixx"], table["iyy"], table["ixy"] = ixx, iyy, ixy
    pxx, pyy, pxy = psf_moments(exposure.psf, x, y, sigma)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = table["psfFlux"] / table["psfFluxErr"]
        broader = 0.25 * np.log((ixx * iyy - ixy**2) / (pxx * pyy - pxy**2))
        decided = (snr > DECIDABLE_SNR) & np.isfinite(broader)
        table["extendedness"] = np.where(decided, broader > POINT_LIKE + SIZE_SIGMA / snr, np.nan)


def psf_moments(psf, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """ixx, iyy, ixy (3, n) of the PSF at each position, with the weight of `measure.moments` [pixel**2]."""
    out = np.empty((3, len(x)))
    for start in range(0, len(x), BATCH):
        rows = slice(start, start + BATCH)
        stamps = psf(x[rows], y[rows])
        t = np.arange(stamps.shape[-1]) - stamps.shape[-1] // 2
        weight = np.exp(-(t[:, None] ** 2 + t**2) / (2 * sigma**2))
        basis = np.stack([weight * term for term in np.broadcast_arrays(1.0, t**2, t[:, None] ** 2, t[:, None] * t)])
        total, mxx, myy, mxy = np.tensordot(basis, stamps, ((1, 2), (1, 2)))
        mxx, myy, mxy = mxx / total, myy / total, mxy / total
        m_det = mxx * myy - mxy**2
        # inverse of M**-1 - W**-1
        axx, ayy, axy = myy / m_det - sigma**-2, mxx / m_det - sigma**-2, -mxy / m_det
        out[:, rows] = np.array([ayy, axx, -axy]) / (axx * ayy - axy**2)
    return out


def _set_flags(table: np.ndarray, mask: np.ndarray, planes: np.ndarray) -> None:
    centre = measure.planes_within(mask, table["x"], table["y"], measure.CENTRE_RADIUS)
    for column, names in FLAGS.items():
        table[column] = ((planes | centre) & bits(*names)) != 0
    for column, names in CENTRE_FLAGS.items():
        table[column] = (centre & bits(*names)) != 0
