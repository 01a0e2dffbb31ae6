"""Cosmic rays by their sharp edges: L.A.Cosmic (van Dokkum 2001, PASP 113, 1420).

In come an image and its variance, out goes a boolean mask.  The Laplacian of the image sampled twice as finely
marks pixels that are steeper than the noise allows; those much steeper than the symmetric structure around them
(difference of two medians) are cosmic rays, not stars; the sharper the stars, the steeper.  The medians are computed
only where the Laplacian asks for them, about one pixel in a thousand, which is why this is many times faster than
filtering whole images.
"""

import math

import numpy as np
from numba import njit

from diaflow.image.planes import pixels_where
from diaflow.jit import EXACT, FAST
from diaflow.psf.stampfield import FWHM_PER_SIGMA
from diaflow.statistics import median_width

SIGMA_CLIP = 4.5  # Laplacian over noise from which a pixel is a candidate
NEIGHBOUR_CLIP = 0.3 * SIGMA_CLIP  # the same for neighbours of cosmic rays
# Smallest contrast of Laplacian and fine structure: stars of FWHM >= 2 pixels have < 1.3.  Where the stars are sharper:
# those of 1.6 pixels have up to 5, of 1.25 pixels up to 26, hot pixels and most cosmic rays some hundreds.
OBJECT_LIMIT, SHARP_LIMIT = 3.0, 30.0
ITERATIONS = 6  # a wide hit is eaten from its rim inwards, a long one from its ends
REACH = 4  # pixels around a candidate that its medians use
LENIENT = 0.75 * SIGMA_CLIP  # of the first look, since the pixel's own counts may inflate its variance
# Sharp stars show by their common width: S/N of the pixels beside a peak, least number of such peaks, FWHM below which
# they count as sharp [pixel], and scatter of ln(width) of what has one width: chosen, stars have 0.1, cosmic rays any.
PEAK_SIGMA, MIN_PEAKS, SHARP_FWHM, ONE_WIDTH = 5.0, 10, 2.2, 0.25
LEAST_FINE = 0.01  # of the fine structure [sigma], so that nothing is divided by zero


