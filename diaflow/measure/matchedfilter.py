"""The matched filter of a point source turns an image into a map of signal-to-noise ratios; sources are its peaks."""

import numpy as np
from numba import njit

from diaflow.image.flux_error import FluxError
from diaflow.image.planes import pixels_where, row_blocks
from diaflow.jit import EXACT
from diaflow.pixels.convolution import convolved_blocks
from diaflow.pixels.growth import core_radius
from diaflow.psf.stampfield import StampField, resized

# Least share of sum(P**2) on pixels that count, around one that does not; chosen: an edge leaves it at 0.6 sigma.  With
# less, a peak may be too far from its source for a fit to get there.
LEAST_SEEN = 0.2


def smooth_snr(
    image: np.ndarray,
    variance: np.ndarray,
    bad: np.ndarray,
    psf_stamp: np.ndarray,
    flux_error: FluxError | None = None,
) -> np.ndarray:
    """Signal-to-noise ratio of a point source at every pixel.

    Parameters
    ----------
    image, variance : (ny, nx) arrays
        Pixels with white noise, and their variances.
    bad : (ny, nx) bool array
        Pixels that do not count; those that are not finite or have no positive variance do not either.
    psf_stamp : (k, k) array
        PSF, k odd.
    flux_error : FluxError, optional
        Of PSF fluxes, what is not noise of the pixels.

    Returns
    -------
    (ny, nx) float32 array
        sum(P I) / sqrt(sum(P**2 V) + (sum(P**2) E)**2) with E the `flux_error`, of unit variance where there is
        noise only; 0 at pixels that do not count nor have `LEAST_SEEN` of sum(P**2) on those that do.  It is the flux
        over its error of `photometry.psf_flux` at the pixel.

    Notes
    -----
    The filter has no weights 1/V: pixels that fluctuate low have a lower V, and with 100 photons of sky per pixel
    such weights would pull the ratio to -0.6 for a PSF of 4 pixels FWHM.

    A pixel that does not count has the ratio that those around it give.  The ratio of a source is then highest where
    the source is, whichever of its pixels count: over these, no moved P is more like P than P itself (Cauchy's
    inequality; it holds as far as V is the same all over the source).
    """
    stamp = np.asarray(psf_stamp, np.float32)[None, ::-1, ::-1]
    ignored = _ignored(image, variance, bad)
    signals = convolved_blocks(image, StampField(stamp, 0, image.shape), ignored)
    noises = convolved_blocks(variance, StampField(stamp**2, 0, image.shape), ignored)
    own = stamp[0, stamp.shape[1] // 2, stamp.shape[2] // 2] ** 2
    power = (stamp**2).sum()
    weight = np.asarray(psf_stamp, np.float32) ** 2
    weight = np.ascontiguousarray(resized(weight, 2 * core_radius(weight) + 1))
    snr = np.empty(image.shape, np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):  # of ignored pixels
        for (rows, signal), (_, noise) in zip(signals, noises):
            hidden = pixels_where(ignored[rows])
            around = noise[hidden]
            # A counting pixel's own term is the least that the sum can be; rounding of the transforms goes below it.
            np.maximum(noise, variance[rows] * own, out=noise)
            seen = _share_that_counts(ignored, rows.start, *hidden, weight) >= LEAST_SEEN
            noise[hidden] = np.where(seen, around, np.inf)
            if flux_error is not None:
                noise += (power * flux_error.rows(rows, image.shape[1])) ** 2
            np.divide(signal, np.sqrt(noise, out=noise), out=snr[rows])
    return snr


def _ignored(image: np.ndarray, variance: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Pixels that do not count, (ny, nx) bool."""
    out = bad.copy()
    for rows in row_blocks(len(image)):
        out[rows] |= ~(np.isfinite(image[rows]) & (variance[rows] > 0) & np.isfinite(variance[rows]))
    return out


@njit(**EXACT)
def _share_that_counts(ignored, first, y, x, weight):
    """Share (n,) of the weight (k, k) that is on pixels that are not ignored, around pixels (first + y, x)."""
    ny, nx = ignored.shape
    h, share = weight.shape[0] // 2, np.empty(y.size, np.float32)
    for n in range(y.size):
        row, column, total = first + y[n] - h, x[n] - h, np.float32(0)
        for j in range(max(0, -row), min(2 * h + 1, ny - row)):
            for i in range(max(0, -column), min(2 * h + 1, nx - column)):
                if not ignored[row + j, column + i]:
                    total += weight[j, i]
        share[n] = total
    return share / weight.sum()
