"""The algebra of likelihood coadds, frequency by frequency (Zackay & Ofek 2017; Bosch, DMTN-015).

Of images Z_i = P_i H + noise of white variance C_i the sum Psi = sum conj(P_i) Z_i / C_i holds all that they tell of
the sky H, with Phi = sum |P_i|^2 / C_i.  A coadd of PSF T is T Psi / Phi, or T Psi / (Phi + prior); its noise
has the power |T|^2 Phi / (Phi + prior)^2.  T = sqrt(Phi / S) with S = sum 1 / C_i makes the noise white (Kaiser).
Spectra are those of `scipy.fft.rfft2`.
"""

from collections.abc import Callable, Iterable

import numpy as np
from scipy import fft

from diaflow.errors import BadData, Kind

# Side of the image on which spectra of PSFs and noise are worked out [pixel].
GRID = 128
# Part of the flux of every PSF that is put into its central pixel before images are filtered with it, so that Phi is
# zero nowhere: where no PSF passes a frequency, images are added as they are.
FLOOR = 1e-4
# Step of the widths of Gaussians that are tried [pixel], and widths of the broadest that fit into a stamp: three on
# either side.
WIDTH_STEP, WIDTHS_PER_STAMP = 0.1, 6

# What is made of Phi / S and the shape of an image: the transform of the PSF of the coadd there.
Response = Callable[[np.ndarray, tuple[int, int]], np.ndarray]


def transform(stamps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Transforms of stamps that are centred on pixel (0, 0) of an image.

    Parameters
    ----------
    stamps : (..., k, k) array
        k odd.
    shape : (ny, nx)
        Of the image, no smaller than the stamps.

    Returns
    -------
    (..., ny, nx // 2 + 1) complex array
    """
    ny, nx = shape
    k = stamps.shape[-1]
    image = np.zeros((*stamps.shape[:-2], ny, nx), stamps.dtype)
    image[..., :k, :k] = stamps
    return fft.rfft2(np.roll(image, (-(k // 2), -(k // 2)), (-2, -1)))


def stamp(spectrum: np.ndarray, size: int) -> np.ndarray:
    """The inverse of `transform` on the grid.

    Parameters
    ----------
    spectrum : (GRID, GRID // 2 + 1) array
    size : int
        Side of the stamp, odd [pixel].

    Returns
    -------
    (size, size) array
        Cut to this size and scaled to unit sum.
    """
    image = fft.fftshift(fft.irfft2(spectrum, (GRID, GRID)))
    middle, half = GRID // 2, size // 2
    cut = image[middle - half : middle + half + 1, middle - half : middle + half + 1]
    return cut / cut.sum()


def floored(stamps: np.ndarray) -> np.ndarray:
    """Stamps with `FLOOR` of their flux put into the central pixel.

    Parameters
    ----------
    stamps : (..., k, k) array
        Of unit sum, k odd.

    Returns
    -------
    (..., k, k) array
    """
    out = (1 - FLOOR) * stamps
    centre = stamps.shape[-1] // 2
    out[..., centre, centre] += FLOOR
    return out


def information(transforms: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Phi, what images tell of the sky at each frequency.

    Parameters
    ----------
    transforms : (n, ...) complex array
        Of the PSFs.
    weights : (n,) array
        Inverse of the variances of white noise, or their shares in S.

    Returns
    -------
    (...) array
        Phi, or Phi / S where the weights have unit sum.
    """
    return np.tensordot(weights, np.abs(transforms) ** 2, 1)


def roughness(shape: tuple[int, int]) -> np.ndarray:
    """Frequency squared.

    Parameters
    ----------
    shape : (ny, nx)

    Returns
    -------
    (ny, nx // 2 + 1) float32 array
        1 at the Nyquist frequency of either axis.
    """
    ny, nx = shape
    return ((2 * fft.fftfreq(ny))[:, None] ** 2 + (2 * fft.rfftfreq(nx)) ** 2).astype(np.float32)


def noise_power(response: np.ndarray, phi: np.ndarray, prior: np.ndarray | float = 0.0) -> np.ndarray:
    """Power of the noise of a coadd.

    Parameters
    ----------
    response : (ny, nx // 2 + 1) complex array
        Transform of the PSF of the coadd.
    phi : array of that shape
        Phi, or Phi / S.
    prior : array of that shape or float
        Inverse power of the sky, in the unit of `phi`.

    Returns
    -------
    (ny, nx // 2 + 1) array
        Its mean over frequencies is the variance of a pixel (times S, where Phi / S was given).
    """
    return np.abs(response) ** 2 * phi / (phi + prior) ** 2


def mean(spectrum: np.ndarray, shape: tuple[int, int]) -> float:
    """Mean over all frequencies of a spectrum that has half of them.

    Parameters
    ----------
    spectrum : (ny, nx // 2 + 1) array
        Real.
    shape : (ny, nx)

    Returns
    -------
    float
    """
    ny, nx = shape
    return float(
        (2 * spectrum.sum() - spectrum[:, 0].sum() - (spectrum[:, -1].sum() if nx % 2 == 0 else 0)) / (ny * nx)
    )


def psf_weighted(noise: np.ndarray, psf: np.ndarray, shape: tuple[int, int]) -> float:
    """Variance of the white noise that would give a PSF flux the error that noise of this power gives it.

    Parameters
    ----------
    noise : (ny, nx // 2 + 1) array
        Power.
    psf : complex array of that shape
        Transform of the PSF.
    shape : (ny, nx)

    Returns
    -------
    float
    """
    power = np.abs(psf) ** 2
    return mean(power * noise, shape) / mean(power, shape)


def kaiser(power: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The PSF that makes the noise white (Kaiser 2001): a `Response`.

    Parameters
    ----------
    power : (ny, nx // 2 + 1) array
        Phi / S.
    shape : (ny, nx)

    Returns
    -------
    (ny, nx // 2 + 1) array
        Its transform.
    """
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
    for width in np.arange(0, size / WIDTHS_PER_STAMP, WIDTH_STEP):
        found = stamp(mean_psf / n * np.exp(-0.5 * width**2 * (kx**2 + ky**2)), size)
        if (np.abs(transform(found, (GRID, GRID))) ** 2 / least).max() <= max_noise:
            return found
    raise BadData("no PSF keeps the noise of all cells bounded", Kind.TEMPLATE)


def fixed(psf: np.ndarray) -> Response:
    """The response that is one stamp whatever Phi is.

    Parameters
    ----------
    psf : (k, k) array
        k odd.

    Returns
    -------
    callable
        A `Response`.
    """
    return lambda power, shape: transform(psf, shape)
