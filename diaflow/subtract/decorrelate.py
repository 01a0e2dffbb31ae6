"""Whitening of the noise of an Alard-Lupton difference (Reiss & Lupton 2016, DMTN-021).

Convolving one of the two images correlates its noise, and that of a template is correlated already (see
`diaflow.image.noise`).  The filter c(k) that gives the difference white noise again is computed at points of a grid
from the matching kernel and the sky variances there, brought to pixel space, and fitted as a `StampField`, so that it
is applied exactly as the matching kernel is.  It has unit sum; it sharpens the PSF.
"""

import numpy as np
import scipy.fft

from diaflow import polynomials
from diaflow.psf.stampfield import StampField, fit_stamps, resized
from diaflow.subtract import noise

TRUNCATION = 1e-4  # rms amplitude that may lie outside the stamp, relative to the whole filter
MAX_SIZE = 71  # side of the stamp, at most [pixel]
# Of any frequency.  Where there is hardly any noise, there is hardly any signal, but residuals of stars would ring.
MAX_AMPLIFICATION = 20.0
WHITE = np.ones((1, 1))  # the colour of white noise
MIN_SIDE, SIDE_STEP = 5, 4  # sides of a cut stamp that are tried: 5, 9, 13, ... [pixel]


def decorrelation_stamps(
    kernels: np.ndarray,
    convolved_variance: np.ndarray,
    other_variance: np.ndarray,
    side: int,
    other_colour: np.ndarray = WHITE,
    max_amplification: float = MAX_AMPLIFICATION,
) -> np.ndarray:
    """Pixel-space whitening filters, sqrt(N(0) / N(k)) with N = v_c |kappa|**2 + v_o |a|**2.

    Parameters
    ----------
    kernels : (n, k, k) array
        What made the noise of the convolved image from white noise: the matching kernels (and its colour before).
    convolved_variance, other_variance : (n,) arrays
        Variance of the white noise of the image that was convolved and of the other [nJy**2].
    side : int
        Side of the result, odd, larger than k.
    other_colour : (m, m) array, optional
        Unit-sum stamp a that made the noise of the other image from white noise.
    max_amplification : float, optional
        Of any frequency.

    Returns
    -------
    (n, side, side) array
        Stamps of unit sum.
    """
    convolved_power, other_power = (np.abs(scipy.fft.rfft2(k, (side, side))) ** 2 for k in (kernels, other_colour))
    v_c, v_o = (np.asarray(v, float)[:, None, None] for v in (convolved_variance, other_variance))
    power = v_c * convolved_power + v_o * other_power
    total = power[:, :1, :1]
    # a smooth limit: a kink would ring far
    limited = np.hypot(power, total / max_amplification**2)
    response = np.sqrt(limited[:, :1, :1] / limited)
    return scipy.fft.fftshift(scipy.fft.irfft2(response, (side, side)), axes=(1, 2))


def kernel_field(
    kernel: StampField,
    convolved_variance: float | np.ndarray,
    other_variance: float | np.ndarray,
    other_colour: np.ndarray = WHITE,
    max_amplification: float = MAX_AMPLIFICATION,
) -> StampField:
    """The whitening filter as a field over the detector.

    Parameters
    ----------
    kernel : StampField
        Matching kernel, convolved with the colour of the noise it was applied to.
    convolved_variance, other_variance : float or (5, 5) array
        Sky variance, at low frequencies, of the image that was convolved, before that, and of the other [nJy**2];
        arrays hold it in the cells of `noise.cell_variance`, NaN where unknown.  A change over the detector is followed
        to the kernel's order, and at least linearly.
    other_colour : (m, m) array, optional
        Unit-sum stamp that made the noise of the other image from white noise.
    max_amplification : float, optional
        Of any frequency.

    Returns
    -------
    StampField
        Of unit sum everywhere, cut where less than 1e-4 of its rms amplitude is lost (or at 71 pixels).
    """
    varies = np.ndim(convolved_variance) or np.ndim(other_variance)
    x, y, v_c, v_o = known_cells(kernel.shape, convolved_variance, other_variance)
    side = scipy.fft.next_fast_len(2 * MAX_SIZE + kernel.size, True) | 1
    stamps = decorrelation_stamps(kernel(x, y), v_c, v_o, side, other_colour, max_amplification)
    order = polynomials.affordable(max(kernel.order, 1) if varies else kernel.order, len(x), per_term=1)
    cut = resized(stamps, sufficient_size(stamps, TRUNCATION, MAX_SIZE))
    # what the cut takes from the sum is small but spread out; a factor would change the noise
    cut = cut + (1 - cut.mean((1, 2), keepdims=True) * cut[0].size) / cut[0].size
    return fit_stamps(cut, x, y, order, kernel.shape)


def known_cells(
    shape: tuple[int, int], *variances: float | np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The cells of `noise.cell_variance` in which all variances are known.

    Parameters
    ----------
    shape : (ny, nx)
    *variances : float or (5, 5) arrays
        NaN where unknown.

    Returns
    -------
    x, y : (n,) arrays
        Centres of these cells [pixel].
    *variances : (n,) arrays
        What is known there.
    """
    gx, gy = ((np.arange(noise.N_CELLS) + 0.5) / noise.N_CELLS * n - 0.5 for n in shape[::-1])
    cells = [*np.meshgrid(gx, gy), *(np.broadcast_to(v, (noise.N_CELLS,) * 2) for v in variances)]
    known = np.isfinite(sum(cells))
    return tuple(values[known] for values in cells)


def sufficient_size(stamps: np.ndarray, truncation: float, largest: int) -> int:
    """Side of stamps cut so that little of them is lost.

    Parameters
    ----------
    stamps : (n, k, k) array
        k odd.
    truncation : float
        Part of the rms amplitude of any of them that may be lost.
    largest : int
        Side at most, whatever is lost [pixel].

    Returns
    -------
    int
        Odd [pixel].
    """
    side = stamps.shape[-1]
    total = (stamps**2).sum((1, 2))
    for size in range(MIN_SIDE, min(largest, side), SIDE_STEP):
        lost = 1 - (resized(stamps, size) ** 2).sum((1, 2)) / total
        if lost.max() < truncation**2:
            return size
    return min(largest, side)
