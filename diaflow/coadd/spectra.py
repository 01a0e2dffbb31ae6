"""The algebra of likelihood coadds, frequency by frequency (Zackay & Ofek 2017; Bosch, DMTN-015).

Of images Z_i = P_i H + noise of white variance C_i the sum Psi = sum conj(P_i) Z_i / C_i holds all that they tell of
the sky H, with Phi = sum |P_i|^2 / C_i.  A coadd of PSF T is T Psi / Phi, or T Psi / (Phi + prior); its noise
has the power |T|^2 Phi / (Phi + prior)^2.  T = sqrt(Phi / S) with S = sum 1 / C_i makes the noise white (Kaiser).
Spectra are those of `scipy.fft.rfft2`.
"""

from collections.abc import Callable, Iterable

import numpy as np
from scipy import fft

from diaflow.errors import BadData

# Side of the image on which spectra of PSFs and noise are worked out [pixel].
GRID = 128
# Part of the flux of every PSF that is put into its central pixel before images are filtered with it, so that Phi is
# zero nowhere: where no PSF passes a frequency, images are added as they are.
FLOOR = 1e-4
# Of the widths of Gaussians that are tried [pixel].
WIDTH_STEP = 0.1

# What is made of Phi / S and the shape of an image: the transform of the PSF of the coadd there.
Response = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def transform(stamps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Transforms (..., ny, nx // 2 + 1) of stamps (..., k, k) centred on pixel (0, 0) of an image no smaller."""
    ny, nx = shape
    k = stamps.shape[-1]
    image = np.zeros((*stamps.shape[:-2], ny, nx), stamps.dtype)
    image[..., :k, :k] = stamps
    return fft.rfft2(np.roll(image, (-(k // 2), -(k // 2)), (-2, -1)))


def stamp(spectrum: np.ndarray, size: int) -> np.ndarray:
    """The centred stamp (size, size), of unit sum, of a transform on the grid."""
    image = fft.fftshift(fft.irfft2(spectrum, (GRID, GRID)))
    middle, half = GRID // 2, size // 2
    cut = image[middle - half : middle + half + 1, middle - half : middle + half + 1]
    return cut / cut.sum()


def floored(stamps: np.ndarray) -> np.ndarray:
    """Stamps (..., k, k) with `FLOOR` of their flux in the central pixel."""
    out = (1 - FLOOR) * stamps
    centre = stamps.shape[-1] // 2
    out[..., centre, centre] += FLOOR
    return out


def information(transforms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Phi of transforms (n, ...) and the inverse (n,) of white variances; Phi / S where the weights have unit sum."""
    return np.tensordot(weights, np.abs(transforms) ** 2, 1)


def roughness(shape: tuple[int, int]) -> np.ndarray:
    """Frequency squared, 1 at the Nyquist frequency of either axis."""
    ny, nx = shape
    return ((2 * fft.fftfreq(ny))[:, None] ** 2 + (2 * fft.rfftfreq(nx)) ** 2).astype(np.float32)


def noise_power(response: np.ndarray, phi: np.ndarray, prior: np.ndarray | float = 0.0) -> np.ndarray:
    """Power of the noise of a coadd of the given PSF transform; its mean over frequencies is the pixel variance."""
    return np.abs(response) ** 2 * phi / (phi + prior) ** 2


def mean(spectrum: np.ndarray, shape: tuple[int, int]) -> float:
    """Mean over all frequencies of a real spectrum (ny, nx // 2 + 1), which has half of them."""
    ny, nx = shape
    return float(
        (2 * spectrum.sum() - spectrum[:, 0].sum() - (spectrum[:, -1].sum() if nx % 2 == 0 else 0)) / (ny * nx)
    )


def psf_weighted(noise: np.ndarray, psf: np.ndarray, shape: tuple[int, int]) -> float:
    """Variance of the white noise that would give the PSF flux the error that noise of this power gives it."""
    power = np.abs(psf) ** 2
    return mean(power * noise, shape) / mean(power, shape)


def kaiser(power: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The PSF that makes the noise white, from Phi / S."""
    return np.sqrt(power)


def bounded(powers: Iterable[np.ndarray], max_noise: float, size: int) -> np.ndarray:
    """The sharpest PSF for which no coadd has much more noise at any frequency than at frequency 0.

    Parameters
    ----------
    powers : (GRID, GRID // 2 + 1) arrays
        Phi / S of each coadd.
    max_noise : float
        Bound on |T|^2 S / Phi, which is 1 at frequency 0.
    size : int
        Side of the result, odd [pixel].

    Returns
    -------
    (size, size) array
        The mean of the PSFs of white noise convolved with the narrowest Gaussian that keeps the bound.

    Raises
    ------
    BadData
        When none does that fits into the stamp.
    """
    mean_psf, least, n = 0.0, np.inf, 0
    for power in powers:
        mean_psf, least, n = mean_psf + np.sqrt(power), np.minimum(least, power), n + 1
    ky, kx = 2 * np.pi * fft.fftfreq(GRID)[:, None], 2 * np.pi * fft.rfftfreq(GRID)
    for width in np.arange(0, size / 6, WIDTH_STEP):
        found = stamp(mean_psf / n * np.exp(-0.5 * width**2 * (kx**2 + ky**2)), size)
        if (np.abs(transform(found, (GRID, GRID))) ** 2 / least).max() <= max_noise:
            return found
    raise BadData("no PSF keeps the noise of all cells bounded")


def fixed(psf: np.ndarray) -> Response:
    """The response that is one stamp (k, k) whatever Phi is."""
    return lambda power, shape: transform(psf, shape)
