"""What matching leaves of a bright star: a pattern of both signs about the star, of which one source is enough.

A kernel that is slightly wrong moves light of a star and makes none, so that what it leaves sums up to nearly nothing.
Where the science image is much sharper than the template, the pattern is as wide as the kernel, and rings about the
star have peaks of their own.
"""

import numpy as np

from diaflow.detect.footprints import Footprints, close_pairs
from diaflow.image.exposure import Exposure
from diaflow.measure import photometry

REACH = 5.0  # of the pattern from its star; lobes of a dipole end there, too [sigma of the PSF]
MAX_SHARE = 0.1  # largest flux of a part of the pattern over that of the star: what is more has varied


def best_of_each_star(table: np.ndarray, found: Footprints, matched_template: Exposure, sigma: float) -> np.ndarray:
    """Which sources stay when, of those that matching leaves of one star, all go but that of highest S/N.

    Parameters
    ----------
    table : (n,) table "dia_source"
        With positions and PSF fluxes.
    found : Footprints
        Of the n sources: peaks of the other sign may be below the threshold.
    matched_template : Exposure
        On the pixels of the difference.
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    (n,) bool array
    """
    stays = np.ones(len(table), bool)
    rows = np.unique(close_pairs(table["x"], table["y"], 2 * REACH * sigma))
    star, flux = _brightest_near(matched_template, table["x"][rows], table["y"][rows], REACH * sigma)
    faint = np.abs(table["psfFlux"][rows]) < MAX_SHARE * flux
    rows, star = rows[faint], np.unique(star[faint], return_inverse=True)[1]
    rows, star = (values[np.argsort(-np.abs(table["snr"][rows]), kind="stable")] for values in (rows, star))
    positive, negative = (np.bincount(star, lobes[rows] > 0) > 0 for lobes in (found.positive, found.negative))
    best = np.zeros(len(rows), bool)
    best[np.unique(star, return_index=True)[1]] = True
    stays[rows] = best | ~(positive & negative)[star]
    return stays


def _brightest_near(exposure: Exposure, x: np.ndarray, y: np.ndarray, distance: float) -> tuple[np.ndarray, np.ndarray]:
    """Index of the brightest pixel in a box around each position, and the flux of a star whose peak it is."""
    half = int(np.ceil(distance))
    column, row = np.rint([x, y]).astype(int)
    boxes = photometry.cutouts(exposure.image, column, row, half).reshape(len(x), (2 * half + 1) ** 2)
    dy, dx = np.divmod(boxes.argmax(1), 2 * half + 1)
    column, row = column + dx - half, row + dy - half
    return row * exposure.shape[1] + column, boxes.max(1) / exposure.psf(column, row).max((1, 2))
