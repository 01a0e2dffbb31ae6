"""What the noise of an image is, measured in its sky, against what its variance plane says.

`sky` finds the pixels without sources; `variance_factor` compares single pixels (for images whose noise is white);
`matched_factor` compares PSF-weighted sums, which is what the errors of point-source fluxes rest on.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import binary_dilation

from diaflow import polynomials
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.statistics import robust_width

BIN = 4  # side of the bins that sources are found in [pixel]: about the FWHM of a star, whose light adds up in one
MESH = 16  # side of the cells whose median is the sky around a source [bin]: far larger than a star
SOURCE_SIGMA = 3.0  # of a bin with a source; with the bins around, noise alone takes 1.2 % of the sky away
FILLED = 0.5  # least part of a bin that must be unmasked
BLOCK = 64  # side of the blocks whose means or pixels stand for the sky [pixel]
MIN_BLOCK_SKY = 0.05  # least part of such a block that must be sky: 200 pixels
BLOCKS_PER_TERM = 2  # of a polynomial through the sky
SAMPLE = 1_000_000  # pixels that tell the scatter, to 0.1 %
MIN_PIXELS = 1000  # of sky that tell it, then to 4 %
N_CELLS = 5  # cells along each axis, in which the variance of the sky is known
MIN_CELL_SKY = 0.01  # least part of such a cell that must be sky
TYPICAL_ROWS = 1000  # of a large image that a median is taken of, at least
# Of the PSF-weighted sums: number in an image (that many tell a width to 0.7 %), least distance [pixel], least part of
# the power of the PSF that must be on sky, and least number that says anything (to 6 %).
MATCHED_POSITIONS, MIN_STEP, MIN_COVERED, MIN_POSITIONS = 30_000, 4, 0.95, 400
# Relative error of a width from the quartiles of n values of a normal distribution, times sqrt(n): 1.17.
QUARTILE_ERROR = 1.17
FLAWS = ("BAD", "SAT", "CR", "INTRP", "EDGE", "NO_DATA", "SUSPECT", "SAT_TEMPLATE", "HIGH_VARIANCE")
BAD_PLANES = (*FLAWS, "DETECTED", "DETECTED_NEGATIVE")


def sky(exposure: Exposure) -> np.ndarray:
    """Pixels that are unmasked and have no source nearby.

    Sources are bins of 4 x 4 pixels more than 3 sigma above the median of their surroundings, and the bins around.

    Parameters
    ----------
    exposure : Exposure

    Returns
    -------
    (ny, nx) bool array
    """
    unmasked = (exposure.mask & bits(*BAD_PLANES)) == 0
    mean, filled = _binned(exposure.image, unmasked)
    if not filled.any():
        return unmasked
    excess = mean - _local_median(mean, filled)
    sources = filled & (excess > SOURCE_SIGMA * robust_width(excess[filled]))
    near = binary_dilation(sources, np.ones((3, 3), bool))
    ny, nx = exposure.shape
    unmasked &= ~near.repeat(BIN, 0).repeat(BIN, 1)[:ny, :nx]
    return unmasked


def variance_factor(exposure: Exposure, sky_pixels: np.ndarray) -> float:
    """Factor by which the variance plane must be multiplied to agree with the scatter of sky pixels.

    About a million pixels in blocks of 64 x 64 are used, the median of each block taken out.

    Parameters
    ----------
    exposure : Exposure
    sky_pixels : (ny, nx) bool array

    Returns
    -------
    float
        1.0 where these blocks hold fewer than 1000 sky pixels.
    """
    step = max(1, round(np.sqrt(exposure.image.size / SAMPLE)))
    with np.errstate(invalid="ignore", divide="ignore"):
        pulls = _blocks(exposure.image, step) / np.sqrt(_blocks(exposure.variance, step))
    pulls = np.sort(np.where(_blocks(sky_pixels, step), pulls, np.nan))
    count = np.isfinite(pulls).sum(-1)
    pulls = pulls[count > 0] - np.take_along_axis(pulls, count[:, None] // 2, -1)[count > 0]
    return robust_width(pulls[np.isfinite(pulls)]) ** 2 if count.sum() >= MIN_PIXELS else 1.0


def background(image: np.ndarray, sky_pixels: np.ndarray, order: int) -> np.ndarray | None:
    """Polynomial through the sky of an image, fitted to means over blocks of 64 x 64 pixels.

    Parameters
    ----------
    image : (ny, nx) array
    sky_pixels : (ny, nx) bool array
    order : int
        Highest degree in position; lowered where there are fewer than two blocks with sky per term.

    Returns
    -------
    (n_terms,) array or None
        Of the `spanned` position (see `diaflow.polynomials`); None where there are fewer than two blocks.
    """
    ny, nx = (n // BLOCK for n in image.shape)
    cut = slice(ny * BLOCK), slice(nx * BLOCK)

    def sums(a):
        return a[cut].reshape(ny, BLOCK, nx * BLOCK).sum(1).reshape(ny, nx, BLOCK).sum(2, dtype=float)

    count = sums(sky_pixels.astype(np.float32))
    filled = count > MIN_BLOCK_SKY * BLOCK**2
    if filled.sum() < BLOCKS_PER_TERM:
        return None
    mean = sums(np.where(sky_pixels, image, np.float32(0)))[filled] / count[filled]
    y, x = (BLOCK * (index + 0.5) - 0.5 for index in np.nonzero(filled))
    order = polynomials.affordable(order, filled.sum(), BLOCKS_PER_TERM)
    design = polynomials.terms(*polynomials.spanned(x, y, image.shape), order)
    return polynomials.fit(design, mean, 1 / np.sqrt(count[filled]))[0]


def typical(plane: np.ndarray, good: np.ndarray) -> float:
    """Median of the good pixels of some rows: all, or a thousand to two thousand of them.

    Parameters
    ----------
    plane : (ny, nx) array
    good : (ny, nx) bool array

    Returns
    -------
    float
        The median of all pixels of these rows where none is good.
    """
    rows = slice(None, None, max(1, len(plane) // TYPICAL_ROWS))
    values = plane[rows][good[rows]]
    return float(np.median(values if values.size else plane[rows]))


def cell_variance(variance: np.ndarray, sky: np.ndarray) -> np.ndarray:
    """Median variance of the sky in 5 x 5 cells.

    Parameters
    ----------
    variance : (ny, nx) array
    sky : (ny, nx) bool array
        Pixels that are neither masked nor covered by sources.

    Returns
    -------
    (5, 5) array
        NaN where a cell has less than 1 % of sky pixels.
    """
    ny, nx = variance.shape
    stride = max(1, min(ny, nx) // TYPICAL_ROWS)
    edges_y, edges_x = (np.linspace(0, n, N_CELLS + 1).astype(int) for n in (ny, nx))
    out = np.full((N_CELLS, N_CELLS), np.nan)
    for j in range(N_CELLS):
        for i in range(N_CELLS):
            cell = slice(edges_y[j], edges_y[j + 1], stride), slice(edges_x[i], edges_x[i + 1], stride)
            values = variance[cell][sky[cell]]
            if values.size > MIN_CELL_SKY * sky[cell].size:
                out[j, i] = np.median(values)
    return out


def matched_factor(exposure: Exposure, sky_pixels: np.ndarray, stamp: np.ndarray) -> tuple[float, float]:
    """Variance of PSF-weighted sums over sky, relative to the variance plane, and its statistical error.

    Parameters
    ----------
    exposure : Exposure
    sky_pixels : (ny, nx) bool array
    stamp : (k, k) array
        PSF.

    Returns
    -------
    (factor, error)
        (1.0, inf) where fewer than 400 positions are free of sources.
    """
    ny, nx = exposure.shape
    step = int(np.clip(np.sqrt(ny * nx / MATCHED_POSITIONS), MIN_STEP, None))
    pixels = np.where(sky_pixels, exposure.image / np.sqrt(exposure.variance), np.float32(0))
    weights = stamp.astype(np.float32)
    if min(ny, nx) < len(weights):
        return 1.0, float("inf")

    def weighted(image, kernel):
        return np.einsum("yxvu,vu->yx", sliding_window_view(image, kernel.shape)[::step, ::step], kernel)

    covered = weighted(sky_pixels.astype(np.float32), weights**2)
    free = covered > MIN_COVERED * (weights**2).sum()
    if free.sum() < MIN_POSITIONS:
        return 1.0, float("inf")
    pulls = weighted(pixels, weights)[free] / np.sqrt(covered[free])
    # the square of a width has twice its relative error
    return float(robust_width(pulls) ** 2), float(2 * QUARTILE_ERROR / np.sqrt(free.sum()))


def _blocks(image: np.ndarray, step: int) -> np.ndarray:
    """Every `step`-th block of 64 x 64 pixels in both directions, (n, 64 * 64)."""
    ny, nx = (n // BLOCK for n in image.shape)
    blocks = image[: ny * BLOCK, : nx * BLOCK].reshape(ny, BLOCK, nx, BLOCK)[::step, :, ::step]
    return blocks.transpose(0, 2, 1, 3).reshape(-1, BLOCK**2)


def _binned(image: np.ndarray, good: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over bins of the good pixels, and which bins are at least half good; whole bins only at the borders."""
    sums = _bin_sums(np.where(good, image, np.float32(0)))
    counts = _bin_sums(good.view(np.uint8))
    return sums / np.maximum(counts, 1), counts >= FILLED * BIN**2


