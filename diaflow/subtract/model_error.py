"""What a PSF model and a matching kernel leave of stars, as a part of the variance of the difference.

No kernel takes one image of a star of S/N 1000 to another within its photon noise.  Two errors are known: the
residuals of the kernel stars themselves tell the fraction f of a star's flux that matching misses, and where inputs
of the template begin or end, its PSF jumps away from the smooth field that a kernel can follow, by a fraction h.  Their
variance (f^2 + h^2) F^2 of the flux of a point source F is spread over the pixels as the square of the structure of
the template on the scale of the PSF, so that smooth galaxies, which any kernel matches, get little of it.  Compare
the systematic term of Kessler et al. (2015, AJ 150, 172) and the astrometric one of Zackay et al. (2016, ApJ 830, 27).
"""

import numpy as np
from numba import njit

from diaflow.image.exposure import Exposure
from diaflow.image.planes import row_blocks
from diaflow.jit import FAST
from diaflow.psf.coadd import CoaddPsf
from diaflow.psf.stampfield import fit_stamps, moments_sigma

N_CELLS = 30  # along each axis of the image, at whose corners the PSF is compared with the smooth field
# Power of the structure of pure noise, with a margin for its fluctuations, over the variance of a pixel.
NOISE_POWER = np.float32(15.0)
# Share of the structure that is spread, and the width of the Gaussian that it is spread with [radius of the PSF]: that
# of a kernel, whose errors reach as far.
FAR_SHARE, FAR_WIDTH = 0.1, 2.0
TRUNCATE = 3.0  # where the Gaussians end [their width]
# The smooth field of the PSF: its degree, and how often it is fitted without the samples that are CLIP times the median
# error from it, or from the median PSF at first; that error is USUAL_ERROR at least, so that rounding is no outlier.
FIELD_ORDER, N_ITERATIONS, CLIP, USUAL_ERROR = 2, 3, 3.0, 1e-3
MIN_SAMPLES = 30  # of the PSF: five for each of the six terms
MEDIAN_STRIDE = 5  # the median PSF, a first guess, is that of every fifth sample


def psf_jumps(psf, shape: tuple[int, int]) -> np.ndarray:
    """Error of a star's PSF flux where the PSF is not the smooth field that most of the image has.

    Parameters
    ----------
    psf : callable
        ``psf(x, y)`` gives stamps (n, k, k); only a `CoaddPsf` has jumps.
    shape : (ny, nx)

    Returns
    -------
    (30, 30) array
        Fractions of the flux: the largest at the four corners of each cell of the image, so that no jump falls
        between.  Where the PSF is undefined, the largest in the image: coverage is ragged there.
    """
    if not isinstance(psf, CoaddPsf):
        return np.zeros((N_CELLS, N_CELLS))
    # half a pixel inside, because an input that ends at the border may end before it by rounding
    gx, gy = (np.linspace(0.5, n - 1.5, N_CELLS + 1) for n in shape[::-1])
    x, y = (g.ravel() for g in np.meshgrid(gx, gy))
    stamps = psf(x, y)
    defined = np.isfinite(stamps).all((1, 2))
    if defined.sum() < MIN_SAMPLES:
        return np.zeros((N_CELLS, N_CELLS))
    x, y, known = x[defined], y[defined], stamps[defined]
    smooth = np.median(known[::MEDIAN_STRIDE], axis=0, keepdims=True)
    for _ in range(N_ITERATIONS):
        usual = _flux_error(known, smooth)
        usual = usual <= CLIP * max(np.median(usual), USUAL_ERROR)
        smooth = fit_stamps(known[usual], x[usual], y[usual], FIELD_ORDER, shape)(x, y)
    error = np.zeros(len(stamps))
    error[defined] = _flux_error(known, smooth)
    error[~defined] = error.max()
    corners = error.reshape(N_CELLS + 1, N_CELLS + 1)
    return np.maximum.reduce([corners[:-1, :-1], corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:]])


