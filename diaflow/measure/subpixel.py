"""A PSF stamp moved by a part of a pixel, and its slopes: a separable windowed sinc, on compiled loops.

Pixels of a PSF sharper than some 2.5 do not tell what is between them, whatever the filter.  Most of what they leave
open is the core, which is nearly a Gaussian: the one through the central pixel and those beside it is moved as what it
is, and the filter moves what the stamp has beside it.
"""

import math

import numpy as np
from numba import njit

from diaflow.jit import EXACT, FAST

TAPS = 5  # the interpolation kernel has 2 TAPS + 1 weights: the error of a flux is 2e-4 then, see `shift_weights`
# Sigma of the core [pixel] from which the filter alone moves a stamp, as well as a PSF of 2.5 pixels FWHM.
SHARP = 1.06


@njit(**EXACT)
def shift_weights(shift, weight, slope):
    """Weights that move samples by `shift` in [-0.5, 0.5], and their derivatives in `shift`.

    A sinc with a Blackman window of half-width TAPS + 0.5 and unit sum.  It moves a Gaussian of FWHM >= 2.5 pixels
    with 2e-4 of error in flux, where Lanczos-5 has 2.5e-3 because its response is not flat at low frequencies.

    Parameters
    ----------
    shift : float
        [pixel]
    weight, slope : (2 TAPS + 1,) arrays
        Set to the weights and their derivatives.
    """
    total, total_slope = 0.0, 0.0
    for a in range(-TAPS, TAPS + 1):
        t = a + shift
        u, v = math.pi * t, math.pi * t / (TAPS + 0.5)
        window = 0.42 + 0.5 * math.cos(v) + 0.08 * math.cos(2 * v)
        window_slope = -(0.5 * math.sin(v) + 0.16 * math.sin(2 * v)) * math.pi / (TAPS + 0.5)
        if abs(t) < 1e-4:  # series of the sinc about 0
            sinc, sinc_slope = 1 - u * u / 6, -math.pi * u / 3
        else:
            sinc = math.sin(u) / u
            sinc_slope = (math.cos(u) - sinc) / t
        weight[a + TAPS] = sinc * window
        slope[a + TAPS] = sinc_slope * window + sinc * window_slope
        total += weight[a + TAPS]
        total_slope += slope[a + TAPS]
    for a in range(2 * TAPS + 1):
        weight[a] /= total
        slope[a] = (slope[a] - weight[a] * total_slope) / total


@njit(**FAST)
def filter_rows(padded, weight, out):
    """out[j, i] = sum_a weight[a] padded[j, i + a]: along x, the padding consumed.

    Parameters
    ----------
    padded : (ny, nx + 2 TAPS) array
    weight : (2 TAPS + 1,) array
    out : (ny, nx) array
    """
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            total = 0.0
            for a in range(2 * TAPS + 1):
                total += weight[a] * padded[j, i + a]
            out[j, i] = total


@njit(**FAST)
def filter_columns(rows, weight, out):
    """out[j, i] = sum_b weight[b] rows[j + b, i]: along y, the padding consumed.

    Parameters
    ----------
    rows : (ny + 2 TAPS, nx) array
    weight : (2 TAPS + 1,) array
    out : (ny, nx) array
    """
    for j in range(out.shape[0]):
        for i in range(out.shape[1]):
            total = 0.0
            for b in range(2 * TAPS + 1):
                total += weight[b] * rows[j + b, i]
            out[j, i] = total


@njit(**EXACT)
def gaussian_line(centre, sigma, value, slope):
    """A Gaussian of unit peak along a row of pixels, and its derivative in the position of its centre.

    Parameters
    ----------
    centre, sigma : float
        [pixel]
    value, slope : (n,) arrays
        Set for pixels 0 to n - 1.
    """
    for i in range(len(value)):
        t = (i - centre) / sigma
        value[i] = math.exp(-0.5 * t * t)
        slope[i] = value[i] * t / sigma


@njit(**EXACT)
def core_of(stamp, core):
    """The Gaussian through the central pixel of a stamp and the four beside it, where the filter does not move it.

    Parameters
    ----------
    stamp : (k, k) array
        PSF, k odd.
    core : (5,) array
        Set to the peak, to x and y of the centre from the central pixel and to sigma along x and y [pixel]; the peak is
        0 where the core is broader than `SHARP` or no Gaussian.
    """
    h = stamp.shape[0] // 2
    core[:] = 0.0
    peak, exponent = stamp[h, h], 0.0
    for axis in range(2):
        before, after = (stamp[h - 1, h], stamp[h + 1, h]) if axis else (stamp[h, h - 1], stamp[h, h + 1])
        if not (0 < before < peak and 0 < after < peak):
            return
        rise, fall = math.log(peak / before), math.log(peak / after)
        variance = 1 / (rise + fall)
        core[1 + axis] = 0.5 * variance * (rise - fall)
        core[3 + axis] = math.sqrt(variance)
        exponent += 0.5 * core[1 + axis] ** 2 / variance
    if min(core[3], core[4]) < SHARP:
        core[0] = peak * math.exp(exponent)


