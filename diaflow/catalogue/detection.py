"""Detection on the coadd of one band: the pixels that are above the noise, and the peaks among them.

The noise is first compared with what the sky shows.  What is above the threshold on the map of the matched filter
belongs to a source.  That filter is as broad as the PSF and makes one peak of two stars that are 1.25 FWHM apart;
peaks are therefore looked for on a map of half the width, where each has to rise above its saddle to a higher one by
what a point source at the threshold has there.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numba import njit

from diaflow.detect import footprints
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.planes import pixels_where
from diaflow.jit import EXACT, FAST
from diaflow.measure.matchedfilter import smooth_snr
from diaflow.pixels.growth import core_radius, grow
from diaflow.psf.stampfield import moments_sigma, resized
from diaflow.subtract import noise

THRESHOLD = 5.0  # least S/N of a point source, as of LSST's detectCoaddSources
SHARPENING = 4  # power of the PSF that peaks are filtered with: that of a Gaussian is half as wide
# Least rise of a peak over its saddle, in parts of the saddle: the pattern that a PSF has in its wings, chosen.
LEAST_CONTRAST = 0.02
# Distance from which on the matched filter, wider than the PSF by sqrt(2), moves peaks by less than their errors
# [sigma of the PSF]: chosen, 3 FWHM.
ALONE = 7.0
GRID = 3  # places along each axis where the PSF of a coadd is looked up
# Where the noise is measured: S/N of what is not sky, and how far from it sky begins [sigma of the PSF].
SOURCE_SNR, SOURCE_REACH = 3.0, 2.4
# Variance of noise without its own peaks above that S/N, over that of all (simulated, for FWHM of 2 to 7 pixels).
WITHOUT_PEAKS = 0.975
NOISE_ROUNDS = 4  # of noise and sources, each from the other, at most; in simulated crowds they settle in three
SETTLED = 0.2  # change of the variance, over its error, that ends them: chosen
# Least part of the pixels without a flaw that must be sky: where sources cover more, those that are too faint to be
# seen widen the sums by more than 5 % (simulated).
LEAST_SKY = 0.6
SATURATED = 1e6  # height of saturated pixels over that of all others: what is left of a core has no peaks


@dataclass(frozen=True)
class Detections:
    """What is seen in one band.

    Attributes
    ----------
    snr : (ny, nx) float32 array
        S/N of a point source at every pixel.
    above : (ny, nx) bool array
        Pixels beyond the threshold.
    x, y : (n,) float arrays
        Peaks, in the order of their y and x [pixel].
    saturated : (n,) bool array
        Peaks in saturated cores, whose places are uncertain.
    sigma : float
        Radius of the PSF [pixel].
    """

    snr: np.ndarray
    above: np.ndarray
    x: np.ndarray
    y: np.ndarray
    saturated: np.ndarray
    sigma: float


def checked(exposure: Exposure, stamp: np.ndarray) -> tuple[Exposure, np.ndarray]:
    """The exposure with the noise that its sky has, and where sources are on it.

    Parameters
    ----------
    exposure : Exposure
    stamp : (k, k) array
        PSF.

    Returns
    -------
    checked : Exposure
        Its `noise` is scaled by the variance of PSF-weighted sums over sky, which are apertures of the best weights,
        over what it said of them; as it was where there is too little sky.  Faint sources widen these sums as noise
        does; sky is therefore what is beyond all sources that the noise itself shows.
    sources : (ny, nx) bool array
        Pixels beyond the threshold.
    """
    flawless = ~exposure.flagged(*noise.FLAWS)
    told = float(exposure.noise.psf_flux_error(np.ones(1))[0] ** 2)
    snr = signal_to_noise(exposure, stamp)
    reach = int(np.ceil(SOURCE_REACH * moments_sigma(stamp)))
    factor, error = noise.matched_factor(exposure, noise.sky(exposure), stamp)
    for _ in range(NOISE_ROUNDS):
        sources = (snr > SOURCE_SNR * np.sqrt(factor / told)).astype(np.uint8)
        sky = flawless & (grow(sources, reach) == 0)
        if not np.isfinite(error) or sky.sum() < LEAST_SKY * flawless.sum():
            return exposure, snr > THRESHOLD
        before = factor
        factor, error = noise.matched_factor(exposure, sky, stamp)
        if abs(factor / before - 1) < SETTLED * error:
            break
    scale = factor / told / WITHOUT_PEAKS
    return replace(exposure, noise=exposure.noise.scaled(scale)), snr > THRESHOLD * np.sqrt(scale)


def typical_stamp(exposure: Exposure) -> np.ndarray:
    """The PSF that most of an exposure has.

    Parameters
    ----------
    exposure : Exposure

    Returns
    -------
    (k, k) array
        Mean over the places of a grid where the PSF is known.

    Raises
    ------
    BadData
        When it is known nowhere.
    """
    ny, nx = exposure.shape
    x, y = (grid.ravel() for grid in np.meshgrid(*((np.arange(GRID) + 0.5) / GRID * n - 0.5 for n in (nx, ny))))
    stamps = exposure.psf(x, y)
    stamps = stamps[np.isfinite(stamps).all((1, 2))]
    if not len(stamps):
        raise BadData("the PSF of the coadd is known nowhere", Kind.PSF)
    return stamps.mean(0)


def signal_to_noise(exposure: Exposure, stamp: np.ndarray) -> np.ndarray:
    """S/N of a point source at every pixel of a coadd.

    Parameters
    ----------
    exposure : Exposure
    stamp : (k, k) array
        PSF.

    Returns
    -------
    (ny, nx) float32 array
    """
    return smooth_snr(exposure.image, _felt_variance(exposure), exposure.flagged("NO_DATA"), stamp)


def _felt_variance(exposure: Exposure) -> np.ndarray:
    """The variance plane as PSF fits feel its noise."""
    return exposure.variance * np.float32(exposure.noise.psf_flux_error(np.ones(1))[0] ** 2)


def detect(exposure: Exposure, stamp: np.ndarray) -> Detections:
    """Sources of one coadd.

    Parameters
    ----------
    exposure : Exposure
        With the noise of `checked`.
    stamp : (k, k) array
        PSF.

    Returns
    -------
    Detections
    """
    bad = exposure.flagged("NO_DATA")
    snr = signal_to_noise(exposure, stamp)
    above = snr > THRESHOLD
    sharp = _sharp_kernel(stamp)
    y, x = pixels_where(above)
    # Peaks are those of the light: that of a bright source has noise of its own, and its S/N is hollow in the middle.
    height, noise = np.empty((2, len(x)))
    _filtered(exposure.image, _felt_variance(exposure), bad, sharp, x, y, height, noise)
    saturated = exposure.flagged("SAT")[y, x]
    height[saturated] = SATURATED * height.max(initial=0) + snr[y[saturated], x[saturated]]
    order = np.argsort(-height, kind="stable")
    x, y, height, noise = x[order], y[order], height[order], noise[order]
    least = np.maximum(THRESHOLD * _response(sharp, stamp) * noise, LEAST_CONTRAST * height)
    peak = np.flatnonzero(footprints.flood(x, y, height, least, snr.shape) == np.arange(len(x)))
    peak = peak[np.lexsort((x[peak], y[peak]))]
    sigma = moments_sigma(stamp)
    places = _places(exposure.image, bad, stamp, sharp, x[peak], y[peak], ALONE * sigma)
    return Detections(snr, above, *places, exposure.flagged("SAT")[y[peak], x[peak]], sigma)


def _sharp_kernel(stamp: np.ndarray) -> np.ndarray:
    """The PSF to the power of `SHARPENING`, of unit sum, cut to its core."""
    kernel = np.maximum(stamp, 0) ** SHARPENING
    kernel = resized(kernel, 2 * core_radius(kernel) + 3)
    return np.ascontiguousarray(kernel / kernel.sum())


def _response(kernel: np.ndarray, stamp: np.ndarray) -> float:
    """S/N of a point source through a kernel over that through the PSF itself."""
    same = resized(stamp, kernel.shape[0])
    return float((kernel * same).sum() / np.sqrt((kernel**2).sum() * (stamp**2).sum()))


def _places(
    image: np.ndarray,
    bad: np.ndarray,
    stamp: np.ndarray,
    sharp: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    alone: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Where peaks are: at the summit of the matched filter, which has the least noise, and of those that have others
    near at that of the sharp one, which neighbours move less.

    Parameters
    ----------
    image : (ny, nx) array
    bad : (ny, nx) bool array
        Pixels that do not count.
    stamp, sharp : (k, k) arrays
        Kernels of the two filters.
    x, y : (n,) int arrays
        Peaks.
    alone : float
        Least distance of others from a peak that has none near [pixel].

    Returns
    -------
    x, y : (n,) arrays
    """
    near = np.zeros(len(x), bool)
    near[footprints.close_pairs(x, y, alone).ravel()] = True
    up_x, up_y = x[~near], y[~near]
    _climb(image, bad, stamp, up_x, up_y)
    moved = np.hypot(up_x - x[~near], up_y - y[~near])
    own = moved <= alone / 2  # else on the wing of one so bright that its own summit is the next
    near[~near] = ~own
    places = np.empty((2, len(x)))
    places[:, near] = _summits(image, bad, sharp, x[near], y[near])
    places[:, ~near] = _summits(image, bad, stamp, up_x[own], up_y[own])
    return tuple(places)


