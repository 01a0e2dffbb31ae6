"""Sky background: a mesh of clipped means with sources masked, interpolated by splines, and subtracted.

In comes an exposure, out goes the background that was taken off it.  A first mesh (SExtractor's, Bertin & Arnouts
1996, in `sep`) shows the sources; they are masked with a margin, and what the mesh left is measured in the rest by
clipped means.  Means, because the mode of Poisson counts lies below their mean and would shift every flux.
"""

import numpy as np
import sep
from numba import njit
from scipy.ndimage import binary_dilation, gaussian_filter

from diaflow.errors import data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.image.planes import row_blocks
from diaflow.jit import FAST
from diaflow.statistics import median_width, step_of

SHIFT = 2
BLOCK = 1 << SHIFT  # sources are looked for in means over blocks of this side [pixel]
SOURCE_SIGMA = 3.0  # blocks brighter than this many sigma are sources; the noise peaks lost bias the sky by 1e-3 sigma
MARGIN = 2  # blocks masked around sources
CLIP = 3.0  # sigma of the pixels that enter a mean
MIN_FILLED = 0.1  # smallest usable fraction of a mesh cell; emptier ones are interpolated from their neighbours
SPARSE = 7  # every seventh pixel of every seventh row tells the steps of the values, which saves time
# Noise in steps of the values below which they are spread: what the mode jumps by is 1/4 of the noise of a block there.
COARSE = 20.0
ITERATIONS = 2  # of measuring and subtracting what is left
# Empty cells are filled by Gaussian means of those around, with a sigma that doubles from one cell until cells that
# are found have this weight, and no further than this many times the side of the mesh.
LEAST_WEIGHT, FARTHEST = 1e-3, 4


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

    Raises
    ------
    BadData
        When `sep` makes no mesh of the image.
    """
    unusable = exposure.flagged("BAD", "SAT", "CR", "NO_DATA")
    residual = exposure.image
    sky, sigma = first_mesh(residual, unusable, mesh)
    residual -= sky
    weights_y, weights_x = (_spline_weights(n, mesh) for n in residual.shape)
    for _ in range(ITERATIONS):
        sums = _block_sums(residual, unusable, CLIP * sigma, sources(residual, unusable), mesh)
        along_x = _cell_means(*sums, mesh, residual.shape).astype(np.float32) @ weights_x.T
        for rows in row_blocks(len(sky)):
            correction = weights_y[rows] @ along_x
            residual[rows] -= correction
            sky[rows] += correction
    return sky


def first_mesh(image: np.ndarray, unusable: np.ndarray, mesh: int) -> tuple[np.ndarray, float]:
    """SExtractor's mesh, of counts that are spread over their steps where these are coarse.

    Its mode is 2.5 medians less 1.5 means: of few values the median is one of them, and the mode up to 5/4 steps off.

    Parameters
    ----------
    image : (ny, nx) float32 array
    unusable : (ny, nx) bool array
        Pixels that do not count.
    mesh : int
        Side of its cells [pixel].

    Returns
    -------
    sky : (ny, nx) float32 array
    sigma : float
        The noise about it, in the unit of the image.

    Raises
    ------
    BadData
        When `sep` makes no mesh of the image.
    """
    values = image[::SPARSE, ::SPARSE][~unusable[::SPARSE, ::SPARSE]]
    step = step_of(values)
    if step and median_width(values - np.median(values)) < COARSE * step:
        within = np.random.default_rng(0).random(image.shape, np.float32)
        image = image + np.float32(step) * (within - np.float32(0.5))
    with data_may_fail("mesh of the background"):
        first = sep.Background(np.ascontiguousarray(image), mask=unusable, bw=mesh, bh=mesh)
        return first.back(dtype=np.float32), float(first.globalrms)


def sources(residual: np.ndarray, unusable: np.ndarray) -> np.ndarray:
    """Blocks on or near sources.

    Parameters
    ----------
    residual : (ny, nx) float32 array
        Image without its sky.
    unusable : (ny, nx) bool array
        Pixels that do not count.

    Returns
    -------
    (ny / BLOCK, nx / BLOCK) bool array
        Rounded up.
    """
    total, count = block_sums(residual, unusable)
    # The noise of a block's sum grows with the root of its pixels.
    scaled = total / np.sqrt(np.maximum(count, 1))
    filled = scaled[count > 0]
    sigma = median_width(filled - np.median(filled)) if filled.size else np.inf
    return binary_dilation(scaled > SOURCE_SIGMA * sigma, np.ones((3, 3)), iterations=MARGIN)


def block_sums(image: np.ndarray, unusable: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums and numbers of the usable pixels in blocks of `BLOCK` x `BLOCK` pixels.

    Parameters
    ----------
    image : (ny, nx) float32 array
    unusable : (ny, nx) bool array

    Returns
    -------
    total : (ny / BLOCK, nx / BLOCK) float array
        Rounded up; the last blocks may be narrower.
    count : int array of that shape
    """
    nothing = np.zeros([-(-n // BLOCK) for n in image.shape], bool)
    return _block_sums(image, unusable, np.inf, nothing, BLOCK)


def _cell_means(total: np.ndarray, count: np.ndarray, mesh: int, shape: tuple[int, int]) -> np.ndarray:
    """Means of the pixels counted in each mesh cell; cells with few of them get a smooth mean of those around."""
    height, width = (np.diff(np.append(np.arange(0, n, mesh), n)) for n in shape)
    filled = count > MIN_FILLED * height[:, None] * width
    means = np.where(filled, total / np.maximum(count, 1), 0)
    reach = 1.0
    while not filled.all() and reach < max(filled.shape) * FARTHEST:
        weight = gaussian_filter(filled.astype(float), reach)
        reached = ~filled & (weight > LEAST_WEIGHT)
        means[reached] = gaussian_filter(np.where(filled, means, 0), reach)[reached] / weight[reached]
        filled = filled | reached
        reach *= 2
    return means


@njit(**FAST)
def _block_sums(image, unusable, limit, masked, side):
    """Sums and numbers of the usable pixels in squares.

    Parameters
    ----------
    image : (ny, nx) float32 array
    unusable : (ny, nx) bool array
    limit : float
        Pixels of a larger absolute value do not count.
    masked : (ny / BLOCK, nx / BLOCK) bool array
        Nor do those in these blocks.
    side : int
        Of the squares [pixel]; the last of a row or column may be narrower.

    Returns
    -------
    total : (ny / side, nx / side) float array
    count : int array of that shape
    """
    ny, nx = image.shape
    shape = ((ny + side - 1) // side, (nx + side - 1) // side)
    total, count = np.zeros(shape), np.zeros(shape, np.int64)
    sums, counted, hidden = np.empty(nx), np.empty(nx, np.int32), np.empty(nx, np.bool_)
    for row in range(shape[0]):
        sums[:], counted[:] = 0, 0
        for y in range(row * side, min(ny, (row + 1) * side)):
            if y % BLOCK == 0:
                for x in range(nx):
                    hidden[x] = masked[y // BLOCK, x >> SHIFT]
            for x in range(nx):
                # The comparison is never true for what is not finite; no branches, so that it is done for many at once.
                usable = (abs(image[y, x]) < limit) & (not unusable[y, x]) & (not hidden[x])
                sums[x] += image[y, x] if usable else np.float32(0)
                counted[x] += usable
        for cell in range(shape[1]):
            for x in range(cell * side, min(nx, (cell + 1) * side)):
                total[row, cell] += sums[x]
                count[row, cell] += counted[x]
    return total, count


def _spline_weights(n: int, mesh: int) -> np.ndarray:
    """Matrix (n, cells) of natural cubic splines: from values at the cells' centres to every pixel of an axis."""
    starts = np.arange(0, n, mesh)
    centres = (starts + np.minimum(starts + mesh, n) - 1) / 2
    if len(centres) == 1:
        return np.ones((n, 1), np.float32)
    # The second derivatives at the centres make the first ones continuous; they vanish at the ends (de Boor 1978, IV).
    values, width = np.eye(len(centres)), np.diff(centres)
    continuity = np.diag(2 * (width[:-1] + width[1:])) + np.diag(width[1:-1], 1) + np.diag(width[1:-1], -1)
    bend = np.zeros_like(values)
    bend[1:-1] = np.linalg.solve(continuity, 6 * np.diff(np.diff(values, axis=0) / width[:, None], axis=0))
    pixel = np.arange(n)
    cell = (np.searchsorted(centres, pixel, "right") - 1).clip(0, len(width) - 1)
    step = width[cell, None]
    right = (pixel - centres[cell])[:, None] / step
    left = 1 - right
    line = left * values[cell] + right * values[cell + 1]
    curve = (left**3 - left) * bend[cell] + (right**3 - right) * bend[cell + 1]
    return (line + curve * step**2 / 6).astype(np.float32)
