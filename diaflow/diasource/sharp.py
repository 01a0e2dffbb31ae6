"""Sources that are sharper than the PSF, which light cannot make: hits of particles, tracks of slow electrons.

A source is fitted once more by what particles leave: a single pixel, or a line of pixels, one pixel wide and as long
as the PSF, in any direction.  Where the best of them explains much more of the pixels than the PSF does, the source is
sharp.  A shape that gains k squared in chi-squared on the true one takes noise of k sigma at least, whatever the two
have in common and however bright the source is, and the PSF model may be as wrong as the shapes are different.
"""

import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.measure import photometry

N_DIRECTIONS = 8  # of the lines: between two of them ends of a line of 5 pixels move by half a pixel
SHIFT = 1  # largest distance of the middle of a line from the pixel of the source, along x and y [pixel]
REACH = 2.5  # of the lines from their middle, along x or y [sigma of the PSF]
# Least gain in chi-squared, 3.5 sigma squared: noise gives it to 1 in 600 point sources of S/N 5, and to 1 in 3000 of
# S/N 7 (2500 simulated ones for each of 1.6 to 8 pixels FWHM).
MIN_GAIN = 12.0
BATCH = 2000  # sources whose pixels are in memory at once: 3 MB of 13 x 13 pixels


def is_sharp(
    image: Exposure, good: np.ndarray, x: np.ndarray, y: np.ndarray, snr: np.ndarray, sigma: float
) -> np.ndarray:
    """Which sources are sharper than the PSF.

    Parameters
    ----------
    image : Exposure
        With independent pixels.
    good : (ny, nx) bool array
        Pixels that may be used.
    x, y : (n,) arrays
        Positions [pixel].
    snr : (n,) array
        PSF flux over its error, of either sign.
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    (n,) bool array
        False where there is no S/N.
    """
    shapes = _shapes(sigma)
    half = len(shapes[0]) // 2
    flat = shapes.reshape(len(shapes), -1).T
    best = np.empty(len(x))
    for start in range(0, len(x), BATCH):
        rows = slice(start, start + BATCH)
        column, row = np.rint([x[rows], y[rows]]).astype(int)
        pixels, variance, use = (
            photometry.cutouts(plane, column, row, half).reshape(len(row), -1)
            for plane in (image.image, image.variance, good)
        )
        power = (variance * use) @ flat**2
        with np.errstate(invalid="ignore", divide="ignore"):
            fits = (pixels * use) @ flat / np.sqrt(power) * np.sign(snr[rows, None])
        best[rows] = np.where(power > 0, fits, 0).max(1)
    return best**2 > snr**2 + MIN_GAIN


def _shapes(sigma: float) -> np.ndarray:
    """A pixel and lines in all directions, each in the middle and beside it, (m, k, k) float32."""
    reach = int(REACH * sigma)
    t, half = np.arange(-reach, reach + 1), reach + SHIFT
    angle = np.pi / N_DIRECTIONS * np.arange(N_DIRECTIONS)
    step = np.stack([np.cos(angle), np.sin(angle)])
    step /= np.abs(step).max(0)  # to the next pixel
    column, row = half + np.rint(step[..., None] * t).astype(int)
    shapes = np.zeros((N_DIRECTIONS + 1, 2 * half + 1, 2 * half + 1), np.float32)
    shapes[np.arange(N_DIRECTIONS)[:, None], row, column] = np.exp(-0.5 * (np.outer(np.hypot(*step), t) / sigma) ** 2)
    shapes[-1, half, half] = 1
    shifts = range(-SHIFT, SHIFT + 1)
    return np.concatenate([np.roll(shapes, (dy, dx), (1, 2)) for dy in shifts for dx in shifts])
