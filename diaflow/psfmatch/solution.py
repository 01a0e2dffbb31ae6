"""Least-squares fit of the spatially varying matching kernel and background (Alard & Lupton 1998; Alard 2000).

In come an image, the target it is to look like, their flux ratio, and star positions; out comes a `KernelSolution`.
Every star contributes the Gram matrix of its stamp (see `kernel_stars`); the spatial fit, its residuals and the
rejection of stars work on these matrices alone and never return to the pixels.  Selection follows LSST's ip_diffim:
cells of 128 pixels, the five brightest good stars of each, cuts on residuals and on the flux.

The flux ratio is not part of the fit.  The brightest star of an image would decide it, whose flux is no better known
than that of others, and noise of the image that is convolved biases what the faint ones say.  So the sum of the kernel
is fixed beforehand and the stars tell its shape.  Few stars leave much of it open, which is then taken from the PSF
models of the two images: the weight of these against the stars is the one with which stars that did not take part are
predicted best.
"""

from dataclasses import dataclass

import numpy as np

from diaflow import polynomials
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.psf.stampfield import StampField, fit_stamps
from diaflow.psfmatch.kernel_stars import KernelStars
from diaflow.psfmatch.normal_equations import normal_matrix, solve_ridge
from diaflow.statistics import agreeing, robust_width

# As in the configuration of ip_diffim (PsfMatchConfig): sizeCellX [pixel], nStarPerCell, maxSpatialIterations,
# candidateResidualMeanMax and candidateResidualStdMax [sigma of a pixel], maxKsumSigma [sigma].
CELL, STARS_PER_CELL, MAX_ITERATIONS = 128, 5, 3
MAX_RESIDUAL_MEAN, MAX_RESIDUAL_RMS = 0.25, 1.5
KERNEL_SUM_CLIP = 3.0

MIN_STARS = 3  # the median of the kernel sums of fewer does not tell which is wrong
STARS_PER_TERM = 2  # of a polynomial in position: each star has a stamp full of pixels
# A matched star may be off by this fraction of its own rms: at high S/N, any model is.
MODEL_ERROR = 0.05
# A star fits a kernel sum no better than this whatever its S/N: colours, flat field.
KERNEL_SUM_FLOOR = 0.01
# Before the fit, the ratio of two stars of different PSF is known no better than this.
PSF_RATIO_FLOOR = 0.05
FOLDS = 4  # parts of the stars that are left out in turn
# Weights of the PSF models that are tried, over that of all stars together, and the one to begin with.
PSF_WEIGHTS, FIRST_WEIGHT = (0.0, 0.01, 0.1, 1.0, 10.0), 0.1
PSF_GRID = 5  # points along each axis of the image at which the PSF models are compared


@dataclass(frozen=True)
class KernelSolution:
    """What takes one image to another: target = kernel (x) image + background.

    Attributes
    ----------
    kernel : StampField
        Matching kernel at pixel positions.
    background : (n_terms,) array
        Coefficients of a polynomial (`diaflow.polynomials`) of the `spanned` position.
    used : (n,) bool array
        Stars that the solution rests on.
    chi2 : (n,) array
        Mean squared residual over variance in the stamp of each star; NaN where it could not be used.
    scale : (n_terms,) array
        Sum of the kernel, coefficients of a polynomial of the `spanned` position.
    kernel_sum_scatter : float
        Robust scatter of the sums that single stars ask for about that of the kernel.
    """

    kernel: StampField
    background: np.ndarray
    used: np.ndarray
    chi2: np.ndarray
    scale: np.ndarray
    kernel_sum_scatter: float

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
        if len(self.scale) == 1:
            return np.float32(self.scale[0])
        return polynomials.image(self.scale, self.kernel.shape)

    def unit_kernel(self) -> StampField:
        """The kernel over its sum.

        Returns
        -------
        StampField
            Of unit sum everywhere, and of a higher order where the sum varies.
        """
        kernel, order = self.kernel, self.kernel.order + polynomials.order_of(self.scale)
        if len(self.scale) == 1:
            return StampField(kernel.terms / self.scale[0], order, kernel.shape)
        x, y = (g.ravel() for g in np.meshgrid(*(np.linspace(0, n - 1, order + 3) for n in kernel.shape[::-1])))
        stamps = kernel(x, y)
        return fit_stamps(stamps / stamps.sum((1, 2), keepdims=True), x, y, order, kernel.shape)