def _bin_sums(image: np.ndarray) -> np.ndarray:
    pad = [(0, -n % BIN) for n in image.shape]
    if np.any(pad):
        image = np.pad(image, pad)
    rows = image[::BIN] + image[1::BIN]
    for i in range(2, BIN):
        rows += image[i::BIN]
    return sum(rows[:, i::BIN] for i in range(BIN))


def _local_median(binned: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """Median of the filled bins in cells of 16 x 16 bins, at every bin; the overall median where a cell has few."""
    ny, nx = binned.shape
    pad = [(0, -ny % MESH), (0, -nx % MESH)]
    values = np.pad(np.where(filled, binned, np.nan), pad, constant_values=np.nan)
    cells = values.reshape(values.shape[0] // MESH, MESH, -1, MESH).transpose(0, 2, 1, 3)
    cells = cells.reshape(*cells.shape[:2], -1)
    overall = np.nanmedian(binned[filled]) if filled.any() else 0.0
    # sorted with NaN last, the median of n values is the one at n // 2
    count = np.isfinite(cells).sum(-1)
    middle = np.take_along_axis(np.sort(cells, axis=-1), (count // 2)[..., None].clip(max=MESH**2 - 1), -1)[..., 0]
    medians = np.where(count >= MESH, middle, overall)
    return medians.repeat(MESH, 0).repeat(MESH, 1)[:ny, :nx]
