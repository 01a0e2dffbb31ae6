"""What each child of a blend looks like by itself: the SDSS deblender's templates (Lupton 2005, unpublished).

The template of a child is what its image and that image turned by half a circle about its peak have in common: the
smaller of the two pixels, which falls off from the peak and is nowhere negative; below the noise it is a mean over
3 x 3 pixels.  A child that the PSF fits has the PSF instead.  Templates are made in several rounds, the brightest child
first, each of the image without the templates of all others: the halo of a galaxy is then no part of what is on it, and
children move to where their own light is.
"""

import math

import numpy as np
from numba import njit

from diaflow.catalogue.templates import Templates, move
from diaflow.jit import EXACT

# Of making all templates; in the first of them all children are points, whose positions settle: chosen, two stars of
# S/N 1000 that are 1.25 FWHM apart are then at theirs to 0.05 pixels.
ROUNDS, SETTLING = 10, 6
MAX_STEP = 0.5  # of a child in one round [pixel]
REACH = 4.0  # of the window of a centroid [sigma of the PSF]
MAX_CHI2 = 1.5  # per degree of freedom, up to which a child is a point source: that of LSST's meas_deblender
CORE = 0.1  # least value of the PSF in the pixels that tell it [its peak]
ABOVE_NOISE = 3.0  # where a template is not smoothed [noise of a pixel]


def templates_of(
    image: np.ndarray,
    variance: np.ndarray,
    footprint: np.ndarray,
    families: np.ndarray,
    first: np.ndarray,
    boxes: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    stamps: np.ndarray,
    sigma: float,
) -> tuple[Templates, np.ndarray, np.ndarray]:
    """Templates and places of the children of blends in one band.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
        Pixels that are not finite count as 0.
    footprint : (ny, nx) int32 array
        Number of the footprint at every pixel.
    families : (m,) int array
        Number of the footprint of each blend.
    first : (m + 1,) int array
        Where the children of each blend begin in what follows, the brightest first.
    boxes : (m, 4) int array
        x0, y0, x1, y1 of the footprint of each blend, inclusive.
    x, y : (n,) arrays
        Peaks of the children [pixel].
    stamps : (n, k, k) array
        PSF of each; not finite where it is unknown.
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    templates : Templates
    x, y : (n,) arrays
        Centroids of the children [pixel].
    """
    n, x, y = len(x), x.copy(), y.copy()
    out_boxes, sizes, point = np.zeros((n, 4), np.int64), np.zeros(n, np.int64), np.zeros(n, bool)
    pixels = _all_templates(
        *(image, variance, footprint, families, first, boxes, x, y, stamps, float(sigma), out_boxes, sizes, point)
    )
    return Templates(out_boxes, np.concatenate([[0], np.cumsum(sizes)]), pixels, point), x, y


