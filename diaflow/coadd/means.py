"""The arithmetic of a stack of images on one grid: outliers, and the weighted mean with its mask bits.

At every pixel only the best kind of data that is there counts: clean pixels, else those near the edge of a sensor,
else interpolated ones (BAD, SAT, CR).  What is left out is told by the bits SENSOR_EDGE, REJECTED, CLIPPED and
INEXACT_PSF, as in LSST's assembleCoadd (drp_tasks), and so is where inputs end.
"""

import numpy as np
from numba import njit

from diaflow.image.planes import bits
from diaflow.jit import FAST
from diaflow.statistics import SIGMA_PER_IQR

CHUNK = 128  # columns that are sorted together, whose values stay in the processor's cache

# SAT is passed on when the rejected pixels that have it hold more than this fraction of the weight, as in assembleCoadd
# (`maskPropagationThresholds`).
SATURATED_FRACTION = 0.1

# Inputs that it takes to tell which one is wrong, and clean ones that do: what moves and what hits add light.
MIN_CHECKED, MIN_CLEAN = 3, 2

# Inputs scatter because of their PSFs, not their noise, when the squared scatter exceeds the variance by this factor.
SIGNIFICANT_SCATTER = np.float32(10.0)

EDGE, SAT, CLIPPED, NO_DATA, SUSPECT = (bits(name) for name in ("EDGE", "SAT", "CLIPPED", "NO_DATA", "SUSPECT"))
SENSOR_EDGE, REJECTED, INEXACT_PSF = (bits(name) for name in ("SENSOR_EDGE", "REJECTED", "INEXACT_PSF"))
INTERPOLATED = bits("BAD", "SAT", "CR")
NOT_CLEAN = NO_DATA | EDGE | INTERPOLATED
UNUSABLE = 3  # the last of the `ranks`
NO_ROW = np.float32(-1)  # no sum of weights


