"""What subtraction leaves of stars beyond noise, as an error of PSF fluxes that is as large as stars show it to be.

No kernel takes one image of a star of S/N 1000 to another within its photon noise.  At a star, the PSF flux of the
difference scatters by a fraction of the star's flux beyond its noise; beside it, it scatters as that of a star that was
displaced by a part of the radius of the PSF; farther away, as the wings of PSF and kernel do.  All three are told by
the stars of the image themselves.  The first may change with the flux as a power of it, and where inputs of the
template begin or end, so that its PSF jumps away from the smooth field that a kernel can follow, the jump counts too.

The errors belong to fluxes and not to pixels (`FluxError`): everywhere they are those of the structure that the
template has on the scale of the PSF, so that smooth galaxies, which any kernel matches, get little of it.  Compare the
systematic term of Kessler et al. (2015, AJ 150, 172) and the astrometric one of Zackay et al. (2016, ApJ 830, 27).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from diaflow.image.exposure import Exposure
from diaflow.image.flux_error import BIN, FluxError
from diaflow.image.planes import row_blocks
from diaflow.jit import FAST
from diaflow.measure import photometry
from diaflow.psf.stampfield import moments_sigma

LEAST_STRUCTURE = 3.0  # of the template, in errors of a flux: less is its noise
TRUNCATE = 3.0  # where the Gaussians end [their width]
# Distance from a star at which its wings are told, and width of the Gaussian that they fall with [radius of the PSF]:
# they end at three times that, where kernels do.
FAR, FAR_WIDTH = 5.0, 3.0
BESIDE = np.sqrt(2)  # distance from a displaced star at which its flux is most wrong [radius of the PSF]
# Correlation of the noise of two PSF fluxes at twice that distance, on both sides of a star (Gaussian).
CORRELATION = np.exp(-(BESIDE**2))

# Fractions and powers that are tried.  The power is 1 unless stars show another, which is one number more to be told by
# them and costs half the logarithm of theirs in likelihood (Schwarz 1978).
FRACTIONS = np.geomspace(1e-4, 0.5, 86)  # in steps of 10 %
POWERS = (1.0, 0.75, 0.5, 0.25)
# Without stars the fraction is taken to be USUAL, within a factor of SPREAD; three stars outweigh it.
USUAL, SPREAD = 0.01, 3.0
USUAL_WINGS = 0.001  # the same for the wings
# Of the stars, one of these parts may vary, or be none.  What they leave is as likely as in a Cauchy distribution of
# this half width [error]: about what is just detected, and anything above.
OUTLIERS, OUTLIER_WIDTH = (0.02, 0.1, 0.3), 5.0
MAX_FRACTION = 0.5  # of its flux by which a star may be wrong, however faint: it has been subtracted
MIN_SNR = 10.0  # of the stars
REACH = 2  # around a star without unusable pixels [pixel]


@dataclass(frozen=True)
class Structure:
    """What a template has on the scale of its PSF, as a PSF fit feels it, in the bins of `FluxError`.

    Attributes
    ----------
    flux : (my, mx) float32 array
        That of a star at a star, and falling from it no faster than what the star has there of a PSF fit: else what
        varies would stand out of its errors beside its middle [unit of the flux].
    slope : (my, mx) float32 array
        Change of the PSF flux for a step as long as the radius of the PSF, where it is larger than what the bin of the
        middle of a star has of it: 0 at a star [unit of the flux].
    around : (my, mx) float32 array
        The flux of a star at `FAR` from it, falling outwards [unit of the flux].
    jump : (my, mx) float32 array
        See `TemplatePsf.jumps`.
    """

    flux: np.ndarray
    slope: np.ndarray
    around: np.ndarray
    jump: np.ndarray

    @classmethod
    def of(cls, difference: Exposure, template: Exposure, jumps: np.ndarray) -> "Structure":
        """The structure of a template.

        Parameters
        ----------
        difference, template : Exposure
            The template as it was subtracted.
        jumps : (m, m) array
            See `TemplatePsf.jumps`.

        Returns
        -------
        Structure
        """
        stamp = template.psf.centre()
        sigma = moments_sigma(stamp)
        margin = 2 + 2 * int(TRUNCATE * sigma + 0.5)
        room = int((FAR + TRUNCATE * FAR_WIDTH) * sigma + 0.5) * BIN
        star = np.pad(stamp, room).astype(np.float32)
        smooth_star = _blurred(star, sigma)
        peaked = _peaked(star, smooth_star, sigma)
        norm, slope_norm = 1 / peaked.max(), sigma / smooth_star.max()
        noise2 = np.float32(LEAST_STRUCTURE**2 / (difference.psf.centre() ** 2).sum())
        flux, slope = [], []
        for rows in row_blocks(difference.shape[0]):
            first = max(0, rows.start - margin)
            window, own = slice(first, rows.stop + margin), slice(rows.start - first, rows.stop - first)
            image, least = template.image[window], noise2 * difference.variance[window]
            smooth = _blurred(image, sigma)
            for planes, square in (
                (flux, (norm * _peaked(image, smooth, sigma)) ** 2),
                (slope, slope_norm**2 * _gradient2(smooth)),
            ):
                planes.append(FluxError.binned(np.sqrt(np.maximum(square - least, 0)[own])).bins)
        own, own_slope = (
            FluxError.binned(plane).bins for plane in (norm * peaked, slope_norm * np.sqrt(_gradient2(smooth_star)))
        )
        own, flux = (_spread(plane, sigma / BIN) for plane in (own, np.concatenate(flux)))
        middle = np.unravel_index(own.argmax(), own.shape)
        flux /= own[middle]
        leak2 = (own_slope[middle] * flux) ** 2
        slope = np.sqrt(np.maximum(np.concatenate(slope) ** 2 - leak2, 0))
        wings = _spread(own / own[middle], FAR_WIDTH * sigma / BIN)
        middle = len(own) // 2
        around = _spread(flux, FAR_WIDTH * sigma / BIN) / wings[middle, middle + round(FAR * sigma / BIN)]
        row, column = (np.arange(n) * len(jumps) // n for n in flux.shape)
        return cls(flux, slope, around, jumps.astype(np.float32)[row][:, column])

    def at(self, x: np.ndarray, y: np.ndarray) -> "Structure":
        """The structure at positions.

        Parameters
        ----------
        x, y : (n,) arrays
            [pixel]

        Returns
        -------
        Structure
            Of (n,) arrays.
        """
        planes = (self.flux, self.slope, self.around, self.jump)
        return Structure(*(FluxError(plane).at(x, y).astype(float) for plane in planes))


@dataclass(frozen=True)
class StarErrors:
    """How wrong the fluxes of stars are on a difference, beyond noise.

    Attributes
    ----------
    fraction : float
        Of the flux, at a star of flux `pivot`.
    power : float
        Of the flux of the star, with which its error grows.
    pivot : float
        Median flux of the stars [unit of the flux].
    displacement : float
        Rms in one coordinate [radius of the PSF].
    wings : float
        Of the flux, at `FAR` from the star.
    n_stars : int
    """

    fraction: float
    power: float
    pivot: float
    displacement: float
    wings: float
    n_stars: int

    def of(self, structure: Structure) -> np.ndarray:
        """Errors of PSF fluxes where the template has some structure.

        Parameters
        ----------
        structure : Structure

        Returns
        -------
        array
            [unit of the flux]
        """
        relative = np.maximum(structure.flux, np.finfo(np.float32).tiny) / np.float32(self.pivot)
        own = np.minimum(np.float32(self.fraction) * relative ** np.float32(self.power - 1), np.float32(MAX_FRACTION))
        square = (own**2 + structure.jump**2) * structure.flux**2
        for factor, plane in ((self.displacement, structure.slope), (self.wings, structure.around)):
            square += (np.float32(factor) * plane) ** 2
        return np.sqrt(square)


def flux_error(
    difference: Exposure, template: Exposure, x: np.ndarray, y: np.ndarray, jumps: np.ndarray
) -> tuple[FluxError, StarErrors]:
    """Errors of PSF fluxes everywhere on a difference, and what its stars say of them.

    Parameters
    ----------
    difference, template : Exposure
        The template as it was subtracted; both finite.  The variance plane of the difference is that of its noise.
    x, y : (n,) arrays
        Positions of stars [pixel]; those on unusable pixels are left out.
    jumps : (m, m) array
        Error of the flux for the PSF model in cells of the image, see `TemplatePsf.jumps`.

    Returns
    -------
    error : FluxError
    stars : StarErrors
    """
    structure = Structure.of(difference, template, jumps)
    stars = measured(difference, structure, x, y)
    return FluxError(stars.of(structure)), stars


def measured(difference: Exposure, structure: Structure, x: np.ndarray, y: np.ndarray) -> StarErrors:
    """How wrong the fluxes of stars are.

    Parameters
    ----------
    difference : Exposure
    structure : Structure
        Of its template.
    x, y : (n,) arrays
        Positions of stars [pixel].

    Returns
    -------
    StarErrors
        The most likely ones for residuals of a normal distribution, of which up to a third may be of stars that vary.
    """
    usable = photometry.is_usable(difference, x, y, REACH)
    x, y = x[usable], y[usable]
    here = photometry.exposure_flux(difference, x, y)
    known = np.isfinite(here.flux) & (structure.at(x, y).flux > MIN_SNR * here.err)
    x, y, residual, error = (a[known] for a in (x, y, here.flux, here.err))
    star, sigma = structure.at(x, y), moments_sigma(difference.psf.centre())
    wings = _wing_fraction(difference, x, y, star.flux, sigma)
    displacement = _displacement(difference, structure, x, y, error, sigma)
    pivot = float(np.median(star.flux)) if len(x) else 1.0
    noise2 = error**2 + StarErrors(0.0, 1.0, pivot, displacement, wings, len(x)).of(star) ** 2
    likelihoods = np.array(
        [_log_likelihood(residual, noise2, star.flux * (star.flux / pivot) ** (power - 1)) for power in POWERS]
    )
    likelihoods[1:] -= np.log(max(len(x), 1)) / 2
    row, column = np.unravel_index(likelihoods.argmax(), likelihoods.shape)
    return StarErrors(float(FRACTIONS[column]), POWERS[row], pivot, displacement, wings, len(x))


def _around(x: np.ndarray, y: np.ndarray, distance: float) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions to the right of others, to the left, above and below."""
    return [(x + distance, y), (x - distance, y), (x, y + distance), (x, y - distance)]