@njit(**EXACT)
def _all_templates(image, variance, footprint, families, first, boxes, x, y, stamps, sigma, own, sizes, point):
    """Pixels of the templates of all children, one behind the other; x, y, `own` boxes, sizes and point are set."""
    pool, used, k = np.empty(1 << 16, np.float32), 0, stamps.shape[1]
    begin, psf = np.zeros(len(x), np.int64), np.empty((1, k, k), np.float32)
    for m in range(len(families)):
        x0, y0 = boxes[m, 0], boxes[m, 1]
        left, noise = _cut(image, variance, footprint, families[m], boxes[m])
        work, old, filled = np.zeros(left.shape, np.float32), np.empty(left.size, np.float32), 0
        for turn in range(ROUNDS):
            new, filled = np.empty(len(old), np.float32), 0
            for n in range(first[m], first[m + 1]):
                if turn > 0:
                    _add(left, old[begin[n] : begin[n] + sizes[n]], own[n], x0, y0, np.float32(1))
                    _settle(left, x0, y0, sigma, x, y, n)
                flux, ix, iy = np.float32(0), math.floor(x[n] + 0.5), math.floor(y[n] + 0.5)
                own[n] = np.array([ix - k // 2, iy - k // 2, ix + k // 2, iy + k // 2])
                if math.isfinite(stamps[n, 0, 0]):
                    move(stamps[n : n + 1], x[n : n + 1] - ix, y[n : n + 1] - iy, psf)
                    limit = np.inf if turn < SETTLING else MAX_CHI2
                    flux = _point_flux(left, noise, psf.ravel(), own[n], x0, y0, limit)
                point[n] = flux > 0
                if not point[n]:
                    twice_x, twice_y = math.floor(2 * x[n] + 0.5) - 2 * x0, math.floor(2 * y[n] + 0.5) - 2 * y0
                    own[n] = fill_symmetric(left, twice_x, twice_y, work)
                size = (own[n, 2] - own[n, 0] + 1) * (own[n, 3] - own[n, 1] + 1)
                if filled + size > len(new):
                    new = _longer(new, filled + size)
                part = new[filled : filled + size]
                if point[n]:
                    part[:] = flux * psf.ravel()
                else:
                    _smooth(work, noise, own[n], part)
                    own[n, 0], own[n, 2] = own[n, 0] + x0, own[n, 2] + x0
                    own[n, 1], own[n, 3] = own[n, 1] + y0, own[n, 3] + y0
                begin[n], sizes[n], filled = filled, size, filled + size
                _add(left, part, own[n], x0, y0, np.float32(-1))
            old = new
        if used + filled > len(pool):
            pool = _longer(pool, used + filled)
        pool[used : used + filled] = old[:filled]
        used += filled
    return pool[:used]


@njit(**EXACT)
def _settle(pixels, x0, y0, sigma, x, y, n):
    """Move child n towards the centroid of an image that has no other, whose first pixel is x0, y0."""
    step_x, step_y = _window_step(pixels, x[n] - x0, y[n] - y0, sigma)
    length = math.hypot(step_x, step_y)
    if math.isfinite(length):
        damping = min(1.0, MAX_STEP / max(length, MAX_STEP))
        new_x, new_y = x[n] + damping * step_x, y[n] + damping * step_y
        if 0 <= new_x - x0 < pixels.shape[1] - 1 and 0 <= new_y - y0 < pixels.shape[0] - 1:
            x[n], y[n] = new_x, new_y


@njit(**EXACT)
def _window_step(pixels, x, y, sigma):
    """How far the centroid of an image under a window is from the middle of the window, times two.

    Parameters
    ----------
    pixels : (ny, nx) array
    x, y : float
        Middle of the window [pixel].
    sigma : float
        Its radius [pixel].

    Returns
    -------
    step_x, step_y : float
        [pixel]; NaN where there is no light.
    """
    ny, nx = pixels.shape
    total, mean_x, mean_y = 0.0, 0.0, 0.0
    for row in range(max(0, math.ceil(y - REACH * sigma)), min(ny - 1, math.floor(y + REACH * sigma)) + 1):
        for column in range(max(0, math.ceil(x - REACH * sigma)), min(nx - 1, math.floor(x + REACH * sigma)) + 1):
            dx, dy = column - x, row - y
            light = pixels[row, column] * math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma))
            total += light
            mean_x += light * dx
            mean_y += light * dy
    if not total > 0:
        return math.nan, math.nan
    return 2 * mean_x / total, 2 * mean_y / total


@njit(**EXACT)
def _longer(array, least):
    """A copy of an array with room for `least` elements, and for as many again."""
    out = np.empty(2 * least, array.dtype)
    out[: len(array)] = array
    return out


@njit(**EXACT)
def _cut(image, variance, footprint, number, box):
    """The pixels of one footprint, 0 beside it and where there are none, and their noise, infinite there."""
    shape = box[3] - box[1] + 1, box[2] - box[0] + 1
    pixels, noise = np.zeros(shape, np.float32), np.full(shape, np.inf, np.float32)
    for j in range(shape[0]):
        for i in range(shape[1]):
            row, column = box[1] + j, box[0] + i
            if footprint[row, column] == number and math.isfinite(image[row, column]):
                pixels[j, i] = image[row, column]
                noise[j, i] = math.sqrt(variance[row, column])
    return pixels, noise


@njit(**EXACT)
def _add(pixels, template, box, x0, y0, factor):
    """Add a template times a factor to an image whose first pixel is x0, y0."""
    width = box[2] - box[0] + 1
    for row in range(max(box[1], y0), min(box[3], y0 + pixels.shape[0] - 1) + 1):
        for column in range(max(box[0], x0), min(box[2], x0 + pixels.shape[1] - 1) + 1):
            pixels[row - y0, column - x0] += factor * template[(row - box[1]) * width + column - box[0]]


