"""Satellites, cosmic rays and moving objects in warps, found by comparing PSF-matched warps with their clipped mean.

Unmatched warps must not be clipped pixel by pixel: the cores of stars differ with the seeing.  In PSF-matched warps
they agree, so a region that deviates in few epochs is an artefact and one that deviates in many is a variable or a
badly matched source, which stays (AlSayyad 2019, DMTN-080; LSST's CompareWarp).  So does, which CompareWarp clips, what
looks like the source in its place: a star that varies in few epochs, of which a part would be clipped, and what is
left of it has no PSF.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diaflow.coadd import means, stack
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.planes import bits
from diaflow.jit import FAST
from diaflow.psf.stampfield import moments_sigma

# The clip of the mean, the least region, the growths and the fraction are those of CompareWarpAssembleCoaddTask
# (drp_tasks), whose deviations count from 5 sigma and whose bright sources from 50.
MODEL_N_SIGMA = 2.5  # pixels further from the median than this are left out of the mean [sigma]
THRESHOLD = 7.5  # deviation of a pixel from the mean from which it counts [sigma]
MIN_PIXELS = 4  # that hang together in a region
GROW_SIGMA = 0.4  # by which regions are grown [sigma of the PSF]

# A region is an artefact when more than this fraction of it deviates in few epochs ...
MIN_TRANSIENT_FRACTION = 0.5
# ... unless it lies within pixels of the mean that are this bright [sigma], grown by this [sigma of the PSF] ...
BRIGHT_N_SIGMA = 300.0
BRIGHT_GROW_SIGMA = 2.4
# ... or is, but for noise and the fraction `UNLIKE` of its power, a number times the source in its place: what cosmic
# rays and asteroids do to a star is narrower or beside it.  Sources are pixels of the mean above `SOURCE_N_SIGMA`; on
# them the fraction `WEAK` of the threshold is enough, so that the wings of the change are seen too.
SOURCE_N_SIGMA = 5.0
UNLIKE = 0.1
WEAK = 1 / 3

# Of n epochs an artefact may appear in FEW_LOW n, but in no more than FEW + FEW_HIGH n (maxFractionEpochsLow,
# maxNumEpochs and maxFractionEpochsHigh of the same task).
FEW_LOW, FEW, FEW_HIGH = 0.4, 2, 0.03

NO_DATA = bits("NO_DATA")
TINY = np.finfo(np.float32).tiny  # least noise [unit of the image], so that nothing is divided by zero


@dataclass
class Regions:
    """Connected regions of deviating pixels in one warp.

    Attributes
    ----------
    pixels : (n,) int array
        Flat indices, sorted.
    labels : (n,) int array
        Region of each.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over each region.

        Parameters
        ----------
        values : (n,) array
            Of the pixels.

        Returns
        -------
        (n_regions,) array
        """
        return np.bincount(self.labels, values) / np.bincount(self.labels)


@dataclass
class Deviations:
    """Pixels of one warp that deviate, some of them weakly.

    Attributes
    ----------
    pixels : (n,) int array
        Flat indices, sorted.
    strong : (n,) bool array
    residual, mean : (n,) arrays
        Warp minus mean, and the mean, over the noise of the former.
    """

    pixels: np.ndarray
    strong: np.ndarray
    residual: np.ndarray
    mean: np.ndarray


def max_epochs(n: np.ndarray) -> np.ndarray:
    """Largest number of epochs in which an artefact may appear: 0, 0, 1, 1, 2 and 2 + 0.03 n from n = 5.

    Parameters
    ----------
    n : array
        Epochs with data.

    Returns
    -------
    int array
    """
    return np.minimum(FEW_LOW * n, FEW + FEW_HIGH * n).astype(int)


def find(matched: list[ExposureFile], weights: np.ndarray, bright: float = BRIGHT_N_SIGMA) -> list[np.ndarray]:
    """Pixels of each warp that belong to artefacts.

    Parameters
    ----------
    matched : list of ExposureFile
        PSF-matched warps of one patch; their `psf` is the common model.
    weights : (n,) array
    bright : float
        Pixels of the mean that are brighter than this many sigma belong to sources whose image may change.

    Returns
    -------
    list of int arrays
        Sorted flat indices, one array per warp; all empty when there are fewer than three warps.
    """
    if max_epochs(len(matched)) < 1:
        return [np.empty(0, np.int64) for _ in matched]
    ny, nx = shape = matched[0].shape
    sigma = moments_sigma(matched[0].psf.centre())
    deviations, coverage, sources = _deviations(matched, weights, bright)
    radius = max(1, round(GROW_SIGMA * sigma))
    regions = [_regions(some.pixels[some.strong], shape, radius) for some in deviations]
    epochs = np.zeros(ny * nx, np.int16)
    for region in regions:
        epochs[region.pixels] += 1
    near_bright = _grown(sources, shape, round(BRIGHT_GROW_SIGMA * sigma))
    return [
        _artefacts(region, epochs, coverage, near_bright, _vary(region, some, shape))
        for region, some in zip(regions, deviations)
    ]


def _deviations(matched: list[ExposureFile], weights: np.ndarray, bright: float):
    """`Deviations` of each warp, number of inputs at each pixel, flat indices of the pixels of bright sources."""
    ny, nx = matched[0].shape
    noise = stack.noise_scale(matched, weights)
    found = [[] for _ in matched]
    sources = []
    coverage = np.zeros((ny, nx), np.int16)
    for first, image, variance, mask in stack.blocks(matched):
        deviates = np.zeros(image.shape, np.bool_)
        means.mark_outliers(image, variance, mask, noise, MODEL_N_SIGMA)
        model, model_variance, _ = means.mean_of(image, variance, mask, weights)
        rows = coverage[first : first + image.shape[1]]
        on_source = model**2 > SOURCE_N_SIGMA**2 * model_variance
        n_sigma = np.where(on_source, WEAK * THRESHOLD, THRESHOLD).astype(np.float32)
        _mark_deviations(
            image, variance, mask, model, model_variance, noise.astype(np.float32), n_sigma, deviates, rows
        )
        for k, parts in enumerate(found):
            at = np.flatnonzero(deviates[k])
            mean, squared_error = model.ravel()[at], variance[k].ravel()[at] + model_variance.ravel()[at]
            weight = 1 / np.maximum(noise[k] * np.sqrt(squared_error), TINY)
            residual = (image[k].ravel()[at] - mean) * weight
            parts.append((at + first * nx, np.abs(residual) > THRESHOLD, residual, mean * weight))
        sources.append(np.flatnonzero(model**2 > bright**2 * model_variance) + first * nx)
    deviations = [Deviations(*map(np.concatenate, zip(*parts))) for parts in found]
    return deviations, coverage.ravel(), np.concatenate(sources)


@njit(**FAST)
def _mark_deviations(image, variance, mask, model, model_variance, noise, n_sigma, deviates, coverage):
    """Find deviations of images from their mean, and count the images that have data.

    Parameters
    ----------
    image, variance, mask : (n, ny, nx) arrays
    model, model_variance : (ny, nx) arrays
        The mean, without the pixels that were clipped.
    noise : (n,) float32 array
        Noise of each image over the square root of its variance plane.
    n_sigma : (ny, nx) float32 array
        Deviation that counts, in units of the noise of image and mean together.
    deviates : (n, ny, nx) bool array
        Filled.
    coverage : (ny, nx) int array
        Has the number of images with data added.
    """
    n, ny, nx = image.shape
    for k in range(n):
        for j in range(ny):
            for i in range(nx):
                has_data = (mask[k, j, i] & NO_DATA) == 0
                residual = image[k, j, i] - model[j, i]
                limit = n_sigma[j, i] * noise[k]
                square = limit * limit * (variance[k, j, i] + model_variance[j, i])
                deviates[k, j, i] = has_data & (residual * residual > square)
                coverage[j, i] += has_data


def _regions(pixels: np.ndarray, shape: tuple[int, int], radius: int) -> Regions:
    """Regions of enough pixels, grown by `radius`."""
    found = Regions(pixels, region_numbers(pixels, shape))
    if len(pixels):
        keep = np.bincount(found.labels) >= MIN_PIXELS
        pixels = np.flatnonzero(_grown(pixels[keep[found.labels]], shape, radius))
    return Regions(pixels, region_numbers(pixels, shape))


def _grown(pixels: np.ndarray, shape: tuple[int, int], radius: int) -> np.ndarray:
    """Flat boolean image of the pixels within `radius` of others (flat indices)."""
    ny, nx = shape
    t = np.arange(-radius, radius + 1)
    dx, dy = (d[np.hypot(*np.meshgrid(t, t)) <= radius + 0.5] for d in np.meshgrid(t, t))
    y, x = np.divmod(pixels, nx)
    grown = np.zeros(ny * nx, bool)
    for ox, oy in zip(dx, dy):
        inside = (x + ox >= 0) & (x + ox < nx) & (y + oy >= 0) & (y + oy < ny)
        grown[pixels[inside] + oy * nx + ox] = True
    return grown


def region_numbers(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Number of the connected region (sides or corners touch) of each of the sorted pixels.

    Parameters
    ----------
    pixels : (n,) int array
        Flat indices in an image, ascending.
    shape : (ny, nx)
        Of the image.

    Returns
    -------
    (n,) int array
        From 0.
    """
    if not len(pixels):
        return np.zeros(0, np.int64)
    nx = shape[1]
    # One column more than the image has, so that the end of a row does not touch the beginning of the next.
    keys = pixels + pixels // nx
    links = []
    for offset in (1, nx, nx + 1, nx + 2):
        at = np.minimum(np.searchsorted(keys, keys + offset), len(keys) - 1)
        first = np.flatnonzero(keys[at] == keys + offset)
        links.append((first, at[first]))
    first, second = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(len(keys), len(keys)))
    return connected_components(graph, directed=False)[1]