def _wing_fraction(difference: Exposure, x: np.ndarray, y: np.ndarray, flux: np.ndarray, sigma: float) -> float:
    """Rms flux at `FAR` from stars beyond its noise, over that of the star."""
    around = [photometry.exposure_flux(difference, *there) for there in _around(x, y, FAR * sigma)]
    fluxes, error = (np.concatenate([getattr(fit, name) for fit in around]) for name in ("flux", "err"))
    seen = np.isfinite(fluxes) & np.isfinite(error)
    likelihood = _log_likelihood(fluxes[seen], error[seen] ** 2, np.tile(flux, 4)[seen], USUAL_WINGS)
    return float(FRACTIONS[likelihood.argmax()])


def _displacement(
    difference: Exposure, structure: Structure, x: np.ndarray, y: np.ndarray, error: np.ndarray, sigma: float
) -> float:
    """Rms displacement of stars in one coordinate that the fluxes on both sides of them show [radius of the PSF]."""
    sides = _around(x, y, BESIDE * sigma)
    right, left, above, below = (photometry.exposure_flux(difference, *there).flux for there in sides)
    slopes = [structure.at(*there).slope for there in sides]
    lopsided, slope = (
        np.concatenate([right - left, above - below]) / 2,
        np.concatenate([slopes[0] + slopes[1], slopes[2] + slopes[3]]) / 2,
    )
    seen = np.isfinite(lopsided) & (slope > 0)
    noise2 = np.tile(error**2, 2) * (1 - CORRELATION) / 2
    return float(FRACTIONS[_log_likelihood(lopsided[seen], noise2[seen], slope[seen]).argmax()])


