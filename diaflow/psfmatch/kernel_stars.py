"""What the fit of a matching kernel needs of stars: the scalar products of their stamps, and their noise."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from diaflow import polynomials
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.psf.stampfield import resized
from diaflow.psfmatch.normal_equations import gram_matrices

CORE_RADIUS = 3  # half-width of what must be free of bad pixels in a star [pixel], as in ip_diffim
MIN_GOOD_FRACTION = 0.6  # of the pixels of a star that can be fitted


@dataclass(frozen=True)
class KernelStars:
    """Stamps of n stars on the image that is to be convolved and on the target, reduced to products.

    Attributes
    ----------
    x, y : (n,) arrays
        [pixel]
    usable : (n,) bool array
    gram : (n, nb + 2, nb + 2) array
        Scalar products of [basis (x) image, 1, target].
    n_pixels : (n,) array
        Pixels that were summed.
    image_variance, target_variance : (n,) arrays
        Mean over the stamp [unit of the image squared].
    """

    x: np.ndarray
    y: np.ndarray
    usable: np.ndarray
    gram: np.ndarray
    n_pixels: np.ndarray
    image_variance: np.ndarray
    target_variance: np.ndarray

    @classmethod
    def measured(
        cls, image: Exposure, target: Exposure, x: np.ndarray, y: np.ndarray, basis: np.ndarray, bad: np.ndarray | None
    ) -> "KernelStars":
        """Cut the stamps (fitted region k + 2 pixels wide) and reduce them.

        Parameters
        ----------
        image, target : Exposure
            On one pixel grid.
        x, y : (n,) arrays
            [pixel]
        basis : (nb, k, k) array
        bad : (ny, nx) bool array or None
            Pixels that do not count.

        Returns
        -------
        KernelStars

        Raises
        ------
        BadData
            When the image is too small for the kernel.
        """
        k = basis.shape[-1]
        half = k // 2 + 1
        reach = half + k // 2
        ny, nx = image.shape
        inside = (x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
        col, row = (np.where(inside, np.rint(c), 0).astype(int) for c in (x, y))
        if nx <= 2 * reach or ny <= 2 * reach:
            raise BadData(f"an image of {nx} x {ny} pixels is too small for a kernel of {k} pixels", Kind.KERNEL)

        def stamps(pixels, h, beyond=0):
            windows = sliding_window_view(np.pad(pixels, h, constant_values=beyond), (2 * h + 1, 2 * h + 1))
            return windows[row, col]

        unknown = np.ones(image.shape, bool)
        inner = np.s_[k // 2 : ny - k // 2, k // 2 : nx - k // 2]
        unknown[inner] = False if bad is None else bad[inner]
        good = ~stamps(unknown, half, True)
        core = slice(half - CORE_RADIUS, half + CORE_RADIUS + 1)
        usable = inside & good[:, core, core].all((1, 2)) & (good.mean((1, 2)) > MIN_GOOD_FRACTION)
        # means, not medians: then the expected squared residual over the variance is 1 for photon noise too
        image_variance, target_variance = (
            np.where(good, stamps(exposure.variance, half), 0).sum((1, 2)) / np.maximum(good.sum((1, 2)), 1)
            for exposure in (image, target)
        )
        usable &= np.isfinite(image_variance + target_variance) & (image_variance + target_variance > 0)
        gram = np.zeros((len(x), len(basis) + 2, len(basis) + 2))
        gram[usable] = gram_matrices(
            stamps(image.image, reach)[usable], stamps(target.image, half)[usable], good[usable], basis
        )
        usable &= np.isfinite(gram).all((1, 2))
        return cls(x, y, usable, gram, good.sum((1, 2)), image_variance, target_variance)

    @classmethod
    def of_psfs(
        cls, image_psf: Callable, target_psf: Callable, shape: tuple[int, int], n_grid: int, basis: np.ndarray
    ) -> "KernelStars":
        """Stars without noise or sky, of the PSF models, on a grid over the image.

        Parameters
        ----------
        image_psf, target_psf : callable
            ``psf(x, y)`` gives unit-sum stamps.
        shape : (ny, nx)
        n_grid : int
            Stars along each axis.
        basis : (nb, k, k) array

        Returns
        -------
        KernelStars
            Those whose PSFs are defined; the target has unit power, and the constant is left out of the products.
        """
        x, y = (g.ravel() for g in np.meshgrid(*((np.arange(n_grid) + 0.5) / n_grid * n - 0.5 for n in shape[::-1])))
        inputs, targets = image_psf(x, y), target_psf(x, y)
        power = (targets**2).sum((1, 2))
        usable = np.isfinite(inputs).all((1, 2)) & np.isfinite(power) & (power > 0)
        x, y, inputs, targets = x[usable], y[usable], inputs[usable], targets[usable]
        inputs = resized(inputs, targets.shape[-1] + basis.shape[-1] - 1)
        gram = gram_matrices(inputs, targets, np.ones(targets.shape, bool), basis) / power[usable][:, None, None]
        constant = len(basis)
        gram[:, constant] = gram[:, :, constant] = 0
        nothing = np.zeros(len(x))
        return cls(x, y, np.ones(len(x), bool), gram, nothing, nothing, nothing)

    def polynomial(self, coefficients: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        """Values of a polynomial of the `spanned` position at the stars.

        Parameters
        ----------
        coefficients : (n_terms,) array
        shape : (ny, nx)
            Of the image.

        Returns
        -------
        (n,) array
        """
        return polynomials.evaluated(coefficients, *polynomials.spanned(self.x, self.y, shape))

    def power(self) -> np.ndarray:
        """Sum of the squares of each star in the target, without its sky and its noise.

        Returns
        -------
        (n,) array
            [unit of the image squared]
        """
        n_pixels = np.maximum(self.n_pixels, 1)
        square = self.gram[:, -1, -1] - self.gram[:, -1, -2] ** 2 / n_pixels - self.n_pixels * self.target_variance
        return np.maximum(square, 0)
