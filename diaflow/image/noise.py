"""The noise of an image beyond its variance plane: how it is correlated between pixels.

Resampling takes power from high frequencies.  That of one Lanczos-3 resampling, averaged over sub-pixel phases, is
R(k_x) R(k_y); several in succession, and a mean of several images, come close to a power p of it.  The covariance
factor of the image, which is 1 / mean(R^p) over all frequencies, gives p, and with it the whole spectrum.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from diaflow.image.lanczos import HALF_WIDTH, kernel_table
from diaflow.psf.stampfield import StampField

SIZE = 25  # of the kernel that gives white noise this correlation [pixel]; 1 % of the power of the widest is beyond
N_FREQUENCIES = 256  # of the tabulated spectrum
# Where the power p is looked for, as its logarithm, and in how many halvings: to the last bit.
LOWEST_POWER, HIGHEST_POWER, N_BISECTIONS = -10.0, 12.0, 50
N_CACHED = 64  # spectra and kernels that are kept, one for each covariance factor
FACTOR_DIGITS = 6  # decimals of a covariance factor: exposures of one factor share the spectrum
# No few resamplings take more; noise with a larger factor was smoothed, as that of PSF-matched warps, by a Gaussian.
MAX_RESAMPLED = 2.5


@dataclass(frozen=True)
class Noise:
    """What the variance plane of an image does not tell of its noise.

    Attributes
    ----------
    covariance_factor : float
        Variance of the noise at low frequencies, which is that of white noise with the same power there, over the
        variance plane; 1 for white noise.
    psf_covariance_factor : float or None
        The same for the frequencies that the fit of a PSF sums up, where the noise was smoothed so much that its
        power changes within them; None where it does not.
    """

    covariance_factor: float
    psf_covariance_factor: float | None = None

    def low_frequency_variance(self, variance: np.ndarray) -> np.ndarray:
        """The variance of the noise at low frequencies.

        Parameters
        ----------
        variance : (ny, nx) float32 array
            The variance plane [unit of the image squared].

        Returns
        -------
        (ny, nx) float32 array
            The plane itself where the noise is white.
        """
        return variance if self.covariance_factor == 1 else variance * np.float32(self.covariance_factor)

    def psf_flux_error(self, error: np.ndarray) -> np.ndarray:
        """The error of PSF fluxes.

        Parameters
        ----------
        error : array
            The one that the variance plane gives when pixels are independent [unit of the flux].

        Returns
        -------
        array
        """
        factor = self.covariance_factor if self.psf_covariance_factor is None else self.psf_covariance_factor
        return error * np.sqrt(factor)

    def sum_factor(self, weights: np.ndarray) -> float:
        """Variance of a weighted sum of pixels, over the one that the variance plane gives when pixels are independent.

        Parameters
        ----------
        weights : (k, k) array
            k no more than 256.

        Returns
        -------
        float
        """
        if self.covariance_factor <= 1:
            return self.covariance_factor
        squares = np.abs(np.fft.rfft2(weights, (N_FREQUENCIES,) * 2)) ** 2
        squares[:, 1:-1] *= 2  # half of the frequencies is left out
        return float(self.covariance_factor * (squares * self.power(N_FREQUENCIES)).sum() / squares.sum())

    def scaled(self, factor: float) -> "Noise":
        """The noise of an image whose variance was found to be a multiple of what was said of it.

        Parameters
        ----------
        factor : float
            The variance over that.

        Returns
        -------
        Noise
        """
        psf_factor = None if self.psf_covariance_factor is None else self.psf_covariance_factor * factor
        return Noise(self.covariance_factor * factor, psf_factor)

    def resampled(self, white_factor: float) -> "Noise":
        """The noise after a resampling.

        Parameters
        ----------
        white_factor : float
            Covariance factor that the resampling gives white noise.

        Returns
        -------
        Noise
            Without a factor for PSF fluxes: what it becomes is not known.
        """
        return Noise(self.covariance_factor * white_factor)

    def excess_variance(self, white_factor: float) -> float:
        """Variance of a pixel after a resampling, over what its variance plane says: sum K^2 V takes V for white.

        Parameters
        ----------
        white_factor : float
            Covariance factor that the resampling gives white noise.

        Returns
        -------
        float
            1 where either of the two is white.
        """
        spectra = [_spectrum(factor) for factor in (self.covariance_factor, white_factor)]
        return float(self.covariance_factor * white_factor * _mean(np.prod(spectra, axis=0)))

    def kernel(self, shape: tuple[int, int]) -> StampField:
        """The unit-sum kernel that turns white noise, of the variance at low frequencies, into this noise.

        Parameters
        ----------
        shape : (ny, nx)
            Of the image.

        Returns
        -------
        StampField
            Of order 0; the sum of its squares is 1 / covariance_factor.
        """
        return StampField(_stamp(round(float(self.covariance_factor), FACTOR_DIGITS))[None], 0, shape)

    def power(self, n: int) -> np.ndarray:
        """Power of the noise at the frequencies of `numpy.fft.rfft2` of an (n, n) image.

        Parameters
        ----------
        n : int
            Even divisor of 256.

        Returns
        -------
        (n, n // 2 + 1) array
            1 at frequency 0.
        """
        half = _spectrum(round(float(self.covariance_factor), FACTOR_DIGITS))[:: N_FREQUENCIES // n]
        return np.outer(np.r_[half, half[-2:0:-1]], half)

    @classmethod
    def mean(cls, noises: Sequence["Noise"], weights: Sequence[float]) -> "Noise":
        """The noise of a mean of images, or of a mosaic.

        Parameters
        ----------
        noises : sequence of Noise
        weights : sequence of float
            Share of each image in the variance of the mean, or in the area of the mosaic.

        Returns
        -------
        Noise
            With a factor for PSF fluxes where all images have one.
        """
        psf_factors = [noise.psf_covariance_factor for noise in noises]
        return cls(
            float(np.average([noise.covariance_factor for noise in noises], weights=weights)),
            None if None in psf_factors else float(np.average(psf_factors, weights=weights)),
        )

    @classmethod
    def from_metadata(cls, metadata: dict) -> "Noise":
        """The noise that the metadata of an exposure file tell.

        Parameters
        ----------
        metadata : dict
            Its keys of the noise are taken out.

        Returns
        -------
        Noise

        Raises
        ------
        KeyError
            When they do not tell; white noise is not assumed.
        """
        return cls(metadata.pop("covariance_factor"), metadata.pop("psf_covariance_factor", None))

    def to_metadata(self) -> dict[str, float]:
        """The inverse of `from_metadata`.

        Returns
        -------
        dict of str to float
            ``covariance_factor`` and, where it is known, ``psf_covariance_factor``.
        """
        psf = {} if self.psf_covariance_factor is None else {"psf_covariance_factor": self.psf_covariance_factor}
        return {"covariance_factor": float(self.covariance_factor), **psf}


WHITE = Noise(1.0)


@lru_cache
def resampling_power() -> np.ndarray:
    """R: power of Lanczos-3 resampled white noise in one dimension, averaged over sub-pixel phases.

    Returns
    -------
    (129,) array
        At the frequencies of `numpy.fft.rfftfreq(256)`.  The overshoot by 2 % at half the Nyquist frequency is left
        out, so that powers of it stay below one.
    """
    taps = kernel_table().astype(float)
    padded = np.zeros((len(taps), N_FREQUENCIES))
    padded[:, : 2 * HALF_WIDTH] = taps
    return np.minimum((np.abs(np.fft.rfft(padded)) ** 2).mean(0), 1)


@lru_cache(maxsize=N_CACHED)
def _spectrum(covariance_factor: float) -> np.ndarray:
    """Power in one dimension, 1 at frequency 0, of noise with a covariance factor."""
    if covariance_factor <= 1:
        return np.ones(N_FREQUENCIES // 2 + 1)
    smoothed = covariance_factor > MAX_RESAMPLED
    base = np.exp(-(np.fft.rfftfreq(N_FREQUENCIES) ** 2)) if smoothed else resampling_power()
    low, high = LOWEST_POWER, HIGHEST_POWER
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if covariance_factor * _mean(base ** np.exp(middle)) > 1 else (low, middle)
    return base ** np.exp(low)


def _mean(power: np.ndarray) -> float:
    """Mean over the frequencies of both dimensions."""
    return np.r_[power, power[-2:0:-1]].mean() ** 2


@lru_cache(maxsize=N_CACHED)
def _stamp(covariance_factor: float) -> np.ndarray:
    if covariance_factor <= 1:
        return np.ones((1, 1))
    profile = np.fft.fftshift(np.fft.irfft(np.sqrt(_spectrum(covariance_factor))))
    middle = N_FREQUENCIES // 2
    profile = profile[middle - SIZE // 2 : middle + SIZE // 2 + 1]
    profile /= profile.sum()
    return np.outer(profile, profile)