def _log_likelihood(residual: np.ndarray, noise2: np.ndarray, scale: np.ndarray, usual: float = USUAL) -> np.ndarray:
    """Log of the probability of residuals for each of `FRACTIONS` of their scale beyond noise, times the prior."""
    variance = noise2 + (FRACTIONS[:, None] * scale) ** 2
    width2 = OUTLIER_WIDTH**2 * variance
    own = np.exp(-(residual**2) / variance / 2) / np.sqrt(2 * np.pi * variance)
    outlying = np.sqrt(width2) / (np.pi * (width2 + residual**2))
    prior = -((np.log(FRACTIONS / usual) / np.log(SPREAD)) ** 2) / 2
    return np.max([np.log((1 - part) * own + part * outlying).sum(1) for part in OUTLIERS], axis=0) + prior


def _spread(flux: np.ndarray, width: float) -> np.ndarray:
    """Root of the squares of binned fluxes, spread by a Gaussian of a width [bin]."""
    return np.sqrt(_blurred(flux**2, width))


def _peaked(image: np.ndarray, smooth: np.ndarray, sigma: float) -> np.ndarray:
    """An image without what is smooth on the scale of the PSF, seen through the matched filter."""
    return _blurred(image - smooth, sigma)


def _gradient2(image: np.ndarray) -> np.ndarray:
    """Square of the gradient of an image [unit of the image squared per pixel**2]."""
    square = np.zeros_like(image)
    square[:, 1:-1] += ((image[:, 2:] - image[:, :-2]) / 2) ** 2
    square[1:-1] += ((image[2:] - image[:-2]) / 2) ** 2
    return square


def _blurred(image: np.ndarray, width: float) -> np.ndarray:
    """Convolution with a Gaussian; beyond its border the image goes on as it is there."""
    half = int(TRUNCATE * width + 0.5)
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / width) ** 2)
    return _separable(image.astype(np.float32, copy=False), (taps / taps.sum()).astype(np.float32))


@njit(**FAST)
def _separable(image, taps):
    """Convolution with the product of the taps along both axes."""
    ny, nx = image.shape
    half = len(taps) // 2
    out, row = np.zeros((ny, nx), np.float32), np.empty(nx + 2 * half, np.float32)
    for j in range(ny):
        row[:] = 0
        for k in range(len(taps)):
            of_image = image[min(max(j + k - half, 0), ny - 1)]
            for i in range(nx):
                row[half + i] += taps[k] * of_image[i]
        row[:half], row[half + nx :] = row[half], row[half + nx - 1]
        for k in range(len(taps)):
            for i in range(nx):
                out[j, i] += taps[k] * row[i + k]
    return out
