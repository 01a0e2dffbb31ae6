"""Bad pixels replaced by their surroundings, so that convolutions and centroids see no holes.

In come an image and its bad pixels, which are filled in place from the rim inwards.
"""

import numpy as np
from numba import njit

from diaflow.image.planes import pixels_where
from diaflow.jit import EXACT

PASSES = 16  # width of the rim of a masked region that is interpolated, in steps of the 5 x 5 stencil


def interpolate(image: np.ndarray, bad: np.ndarray, fallback: np.ndarray) -> None:
    """Replace bad pixels in place by Gaussian-weighted means of good ones nearby, from the rim inwards.

    Parameters
    ----------
    image : (ny, nx) array
    bad : (ny, nx) bool array
    fallback : (ny, nx) array
        What becomes of pixels too far from any good one, e.g. the sky.
    """
    pixels, good = np.column_stack(pixels_where(bad)), ~bad
    for _ in range(PASSES):
        if not len(pixels):
            return
        values = _local_means(image, good, pixels)
        done = np.isfinite(values)
        if not done.any():
            break
        y, x = pixels[done].T
        image[y, x], good[y, x] = values[done], True
        pixels = pixels[~done]
    y, x = pixels.T
    image[y, x] = fallback[y, x]


@njit(**EXACT)
def _local_means(image, good, pixels):
    """Means of the good pixels of the 5 x 5 around each pixel with Gaussian weights of sigma 1 pixel.

    Parameters
    ----------
    image : (ny, nx) array
    good : (ny, nx) bool array
    pixels : (n, 2) int array
        Rows and columns.

    Returns
    -------
    (n,) float64 array
        NaN where there is no good pixel.
    """
    out = np.full(len(pixels), np.nan)
    for n in range(len(pixels)):
        j, i = pixels[n]
        total, weight = 0.0, 0.0
        for y in range(max(0, j - 2), min(image.shape[0], j + 3)):
            for x in range(max(0, i - 2), min(image.shape[1], i + 3)):
                if good[y, x]:
                    w = np.exp(-0.5 * ((y - j) ** 2 + (x - i) ** 2))
                    total += w * image[y, x]
                    weight += w
        if weight > 0:
            out[n] = total / weight
    return out