@njit(**EXACT)
def _point_flux(pixels, noise, psf, box, x0, y0, limit):
    """Flux of the PSF on an image whose first pixel is x0, y0; 0 where its chi2 per degree is above a limit."""
    width, peak = box[2] - box[0] + 1, np.float32(0)
    rows = range(max(box[1], y0), min(box[3], y0 + pixels.shape[0] - 1) + 1)
    columns = range(max(box[0], x0), min(box[2], x0 + pixels.shape[1] - 1) + 1)
    product, square = 0.0, 0.0
    for row in rows:
        for column in columns:
            if noise[row - y0, column - x0] < np.inf:
                p = psf[(row - box[1]) * width + column - box[0]]
                product += p * pixels[row - y0, column - x0]
                square += p * p
                peak = max(peak, p)
    if not (product > 0 and square > 0):
        return np.float32(0)
    flux, chi2, n_core = product / square, 0.0, 0
    for row in rows:
        for column in columns:
            p, sigma = psf[(row - box[1]) * width + column - box[0]], noise[row - y0, column - x0]
            if p > CORE * peak and sigma < np.inf:
                chi2 += ((pixels[row - y0, column - x0] - flux * p) / sigma) ** 2
                n_core += 1
    return np.float32(flux) if n_core > 1 and chi2 < limit * (n_core - 1) else np.float32(0)


@njit(**EXACT)
def fill_symmetric(pixels, twice_x, twice_y, work):
    """What an image and its mirror image have in common, ring by ring about a peak, until a ring has nothing.

    Parameters
    ----------
    pixels : (ny, nx) float32 array
    twice_x, twice_y : int
        Twice the position of the peak [pixel].
    work : (ny, nx) float32 array
        Set in the box.

    Returns
    -------
    (4,) int array
        x0, y0, x1, y1 of the box, inclusive.
    """
    ny, nx = pixels.shape
    low_x, low_y = twice_x // 2, twice_y // 2
    high_x, high_y = twice_x - low_x, twice_y - low_y
    box = np.array([low_x, low_y, low_x - 1, low_y])
    for ring in range(max(nx, ny)):
        something = False
        for row in range(max(low_y - ring, 0), min(high_y + ring, ny - 1) + 1):
            dy = max(row - high_y, 0) - max(low_y - row, 0)
            step = 1 if abs(dy) == ring else high_x - low_x + 2 * ring
            for column in range(low_x - ring, high_x + ring + 1, max(step, 1)):
                if not 0 <= column < nx:
                    continue
                dx = max(column - high_x, 0) - max(low_x - column, 0)
                mirror_x, mirror_y, value = twice_x - column, twice_y - row, np.float32(0)
                if 0 <= mirror_x < nx and 0 <= mirror_y < ny:
                    value = max(min(pixels[row, column], pixels[mirror_y, mirror_x]), np.float32(0))
                if ring > 0 and value > 0:
                    value = min(value, _inner(work, row, column, dx, dy))
                work[row, column] = value
                something |= value > 0
        if not something:
            break
        box[0], box[1] = max(low_x - ring, 0), max(low_y - ring, 0)
        box[2], box[3] = min(high_x + ring, nx - 1), min(high_y + ring, ny - 1)
    return box


@njit(**EXACT)
def _inner(work, row, column, dx, dy):
    """The larger of the one or two pixels beside one that are in the next ring towards the peak, dx, dy away."""
    step_x, step_y = np.sign(dx), np.sign(dy)
    value = work[row - step_y, column - step_x]
    if abs(dx) > abs(dy):
        value = max(value, work[row, column - step_x])
    elif abs(dy) > abs(dx):
        value = max(value, work[row - step_y, column])
    return value


@njit(**EXACT)
def _smooth(work, noise, box, out):
    """Copy a box of an image row by row, means over 3 x 3 pixels where it is not `ABOVE_NOISE`."""
    width = box[2] - box[0] + 1
    for row in range(box[1], box[3] + 1):
        for column in range(box[0], box[2] + 1):
            value = work[row, column]
            if not value > ABOVE_NOISE * noise[row, column]:
                total, count = np.float32(0), 0
                for j in range(max(row - 1, box[1]), min(row + 1, box[3]) + 1):
                    for i in range(max(column - 1, box[0]), min(column + 1, box[2]) + 1):
                        total += work[j, i]
                        count += 1
                value = total / np.float32(count)
            out[(row - box[1]) * width + column - box[0]] = value
