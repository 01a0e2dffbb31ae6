"""How far masks reach after a convolution."""

import numpy as np

BLOCK_ROWS = 64  # done at a time, so that the intermediate results stay in the cache
CORE_FRACTION = 0.95  # of the absolute sum of a kernel, which its core holds


def grow(mask: np.ndarray, radius: int, border: int = 0) -> np.ndarray:
    """OR of the mask bits within a square of `radius` pixels around each pixel.

    Parameters
    ----------
    mask : (ny, nx) integer array
    radius : int
        Half-width of the square [pixel].
    border : int
        Bits that the pixels outside the image count as.

    Returns
    -------
    (ny, nx) integer array
        Of the type of the mask.
    """
    if radius == 0:
        return mask.copy()
    ny, nx = mask.shape
    out = np.empty_like(mask)
    window = np.empty((BLOCK_ROWS + 2 * radius, nx + 2 * radius), mask.dtype)
    for first in range(0, ny, BLOCK_ROWS):
        rows = slice(first, min(first + BLOCK_ROWS, ny))
        low, high = max(0, first - radius), min(ny, rows.stop + radius)
        window[:] = border
        window[low - first + radius : high - first + radius, radius : radius + nx] = mask[low:high]
        used = window[: rows.stop - first + 2 * radius]
        out[rows] = _running_or(_running_or(used, 2 * radius + 1).T, 2 * radius + 1).T if used.any() else 0
    return out


def core_radius(kernel: np.ndarray) -> int:
    """How far a kernel spreads what matters: half-width of the square that holds `CORE_FRACTION` of its absolute sum.

    Parameters
    ----------
    kernel : (k, k) array
        k odd.

    Returns
    -------
    int
        [pixel]
    """
    half = kernel.shape[-1] // 2
    weight = np.abs(kernel)
    enclosed = [weight[half - r : half + r + 1, half - r : half + r + 1].sum() for r in range(half + 1)]
    return int(np.searchsorted(enclosed, CORE_FRACTION * enclosed[-1]))


def _running_or(mask: np.ndarray, width: int) -> np.ndarray:
    """OR over windows of `width` rows; the window doubles until it has that width."""
    done, out = 1, mask
    while done < width:
        step = min(done, width - done)
        out = out[:-step] | out[step:]
        done += step
    return out
