"""Sources that are sharper than the PSF, which light cannot make: hits of particles, tracks of slow electrons.

A source is fitted once more by what particles leave: a single pixel, or a line of pixels, one pixel wide and as long
as the PSF, in any direction.  Where the best of them explains much more of the pixels than the PSF does, the source is
sharp.  A shape that gains k squared in chi-squared on the true one takes noise of k sigma at least, whatever the two
have in common and however bright the source is, and the PSF model may be as wrong as the shapes are different.

A track that winds is no line.  Where the PSF leaves more of the pixels of its core than noise does, and that is half of
what it explains or more, the source has structure finer than the PSF.  And of a track of which a part has been found
(CR), the rest lies beside it: what is no source without the pixels beside hits is a hit.
"""

from dataclasses import replace

import numpy as np
from scipy.special import chdtri

from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.pixels.growth import grow
from diaflow.psf.stampfield import moments_sigma

N_DIRECTIONS = 8  # of the lines: between two of them ends of a line of 5 pixels move by half a pixel
SHIFT = 1  # largest distance of the middle of a line from the pixel of the source, along x and y [pixel]
REACH = 2.5  # of the lines from their middle, along x or y [sigma of the PSF]
# Least gain in chi-squared, 3.5 sigma squared: noise gives it to 1 in 600 point sources of S/N 5, and to 1 in 3000 of
# S/N 7 (2500 simulated ones for each of 1.6 to 8 pixels FWHM).
MIN_GAIN = 12.0
# Core of the PSF, half of its side [sigma of the PSF]; part of the point sources in whose core noise leaves more; and
# what is left over what is explained: a streak, the longest of trails, leaves 0.3, an error of the PSF of 5 % 0.003.
CORE, CHANCE, MIN_LEFT = 2.0, 1e-3, 0.5
BESIDE = 1  # pixels beside a hit may hold a part of its charge [pixel]
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


def is_uneven(image: Exposure, x: np.ndarray, y: np.ndarray, snr: np.ndarray) -> np.ndarray:
    """Which sources have structure finer than the PSF: what the PSF leaves of its core is neither noise nor little.

    Parameters
    ----------
    image : Exposure
        With independent pixels and its PSF.
    x, y : (n,) arrays
        Positions [pixel].
    snr : (n,) array
        PSF flux over its error, of either sign.

    Returns
    -------
    (n,) bool array
        False where there is no flux.
    """
    good = ~image.flagged(*photometry.UNUSABLE)
    half = int(np.ceil(CORE * moments_sigma(image.psf.centre())))

    def core(at_x: np.ndarray, at_y: np.ndarray) -> np.ndarray:
        stamps = image.psf(at_x, at_y)
        inner = slice(max(0, stamps.shape[-1] // 2 - half), stamps.shape[-1] // 2 + half + 1)
        return stamps[:, inner, inner]

    fit = photometry.psf_flux(image.image, image.variance, good, core, x, y)
    freedom = np.maximum(fit.n_data - 1, 1)
    return (fit.chi2 > chdtri(freedom, CHANCE)) & (fit.chi2 - freedom > MIN_LEFT * snr**2)


def is_beside_hits(image: Exposure, x: np.ndarray, y: np.ndarray, threshold: float) -> np.ndarray:
    """Which sources are none without the pixels beside hits.

    Parameters
    ----------
    image : Exposure
        Its hits have CR.
    x, y : (n,) arrays
        Positions [pixel].
    threshold : float
        Least S/N of a source.

    Returns
    -------
    (n,) bool array
        False where no hit is in the core of the PSF.
    """
    beside = grow(image.mask & bits("CR"), BESIDE)
    reach = CORE * moments_sigma(image.psf.centre())
    rows = np.flatnonzero(photometry.planes_within(beside, x, y, reach))
    rest = photometry.exposure_flux(replace(image, mask=image.mask | beside), x[rows], y[rows])
    out = np.zeros(len(x), bool)
    out[rows] = ~(np.abs(rest.flux) >= threshold * rest.err)
    return out


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
