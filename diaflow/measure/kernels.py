"""Loops over the pixels of single sources, compiled: the arithmetic of `diaflow.measure`.

Arguments have the types that `photometry.as_pixels` and `as_positions` give; what a loop finds it writes into arrays
that it is handed.  A PSF stamp is moved to the sub-pixel phase of its source (`subpixel`), the pixels of the source are
copied to a block of the stamp's size with zeros where they do not count, and sums over blocks give flux or position.
Positions are told by a smooth window: slopes of a stamp show its noise, and where it ends.
"""

import math

import numpy as np
from numba import njit

from diaflow.jit import EXACT, FAST
from diaflow.measure.subpixel import (
    TAPS,
    add_core,
    core_of,
    filter_columns,
    filter_rows,
    gaussian_line,
    move,
    shift_weights,
)

MIN_WEIGHT = 0.1  # smallest share of sum(P**2) on usable pixels: less is extrapolation from the wings
MAX_ITERATIONS = 40  # of a centroid: at S/N 7 one in some hundred needs more than 20
SINGULAR = 1e-6  # normalised determinant below which the position cannot be fitted
CONVERGED = 1e-3  # step of a position at which a fit stops [pixel]; the next one would be its square
WINDOW_REACH = 5.0  # of pixels that count for a position [sigma of the window]: it has fallen to 4e-6 of its peak there
LARGEST = 3e38  # beyond it a float32 pixel is infinite
LANES = 16  # rows of blocks are filled up to a multiple of this, so that vector instructions do all of a row


@njit(inline="always", **EXACT)
def row_length(k):
    """Columns of a block for a stamp; those beyond it are never used.

    Parameters
    ----------
    k : int
        Side of the stamp [pixel].

    Returns
    -------
    int
    """
    return (k + LANES - 1) // LANES * LANES


@njit(**EXACT)
def _cut_out(image, variance, good, ix, iy, data, noise, use):
    """Copy the pixels around (ix, iy).

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    good : (ny, nx) bool array
    ix, iy : int
        Centre [pixel].
    data, noise, use : (k, width) arrays
        Set to pixel, variance and 1 where a pixel counts, and to 0 elsewhere.

    Returns
    -------
    int
        Number of the pixels that count.
    """
    ny, nx = image.shape
    k = data.shape[0]
    h = k // 2
    data[:], noise[:], use[:], count = 0.0, 0.0, 0.0, 0
    first, last = max(0, ix - h), min(nx, ix + h + 1)
    for row in range(max(0, iy - h), min(ny, iy + h + 1)):
        j, block = row - iy + h, slice(first - ix + h, last - ix + h)
        of_row = image[row, first:last], variance[row, first:last], good[row, first:last]
        count += _copy_row(*of_row, data[j, block], noise[j, block], use[j, block])
    return count


@njit(**FAST)
def _copy_row(values, variances, good, data, noise, use):
    """A row of `_cut_out`, without branches, which vector instructions do not have; how many pixels count."""
    count = 0
    for i in range(len(values)):
        value, v = values[i], variances[i]
        counts = good[i] & (v > 0) & (v < LARGEST) & (abs(value) < LARGEST)
        data[i], noise[i], use[i] = value if counts else 0.0, v if counts else 0.0, 1.0 if counts else 0.0
        count += counts
    return count


