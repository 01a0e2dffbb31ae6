"""Matching an image to a model PSF that is the same everywhere (PSF-matched warps; LSST's ModelPsfMatchTask).

The kernel is fitted to noise-free PSF stamps on a grid of 128 pixels against the model, with its sum held at one, and
applied to image and variance.  It works where the model is broader than the image's PSF; matching to a sharper
or hardly broader model rings.
"""

from dataclasses import replace

import numpy as np
from scipy import fft

from diaflow import polynomials
from diaflow.errors import BadData, InputError, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.pixels.convolution import convolve, convolve_variance
from diaflow.pixels.growth import core_radius, grow
from diaflow.psf.stampfield import FWHM_PER_SIGMA, StampField, fwhm, moments_sigma, resized
from diaflow.psfmatch.basis import MIN_WIDTH_CONVOLUTION, RATIO, gaussian_basis, kernel_size
from diaflow.psfmatch.normal_equations import gram_matrices, normal_matrix, solve_ridge

CELL = 128  # largest distance of the PSF stamps [pixel], as in ModelPsfMatchTask
ORDER = 2  # of the kernel as a polynomial in position, where there are stamps enough
# Width and amplitude of the wing of the model over those of its core, as in ModelPsfMatchTask.
WING_FACTOR, WING_AMPLITUDE = 2.5, 0.1
MODEL_REACH = 3.3  # FWHM of the model within which 0.3 % of its light are missing: the wing has 0.38 of it
# Of the scaled normal matrix; larger than for stars, because the stamps carry no noise that would keep the
# high-frequency part of the kernel in check.
RIDGE = 1e-8


def model_psf(width: float, size: int) -> np.ndarray:
    """Double Gaussian of unit sum: a wing 2.5 times as broad, of 0.1 times the central amplitude.

    Parameters
    ----------
    width : float
        FWHM of the inner Gaussian [pixel].
    size : int
        Side of the stamp, odd [pixel].

    Returns
    -------
    (size, size) array
    """
    t = np.arange(size) - size // 2
    r2 = t[:, None] ** 2 + t**2
    sigma = width / FWHM_PER_SIGMA
    stamp = np.exp(-0.5 * r2 / sigma**2) + WING_AMPLITUDE * np.exp(-0.5 * r2 / (WING_FACTOR * sigma) ** 2)
    return stamp / stamp.sum()


def model_size(width: float) -> int:
    """Side of a stamp that holds all but 0.3 % of the light of a `model_psf`.

    Parameters
    ----------
    width : float
        FWHM of the inner Gaussian [pixel].

    Returns
    -------
    int
        Odd [pixel].
    """
    return 2 * round(MODEL_REACH * width) + 1


def broadest(summaries: np.ndarray, pixel_scale: float) -> tuple[float, int]:
    """The smallest model that all images can be matched to, and the stamps that it takes to hold their PSFs.

    Parameters
    ----------
    summaries : table "visit_summary"
    pixel_scale : float
        Of the warps [arcsec].

    Returns
    -------
    width : float
        FWHM of a Gaussian as broad as the broadest PSF, wings and all [pixel of the warps]; 0 without an image.
    size : int
        Side of the largest stamp, odd [pixel of the warps].
    """
    rows = summaries[(summaries["status"] == "ok") & (summaries["seeing"] > 0)]
    scale = rows["seeing"] / rows["psf_fwhm"] / pixel_scale
    width = max(FWHM_PER_SIGMA * rows["psf_sigma"] * scale, default=0)
    return float(width), 2 * int(np.ceil(max(rows["psf_stamp_size"] * scale, default=1) / 2)) - 1