@njit(**EXACT)
def _climb(image, bad, kernel, x, y):
    """Go from pixels to the highest one beside them of the filtered image until none is higher; x, y (n,) change."""
    ny, nx = image.shape
    for n in range(x.size):
        highest, moved = _height(image, bad, kernel, x[n], y[n]), True
        while moved:
            row, column = y[n], x[n]
            for j in range(max(row - 1, 0), min(row + 2, ny)):
                for i in range(max(column - 1, 0), min(column + 2, nx)):
                    height = _height(image, bad, kernel, i, j)
                    if height > highest:
                        highest, y[n], x[n] = height, j, i
            moved = y[n] != row or x[n] != column


def _summits(image, bad, kernel, x, y):
    """Where parabolas through peaks of the filtered image and the pixels beside them are highest."""
    beside = np.empty((5, len(x)))
    _cross(image, bad, kernel, x, y, beside)
    middle, left, right, below, up = beside

    def offset(before, after):
        bend = 2 * middle - before - after
        return np.where(bend > 0, np.clip((after - before) / (2 * np.where(bend > 0, bend, 1)), -0.5, 0.5), 0)

    return x + offset(left, right), y + offset(below, up)


@njit(**EXACT)
def _cross(image, bad, kernel, x, y, out):
    """Set the filtered image (5, n) at pixels, left and right of them, below and above; mirrored at the border."""
    ny, nx = image.shape
    for n in range(x.size):
        out[0, n] = _height(image, bad, kernel, x[n], y[n])
        out[1, n] = _height(image, bad, kernel, abs(x[n] - 1), y[n])
        out[2, n] = _height(image, bad, kernel, nx - 1 - abs(nx - 2 - x[n]), y[n])
        out[3, n] = _height(image, bad, kernel, x[n], abs(y[n] - 1))
        out[4, n] = _height(image, bad, kernel, x[n], ny - 1 - abs(ny - 2 - y[n]))