@njit(**FAST)
def _fit_amplitude(p, data, noise, use):
    """Amplitude of a stamp on one block.

    Parameters
    ----------
    p, data, noise, use : (k, width) arrays
        PSF at the sub-pixel phase, and what `_cut_out` sets.

    Returns
    -------
    flux, err, chi2 : float
        NaN when too little of p is on usable pixels.
    """
    pp, pp_all, pd, ppv = 0.0, 0.0, 0.0, 0.0
    for j in range(p.shape[0]):
        for i in range(p.shape[1]):
            square = p[j, i] * p[j, i]
            pp_all += square
            pp += square * use[j, i]
            pd += p[j, i] * data[j, i]
            ppv += square * noise[j, i]
    if not pp > MIN_WEIGHT * pp_all:
        return math.nan, math.nan, math.nan
    flux, chi2 = pd / pp, 0.0
    for j in range(p.shape[0]):
        for i in range(p.shape[1]):
            residual = data[j, i] - flux * p[j, i]
            chi2 += use[j, i] * residual * residual / (noise[j, i] + 1 - use[j, i])
    return flux, math.sqrt(ppv) / pp, chi2


@njit(**EXACT)
def psf_flux(image, variance, good, stamps, order, x, y, flux, err, chi2, n_data, flag_edge):
    """Least-squares amplitudes of PSFs with equal weights at fixed positions.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    good : (ny, nx) bool array
        Pixels that may be used.
    stamps : (m, k, k) array
        PSF of each of the sources that are measured, k odd; NaN where it is not known.
    order : (m,) int array
        Their places in the arrays that follow.
    x, y : (n,) arrays
        Positions [pixel].
    flux, err, chi2 : (n,) arrays
        Set where there is a flux [unit of the image].
    n_data : (n,) int64 array
        Set to the number of usable pixels of the stamp.
    flag_edge : (n,) bool array
        Set to whether the stamp leaves the image.
    """
    ny, nx = image.shape
    k = stamps.shape[1]
    h, width = k // 2, row_length(k)
    padded = np.zeros((k + 2 * TAPS, width + 2 * TAPS))
    rows, p = np.empty((k + 2 * TAPS, width)), np.empty((1, k, width))
    data, noise, use = np.empty((k, width)), np.empty((k, width)), np.empty((k, width))
    for stamp, n in zip(stamps, order):
        if not (-0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5):
            flag_edge[n] = True
            continue
        ix, iy = math.floor(x[n] + 0.5), math.floor(y[n] + 0.5)
        flag_edge[n] = ix < h or iy < h or ix + h >= nx or iy + h >= ny
        n_data[n] = _cut_out(image, variance, good, ix, iy, data, noise, use)
        if not math.isfinite(stamp[h, h]):
            continue
        move(stamp, x[n] - ix, y[n] - iy, padded, rows, p)
        flux[n], err[n], chi2[n] = _fit_amplitude(p[0], data, noise, use)


@njit(**FAST)
def _normal_equations(test, model, data, weight, normal, projection):
    """normal = sum(weight t m'), projection = sum(t data) over the pixels of three test and three model images.

    Parameters
    ----------
    test, model : (3, k, width) arrays
    data, weight : (k, width) arrays
    normal : (3, 3) array
        A row for each test image.
    projection : (3,) array
    """
    normal[:], projection[:] = 0.0, 0.0
    for j in range(data.shape[0]):
        for b in range(3):
            # One pass for the three test images: a pixel is loaded once.
            n0, n1, n2 = 0.0, 0.0, 0.0
            for i in range(data.shape[1]):
                weighted = model[b, j, i] * weight[j, i]
                n0 += test[0, j, i] * weighted
                n1 += test[1, j, i] * weighted
                n2 += test[2, j, i] * weighted
            normal[0, b], normal[1, b], normal[2, b] = normal[0, b] + n0, normal[1, b] + n1, normal[2, b] + n2
        p0, p1, p2 = 0.0, 0.0, 0.0
        for i in range(data.shape[1]):
            p0 += test[0, j, i] * data[j, i]
            p1 += test[1, j, i] * data[j, i]
            p2 += test[2, j, i] * data[j, i]
        projection[0], projection[1], projection[2] = projection[0] + p0, projection[1] + p1, projection[2] + p2


