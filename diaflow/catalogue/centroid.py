"""Where objects are: centroids of their own pixels under a Gaussian window (the XWIN of SExtractor)."""

import math

import numpy as np
from numba import njit

from diaflow.catalogue.blends import Blends
from diaflow.jit import EXACT

ROUNDS = 20  # at most; a source at S/N 5 begins within a pixel or two
CONVERGED = 1e-3  # step at which a centroid is found [pixel]
REACH = 4.0  # of the window [sigma]
MAX_SHIFT = 2.0  # from the peak, beyond which it stays there [sigma]; at S/N 5 the error is 0.3


def centroids(blends: Blends, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Centroids of deblended pixels.

    Parameters
    ----------
    blends : Blends
        Its positions are where the search begins.
    sigma : float
        Radius of the window, which is that of the PSF [pixel].

    Returns
    -------
    x, y : (n,) arrays
        [pixel]; the start where the pixels tell no other place.

    Notes
    -----
    x grows by 2 sum(w I (i - x)) / sum(w I) until it stays: twice, because the window pulls the mean of a source that
    is as broad as itself half the way back.  For a Gaussian PSF this is least squares.
    """
    x, y = blends.x.astype(float), blends.y.astype(float)
    _centroids(blends.boxes, blends.offsets, blends.pixels, sigma, x, y)
    return x, y


@njit(**EXACT)
def window_step(pixels, x, y, sigma):
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
def _centroids(boxes, offsets, pixels, sigma, x, y):
    """Set x and y (n,), which have the starts."""
    for n in range(x.size):
        x0, y0 = boxes[n, 0], boxes[n, 1]
        image = pixels[offsets[n] : offsets[n + 1]].reshape(boxes[n, 3] - y0 + 1, boxes[n, 2] - x0 + 1)
        now_x, now_y = x[n], y[n]
        for _ in range(ROUNDS):
            step_x, step_y = window_step(image, now_x - x0, now_y - y0, sigma)
            now_x, now_y = now_x + step_x, now_y + step_y
            if not math.hypot(now_x - x[n], now_y - y[n]) < MAX_SHIFT * sigma:
                break
            if math.hypot(step_x, step_y) < CONVERGED:
                x[n], y[n] = now_x, now_y
                break