def mean_of(
    image: np.ndarray, variance: np.ndarray, mask: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The `weighted_mean` in new arrays.

    Parameters
    ----------
    image, variance, mask : (n, ny, nx) arrays
    weights : (n,) array

    Returns
    -------
    image, variance, mask : (ny, nx) arrays
    """
    shape = image.shape[1:]
    out = np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.int32)
    weighted_mean(image, variance, mask, weights, *out)
    return out


def mark_outliers(image: np.ndarray, variance: np.ndarray, mask: np.ndarray, noise: np.ndarray, n_sigma: float) -> None:
    """Set CLIPPED in the mask of pixels that are far from the median of the inputs' best pixels.

    Far is more than n_sigma times the larger of the pixel's noise and the scatter of the inputs (from the shortest
    interval that holds half of them, so that up to half may be wrong): where PSFs were not matched perfectly, in the
    cores of stars, inputs scatter by more than their noise and none is an outlier.

    Parameters
    ----------
    image, variance, mask : (n, ny, nx) arrays
    noise : (n,) array
        Noise of each input over the square root of its variance plane.
    n_sigma : float
    """
    _mark_outliers(image, variance, mask, noise.astype(np.float32), np.float32(n_sigma), _sorting_network(len(image)))


def _sorting_network(n: int) -> np.ndarray:
    """Pairs to compare and swap in order to sort n values (Batcher's odd-even merge sort), shape (n_pairs, 2)."""
    pairs = []
    p = 1
    while p < n:
        k = p
        while k >= 1:
            for j in range(k % p, n - k, 2 * k):
                for i in range(min(k, n - j - k)):
                    if (i + j) // (2 * p) == (i + j + k) // (2 * p):
                        pairs.append((i + j, i + j + k))
            k //= 2
        p *= 2
    return np.array(pairs, np.int64).reshape(-1, 2)


def ranks(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """How good pixels are.

    Parameters
    ----------
    image, mask : arrays of one shape

    Returns
    -------
    uint8 array of that shape
        0 clean, 1 near an edge, 2 interpolated, 3 (`UNUSABLE`) without data or clipped.
    """
    rank = np.where(mask & INTERPOLATED, 2, (mask & EDGE) != 0).astype(np.uint8)
    rank[(mask & (NO_DATA | CLIPPED) != 0) | ~np.isfinite(image)] = UNUSABLE
    return rank


@njit(inline="always", **FAST)
def _rank(x, v, m):
    """The rank of one pixel, see `ranks`; one of no finite variance is unusable, too.

    Parameters
    ----------
    x, v : float32
        Value and variance.
    m : int32
        Mask.

    Returns
    -------
    int
    """
    unusable = ((m & (NO_DATA | CLIPPED)) != 0) | (x != x) | (not v < np.inf)
    return UNUSABLE if unusable else 2 if m & INTERPOLATED else 1 if m & EDGE else 0


@njit(**FAST)
def _mark_outliers(image, variance, mask, noise, n_sigma, network):
    """`mark_outliers`, compiled: columns of `CHUNK` pixels at a time, so that its loops run over vectors.

    Parameters
    ----------
    image, variance, mask : (n, ny, nx) arrays
    noise : (n,) float32 array
    n_sigma : float32
    network : (n_pairs, 2) int array
        See `_sorting_network`.
    """
    n, ny, nx = image.shape
    values = np.empty((n, CHUNK), np.float32)
    best, count = np.empty(CHUNK, np.int32), np.empty(CHUNK, np.int32)
    median, spread = np.empty(CHUNK, np.float32), np.empty(CHUNK, np.float32)
    for j in range(ny):
        for start in range(0, nx, CHUNK):
            part = slice(start, min(start + CHUNK, nx))
            width = part.stop - start
            best[:] = UNUSABLE - 1
            count[:] = 0
            for k in range(n):
                x, v, m = image[k, j][part], variance[k, j][part], mask[k, j][part]
                for t in range(width):
                    best[t] = min(best[t], _rank(x[t], v[t], m[t]))
            for k in range(n):
                x, v, m = image[k, j][part], variance[k, j][part], mask[k, j][part]
                for t in range(width):
                    counts = _rank(x[t], v[t], m[t]) == best[t]
                    values[k, t] = x[t] if counts else np.float32(np.inf)
                    count[t] += np.int32(1) if counts else np.int32(0)
            _sort_columns(values, network, width)
            if count[:width].min() == count[:width].max():
                _medians_and_spreads(values, count[0], width, median, spread)
            else:
                for t in range(width):
                    _medians_and_spreads(values[:, t:], count[t], 1, median[t:], spread[t:])
            for k in range(n):
                x, v, m = image[k, j][part], variance[k, j][part], mask[k, j][part]
                for t in range(width):
                    sigma2 = max(noise[k] * noise[k] * v[t], spread[t] * spread[t])
                    deviation = x[t] - median[t]
                    counts = _rank(x[t], v[t], m[t]) == best[t]
                    outlier = counts & (deviation * deviation > n_sigma * n_sigma * sigma2)
                    m[t] |= CLIPPED if outlier else 0


@njit(**FAST)
def _sort_columns(values, network, width):
    """Sort the values of each column in place.

    Parameters
    ----------
    values : (n, m) float32 array
    network : (n_pairs, 2) int array
        See `_sorting_network`.
    width : int
        Columns to sort.
    """
    for c in range(len(network)):
        low, high = values[network[c, 0]], values[network[c, 1]]
        for t in range(width):
            a, b = low[t], high[t]
            low[t], high[t] = min(a, b), max(a, b)


@njit(inline="always", **FAST)
def _medians_and_spreads(values, count, width, median, spread):
    """Median of sorted values, and the sigma from the shortest half of them, in each column.

    Parameters
    ----------
    values : (n, m) float32 array
        Sorted along the first axis.
    count : int
        Values that count, from the first.
    width : int
        Columns.
    median, spread : (m,) float32 arrays
        Filled.
    """
    half = count // 2
    for t in range(width):
        median[t] = np.float32(0.5) * (values[(count - 1) // 2, t] + values[half, t])
        spread[t] = values[half, t] - values[0, t]
    for k in range(1, count - half):
        for t in range(width):
            spread[t] = min(spread[t], values[k + half, t] - values[k, t])
    for t in range(width):
        spread[t] *= np.float32(SIGMA_PER_IQR)


def weighted_mean(
    image: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    weights: np.ndarray,
    out_image: np.ndarray,
    out_variance: np.ndarray,
    out_mask: np.ndarray,
    psf_jumps: bool = True,
    above: np.ndarray | None = None,
) -> None:
    """Mean over inputs: sum w x / sum w, with variance sum w^2 v / (sum w)^2, and the mask of the coadd.

    Where an input is left out, the PSF of the mean differs from that of its surroundings, and in a star so does its
    value.  By how much follows from the scatter s of the inputs: where s^2 is beyond ten times their variance, (s times
    the fraction of the weight that is left out)^2 is added to the variance.  Where, of at least three inputs, fewer
    than three have data and fewer than two are clean, none could have been rejected: SUSPECT is set.  SENSOR_EDGE and
    INEXACT_PSF are set where other inputs have data than in the pixel to the left or in the row above.

    Parameters
    ----------
    image, variance, mask : (n, ny, nx) arrays
        Pixels with CLIPPED are left out.
    weights : (n,) array
    out_image, out_variance, out_mask : (ny, nx) arrays
        Filled: NaN, infinity and NO_DATA where no input has data.
    psf_jumps : bool
        Whether that scatter is added.
    above : (nx,) float32 array, optional
        From `no_row`: weight of the inputs that have data in the row above, which tells one set of inputs from another;
        changed into that of the last row.
    """
    relative = (weights / weights.max()).astype(np.float32)
    significant = SIGNIFICANT_SCATTER if psf_jumps else np.float32(np.inf)
    above = no_row(image.shape[2]) if above is None else above
    _weighted_mean(image, variance, mask, relative, significant, above, out_image, out_variance, out_mask)


def no_row(nx: int) -> np.ndarray:
    """What stands for the row above the first one of an image, see `weighted_mean`.

    Parameters
    ----------
    nx : int

    Returns
    -------
    (nx,) float32 array
    """
    return np.full(nx, NO_ROW, np.float32)


@njit(**FAST)
def _weighted_mean(image, variance, mask, weights, significant, above, out_image, out_variance, out_mask):
    """`weighted_mean`, compiled.

    Parameters
    ----------
    image, variance, mask : (n, ny, nx) arrays
    weights : (n,) float32 array
        Largest 1.
    significant : float32
        Squared scatter of the inputs over their variance from which it counts.
    above : (nx,) float32 array
        Changed in place.
    out_image, out_variance, out_mask : (ny, nx) arrays
        Filled.
    """
    n, ny, nx = image.shape
    best, flags = np.empty(nx, np.int32), np.empty(nx, np.int32)
    used_weight, saturated, covered = np.empty(nx, np.float32), np.empty(nx, np.float32), np.empty(nx, np.float32)
    square, noise = np.empty(nx, np.float32), np.empty(nx, np.float32)
    n_used, n_data, n_clean = np.empty(nx, np.int32), np.empty(nx, np.int32), np.empty(nx, np.int32)
    zero = np.float32(0)
    for j in range(ny):
        total, total_variance = out_image[j], out_variance[j]
        best[:], flags[:], used_weight[:], saturated[:], covered[:] = UNUSABLE - 1, 0, 0, 0, 0
        total[:], total_variance[:], square[:], noise[:], n_used[:], n_data[:], n_clean[:] = 0, 0, 0, 0, 0, 0, 0
        for k in range(n):
            for i in range(nx):
                best[i] = min(best[i], _rank(image[k, j, i], variance[k, j, i], mask[k, j, i]))
        for k in range(n):
            w = weights[k]
            for i in range(nx):
                m = mask[k, j, i]
                used = _rank(image[k, j, i], variance[k, j, i], m) == best[i]
                total[i] += w * image[k, j, i] if used else zero
                total_variance[i] += w * w * variance[k, j, i] if used else zero
                square[i] += w * image[k, j, i] * image[k, j, i] if used else zero
                noise[i] += w * variance[k, j, i] if used else zero
                n_used[i] += 1 if used else 0
                used_weight[i] += w if used else zero
                has_data = (m & NO_DATA) == 0
                covered[i] += w if has_data else zero
                n_data[i] += 1 if has_data else 0
                n_clean[i] += 1 if (m & NOT_CLEAN) == 0 else 0
                left_out = has_data and not used
                saturated[i] += w if left_out and (m & SAT) else zero
                flags[i] |= m if used else 0
                flags[i] |= SENSOR_EDGE | INEXACT_PSF if has_data and (m & EDGE) else 0
                flags[i] |= REJECTED | INEXACT_PSF if left_out and (m & INTERPOLATED) else 0
                flags[i] |= CLIPPED | INEXACT_PSF if left_out and (m & CLIPPED) else 0
        for i in range(1, nx):
            flags[i] |= SENSOR_EDGE | INEXACT_PSF if covered[i] != covered[i - 1] else 0
        if above[0] != NO_ROW:
            for i in range(nx):
                flags[i] |= SENSOR_EDGE | INEXACT_PSF if covered[i] != above[i] else 0
        above[:] = covered
        for i in range(nx):
            if used_weight[i] > 0:
                total[i] /= used_weight[i]
                total_variance[i] /= used_weight[i] * used_weight[i]
                if n_used[i] > 1 and covered[i] > used_weight[i]:
                    scatter = (square[i] / used_weight[i] - total[i] * total[i]) * n_used[i] / (n_used[i] - 1)
                    if scatter > significant * noise[i] / used_weight[i]:
                        total_variance[i] += (1 - used_weight[i] / covered[i]) ** 2 * scatter
                is_saturated = saturated[i] > SATURATED_FRACTION * covered[i]
                out_mask[j, i] = flags[i] | (SAT if is_saturated else 0)
                out_mask[j, i] |= SUSPECT if n_data[i] < MIN_CHECKED <= n and n_clean[i] < MIN_CLEAN else 0
            else:
                total[i], total_variance[i], out_mask[j, i] = np.nan, np.inf, flags[i] | NO_DATA