@njit(**EXACT)
def _invert(matrix, inverse):
    """Set the inverse of a (3, 3) matrix, by cofactors; returns the determinant."""
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        for d in range(3):
            e, f = (d + 1) % 3, (d + 2) % 3
            inverse[d, a] = matrix[b, e] * matrix[c, f] - matrix[b, f] * matrix[c, e]
    determinant = matrix[0, 0] * inverse[0, 0] + matrix[0, 1] * inverse[1, 0] + matrix[0, 2] * inverse[2, 0]
    inverse /= determinant
    return determinant


@njit(**EXACT)
def psf_centroid(image, variance, good, stamps, order, sigma, max_shift, x, y, x_err, y_err, failed):
    """Positions of point sources: f P(i - x, j - y), linearised in (f, f dx, f dy) about the current position.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    good : (ny, nx) bool array
        Pixels that may be used.
    stamps : (m, k, k) array
        PSF of each of the sources that are fitted, k odd; NaN where it is not known.
    order : (m,) int array
        Their places in the arrays that follow.
    sigma : float
        Radius of the Gaussian window whose derivatives the residuals have none of [pixel].
    max_shift : float
        Distance from the start at which a fit has failed [pixel].
    x, y : (n,) arrays
        Starts, replaced by the fitted positions [pixel].
    x_err, y_err : (n,) arrays
        Set where a fit converged [pixel].
    failed : (n,) bool array
        Set to False there.
    """
    ny, nx = image.shape
    middle = stamps.shape[1] // 2
    h = min(middle, math.ceil(WINDOW_REACH * sigma) + 1)
    k, width = 2 * h + 1, row_length(2 * h + 1)
    margin = min(TAPS, middle - h)  # of the stamp, beyond the block
    wx, wy, sx, sy = (np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1), np.empty(2 * TAPS + 1))
    padded = np.zeros((k + 2 * TAPS, width + 2 * TAPS))
    rows, slope_rows = np.empty((k + 2 * TAPS, width)), np.empty((k + 2 * TAPS, width))
    model = np.empty((3, k, width))  # P, dP/dx, dP/dy
    window, lines, core = np.empty((3, k, width)), np.empty((4, width)), np.empty(5)  # the same of the window
    data, noise, use = np.empty((k, width)), np.empty((k, width)), np.empty((k, width))
    normal, scatter, projection = np.empty((3, 3)), np.empty((3, 3)), np.empty(3)
    inverse = np.empty((3, 3))
    for stamp, n in zip(stamps, order):
        x_now, y_now = x[n], y[n]
        if not math.isfinite(stamp[middle, middle]):
            continue
        inner = slice(middle - h - margin, middle + h + margin + 1)
        padded[TAPS - margin : TAPS + k + margin, TAPS - margin : TAPS + k + margin] = stamp[inner, inner]
        core_of(stamp, core)
        cut_x, cut_y = -1, -1
        for _ in range(MAX_ITERATIONS):
            on_image = -0.5 <= x_now < nx - 0.5 and -0.5 <= y_now < ny - 0.5
            if not (on_image and math.hypot(x_now - x[n], y_now - y[n]) <= max_shift):
                break
            ix, iy = math.floor(x_now + 0.5), math.floor(y_now + 0.5)
            shift_weights(x_now - ix, wx, sx)
            shift_weights(y_now - iy, wy, sy)
            filter_rows(padded, wx, rows)
            filter_rows(padded, sx, slope_rows)
            filter_columns(rows, wy, model[0])
            filter_columns(slope_rows, wy, model[1])
            filter_columns(rows, sy, model[2])
            if core[0] > 0:
                add_core(core, (h, h), (x_now - ix, y_now - iy), (wx, wy), (sx, sy), model)
            if ix != cut_x or iy != cut_y:
                _cut_out(image, variance, good, ix, iy, data, noise, use)
                cut_x, cut_y = ix, iy
            _set_window(h + x_now - ix, h + y_now - iy, sigma, lines, window)
            _normal_equations(window, model, data, use, normal, projection)
            if not _invert(normal, inverse) > SINGULAR * abs(normal[0, 0] * normal[1, 1] * normal[2, 2]):
                break
            flux, flux_dx, flux_dy = inverse @ projection
            step_x, step_y = flux_dx / flux, flux_dy / flux
            length = math.hypot(step_x, step_y)
            # Beyond the PSF's core the linear model is an extrapolation: at most half a pixel at a time.
            damping = min(1.0, 0.5 / max(length, CONVERGED))
            x_now, y_now = x_now + damping * step_x, y_now + damping * step_y
            if length < CONVERGED:
                _normal_equations(window, window, data, noise, scatter, projection)
                covariance = inverse @ scatter @ inverse.T
                x[n], y[n], failed[n] = x_now, y_now, False
                x_err[n], y_err[n] = math.sqrt(covariance[1, 1]) / abs(flux), math.sqrt(covariance[2, 2]) / abs(flux)
                break


