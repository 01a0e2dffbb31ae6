"""The colour of the noise of a resampled image: what its power spectrum is, from its covariance factor alone.

Resampling takes power from high frequencies.  That of one Lanczos-3 resampling, averaged over sub-pixel phases, is
R(k_x) R(k_y); several in succession, and a mean of several images, come close to a power p of it.  The covariance
factor of the image, which is 1 / mean(R^p) over all frequencies, gives p.
"""

from functools import lru_cache

import numpy as np

from diaflow.psf.stampfield import StampField

SIZE = 25
N_FREQUENCIES = 256
N_BISECTIONS = 50
# No few resamplings take more; noise with a larger factor was smoothed, as that of PSF-matched warps, by a Gaussian.
MAX_RESAMPLED = 2.5


def colour_field(covariance_factor: float, shape: tuple[int, int]) -> StampField:
    """The unit-sum kernel that turns white noise into noise of the colour of a resampled image.

    Parameters
    ----------
    covariance_factor : float
        Variance of the noise at low frequencies over that of a pixel; one or less means white.
    shape : (ny, nx)

    Returns
    -------
    StampField
        Of order 0; the sum of its squares is 1 / covariance_factor.
    """
    return StampField(_stamp(round(float(covariance_factor), 6))[None], 0, shape)


@lru_cache
def resampling_power() -> np.ndarray:
    """R at the frequencies of `numpy.fft.rfftfreq(256)`: power of Lanczos-3 resampled white noise in one dimension.

    Its overshoot by 2 % at half the Nyquist frequency is left out, so that powers of it stay below one.
    """
    # imports numba, which a difference of images need not
    from diaflow.image.lanczos import HALF_WIDTH, kernel_table

    taps = kernel_table().astype(float)
    padded = np.zeros((len(taps), N_FREQUENCIES))
    padded[:, : 2 * HALF_WIDTH] = taps
    return np.minimum((np.abs(np.fft.rfft(padded)) ** 2).mean(0), 1)


def noise_power(covariance_factor: float, n: int) -> np.ndarray:
    """Power of the noise, 1 at frequency 0, at the frequencies of `numpy.fft.rfft2` of an (n, n) image.

    n must divide 256.
    """
    half = _spectrum(round(float(covariance_factor), 6))[:: N_FREQUENCIES // n]
    return np.outer(np.r_[half, half[-2:0:-1]], half)


def excess_variance(first: float, second: float) -> float:
    """Variance of a pixel after two resamplings, over what the variance plane says: sum K^2 V takes V for white.

    Parameters
    ----------
    first, second : float
        Covariance factors of the image before the second resampling, and of that resampling alone.
    """
    spectra = (_spectrum(factor) for factor in (first, second))
    return float(first * second * _mean(np.prod(list(spectra), axis=0)))


@lru_cache(maxsize=64)
def _spectrum(covariance_factor: float) -> np.ndarray:
    """Power in one dimension, 1 at frequency 0, of noise with a covariance factor."""
    if covariance_factor <= 1:
        return np.ones(N_FREQUENCIES // 2 + 1)
    smoothed = covariance_factor > MAX_RESAMPLED
    base = np.exp(-(np.fft.rfftfreq(N_FREQUENCIES) ** 2)) if smoothed else resampling_power()
    low, high = -10.0, 12.0
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if covariance_factor * _mean(base ** np.exp(middle)) > 1 else (low, middle)
    return base ** np.exp(low)


def _mean(power: np.ndarray) -> float:
    """Mean over the frequencies of both dimensions."""
    return np.r_[power, power[-2:0:-1]].mean() ** 2


@lru_cache(maxsize=64)
def _stamp(covariance_factor: float) -> np.ndarray:
    if covariance_factor <= 1:
        return np.ones((1, 1))
    profile = np.fft.fftshift(np.fft.irfft(np.sqrt(_spectrum(covariance_factor))))
    middle = N_FREQUENCIES // 2
    profile = profile[middle - SIZE // 2 : middle + SIZE // 2 + 1]
    profile /= profile.sum()
    return np.outer(profile, profile)
