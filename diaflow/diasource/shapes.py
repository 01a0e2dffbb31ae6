"""Columns of DIASources that tell what they are: moments, dipoles, trails."""

import numpy as np

from diaflow.detect.footprints import Footprints
from diaflow.diasource import dipole, trail
from diaflow.image.exposure import Exposure
from diaflow.measure.moments import DECIDABLE_SNR, POINT_LIKE, SIZE_SIGMA, psf_moments, source_moments

TRAIL_SNR = 10.0  # least S/N of a source that a trail is fitted to

# Longest second moment beyond the PSF's, over sigma**2: twice what noise gives a point source, 2.5 / (S/N), twice over.
ELONGATED = 0.1

ELONGATED_NOISE = 10.0


def set_shapes(table: np.ndarray, difference: Exposure, scale: np.ndarray, sigma: float) -> np.ndarray:
    """Moments of sources and PSF in arcsec**2, extendedness; returns the moments beyond the PSF's (3, n) [pixel**2].

    `scale` is the side of a pixel at each source [arcsec].
    """
    x, y = table["x"], table["y"]
    moments = np.array(source_moments(difference.image, x, y, sigma))
    psf = psf_moments(difference.psf, x, y, sigma)
    for names, values in ((("ixx", "iyy", "ixy"), moments), (("ixxPSF", "iyyPSF", "ixyPSF"), psf)):
        for name, value in zip(names, values):
            table[name] = value * scale**2
    half, (ny, nx) = np.ceil(4 * sigma), difference.shape
    table["shape_flag"] = ~np.isfinite(moments).all(0)
    table["shape_flag_not_contained"] = np.minimum.reduce([x, y, nx - 1 - x, ny - 1 - y]) < half
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.abs(table["snr"])
        size, psf_size = (m[0] * m[1] - m[2] ** 2 for m in (moments, psf))
        broader = 0.25 * np.log(size / psf_size)
        decided = (snr > DECIDABLE_SNR) & np.isfinite(broader) & ~table["isDipole"]
        table["extendedness"] = np.where(decided, broader > POINT_LIKE + SIZE_SIGMA / snr, np.nan)
    return moments - psf


def set_dipoles(
    table: np.ndarray,
    difference: Exposure,
    science: Exposure,
    matched_template: Exposure,
    found: Footprints,
    sky: np.ndarray,
    sigma: float,
) -> np.ndarray:
    """Fit the sources with peaks of both signs; returns the middles of those that are dipoles, (2, n), NaN elsewhere.

    `sky` (n, 2, 2) is the step to the east and to the north for one pixel in x and in y [arcsec].
    """
    rows = np.flatnonzero(found.has_both_signs & (found.bbox_size <= 4 * dipole.BOX_SIGMA * sigma))
    middle = np.full((2, len(table)), np.nan)
    table["dipoleFitAttempted"][rows] = True
    fits = dipole.fit(
        difference, science, matched_template, found.positive_peak[:, rows], found.negative_peak[:, rows], sigma
    )
    table["dipoleMeanFlux"][rows], table["dipoleMeanFluxErr"][rows] = fits.flux.mean(0), fits.mean_err
    table["dipoleFluxDiff"][rows], table["dipoleFluxDiffErr"][rows] = fits.flux[0] - fits.flux[1], fits.diff_err
    along = np.array([fits.x[0] - fits.x[1], fits.y[0] - fits.y[1]])
    table["dipoleLength"][rows], table["dipoleAngle"][rows] = bearing(sky[rows], along)
    table["dipoleChi2"][rows], table["dipoleNdata"][rows] = fits.chi2, fits.n_data
    # A variable star that leaves a faint ring has two nearly equal fluxes as well, but no balanced lobes.
    table["isDipole"][rows] = fits.is_dipole & found.is_balanced[rows]
    middle[:, rows] = np.where(table["isDipole"][rows], [fits.x.mean(0), fits.y.mean(0)], np.nan)
    return middle


def set_trails(table: np.ndarray, difference: Exposure, excess: np.ndarray, sky: np.ndarray, sigma: float) -> None:
    """Fit trails to elongated sources."""
    with np.errstate(invalid="ignore"):
        snr = np.abs(table["snr"])
        longest = (excess[0] + excess[1]) / 2 + np.hypot((excess[0] - excess[1]) / 2, excess[2])
        # where a source is much longer than the weight, moments may be undefined
        elongated = ~(longest < (ELONGATED + ELONGATED_NOISE / snr) * sigma**2)
        rows = np.flatnonzero(elongated & (snr > TRAIL_SNR) & ~table["isDipole"] & ~table["pixelFlags"])
    x, y = table["x"][rows], table["y"][rows]
    start = np.array(source_moments(difference.image, x, y, 2 * sigma)) - sigma**2 * np.array([[1], [1], [0]])
    fits = trail.fit(difference, x, y, start, sigma)
    table["trail_flag"] = True
    table["trail_flag"][rows], table["trail_flag_edge"][rows] = fits.failed, fits.edge
    variance = np.diagonal(fits.covariance, axis1=1, axis2=2)
    table["trailFlux"][rows], table["trailFluxErr"][rows] = fits.flux, np.sqrt(variance[:, 0])
    table["trailRa"][rows], table["trailDec"][rows] = difference.wcs.all_pix2world(fits.x, fits.y, 0)
    half = np.array([fits.along_x, fits.along_y])
    table["trailLength"][rows], angle = bearing(sky[rows], 2 * half)
    table["trailAngle"][rows] = angle % 180
    length = np.hypot(*half)
    unit, normal = half / length, np.array([-half[1], half[0]]) / length
    along, across = (np.einsum("in,nij,jn->n", v, fits.covariance[:, 3:, 3:], v) for v in (unit, normal))
    table["trailLengthErr"][rows] = 2 * np.sqrt(along) * table["trailLength"][rows] / (2 * length)
    table["trailAngleErr"][rows] = np.degrees(np.sqrt(across) / length)
    table["trailChi2"][rows], table["trailNdata"][rows] = fits.chi2, fits.n_data


def bearing(sky: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length [arcsec] and position angle, east of north in [0, 360) [deg], of vectors (2, n) in pixels."""
    east, north = np.einsum("nij,jn->in", sky, along)
    return np.hypot(east, north), np.degrees(np.arctan2(east, north)) % 360
