"""The matched filter of a point source turns an image into a map of signal-to-noise ratios; sources are its peaks."""

import numpy as np

from diaflow.psfmatch.convolution import convolve
from diaflow.stampfield import StampField


def smooth_snr(image: np.ndarray, variance: np.ndarray, bad: np.ndarray, psf_stamp: np.ndarray) -> np.ndarray:
    """Signal-to-noise ratio of a point source at every pixel.

    Parameters
    ----------
    image, variance : (ny, nx) arrays
        Pixels with white noise, and their variances.
    bad : (ny, nx) bool array
        Pixels that do not count; those that are not finite or have no positive variance do not either.
    psf_stamp : (k, k) array
        PSF, k odd.

    Returns
    -------
    (ny, nx) float32 array
        sum(P I) / sqrt(sum(P**2 V)), of unit variance where there is noise only; 0 where the pixel itself does not
        count.  It is the flux over its error of `measure.psf_flux` at the pixel.

    Notes
    -----
    The filter has no weights 1/V: pixels that fluctuate low have a lower V, and with 100 photons of sky per pixel
    such weights would pull the ratio to -0.6 for a PSF of 4 pixels FWHM.
    """
    good = ~bad & np.isfinite(image) & (variance > 0) & np.isfinite(variance)
    stamp = np.asarray(psf_stamp, np.float32)[None, ::-1, ::-1]
    signal = convolve(np.where(good, image, 0), StampField(stamp, 0, image.shape))
    variance = np.where(good, variance, 0).astype(np.float32, copy=False)
    noise = convolve(variance, StampField(stamp**2, 0, image.shape))
    # The pixel's own term is the least that the sum can be; rounding of the transforms goes below it.
    np.maximum(noise, variance * stamp[0, stamp.shape[1] // 2, stamp.shape[2] // 2] ** 2, out=noise)
    np.divide(signal, np.sqrt(noise, out=noise), out=signal, where=good)
    signal[~good] = 0
    return signal
