"""Least-squares fit of the spatially varying matching kernel and background (Alard & Lupton 1998; Alard 2000).

In come an image, the target it is to look like, and star positions; out comes a `KernelSolution`.  Every star
contributes the Gram matrix of its stamp (see `normal_equations`); the spatial fit, its residuals and the rejection of
stars work on these matrices alone and never return to the pixels.  Selection follows LSST's ip_diffim: cells of 128
pixels, the five brightest good stars of each, cuts on residuals and on the kernel sum.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from diaflow import polynomials
from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.psf.stampfield import StampField, fit_stamps
from diaflow.psfmatch.normal_equations import gram_matrices, normal_matrix, solve_ridge
from diaflow.statistics import robust_width

# As in the configuration of ip_diffim (PsfMatchConfig): sizeCellX [pixel], nStarPerCell, maxSpatialIterations,
# candidateResidualMeanMax and candidateResidualStdMax [sigma of a pixel], maxKsumSigma [sigma], candidateCoreRadius
# [pixel].
CELL, STARS_PER_CELL, MAX_ITERATIONS = 128, 5, 3
MAX_RESIDUAL_MEAN, MAX_RESIDUAL_RMS = 0.25, 1.5
KERNEL_SUM_CLIP = 3.0
CORE_RADIUS = 3  # half-width of what must be free of bad pixels in a star

MIN_STARS = 3  # the median of the kernel sums of fewer does not tell which is wrong
STARS_PER_TERM = 2  # of a polynomial in position: each star has a stamp full of pixels
MIN_GOOD_FRACTION = 0.6  # of the pixels of a star that can be fitted
# A matched star may be off by this fraction of its own rms: at high S/N, any model is.
MODEL_ERROR = 0.05
# A star fits a kernel sum no better than this whatever its S/N: colours, flat field.
KERNEL_SUM_FLOOR = 0.01
# Before the fit, the ratio of two stars of different PSF is known no better than this.
PSF_RATIO_FLOOR = 0.05
# Parts of the stars left out in turn, and how many of the brightest then tell the error of the model.
FOLDS, BRIGHTEST = 4, 20


@dataclass(frozen=True)
class KernelSolution:
    """What takes one image to another: target = kernel (x) image + background.

    Attributes
    ----------
    kernel : StampField
        Matching kernel at pixel positions; its sum is a polynomial of degree `scale_order`, constant for 0.
    background : (n_terms,) array
        Coefficients of a polynomial (`diaflow.polynomials`) of the `spanned` position.
    used : (n,) bool array
        Stars that the solution rests on.
    chi2 : (n,) array
        Mean squared residual over variance in the stamp of each star; NaN where it could not be used.
    scale_order : int
    kernel_sum, kernel_sum_scatter : float
        Sum of the kernel at the centre, and robust scatter of the sums that single stars ask for about the fit.
    model_error : float
        Rms residual of a bright star, beyond noise, over its own rms when the kernel is fitted without it.
    """

    kernel: StampField
    background: np.ndarray
    used: np.ndarray
    chi2: np.ndarray
    scale_order: int
    kernel_sum: float
    kernel_sum_scatter: float
    model_error: float

    def background_image(self) -> np.ndarray:
        """The background in every pixel.

        Returns
        -------
        (ny, nx) float32 array
            [unit of the image]
        """
        return polynomials.image(self.background, self.kernel.shape)

    def sum_image(self) -> np.ndarray | np.float32:
        """The sum of the kernel in every pixel.

        Returns
        -------
        (ny, nx) float32 array, or float32 where it is the same everywhere
        """
        if self.scale_order == 0:
            return np.float32(self.kernel_sum)
        return polynomials.image(self.kernel.terms.sum((1, 2)), self.kernel.shape)

    def unit_kernel(self) -> StampField:
        """The kernel over its sum.

        Returns
        -------
        StampField
            Of unit sum everywhere, and of a higher order where the sum varies.
        """
        kernel, order = self.kernel, self.kernel.order + self.scale_order
        if self.scale_order == 0:
            return StampField(kernel.terms / self.kernel_sum, order, kernel.shape)
        x, y = (g.ravel() for g in np.meshgrid(*(np.linspace(0, n - 1, order + 3) for n in kernel.shape[::-1])))
        stamps = kernel(x, y)
        return fit_stamps(stamps / stamps.sum((1, 2), keepdims=True), x, y, order, kernel.shape)


def fit(
    image: Exposure,
    target: Exposure,
    x: np.ndarray,
    y: np.ndarray,
    basis: np.ndarray,
    kernel_order: int = 1,
    background_order: int = 2,
    scale_order: int = 0,
    bad: np.ndarray | None = None,
    penalty: np.ndarray | None = None,
) -> KernelSolution:
    """Fit the kernel that makes `image` look like `target`.

    Parameters
    ----------
    image, target : Exposure
        On one pixel grid.  Noise of `image` would bias the kernel low; its expectation, from the variance plane, is
        taken out.  That plane must therefore hold the variance of the noise at low frequencies.
    x, y : (n,) arrays
        Pixel positions of the stars, best first: cells take them in this order.
    basis : (nb, k, k) array
        Functions of which only the first has a non-zero sum.
    kernel_order, background_order, scale_order : int
        Largest degrees of the polynomials in position of the shape of the kernel, of the background and of the sum of
        the kernel; lowered when there are too few stars.
    bad : (ny, nx) bool array, optional
        Pixels that are not to be fitted, as those within half a kernel of the border never are; stars with
        any in their central 7 x 7 or more than 40 % are not used.
    penalty : (nb, nb) array, optional
        Inverse covariance of what is known of the coefficients beforehand, about zero (see `basis.delta_basis`).

    Returns
    -------
    KernelSolution

    Raises
    ------
    BadData
        When fewer than three stars can be used, or the image is too small for the kernel.
    """
    stars = _measure(image, target, np.asarray(x, float), np.asarray(y, float), basis, bad)
    n_usable = int(stars.usable.sum())
    if n_usable < MIN_STARS:
        raise BadData(f"{n_usable} kernel stars, at least {MIN_STARS} needed")
    return _Fit(stars, basis, image.shape, penalty).run(kernel_order, background_order, scale_order)


@dataclass(frozen=True)
class _Stars:
    """Gram matrices (n, nb + 2, nb + 2) of [basis images, 1, target] and what weights them."""

    x: np.ndarray
    y: np.ndarray
    usable: np.ndarray
    gram: np.ndarray
    n_pixels: np.ndarray
    image_variance: np.ndarray
    target_variance: np.ndarray


def _measure(
    image: Exposure, target: Exposure, x: np.ndarray, y: np.ndarray, basis: np.ndarray, bad: np.ndarray | None
) -> _Stars:
    """Cut the stamps (fitted region k + 2 pixels wide) and reduce them to Gram matrices."""
    k = basis.shape[-1]
    half = k // 2 + 1
    reach = half + k // 2
    ny, nx = image.shape
    inside = (x > -0.5) & (y > -0.5) & (x < nx - 0.5) & (y < ny - 0.5)
    col, row = (np.where(inside, np.rint(c), 0).astype(int) for c in (x, y))
    if nx <= 2 * reach or ny <= 2 * reach:
        raise BadData(f"an image of {nx} x {ny} pixels is too small for a kernel of {k} pixels")

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
    return _Stars(x, y, usable, gram, good.sum((1, 2)), image_variance, target_variance)


class _Fit:
    """Iterated spatial fit: solve, test every star, refill the cells."""

    def __init__(self, stars: _Stars, basis: np.ndarray, shape: tuple[int, int], penalty: np.ndarray | None):
        self.stars, self.basis, self.shape, self.penalty = stars, basis, shape, penalty
        self.overlap = np.tensordot(basis, basis, ((1, 2), (1, 2)))
        self.cell = (stars.y // CELL).astype(int) * (shape[1] // CELL + 1) + (stars.x // CELL).astype(int)
        self.variance = stars.image_variance + stars.target_variance

    def run(self, *wanted_orders: int) -> KernelSolution:
        """Solve until the set of stars no longer changes."""
        good = self.stars.usable & self._agreeing_sums()
        active = self._brightest_per_cell(good)
        for _ in range(MAX_ITERATIONS + 1):
            if active.sum() < MIN_STARS:
                raise BadData(f"{active.sum()} kernel stars, at least {MIN_STARS} needed")
            orders = [polynomials.affordable(order, active.sum(), STARS_PER_TERM) for order in wanted_orders]
            local = self._solve(active, *orders)
            chi2, deviation, _, agree = self._residuals(local)
            good = self.stars.usable & agree
            previous, active = active, self._brightest_per_cell(good)
            if (active == previous).all():
                break
        missed = local[:, 0] * deviation
        field = StampField(np.tensordot(self.kernel_terms, self.basis, ((0,), (0,))), max(orders[::2]), self.shape)
        return KernelSolution(
            kernel=field,
            background=self.background_terms,
            used=previous,
            chi2=np.where(self.stars.usable, chi2, np.nan),
            scale_order=orders[2],
            kernel_sum=float(self.kernel_terms[0, 0]),
            kernel_sum_scatter=float(robust_width(missed[previous])),
            model_error=self._model_error(previous, *orders),
        )

    def _model_error(self, active: np.ndarray, *orders: int) -> float:
        """Cross-validation: what bright stars leave when a fold of the stars is left out of the fit."""
        if active.sum() < MIN_STARS * FOLDS:
            return 0.0
        fold = np.cumsum(active) % FOLDS
        excess, error = np.zeros(len(active)), np.ones(len(active))
        for k in range(FOLDS):
            chi2, _, held_error, _ = self._residuals(self._solve(active & (fold != k), *orders))
            held = active & (fold == k)
            error[held] = held_error[held]
            excess[held] = ((chi2 - 1) * self.stars.n_pixels * held_error**2)[held]
        brightest = np.flatnonzero(active)[np.argsort(error[active], kind="stable")][:BRIGHTEST]
        return float(np.sqrt(max(np.median(excess[brightest]), 0)))

    def _agreeing_sums(self) -> np.ndarray:
        """Stars whose flux ratio, from a fit of B_0 and a constant alone, is not an outlier."""
        gram, usable = self.stars.gram, self.stars.usable
        constant = gram.shape[-1] - 2
        model = gram[:, 0, 0] - gram[:, 0, constant] ** 2 / np.maximum(self.stars.n_pixels, 1)
        data = gram[:, 0, -1] - gram[:, 0, constant] * gram[:, constant, -1] / np.maximum(self.stars.n_pixels, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio, error = data / model, np.sqrt(self.variance / model)
        return usable & _consistent(ratio, error, usable, PSF_RATIO_FLOOR)

    def _brightest_per_cell(self, good: np.ndarray) -> np.ndarray:
        """The first `STARS_PER_CELL` good stars of every cell."""
        rows = np.flatnonzero(good)
        rows = rows[np.argsort(self.cell[rows], kind="stable")]
        cells = self.cell[rows]
        rank = np.arange(len(rows)) - np.searchsorted(cells, cells)
        active = np.zeros(len(good), bool)
        active[rows[rank < STARS_PER_CELL]] = True
        return active

    def _solve(self, active: np.ndarray, kernel_order: int, background_order: int, scale_order: int) -> np.ndarray:
        """Spatial solution from the active stars; returns the local coefficients at every star, (n, nb + 1)."""
        stars, n_functions = self.stars, len(self.basis)
        order = max(kernel_order, background_order, scale_order)
        design = polynomials.terms(*polynomials.spanned(stars.x, stars.y, self.shape), order)
        degree = np.sum(polynomials.exponents(order), axis=1)
        column_order = np.full(n_functions + 1, kernel_order)
        column_order[0], column_order[-1] = scale_order, background_order
        free = (degree <= column_order[:, None]).ravel()

        weights = 1 / self.variance[active]
        full = normal_matrix(stars.gram[active][:, :-1, :-1], weights, design[:, active])
        matrix = full[free][:, free]
        right = ((stars.gram[active][:, :-1, -1].T * weights) @ design[:, active].T).ravel()[free]
        if self.penalty is not None:
            prior = np.broadcast_to(np.pad(self.penalty, (0, 1)), (len(weights), *(n_functions + 1,) * 2))
            matrix += normal_matrix(prior, np.full(len(weights), 1 / len(weights)), design[:, active])[free][:, free]
        matrix = self._without_noise(matrix, free, active, weights, design)
        terms = np.zeros(free.shape)
        terms[free] = solve_ridge(matrix, right)
        terms = terms.reshape(n_functions + 1, -1)
        self.kernel_terms = terms[:-1, degree <= max(kernel_order, scale_order)]
        self.background_terms = terms[-1, degree <= background_order]
        return (terms @ design).T

    def _without_noise(self, matrix, free, active, weights, design) -> np.ndarray:
        """Remove what the noise of the convolved image adds to the normal matrix M: N = E[noise (x) basis squared].

        M - N alone need not be positive in directions that are all noise; M - N + N M^-1 N always is, and differs
        from it only where signal and noise are comparable.
        """
        stars, n_functions = self.stars, len(self.basis)
        overlap = np.zeros((1, n_functions + 1, n_functions + 1))
        overlap[0, :-1, :-1] = self.overlap
        noise_weights = weights * (stars.n_pixels * stars.image_variance)[active]
        gram = np.broadcast_to(overlap, (len(weights), *overlap.shape[1:]))
        noise = normal_matrix(gram, noise_weights, design[:, active])[free][:, free]
        return matrix - noise + noise @ solve_ridge(matrix, noise)

    def _residuals(self, local: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """chi2 per pixel, fraction of the flux left, its error, and whether a star agrees with the solution."""
        stars = self.stars
        kernel_power = np.einsum("nb,bc,nc->n", local[:, :-1], self.overlap, local[:, :-1])
        self.variance = stars.target_variance + kernel_power * stars.image_variance
        vector = np.concatenate([-local, np.ones((len(local), 1))], axis=1)
        products = np.einsum("ncd,nd->nc", stars.gram, vector)
        n_pixels = np.maximum(stars.n_pixels, 1)
        model = local[:, :-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            chi2 = np.einsum("nc,nc->n", vector, products) / (n_pixels * self.variance)
            mean = products[:, -2] / (n_pixels * np.sqrt(self.variance))
            # projection of the residual on the matched star, both without their means and what noise alone would give
            noise = n_pixels * kernel_power * stars.image_variance
            model_sum = np.einsum("nb,nb->n", model, stars.gram[:, :-2, -2])
            model_power = np.einsum("nb,nbc,nc->n", model, stars.gram[:, :-2, :-2], model)
            model_power -= model_sum**2 / n_pixels + noise
            excess = np.einsum("nb,nb->n", model, products[:, :-2]) - model_sum * products[:, -2] / n_pixels + noise
            deviation, error = excess / model_power, np.sqrt(self.variance / model_power)
            allowance = 1 + MODEL_ERROR**2 * model_power / (n_pixels * self.variance)
            agree = _consistent(deviation, error, stars.usable, KERNEL_SUM_FLOOR)
            agree &= (mean**2 < MAX_RESIDUAL_MEAN**2 * allowance) & (chi2 < MAX_RESIDUAL_RMS**2 * allowance)
        return chi2, deviation, error, agree


def _consistent(values: np.ndarray, errors: np.ndarray, among: np.ndarray, floor: float) -> np.ndarray:
    """Values within three sigma of their median, sigma from their own errors and the spread of all."""
    centre = np.median(values[among])
    with np.errstate(invalid="ignore"):
        pulls = (values - centre) / np.hypot(errors, floor)
    width = max(1.0, robust_width(pulls[among]))
    return np.abs(pulls) < KERNEL_SUM_CLIP * width