def find(image: np.ndarray, variance: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Pixels hit by cosmic rays.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
        Pixels, finite everywhere, and their variances; the image is changed on the way and put back.
    bad : (ny, nx) bool array
        Pixels that cannot be judged (saturated, dead); they and their neighbours are never cosmic rays.

    Returns
    -------
    (ny, nx) bool array
    """
    hit, judged, originals = np.zeros(image.shape, bool), _judged(bad), []
    pixels = np.column_stack(pixels_where(_candidates(image, variance, judged, LENIENT)))
    limit = SHARP_LIMIT if _are_sharp_stars(image, variance, pixels) else OBJECT_LIMIT
    for _ in range(ITERATIONS):
        pixels = pixels[_steepness(image, variance, pixels) > SIGMA_CLIP]
        pixels = pixels[_contrast(image, variance, pixels) > limit]
        for threshold in (SIGMA_CLIP, NEIGHBOUR_CLIP):
            around = _around(pixels, 1, judged)
            steep = around[_steepness(image, variance, around) > threshold]
            pixels = _distinct(np.concatenate([pixels, steep]), image.shape)
        pixels = pixels[~hit[tuple(pixels.T)]]
        if not len(pixels):
            break
        where = tuple(pixels.T)
        hit[where] = True
        originals.append((where, image[where]))
        _clean(image, hit, bad, pixels)
        # Nothing has changed but near these.
        pixels = _around(pixels, REACH, judged)
        pixels = pixels[laplacians(image, variance, pixels) > LENIENT]
    for where, values in originals:
        image[where] = values
    return hit


def _are_sharp_stars(image: np.ndarray, variance: np.ndarray, pixels: np.ndarray) -> bool:
    """Whether sharp peaks have one common width, below `SHARP_FWHM`: stars do, cosmic rays have any."""
    sigma = _peak_widths(image, variance, pixels)
    sigma = sigma[np.isfinite(sigma)]
    if len(sigma) < MIN_PEAKS:
        return False
    width_log = np.log(FWHM_PER_SIGMA * sigma)
    typical = np.median(width_log)
    return bool(typical < np.log(SHARP_FWHM) and median_width(width_log - typical) < ONE_WIDTH)


def _judged(bad: np.ndarray) -> np.ndarray:
    """Pixels that are not bad nor next to bad ones in their row or column, nor so close to the edge as `REACH`."""
    judged = np.zeros(bad.shape, bool)
    judged[REACH:-REACH, REACH:-REACH] = True
    y, x = pixels_where(bad)
    judged[y, x] = False
    for step in (-1, 1):
        judged[np.clip(y + step, 0, len(bad) - 1), x] = False
        judged[y, np.clip(x + step, 0, bad.shape[1] - 1)] = False
    return judged


def _around(pixels: np.ndarray, reach: int, judged: np.ndarray) -> np.ndarray:
    """Pixels (n, 2) and those within `reach` rows and columns that may be judged, in order, each once."""
    offsets = np.argwhere(np.ones((2 * reach + 1, 2 * reach + 1))) - reach
    around = (pixels[:, None] + offsets).reshape(-1, 2)
    inside = ((around >= 0) & (around < judged.shape)).all(1)
    around = _distinct(around[inside], judged.shape)
    return around[judged[tuple(around.T)]]


def _distinct(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Pixels (n, 2) in order, each once."""
    return np.column_stack(np.unravel_index(np.unique(np.ravel_multi_index(tuple(pixels.T), shape)), shape))


@njit(**FAST)
def _candidates(image, variance, judged, limit):
    """Judged pixels whose Laplacian is beyond a limit.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    judged : (ny, nx) bool array
    limit : float
        [sigma]

    Returns
    -------
    (ny, nx) bool array
    """
    ny, nx = image.shape
    out = np.zeros((ny, nx), np.bool_)
    for j in range(1, ny - 1):
        for i in range(1, nx - 1):
            out[j, i] = (_laplacian(image, variance, j, i) > limit) & judged[j, i]
    return out


@njit(**FAST)
def laplacians(image, variance, pixels):
    """The Laplacian of van Dokkum (2001), in units of the noise, at some pixels.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    pixels : (n, 2) int array
        Rows and columns, none at the border.

    Returns
    -------
    (n,) float array
        Positive part of the Laplacian of the image sampled twice as finely, averaged back, over twice the noise.
    """
    out = np.empty(len(pixels))
    for n in range(len(pixels)):
        out[n] = _laplacian(image, variance, pixels[n, 0], pixels[n, 1])
    return out


@njit(inline="always", **FAST)
def _laplacian(image, variance, j, i):
    """Positive part of the Laplacian of the image sampled twice as finely, averaged back, over its noise.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    j, i : int
        Row and column, not on the border.

    Returns
    -------
    float
    """
    c = 2 * image[j, i]
    left, right, down, up = image[j, i - 1], image[j, i + 1], image[j - 1, i], image[j + 1, i]
    total = max(c - left - down, 0) + max(c - right - down, 0) + max(c - left - up, 0) + max(c - right - up, 0)
    return total / (8 * math.sqrt(variance[j, i]))


@njit(**EXACT)
def _peak_widths(image, variance, pixels):
    """Sigma of the Gaussian through each peak and the four pixels beside it, the geometric mean of both axes.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    pixels : (n, 2) int array
        Rows and columns, at least `REACH` from the edge.

    Returns
    -------
    (n,) float array
        [pixel]; NaN for what is no peak, or does not stand out with all of the four from the median of 7 x 7 pixels.
    """
    buffer, out = np.empty(49), np.full(len(pixels), np.nan)
    for n in range(len(pixels)):
        j, i = pixels[n]
        around = image[j, i - 1], image[j, i + 1], image[j - 1, i], image[j + 1, i]
        if image[j, i] < max(around):
            continue
        sky = _box_median(image, j, i, 3, buffer)
        if min(around) - sky < PEAK_SIGMA * math.sqrt(variance[j, i]):
            continue
        peak = math.log(image[j, i] - sky)
        bend_x = 2 * peak - math.log(around[0] - sky) - math.log(around[1] - sky)
        bend_y = 2 * peak - math.log(around[2] - sky) - math.log(around[3] - sky)
        out[n] = (bend_x * bend_y) ** -0.25
    return out


@njit(**EXACT)
def _median(values, n):
    """Median of the first values of an array; the upper one of an even number.

    Parameters
    ----------
    values : (m,) array
        Its first n values are sorted in place.
    n : int

    Returns
    -------
    float
    """
    for a in range(1, n):
        value, b = values[a], a - 1
        while b >= 0 and values[b] > value:
            values[b + 1] = values[b]
            b -= 1
        values[b + 1] = value
    return values[n // 2]


@njit(**EXACT)
def _box_median(image, j, i, half, buffer):
    """Median of the pixels in a square, as far as it lies in the image.

    Parameters
    ----------
    image : (ny, nx) array
    j, i : int
        Row and column of the centre.
    half : int
        Half-width of the square [pixel].
    buffer : array
        Room for its pixels.

    Returns
    -------
    float
    """
    n = 0
    for y in range(max(0, j - half), min(image.shape[0], j + half + 1)):
        for x in range(max(0, i - half), min(image.shape[1], i + half + 1)):
            buffer[n] = image[y, x]
            n += 1
    return _median(buffer, n)


@njit(**EXACT)
def _steepness(image, variance, pixels):
    """Laplacian S/N above that of the surroundings, with the variance that a pixel has without a cosmic ray.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    pixels : (n, 2) int array
        Rows and columns, at least `REACH` from the edge.

    Returns
    -------
    (n,) float array
    """
    buffer, out = np.empty(25), np.empty(len(pixels))
    for n in range(len(pixels)):
        j, i = pixels[n]
        snr = _laplacian(image, variance, j, i)
        typical = _box_median(variance, j, i, 2, buffer)
        for a in range(25):
            buffer[a] = _laplacian(image, variance, j - 2 + a // 5, i - 2 + a % 5)
        out[n] = snr * math.sqrt(variance[j, i] / typical) - _median(buffer, 25)
    return out


@njit(**EXACT)
def _contrast(image, variance, pixels):
    """Steepness over the fine structure: the 3 x 3 median less the 7 x 7 median of 3 x 3 medians, over the noise.

    Parameters
    ----------
    image, variance, pixels
        As in `_steepness`.

    Returns
    -------
    (n,) float array
    """
    buffer, smooth, out = np.empty(25), np.empty(49), _steepness(image, variance, pixels)
    for n in range(len(pixels)):
        j, i = pixels[n]
        for a in range(49):
            smooth[a] = _box_median(image, j - 3 + a // 7, i - 3 + a % 7, 1, buffer)
        fine = smooth[24] - _median(smooth, 49)
        out[n] /= max(fine / math.sqrt(_box_median(variance, j, i, 2, buffer)), LEAST_FINE)
    return out


@njit(**EXACT)
def _clean(image, hit, bad, pixels):
    """Replace pixels by the median of those in the 5 x 5 around them that are neither hit nor bad.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Changed in place; a pixel without such neighbours stays.
    hit, bad : (ny, nx) bool arrays
    pixels : (n, 2) int array
        Rows and columns.
    """
    buffer, values = np.empty(25), np.empty(len(pixels))
    for n in range(len(pixels)):
        j, i = pixels[n]
        count = 0
        for y in range(max(0, j - 2), min(image.shape[0], j + 3)):
            for x in range(max(0, i - 2), min(image.shape[1], i + 3)):
                if not (hit[y, x] or bad[y, x]):
                    buffer[count] = image[y, x]
                    count += 1
        values[n] = _median(buffer, count) if count else image[j, i]
    for n in range(len(pixels)):
        image[pixels[n, 0], pixels[n, 1]] = values[n]
