"""Satellites, cosmic rays and moving objects in warps, found by comparing PSF-matched warps with their clipped mean.

Unmatched warps must not be clipped pixel by pixel: the cores of stars differ with the seeing.  In PSF-matched warps
they agree, so a region that deviates in few epochs is an artefact and one that deviates in many is a variable or a
badly matched source, which stays (AlSayyad 2019, DMTN-080; LSST's CompareWarp).
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from diaflow.coadd import stack
from diaflow.coadd.files import ExposureFile
from diaflow.exposure import bits
from diaflow.stampfield import moments_sigma

MODEL_N_SIGMA = 2.5
THRESHOLD = 7.5
MIN_PIXELS = 4
GROW_SIGMA = 0.4

# A region is an artefact when more than this fraction of it deviates in few epochs ...
MIN_TRANSIENT_FRACTION = 0.5
# ... unless it lies within a source that is this bright, grown by so many PSF sigma.
BRIGHT_N_SIGMA = 300.0
BRIGHT_GROW_SIGMA = 2.4

NO_DATA = bits("NO_DATA")


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
        """Mean over each region of values (n,) of its pixels."""
        return np.bincount(self.labels, values) / np.bincount(self.labels)


def max_epochs(n: np.ndarray) -> np.ndarray:
    """Largest number of epochs, out of n, in which an artefact may appear: 0, 0, 1, 1, 2 and 2 + 0.03 n from n = 5."""
    return np.minimum(0.4 * n, 2 + 0.03 * n).astype(int)


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
    candidates, coverage, sources = _deviations(matched, weights, bright)
    regions = [_regions(pixels, shape, max(1, round(GROW_SIGMA * sigma))) for pixels in candidates]
    epochs = np.zeros(ny * nx, np.int16)
    for region in regions:
        epochs[region.pixels] += 1
    near_bright = _grown(sources, shape, round(BRIGHT_GROW_SIGMA * sigma))
    return [_artefacts(region, epochs, coverage, near_bright) for region in regions]


def _deviations(matched: list[ExposureFile], weights: np.ndarray, bright: float):
    """Deviating pixels (flat indices) of each warp, number of inputs, pixels of bright sources."""
    ny, nx = matched[0].shape
    noise = stack.noise_scale(matched, weights)
    found = [[] for _ in matched]
    sources = []
    coverage = np.zeros((ny, nx), np.int16)
    for first, image, variance, mask in stack.blocks(matched):
        deviates = np.zeros(image.shape, np.bool_)
        stack.mark_outliers(image, variance, mask, noise, MODEL_N_SIGMA)
        model, model_variance, _ = stack.mean_of(image, variance, mask, weights)
        rows = coverage[first : first + image.shape[1]]
        limit = (THRESHOLD * noise).astype(np.float32)
        _mark_deviations(image, variance, mask, model, model_variance, limit, deviates, rows)
        for k, pixels in enumerate(found):
            pixels.append(np.flatnonzero(deviates[k]) + first * nx)
        sources.append(np.flatnonzero(model**2 > bright**2 * model_variance) + first * nx)
    return [np.concatenate(pixels) for pixels in found], coverage.ravel(), np.concatenate(sources)


@njit(**stack.JIT)
def _mark_deviations(image, variance, mask, model, model_variance, n_sigma, deviates, coverage):
    """Deviations by more than n_sigma times the noise of image and model, which does not contain what was clipped."""
    n, ny, nx = image.shape
    for k in range(n):
        for j in range(ny):
            for i in range(nx):
                has_data = (mask[k, j, i] & NO_DATA) == 0
                residual = image[k, j, i] - model[j, i]
                limit = n_sigma[k] * n_sigma[k] * (variance[k, j, i] + model_variance[j, i])
                deviates[k, j, i] = has_data & (residual * residual > limit)
                coverage[j, i] += has_data


def _regions(pixels: np.ndarray, shape: tuple[int, int], radius: int) -> Regions:
    """Regions of enough pixels, grown by `radius`."""
    found = Regions(pixels, _label(pixels, shape))
    if len(pixels):
        keep = np.bincount(found.labels) >= MIN_PIXELS
        pixels = np.flatnonzero(_grown(pixels[keep[found.labels]], shape, radius))
    return Regions(pixels, _label(pixels, shape))


def _grown(pixels: np.ndarray, shape: tuple[int, int], radius: int) -> np.ndarray:
    """Flat boolean image of the pixels within `radius` of the given ones (flat indices)."""
    ny, nx = shape
    t = np.arange(-radius, radius + 1)
    dx, dy = (d[np.hypot(*np.meshgrid(t, t)) <= radius + 0.5] for d in np.meshgrid(t, t))
    y, x = np.divmod(pixels, nx)
    grown = np.zeros(ny * nx, bool)
    for ox, oy in zip(dx, dy):
        inside = (x + ox >= 0) & (x + ox < nx) & (y + oy >= 0) & (y + oy < ny)
        grown[pixels[inside] + oy * nx + ox] = True
    return grown


def _label(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Number of the connected region (sides or corners touch) of each of the sorted pixels."""
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


def _artefacts(regions: Regions, epochs: np.ndarray, coverage: np.ndarray, near_bright: np.ndarray) -> np.ndarray:
    """Pixels of the regions that deviate in few epochs and are not part of a bright source."""
    if not len(regions.pixels):
        return regions.pixels
    allowed = max_epochs(regions.mean(coverage[regions.pixels]))
    few = epochs[regions.pixels] <= allowed[regions.labels]
    transient = regions.mean(few) > MIN_TRANSIENT_FRACTION
    in_bright_source = regions.mean(near_bright[regions.pixels]) == 1
    return regions.pixels[(transient & ~in_bright_source)[regions.labels]]