@njit(**EXACT)
def _set_window(x, y, sigma, lines, window):
    """A Gaussian and its derivatives in x and y.

    Parameters
    ----------
    x, y, sigma : float
        Its centre and radius [pixel].
    lines : (4, width) array
        Overwritten.
    window : (3, k, width) array
        Set.
    """
    k = window.shape[1]
    gaussian_line(x, sigma, lines[0], lines[1])
    gaussian_line(y, sigma, lines[2, :k], lines[3, :k])
    for j in range(k):
        for i in range(window.shape[2]):
            window[0, j, i] = lines[2, j] * lines[0, i]
            window[1, j, i] = lines[2, j] * lines[1, i]
            window[2, j, i] = lines[3, j] * lines[0, i]


@njit(**EXACT)
def moments(image, x, y, sigma, out):
    """Second moments about positions with a circular Gaussian weight, cut at 4 sigma.

    Parameters
    ----------
    image : (ny, nx) float32 array
        Pixels that are not finite do not count.
    x, y : (n,) arrays
        Positions [pixel].
    sigma : float
        Radius of the weight [pixel].
    out : (3, n) array
        Set to xx, yy, xy [pixel**2] where a position is on the image.
    """
    ny, nx = image.shape
    h = math.ceil(4 * sigma)
    for n in range(x.size):
        if not (-0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5):
            continue
        ix, iy = math.floor(x[n] + 0.5), math.floor(y[n] + 0.5)
        total, mxx, myy, mxy = 0.0, 0.0, 0.0, 0.0
        for yy in range(max(0, iy - h), min(ny, iy + h + 1)):
            for xx in range(max(0, ix - h), min(nx, ix + h + 1)):
                if math.isfinite(image[yy, xx]):
                    dx, dy = xx - x[n], yy - y[n]
                    weighted = math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma)) * image[yy, xx]
                    total += weighted
                    mxx += weighted * dx * dx
                    myy += weighted * dy * dy
                    mxy += weighted * dx * dy
        out[0, n], out[1, n], out[2, n] = mxx / total, myy / total, mxy / total


@njit(**EXACT)
def planes_within(mask, x, y, radius, out):
    """All mask bits set within a distance of the pixel of each position.

    Parameters
    ----------
    mask : (ny, nx) int32 array
    x, y : (n,) arrays
        Positions [pixel].
    radius : float
        [pixel]
    out : (n,) int32 array
        The bits are added to it where a position is on the image.
    """
    ny, nx = mask.shape
    h = math.floor(radius)
    for n in range(x.size):
        if not (-0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5):
            continue
        ix, iy = math.floor(x[n] + 0.5), math.floor(y[n] + 0.5)
        for yy in range(max(0, iy - h), min(ny, iy + h + 1)):
            for xx in range(max(0, ix - h), min(nx, ix + h + 1)):
                if (yy - iy) ** 2 + (xx - ix) ** 2 <= radius * radius:
                    out[n] |= mask[yy, xx]