def homogenise(exposure: Exposure, model: np.ndarray) -> Exposure:
    """An exposure whose PSF is the model everywhere.

    The noise of the result is correlated: its covariance factor grows as the variance of a pixel falls, so that their
    product is what it was before.  A PSF flux feels less, which `Noise.psf_covariance_factor` tells.

    Parameters
    ----------
    exposure : Exposure
        With a PSF; positions where that is NaN are left out of the fit.
    model : (k, k) array
        Unit-sum stamp, k odd, broader than the PSF.

    Returns
    -------
    Exposure
        Flux conserving.  Mask planes are grown by the core of the kernel, missing data stays NO_DATA, and what
        lies within half a kernel of the border or of missing data is EDGE.

    Raises
    ------
    BadData
        When the PSF is defined nowhere in the image.
    InputError
        When the model has no finite width.
    """
    kernel = model_kernel(exposure, model)
    missing = exposure.flagged("NO_DATA") | ~np.isfinite(exposure.image) | ~np.isfinite(exposure.variance)
    image = convolve(np.where(missing, 0, exposure.image), kernel)
    variance = convolve_variance(np.where(missing, 0, exposure.variance), kernel)
    mask = grow(exposure.mask & ~bits("NO_DATA"), core_radius(kernel.centre()))
    mask |= grow(missing.astype(np.int32) * bits("EDGE"), kernel.size // 2, border=bits("EDGE"))
    mask[missing] |= bits("NO_DATA")
    image[missing] = 0
    variance[missing] = np.median(variance[~missing]) if not missing.all() else 0
    squared = float((kernel.centre() ** 2).sum())
    factor = exposure.noise.covariance_factor / squared
    metadata = exposure.metadata | {"psf_fwhm": fwhm(model), "psf_sigma": moments_sigma(model)}
    if "mean_variance" in metadata:
        metadata["mean_variance"] *= squared
    return replace(
        exposure,
        image=image,
        noise=Noise(factor, factor * _psf_weighted_power(kernel.centre(), model)),
        variance=variance,
        mask=mask,
        psf=StampField(np.asarray(model, float)[None], 0, exposure.shape),
        metadata=metadata,
    )


def _psf_weighted_power(kernel: np.ndarray, model: np.ndarray) -> float:
    """Power that a kernel of unit sum leaves of white noise, at the frequencies that count in a fit of the model."""
    shape = (len(model) + len(kernel) - 1,) * 2
    smoothed = fft.irfft2(fft.rfft2(model, shape) * fft.rfft2(kernel, shape), shape)
    return float((smoothed**2).sum() / (model**2).sum())


def model_kernel(exposure: Exposure, model: np.ndarray) -> StampField:
    """Kernel of unit sum that takes the exposure's PSF to the model.

    Parameters
    ----------
    exposure : Exposure
    model : (k, k) array
        Unit-sum stamp, k odd.

    Returns
    -------
    StampField

    Raises
    ------
    BadData
        When the PSF is defined nowhere in the image.
    InputError
        When the model has no finite width.
    """
    x, y, stamps = sample_psf(exposure, CELL)
    sigma_model = moments_sigma(model)
    if not np.isfinite(sigma_model):
        raise InputError("the model PSF has no finite width")
    basis = _basis(np.median([moments_sigma(stamp) for stamp in stamps]), sigma_model)
    size = max(model.shape[-1], stamps.shape[-1])
    inputs = resized(stamps, size + basis.shape[-1] - 1)
    targets = np.broadcast_to(resized(model, size), (len(stamps), size, size))
    gram = gram_matrices(inputs, targets, np.ones(targets.shape, bool), basis)
    # no constant: PSF stamps have no background
    keep = np.r_[0 : len(basis), len(basis) + 1]
    return _unit_sum_kernel(gram[:, keep][:, :, keep], x, y, basis, exposure.shape)


def sample_psf(exposure: Exposure, cell: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """PSF stamps on a grid from edge to edge of an image.

    Parameters
    ----------
    exposure : Exposure
    cell : float
        Largest distance of the positions [pixel].

    Returns
    -------
    x, y : (n,) arrays
        Positions where the PSF is defined [pixel].
    stamps : (n, k, k) array

    Raises
    ------
    BadData
        When there is none.
    """
    ny, nx = exposure.shape
    gx, gy = (np.linspace(0, n - 1, max(int(np.ceil(n / cell)), ORDER + 1) + 1) for n in (nx, ny))
    x, y = (g.ravel() for g in np.meshgrid(gx, gy))
    if exposure.psf is None:
        raise BadData("no PSF", Kind.PSF)
    stamps = exposure.psf(x, y)
    defined = np.isfinite(stamps).all((1, 2))
    if not defined.any():
        raise BadData("the PSF is defined nowhere in the image", Kind.PSF)
    return x[defined], y[defined], stamps[defined]


def _basis(sigma: float, sigma_model: float) -> np.ndarray:
    """Three widths: from half of what takes a Gaussian of `sigma` to the core of a `model_psf` to its wing."""
    core = np.sqrt(max(sigma_model**2 - sigma**2, 0))
    first = max(MIN_WIDTH_CONVOLUTION, core / RATIO)
    wing = max(np.sqrt(max((WING_FACTOR * sigma_model) ** 2 - sigma**2, 0)), RATIO**2 * first)
    # of the model alone, so that it is the same for all images that are matched to it
    return gaussian_basis((first, RATIO * first, wing), kernel_size(WING_FACTOR * sigma_model))


def _unit_sum_kernel(
    gram: np.ndarray, x: np.ndarray, y: np.ndarray, basis: np.ndarray, shape: tuple[int, int]
) -> StampField:
    """Spatial fit with the coefficient of B_0 fixed at one, of the order that the positions can carry."""
    order = polynomials.affordable(ORDER, len(x), per_term=1)
    field = StampField(np.zeros((0, *basis.shape[1:])), order, shape)
    design = field.polynomials(x, y)
    others = gram[:, 1:-1, 1:-1]
    right = ((gram[:, 1:-1, -1] - gram[:, 1:-1, 0]).T @ design.T).ravel()
    terms = solve_ridge(normal_matrix(others, np.ones(len(x)), design), right, RIDGE)
    stamps = np.tensordot(terms.reshape(len(basis) - 1, -1), basis[1:], ((0,), (0,)))
    stamps[0] += basis[0]
    return StampField(stamps, order, shape)
