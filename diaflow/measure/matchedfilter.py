"""The matched filter of a point source turns an image into a map of signal-to-noise ratios; sources are its peaks."""

import numpy as np

from diaflow.image.flux_error import FluxError
from diaflow.image.planes import row_blocks
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
        noise only; 0 where the pixel itself does not count.  It is the flux over its error of `photometry.psf_flux` at
        the pixel.

    Notes
    -----
    The filter has no weights 1/V: pixels that fluctuate low have a lower V, and with 100 photons of sky per pixel
    such weights would pull the ratio to -0.6 for a PSF of 4 pixels FWHM.
    """
    stamp = np.asarray(psf_stamp, np.float32)[None, ::-1, ::-1]
    ignored = _ignored(image, variance, bad)
    signals = convolved_blocks(image, StampField(stamp, 0, image.shape), ignored)
    noises = convolved_blocks(variance, StampField(stamp**2, 0, image.shape), ignored)
    own = stamp[0, stamp.shape[1] // 2, stamp.shape[2] // 2] ** 2
    power = (stamp**2).sum()
    snr = np.empty(image.shape, np.float32)
    with np.errstate(invalid="ignore", divide="ignore"):  # of ignored pixels
        for (rows, signal), (_, noise) in zip(signals, noises):
            # The pixel's own term is the least that the sum can be; rounding of the transforms goes below it.
            np.maximum(noise, variance[rows] * own, out=noise)
            if flux_error is not None:
                noise += (power * flux_error.rows(rows, image.shape[1])) ** 2
            np.divide(signal, np.sqrt(noise, out=noise), out=snr[rows])
            snr[rows][ignored[rows]] = 0
    return snr


def _ignored(image: np.ndarray, variance: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Pixels that do not count, (ny, nx) bool."""
    out = bad.copy()
    for rows in row_blocks(len(image)):
        out[rows] |= ~(np.isfinite(image[rows]) & (variance[rows] > 0) & np.isfinite(variance[rows]))
    return out