def _flux_error(stamps: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Fraction by which a fit of the model misses the flux of unit-sum stamps (n, k, k)."""
    return np.abs((stamps * model).sum((1, 2)) / (model**2).sum((1, 2)) - 1)


def add(difference: Exposure, template: Exposure, flux_error: float, jumps: np.ndarray) -> None:
    """Add the variance of the model error to that of a difference, in place.

    Parameters
    ----------
    difference, template : Exposure
        The template as it was subtracted; both finite.
    flux_error : float
        Fraction of the flux of a star that matching misses anywhere.
    jumps : (m, m) array
        The same for the PSF model in cells of the image, see `psf_jumps`.
    """
    stamp = difference.psf.centre()
    sigma = moments_sigma(stamp)
    # so that the variance of the flux of a star in the PSF fit is that of its flux times the fraction
    reach = stamp.shape[-1] // 2
    own = _spread(_structure(np.pad(stamp, reach), sigma), sigma)[reach:-reach, reach:-reach]
    scale = (stamp**2).sum() ** 2 / (stamp**2 * own).sum()
    ny, nx = difference.shape
    row, column = (np.arange(n) * len(jumps) // n for n in (ny, nx))
    fraction2 = (scale * (flux_error**2 + jumps**2)).astype(np.float32)[:, column]
    added = np.empty((ny, nx), np.float32)
    margin = 2 + int(TRUNCATE * sigma) + int(TRUNCATE * FAR_WIDTH * sigma)
    for rows in row_blocks(ny):
        first = max(0, rows.start - margin)
        window = slice(first, rows.stop + margin)
        structure = _structure(template.image[window], sigma) - NOISE_POWER * difference.variance[window]
        structure = _spread(np.maximum(structure, 0, out=structure), sigma)[rows.start - first : rows.stop - first]
        np.multiply(structure, fraction2[row[rows]], out=added[rows])
    difference.variance += added


def _structure(image: np.ndarray, sigma: float) -> np.ndarray:
    """Squares of what an error of width and one of position change: smoothing by the PSF, and the gradient times sigma.

    At the peak of a star it is about the square of the peak.
    """
    smooth = _blurred(image, sigma)
    square = (2 * (image - smooth)) ** 2
    square[:, 1:-1] += (sigma * (image[:, 2:] - image[:, :-2]) / 2) ** 2
    square[1:-1] += (sigma * (image[2:] - image[:-2]) / 2) ** 2
    return square


def _spread(structure: np.ndarray, sigma: float) -> np.ndarray:
    """A part of the structure goes as far as a kernel reaches, since an error of the kernel does too."""
    far = _blurred(structure, FAR_WIDTH * sigma)
    return (1 - FAR_SHARE) * structure + np.float32(FAR_SHARE) * far


def _blurred(image: np.ndarray, width: float) -> np.ndarray:
    """Convolution with a Gaussian; beyond its border the image goes on as it is there."""
    half = int(TRUNCATE * width + 0.5)
    taps = np.exp(-0.5 * (np.arange(-half, half + 1) / width) ** 2)
    return _separable(image.astype(np.float32, copy=False), (taps / taps.sum()).astype(np.float32))


@njit(**FAST)
def _separable(image, taps):
    """Convolution with the product of the taps along both axes."""
    ny, nx = image.shape
    half = len(taps) // 2
    out, row = np.zeros((ny, nx), np.float32), np.empty(nx + 2 * half, np.float32)
    for j in range(ny):
        row[:] = 0
        for k in range(len(taps)):
            of_image = image[min(max(j + k - half, 0), ny - 1)]
            for i in range(nx):
                row[half + i] += taps[k] * of_image[i]
        row[:half], row[half + nx :] = row[half], row[half + nx - 1]
        for k in range(len(taps)):
            for i in range(nx):
                out[j, i] += taps[k] * row[i + k]
    return out
