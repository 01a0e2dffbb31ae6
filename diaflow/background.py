"""Sky background: a mesh of clipped means with sources masked, interpolated by splines, and subtracted.

In comes an exposure, out goes the background that was taken off it.  A first mesh (SExtractor's, Bertin & Arnouts
1996, in `sep`) shows the sources; they are masked with a margin, and what the mesh left is measured in the rest by
clipped means.  Means, because the mode of Poisson counts lies below their mean and would shift every flux.
"""

import numpy as np
import sep
from scipy.interpolate import CubicSpline
from scipy.ndimage import binary_dilation, gaussian_filter

from diaflow.exposure import Exposure

BLOCK = 4  # sources are looked for in means over blocks of this side [pixel]
SOURCE_SIGMA = 3.0  # blocks brighter than this many sigma are sources; the noise peaks lost bias the sky by 1e-3 sigma
MARGIN = 2  # blocks masked around sources
CLIP = 3.0  # sigma of the pixels that enter a mean
MIN_FILLED = 0.1  # smallest usable fraction of a mesh cell; emptier ones are interpolated from their neighbours
ITERATIONS = 2


def subtract(exposure: Exposure, mesh: int) -> np.ndarray:
    """Subtract the sky from an exposure in place.

    Parameters
    ----------
    exposure : Exposure
        Its image is changed; pixels in the planes BAD, SAT, CR and NO_DATA are not used.
    mesh : int
        Side of the mesh cells [pixel].

    Returns
    -------
    (ny, nx) float32 array
        The background [unit of the image].
    """
    unusable = exposure.flagged("BAD", "SAT", "CR", "NO_DATA")
    first = sep.Background(np.ascontiguousarray(exposure.image), mask=unusable, bw=mesh, bh=mesh)
    sky = first.back(dtype=np.float32)
    residual = exposure.image - sky
    for _ in range(ITERATIONS):
        masked = unusable | sources(residual, unusable) | (np.abs(residual) > CLIP * first.globalrms)
        correction = _interpolated(_cell_means(residual, ~masked, mesh), mesh, residual.shape)
        residual -= correction
        sky += correction
    exposure.image[:] = residual
    return sky


def sources(residual: np.ndarray, unusable: np.ndarray) -> np.ndarray:
    """Pixels on or near sources of a sky-subtracted image, (ny, nx) bool."""
    ny, nx = residual.shape
    good = ~unusable & np.isfinite(residual)
    count = _block_sums(good.astype(np.float32), BLOCK)
    # The noise of a block's sum grows with the root of its pixels.
    scaled = _block_sums(np.where(good, residual, 0), BLOCK) / np.sqrt(np.maximum(count, 1))
    filled = scaled[count > 0]
    sigma = 1.4826 * np.median(np.abs(filled - np.median(filled))) if filled.size else np.inf
    bright = binary_dilation(scaled > SOURCE_SIGMA * sigma, np.ones((3, 3)), iterations=MARGIN)
    return np.repeat(np.repeat(bright, BLOCK, 0), BLOCK, 1)[:ny, :nx]


def _cell_means(image: np.ndarray, good: np.ndarray, mesh: int) -> np.ndarray:
    """Means of the good pixels of each mesh cell; cells with few of them get a smooth mean of those around."""
    count = _block_sums(good.astype(np.float32), mesh)
    total = _block_sums(np.where(good, image, 0), mesh)
    filled = count > MIN_FILLED * _block_sums(np.ones(image.shape, np.float32), mesh)
    means = np.where(filled, total / np.maximum(count, 1), 0)
    width = 1.0
    while not filled.all() and width < max(filled.shape) * 4:
        weight = gaussian_filter(filled.astype(float), width)
        reached = ~filled & (weight > 1e-3)
        means[reached] = gaussian_filter(np.where(filled, means, 0), width)[reached] / weight[reached]
        filled = filled | reached
        width *= 2
    return means


def _block_sums(image: np.ndarray, side: int) -> np.ndarray:
    """Sums over square blocks; the last ones of a row or column may be narrower."""
    starts = [np.arange(0, n, side) for n in image.shape]
    return np.add.reduceat(np.add.reduceat(image, starts[0], axis=0), starts[1], axis=1)


def _interpolated(cells: np.ndarray, mesh: int, shape: tuple[int, int]) -> np.ndarray:
    """Natural bicubic spline through the cells' centres on every pixel, (ny, nx) float32."""
    weights_y, weights_x = (_spline_weights(n, mesh) for n in shape)
    return (weights_y @ cells.astype(np.float32)) @ weights_x.T


def _spline_weights(n: int, mesh: int) -> np.ndarray:
    """Matrix (n, cells) that interpolates values at the cells' centres to every pixel of an axis."""
    starts = np.arange(0, n, mesh)
    centres = (starts + np.minimum(starts + mesh, n) - 1) / 2
    if len(centres) == 1:
        return np.ones((n, 1), np.float32)
    return CubicSpline(centres, np.eye(len(centres)), bc_type="natural")(np.arange(n)).astype(np.float32)
