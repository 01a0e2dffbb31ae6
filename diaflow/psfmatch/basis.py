"""Kernel basis: Gaussians times polynomials or single pixels; one function has unit sum and all others zero sum.

The widths follow from the two PSF sizes as in LSST's ip_diffim: the middle Gaussian would take one PSF to the
other if both were Gaussian.  Only B_0 changes fluxes, so a kernel with a spatially constant coefficient of B_0
has the same sum everywhere (Alard 2000).  Single pixels can be any kernel and need a prior (Becker et al. 2012).
"""

import numpy as np
from scipy.ndimage import convolve

# Of the Gaussians, as in the configuration of ip_diffim (PsfMatchConfigAL).
DEGREES = (4, 2, 2)  # of the polynomials that each is multiplied with
RATIO = 2.0  # of the width of each to that of the one before
EQUAL_WIDTHS = (0.7, 1.5, 3.0)  # where both PSFs have one size [pixel]
MIN_WIDTH_CONVOLUTION, MIN_WIDTH_DECONVOLUTION = 0.7, 0.4  # where the kernel blurs, and where it sharpens [pixel]
SIZE_PER_WIDTH = 6.0  # side of the stamp over the width of the broadest ...
MIN_SIZE, MAX_SIZE = 21, 35  # ... but no less and no more [pixel]

# Of single pixels.  The half-side of the stamp is this many widths of the Gaussian that takes one PSF to the other,
# which has fallen to exp(-8) there; functions grow in number with the square of the side, their products with its
# fourth power.
DELTA_REACH = 4
MIN_DELTA_SIZE, MAX_DELTA_SIZE = 17, 21  # of the side [pixel]
# The nine-point Laplacian, whose leading error is the same in all directions.
LAPLACIAN = np.array([[1, 4, 1], [4, -20, 4], [1, 4, 1]]) / 6
# Weight of the squares of the pixels at the border, which have fewer neighbours, against those of the Laplacian: the
# kernel is to end smoothly.
BORDER_PENALTY = 3.0

# Sums below this are rounding: of the products with an odd power.
ZERO_SUM = 1e-12


def alard_lupton_widths(sigma_reference: float, sigma_target: float) -> tuple[tuple[float, float, float], int]:
    """Widths of the three Gaussians and side of the kernel stamp [pixel].

    Parameters
    ----------
    sigma_reference : float
        PSF radius of the image that is matched to [pixel].
    sigma_target : float
        PSF radius of the image that the kernel is applied to [pixel].

    Returns
    -------
    widths : tuple of three floats
        Standard deviations, ascending [pixel].
    size : int
        Odd [pixel].
    """
    if sigma_reference == sigma_target:
        return EQUAL_WIDTHS, MIN_SIZE
    smallest = MIN_WIDTH_CONVOLUTION if sigma_reference > sigma_target else MIN_WIDTH_DECONVOLUTION
    sigma_kernel = max(smallest, np.sqrt(abs(sigma_reference**2 - sigma_target**2)))
    first = max(smallest, sigma_kernel / RATIO)
    widths = first, first * RATIO, first * RATIO**2
    return widths, kernel_size(widths[-1])


def kernel_size(width: float) -> int:
    """Side of the stamp that holds a Gaussian.

    Parameters
    ----------
    width : float
        Its standard deviation [pixel].

    Returns
    -------
    int
        Odd, from `MIN_SIZE` to `MAX_SIZE` [pixel].
    """
    size = int(SIZE_PER_WIDTH * width)
    return int(np.clip(size + 1 - size % 2, MIN_SIZE, MAX_SIZE))


def alard_lupton_basis(sigma_reference: float, sigma_target: float, size: int | None = None) -> np.ndarray:
    """The basis of Gaussians for two PSFs.

    Parameters
    ----------
    sigma_reference, sigma_target : float
        PSF radii as in `alard_lupton_widths` [pixel].
    size : int, optional
        Odd side of the stamps [pixel]; that of `alard_lupton_widths` by default.

    Returns
    -------
    (27, k, k) array
        See `gaussian_basis`.
    """
    widths, natural_size = alard_lupton_widths(sigma_reference, sigma_target)
    return gaussian_basis(widths, size or natural_size)


def gaussian_basis(widths: tuple[float, ...], size: int) -> np.ndarray:
    """Gaussians times u**i v**j with i + j up to the degree of each; u, v in [-1, 1] over the stamp.

    Parameters
    ----------
    widths : tuple of floats
        Standard deviations [pixel]; the degrees are the first of `DEGREES`.
    size : int
        Odd side of the stamps [pixel].

    Returns
    -------
    (nb, size, size) array
        B_0 has unit sum; every other function has zero sum and unit L2 norm.
    """
    t = np.arange(size) - size // 2
    u = t / (size // 2)
    functions = []
    for width, degree in zip(widths, DEGREES):
        gauss = np.exp(-0.5 * (t / width) ** 2)
        gauss /= gauss.sum()
        profiles = gauss * u ** np.arange(degree + 1)[:, None]
        functions += [np.outer(profiles[j], profiles[n - j]) for n in range(degree + 1) for j in range(n + 1)]
    basis = np.array(functions)
    basis[0] /= basis[0].sum()
    for function in basis[1:]:
        total = function.sum()
        if abs(total) > ZERO_SUM:
            function /= total
            function -= basis[0]
        function /= np.sqrt((function**2).sum())
    return basis


def delta_basis(sigma_reference: float, sigma_target: float) -> tuple[np.ndarray, np.ndarray]:
    """One function for every pixel of a kernel, and the prior that keeps it smooth.

    Parameters
    ----------
    sigma_reference, sigma_target : float
        PSF radii as in `alard_lupton_widths` [pixel].

    Returns
    -------
    basis : (k * k, k, k) array
        B_0 is the Gaussian that takes one PSF to the other, of unit sum; every other function is one pixel minus the
        central one, of unit L2 norm.
    penalty : (k * k, k * k) array
        Inverse covariance of the coefficients: the Laplacian of what is added to B_0 is about as large as its own, and
        so, three times as strictly, are the pixels of the border.  The coefficient of B_0 is free.
    """
    width = np.sqrt(max(sigma_reference**2 - sigma_target**2, MIN_WIDTH_CONVOLUTION**2))
    size = int(np.clip(2 * np.ceil(DELTA_REACH * width) + 1, MIN_DELTA_SIZE, MAX_DELTA_SIZE))
    pixels, centre = np.eye(size**2), size**2 // 2
    basis = np.delete((pixels - pixels[centre]) / np.sqrt(2), centre, 0).reshape(-1, size, size)
    gaussian = gaussian_basis((width,), size)[0]
    slopes = np.array([_roughness(function) for function in basis])
    penalty = slopes @ slopes.T / (_roughness(gaussian) ** 2).mean()
    return np.concatenate([gaussian[None], basis]), np.pad(penalty, ((1, 0), (1, 0)))


def _roughness(kernel: np.ndarray) -> np.ndarray:
    """Laplacian of a kernel in every pixel, zero beyond it, with the border counted more."""
    out = convolve(kernel, LAPLACIAN, mode="constant")
    border = np.ones(kernel.shape, bool)
    border[1:-1, 1:-1] = False
    return np.append(out.ravel(), np.sqrt(BORDER_PENALTY) * kernel[border])