def fit(
    image: Exposure,
    target: Exposure,
    x: np.ndarray,
    y: np.ndarray,
    basis: np.ndarray,
    scale: np.ndarray,
    kernel_order: int = 1,
    background_order: int = 2,
    bad: np.ndarray | None = None,
    penalty: np.ndarray | None = None,
) -> KernelSolution:
    """Fit the kernel that makes `image` look like `target`.

    Parameters
    ----------
    image, target : Exposure
        On one pixel grid.  Noise of `image` would bias the kernel; its expectation, from the variance plane, is
        taken out.  That plane must therefore hold the variance of the noise at low frequencies.  The PSFs of both, if
        they have any, guide the kernel where the stars leave it open.
    x, y : (n,) arrays
        Pixel positions of the stars, best first: cells take them in this order.
    basis : (nb, k, k) array
        Functions of which only the first has a non-zero sum.
    scale : (n_terms,) array
        Flux in the target over that in the image, coefficients of a polynomial of the `spanned` position.
    kernel_order, background_order : int
        Largest degrees of the polynomials in position of the shape of the kernel and of the background; lowered when
        there are too few stars.
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
    stars = KernelStars.measured(image, target, np.asarray(x, float), np.asarray(y, float), basis, bad)
    n_usable = int(stars.usable.sum())
    if n_usable < MIN_STARS:
        raise BadData(f"{n_usable} kernel stars, at least {MIN_STARS} needed", Kind.KERNEL)
    models = None
    if image.psf is not None and target.psf is not None:
        models = KernelStars.of_psfs(image.psf, target.psf, image.shape, PSF_GRID, basis)
    return _Fit(stars, models, basis, image.shape, np.asarray(scale, float), penalty).run(
        kernel_order, background_order
    )


@dataclass
class _Equations:
    """Normal equations M c = r of the free coefficients, and what noise of the image adds to both; sums over stars."""

    matrix: np.ndarray
    right: np.ndarray
    noise: np.ndarray
    noise_right: np.ndarray

    def __sub__(self, other: "_Equations") -> "_Equations":
        parts = ((getattr(self, name), getattr(other, name)) for name in self.__dataclass_fields__)
        return _Equations(*(mine - theirs for mine, theirs in parts))


class _Fit:
    """Iterated spatial fit: solve, test every star, refill the cells."""

    def __init__(
        self,
        stars: KernelStars,
        models: KernelStars | None,
        basis: np.ndarray,
        shape: tuple[int, int],
        scale: np.ndarray,
        penalty: np.ndarray | None,
    ):
        self.stars, self.models, self.basis, self.shape, self.penalty = stars, models, basis, shape, penalty
        self.scale, self.ratio = scale, stars.polynomial(scale, shape)
        self.overlap = np.tensordot(basis, basis, ((1, 2), (1, 2)))
        self.cell = (stars.y // CELL).astype(int) * (shape[1] // CELL + 1) + (stars.x // CELL).astype(int)
        self.variance = stars.image_variance + stars.target_variance
        self.psf_weight = FIRST_WEIGHT if models is not None else 0.0

    def run(self, kernel_order: int, background_order: int) -> KernelSolution:
        """Solve until the set of stars no longer changes, weigh the PSF models, and solve again."""
        good = self.stars.usable & self._agreeing_sums()
        active = self._settled(good, kernel_order, background_order)
        if self.models is not None and active.sum() >= MIN_STARS * FOLDS:
            self.psf_weight = self._best_weight(active)
            active = self._settled(good, kernel_order, background_order)
        used, chi2, missed = active, self.chi2, self.ratio * self.deviation
        field = StampField(np.tensordot(self.kernel_terms, self.basis, ((0,), (0,))), self.order, self.shape)
        return KernelSolution(
            kernel=field,
            background=self.background_terms,
            used=used,
            chi2=np.where(self.stars.usable, chi2, np.nan),
            scale=self.scale,
            kernel_sum_scatter=float(robust_width(missed[used])),
        )

    def _settled(self, good: np.ndarray, *wanted_orders: int) -> np.ndarray:
        """Iterate fit and choice of stars; returns the stars of the last fit."""
        active = self._brightest_per_cell(good)
        for _ in range(MAX_ITERATIONS + 1):
            if active.sum() < MIN_STARS:
                raise BadData(f"{active.sum()} kernel stars, at least {MIN_STARS} needed", Kind.KERNEL)
            self._set_orders(*(polynomials.affordable(order, active.sum(), STARS_PER_TERM) for order in wanted_orders))
            self.chi2, self.deviation, _, agree = self._residuals(self._solve(self._equations(active)))
            previous, active = active, self._brightest_per_cell(self.stars.usable & agree)
            if (active == previous).all():
                break
        return previous

    def _set_orders(self, kernel_order: int, background_order: int) -> None:
        """The polynomials of kernel and background, and the terms that are free."""
        self.order = max(kernel_order, background_order, polynomials.order_of(self.scale))
        self.degree = np.sum(polynomials.exponents(self.order), axis=1)
        self.background_order = background_order
        column_order = np.full(len(self.basis) + 1, kernel_order)
        column_order[0], column_order[-1] = -1, background_order
        self.free = (self.degree <= column_order[:, None]).ravel()

    def _equations(self, among: np.ndarray) -> _Equations:
        """Normal equations of the coefficients of all functions but the first and of the background."""
        stars, weights = self.stars, 1 / self.variance[among]
        design = self._design(stars)[:, among]
        matrix, right = self._products(stars.gram[among], self.ratio[among], weights, design)
        noise_weights = weights * (stars.n_pixels * stars.image_variance)[among]
        overlap = np.pad(self.overlap, (0, 2))[None].repeat(among.sum(), 0)
        noise, noise_right = self._products(overlap, self.ratio[among], noise_weights, design)
        return _Equations(matrix, right, noise, noise_right)

    def _products(
        self, gram: np.ndarray, ratio: np.ndarray, weights: np.ndarray, design: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Matrix and right side for the free coefficients; what the first function makes of the image is known."""
        target = gram[:, :-1, -1] - ratio[:, None] * gram[:, :-1, 0]
        matrix = normal_matrix(gram[:, :-1, :-1], weights, design)
        right = (target.T * weights) @ design.T
        return matrix[self.free][:, self.free], right.ravel()[self.free]

    def _solve(self, equations: _Equations) -> np.ndarray:
        """Spatial solution; returns the local coefficients at every star, (n, nb + 1).

        What noise of the convolved image adds to the normal matrix M is N = E[noise (x) basis squared].  M - N alone
        need not be positive in directions that are all noise; M - N + N M^-1 N always is, and differs from it only
        where signal and noise are comparable.
        """
        matrix, noise = equations.matrix, equations.noise
        matrix, right = self._with_priors(matrix - noise + noise @ solve_ridge(matrix, noise), equations)
        terms = np.zeros(self.free.shape)
        terms[self.free] = solve_ridge(matrix, right)
        terms = terms.reshape(len(self.basis) + 1, -1)
        terms[0, : len(self.scale)] = self.scale
        self.kernel_terms = terms[:-1]
        self.background_terms = terms[-1, : polynomials.n_terms(self.background_order)]
        return (terms @ self._design(self.stars)).T

    def _with_priors(self, matrix: np.ndarray, equations: _Equations) -> tuple[np.ndarray, np.ndarray]:
        """Both sides with what is known of the coefficients beforehand."""
        right = equations.right - equations.noise_right
        if self.penalty is not None:
            design = self._design(self.stars)[:, self.stars.usable]
            prior = np.broadcast_to(np.pad(self.penalty, (0, 2)), (design.shape[1], *(len(self.penalty) + 2,) * 2))
            matrix = (
                matrix + self._products(prior, np.zeros(len(prior)), np.full(len(prior), 1 / len(prior)), design)[0]
            )
        if self.psf_weight:
            models, n_models = self.models, len(self.models.x)
            information = (self.stars.power() / self.variance)[self.stars.usable].sum()
            weights = np.full(n_models, self.psf_weight * information / n_models)
            ratio = models.polynomial(self.scale, self.shape)
            # the model of a star of the target is its PSF times the flux ratio
            gram = models.gram.copy()
            gram[:, :-1, -1] *= ratio[:, None]
            of_models = self._products(gram, ratio, weights, self._design(models))
            matrix, right = matrix + of_models[0], right + of_models[1]
        return matrix, right

    def _design(self, stars: KernelStars) -> np.ndarray:
        """Terms of the polynomials at stars."""
        return polynomials.terms(*polynomials.spanned(stars.x, stars.y, self.shape), self.order)

    def _folds(self, active: np.ndarray) -> list[tuple[np.ndarray, _Equations]]:
        """Parts of the stars, and the equations from the others."""
        total, number = self._equations(active), np.cumsum(active) % FOLDS
        parts = [active & (number == k) for k in range(FOLDS)]
        return [(part, total - self._equations(part)) for part in parts]

    def _best_weight(self, active: np.ndarray) -> float:
        """The weight of the PSF models with which stars that did not take part leave least."""
        folds, left = self._folds(active), []
        allowance = 1 + MODEL_ERROR**2 * self.stars.power() / (np.maximum(self.stars.n_pixels, 1) * self.variance)
        for self.psf_weight in PSF_WEIGHTS:
            residuals = ((held, self._residuals(self._solve(others))[0]) for held, others in folds)
            left.append(sum((self.stars.n_pixels * chi2 / allowance)[held].sum() for held, chi2 in residuals))
        return PSF_WEIGHTS[int(np.argmin(left))]

    def _agreeing_sums(self) -> np.ndarray:
        """Stars whose flux ratio, from a fit of B_0 and a constant alone, is like that of most."""
        gram, usable = self.stars.gram, self.stars.usable
        constant = gram.shape[-1] - 2
        model = gram[:, 0, 0] - gram[:, 0, constant] ** 2 / np.maximum(self.stars.n_pixels, 1)
        data = gram[:, 0, -1] - gram[:, 0, constant] * gram[:, constant, -1] / np.maximum(self.stars.n_pixels, 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio, error = data / model / self.ratio, np.sqrt(self.variance / model)
        return usable & agreeing(ratio, np.hypot(error, PSF_RATIO_FLOOR), usable, KERNEL_SUM_CLIP)

    def _brightest_per_cell(self, good: np.ndarray) -> np.ndarray:
        """The first `STARS_PER_CELL` good stars of every cell."""
        rows = np.flatnonzero(good)
        rows = rows[np.argsort(self.cell[rows], kind="stable")]
        cells = self.cell[rows]
        rank = np.arange(len(rows)) - np.searchsorted(cells, cells)
        active = np.zeros(len(good), bool)
        active[rows[rank < STARS_PER_CELL]] = True
        return active

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
            agree = agreeing(deviation, np.hypot(error, KERNEL_SUM_FLOOR), stars.usable, KERNEL_SUM_CLIP)
            agree &= (mean**2 < MAX_RESIDUAL_MEAN**2 * allowance) & (chi2 < MAX_RESIDUAL_RMS**2 * allowance)
        return chi2, deviation, error, agree