def _vary(regions: Regions, deviations: Deviations, shape: tuple[int, int]) -> np.ndarray:
    """Whether each region is a source that has become brighter, by less than its flux, or fainter."""
    if not len(regions.pixels):
        return np.zeros(0, bool)
    label = region_numbers(deviations.pixels, shape)
    residual, mean = deviations.residual, deviations.mean
    product, power, total = (np.bincount(label, v) for v in (residual * mean, mean**2, residual**2))
    unlike = total * power - product**2 - np.bincount(label) * power
    varies = (unlike < UNLIKE * total * power) & (np.abs(product) < power)
    pixels, varies = deviations.pixels[deviations.strong], varies[label[deviations.strong]]
    at = np.minimum(np.searchsorted(regions.pixels, pixels), len(regions.pixels) - 1)
    inside = regions.pixels[at] == pixels
    of_region = regions.labels[at[inside]]
    return np.bincount(of_region, varies[inside]) == np.bincount(of_region)


def _artefacts(
    regions: Regions, epochs: np.ndarray, coverage: np.ndarray, near_bright: np.ndarray, vary: np.ndarray
) -> np.ndarray:
    """Pixels of the regions that deviate in few epochs and are not part of a bright source or a source that varies."""
    if not len(regions.pixels):
        return regions.pixels
    allowed = max_epochs(regions.mean(coverage[regions.pixels]))
    few = epochs[regions.pixels] <= allowed[regions.labels]
    transient = regions.mean(few) > MIN_TRANSIENT_FRACTION
    in_bright_source = regions.mean(near_bright[regions.pixels]) == 1
    return regions.pixels[(transient & ~in_bright_source & ~vary)[regions.labels]]