@njit(**EXACT)
def add_core(core, centre, shift, weights, slopes, out):
    """Put the core of a moved stamp where it is, instead of what the filter made of it.

    Parameters
    ----------
    core : (5,) array
        As `core_of` sets it.
    centre : (x, y)
        Pixel of the grid on which the central pixel of the stamp was [pixel].
    shift : (x, y)
        By which the filter moved it [pixel].
    weights, slopes : ((2 TAPS + 1,), (2 TAPS + 1,))
        What `shift_weights` gives for these shifts.
    out : (1, ny, nx) or (3, ny, nx) array
        The moved stamp, and its slopes in x and y where they are wanted: changed.
    """
    # Moved, its slope, filtered and the slope of that, along each axis.
    x_lines, y_lines = np.empty((4, out.shape[2])), np.empty((4, out.shape[1]))
    _lines(centre[0] + core[1], core[3], shift[0], weights[0], slopes[0], x_lines)
    _lines(centre[1] + core[2], core[4], shift[1], weights[1], slopes[1], y_lines)
    for a in range(len(out)):
        along_x, along_y = (1 if a == 1 else 0), (1 if a == 2 else 0)
        for j in range(out.shape[1]):
            for i in range(out.shape[2]):
                moved = y_lines[along_y, j] * x_lines[along_x, i]
                filtered = y_lines[2 + along_y, j] * x_lines[2 + along_x, i]
                out[a, j, i] += core[0] * (moved - filtered)


@njit(**EXACT)
def _lines(centre, sigma, shift, weight, slope, out):
    """The lines of `add_core` (4, n) along one axis."""
    n = out.shape[1]
    gaussian_line(centre + shift, sigma, out[0], out[1])
    line, unused = np.empty(n + 2 * TAPS), np.empty(n + 2 * TAPS)
    gaussian_line(centre + TAPS, sigma, line, unused)
    for i in range(n):
        out[2, i] = out[3, i] = 0.0
        for a in range(2 * TAPS + 1):
            out[2, i] += weight[a] * line[i + a]
            out[3, i] += slope[a] * line[i + a]


@njit(**EXACT)
def move(stamp, dx, dy, padded, rows, out):
    """out[0] = a stamp moved by up to half a pixel.

    Parameters
    ----------
    stamp : (k, k) array
        PSF, k odd.
    dx, dy : float
        In [-0.5, 0.5] [pixel].
    padded : (k + 2 TAPS, width + 2 TAPS) array
        Zeros; the stamp is written into it.
    rows : (k + 2 TAPS, width) array
        Overwritten.
    out : (1, k, width) array
        width >= k; columns beyond the stamp are to have no use.
    """
    k = stamp.shape[0]
    wx, wy, slope, core = np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1), np.empty(5)
    shift_weights(dx, wx, slope)
    shift_weights(dy, wy, slope)
    padded[TAPS : TAPS + k, TAPS : TAPS + k] = stamp
    filter_rows(padded, wx, rows)
    filter_columns(rows, wy, out[0])
    core_of(stamp, core)
    if core[0] > 0:
        add_core(core, (k // 2, k // 2), (dx, dy), (wx, wy), (slope, slope), out)


@njit(**EXACT)
def place(stamp, dx, dy, work, out):
    """out = (P, dP/dx, dP/dy) of a source (dx, dy) away from the centre pixel of a grid.

    Parameters
    ----------
    stamp : (k, k) array
        PSF, k odd.
    dx, dy : float
        [pixel]
    work : (2 m + 4 TAPS, m + 2 TAPS) array
        Overwritten.
    out : (3, m, m) array
        m odd; what the stamp does not reach is zero.
    """
    m = out.shape[1]
    padded, rows = work[: m + 2 * TAPS], work[m + 2 * TAPS :, :m]
    h, ix, iy = stamp.shape[0] // 2, math.floor(dx + 0.5), math.floor(dy + 0.5)
    first_x, first_y = TAPS + m // 2 + ix - h, TAPS + m // 2 + iy - h
    padded[:] = 0.0
    for j in range(max(0, -first_y), min(stamp.shape[0], padded.shape[0] - first_y)):
        for i in range(max(0, -first_x), min(stamp.shape[1], padded.shape[1] - first_x)):
            padded[first_y + j, first_x + i] = stamp[j, i]
    wx, wy, sx, sy = (np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1))
    shift_weights(dx - ix, wx, sx)
    shift_weights(dy - iy, wy, sy)
    filter_rows(padded, sx, rows)
    filter_columns(rows, wy, out[1])
    filter_rows(padded, wx, rows)
    filter_columns(rows, wy, out[0])
    filter_columns(rows, sy, out[2])
    core = np.empty(5)
    core_of(stamp, core)
    if core[0] > 0:
        add_core(core, (m // 2 + ix, m // 2 + iy), (dx - ix, dy - iy), (wx, wy), (sx, sy), out)
