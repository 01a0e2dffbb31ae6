"""The matched filter of a point source turns an image into a map of signal-to-noise ratios; sources are its peaks."""

import numpy as np

from diaflow.image.flux_error import FluxError
from diaflow.image.planes import pixels_where, row_blocks
from diaflow.measure.kernels import MIN_WEIGHT
from diaflow.pixels.convolution import convolved_blocks
from diaflow.psf.stampfield import StampField


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
        noise only; 0 where no more than a tenth of sum(P**2) is on pixels that count (`kernels.MIN_WEIGHT`).  It is the
        flux over its error of `photometry.psf_flux` at the pixel.

    Notes
    -----
    The filter has no weights 1/V: pixels that fluctuate low have a lower V, and with 100 photons of sky per pixel
    such weights would pull the ratio to -0.6 for a PSF of 4 pixels FWHM.

    A pixel that does not count has the ratio that those around it give.  The ratio of a source is then highest where
    the source is, whichever of its pixels count: over these, no moved P is more like P than P itself (Cauchy's
    inequality).
    """
    stamp = np.asarray(psf_stamp, np.float32)[None, ::-1, ::-1]
    ignored = _ignored(image, variance, bad)
    signals = convolved_blocks(image, StampField(stamp, 0, image.shape), ignored)
    noises = convolved_blocks(variance, StampField(stamp**2, 0, image.shape), ignored)
    own = stamp[0, stamp.shape[1] // 2, stamp.shape[2] // 2] ** 2
    power = (stamp**2).sum()
    least = MIN_WEIGHT * power
    snr = np.empty(image.shape, np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):  # of ignored pixels
        for (rows, signal), (_, noise) in zip(signals, noises):
            y, x = pixels_where(ignored[rows])
            around, here = noise[y, x], variance[rows][y, x]
            alone = ~((around > least * here) & (here > 0))
            # A counting pixel's own term is the least that the sum can be; rounding of the transforms goes below it.
            np.maximum(noise, variance[rows] * own, out=noise, where=~ignored[rows])
            if flux_error is not None:
                noise += (power * flux_error.rows(rows, image.shape[1])) ** 2
            np.divide(signal, np.sqrt(noise, out=noise), out=snr[rows])
            snr[rows][y[alone], x[alone]] = 0
    return snr


def _ignored(image: np.ndarray, variance: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Pixels that do not count, (ny, nx) bool."""
    out = bad.copy()
    for rows in row_blocks(len(image)):
        out[rows] |= ~(np.isfinite(image[rows]) & (variance[rows] > 0) & np.isfinite(variance[rows]))
    return out