@njit(**EXACT)
def _height(image, bad, kernel, x, y):
    """Sum of kernel and image about a pixel over the root of the sum of the kernel's squares; 0 where none counts."""
    ny, nx = image.shape
    h = kernel.shape[0] // 2
    first, last = max(0, x - h), min(nx, x + h + 1)
    signal, power = 0.0, 0.0
    for row in range(max(0, y - h), min(ny, y + h + 1)):
        weights = kernel[row - y + h, first - x + h : last - x + h]
        of_row, power_of_row = _row_sums(image[row, first:last], bad[row, first:last], weights)
        signal += of_row
        power += power_of_row
    return signal / math.sqrt(power) if power > 0 else 0.0


@njit(**FAST)
def _row_sums(values, bad, weights):
    """Sums of values times weights and of squared weights, where they count; values (n,) may be infinite elsewhere."""
    signal, power = 0.0, 0.0
    for i in range(len(values)):
        weight = 0.0 if bad[i] else weights[i]
        value = np.float32(0) if bad[i] else values[i]
        signal += weight * value
        power += weight * weight
    return signal, power


@njit(**FAST)
def _filtered(image, variance, bad, kernel, x, y, height, noise):
    """Heights of a filtered image at some pixels, and their noise; 0 where no pixel counts.

    Parameters
    ----------
    image, variance : (ny, nx) arrays
    bad : (ny, nx) bool array
        Pixels that do not count.
    kernel : (k, k) array
    x, y : (n,) int arrays
    height, noise : (n,) arrays
        Set, to `_height` and its error.
    """
    ny, nx = image.shape
    h = kernel.shape[0] // 2
    for n in range(x.size):
        signal, power, scatter = 0.0, 0.0, 0.0
        for j in range(max(0, h - y[n]), min(2 * h + 1, ny - y[n] + h)):
            for i in range(max(0, h - x[n]), min(2 * h + 1, nx - x[n] + h)):
                row, column = y[n] - h + j, x[n] - h + i
                if not bad[row, column]:
                    square = kernel[j, i] * kernel[j, i]
                    signal += kernel[j, i] * image[row, column]
                    power += square
                    scatter += square * variance[row, column]
        height[n] = signal / math.sqrt(power) if power > 0 else 0.0
        noise[n] = math.sqrt(scatter / power) if power > 0 else 0.0
