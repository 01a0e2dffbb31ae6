"""PSF model on pixels: a stamp per polynomial term in position, fitted to stars at their own sub-pixel phases.

In come an exposure and star positions, out goes a `StampField` of unit sum.  Star s is modelled as
f_s S(dx_s, dy_s) sum_m P_m(x_s, y_s) T_m with S a shift by the Lanczos-5 kernel (photometry shifts stamps with the
windowed sinc of `measure.subpixel`).  Where pixels do not resolve the core, the mean profile of the stars, which all
their phases tell, is moved as what it is, and S moves what the T_m have beside it.  The T_m solve this linear problem
by conjugate gradients, so the model is not broadened as stamps resampled to a common centre are.  A weak prior keeps
the spatial terms near the mean profile: noise cannot drive the wings or the sum.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import maximum_filter, uniform_filter

from diaflow import polynomials
from diaflow.calibrate import psf_profile
from diaflow.calibrate.psf_profile import Profile, shift_matrices
from diaflow.errors import BadData, Kind, data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.psf.stampfield import StampField, fwhm, moments_sigma
from diaflow.statistics import median_width

# Chosen for noisy pixels: a term of the field has as many coefficients as a stamp has pixels, and each star shows them.
STARS_PER_TERM = 5
MINIMUM = 3  # stars; of two that differ, either may be no star
MODEL_ERROR = 0.02  # relative error of the model at the peak, which keeps the brightest stars from deciding alone
PRIOR = 2.0  # pixels and their spatial terms are expected within this many times the round mean profile, chosen
WING_FLOOR = 1e-6  # smallest prior width, relative to the peak: wings below it are zero
# Of flux, centroid, rejection and PSF, the first ones with a constant PSF: chosen.
ROUNDS, CONSTANT_ROUNDS = 5, 2
CORE = 0.1  # of the peak: brighter pixels of the model are where a neighbour would be a blend, chosen
MIN_USABLE = 0.5  # fraction of the stamp, chosen
START_WIDTHS = 3.0  # of the prior within which the next model is looked for first, chosen
MAX_STEP = 0.3  # of a centroid in one round [pixel], chosen: a first guess may be off by no more
SLOPE_STEP = 1e-3  # half the shift between the two stamps whose difference is a slope [pixel]
MAX_CONDITION = 1e12  # of the normal equations of a star; worse ones are not solved to four digits
CG_STEPS, CG_TOLERANCE = 8, 1e-16  # most steps; preconditioned squared residual, over the first, at which they end
PIXEL_CLIP = 5.0  # sigma by which a pixel is off that belongs to a neighbour ...
CLIP_MODEL = 0.3  # ... and by which fraction of the model: chosen
# The same for sums over boxes as wide as the PSF, and at least of this side [pixel].
BOX, BOX_CLIP, BOX_MODEL = 5, 3.5, 0.1
STAR_CLIP = 5.0  # robust sigma of chi2 at which a star is not one, chosen
LEAST_CHI2_REACH = 1.0  # above the median; stars whose chi2 is about one stay however little the others scatter
STAR_TOLERANCE = 0.05  # error of the model at the peak that chi2 forgives, lest bright stars go first
GUESS_STARS, GUESS_SIGMA = 20, 1.5  # stars whose median size starts the fit, and the sigma where none has one [pixel]
# Of the PSF [pixel], the width of a pixel included: the fluxes of stars would depend on where in a pixel they are, by
# 2 % at 1.6 and by 5 % at 1.4.
LEAST_FWHM = 1.6
SHARP_FWHM = 2.5  # of the PSF, below which the shift of its stamp is wrong by 2e-4 of the flux and more [pixel]


NO_CORE = Profile(np.zeros(0), np.zeros(0))


@dataclass
class _Stars:
    """Stamps (n, k, k) of the stars with variance and usable pixels; flux and sub-pixel offset (n,) of the model."""

    data: np.ndarray
    variance: np.ndarray
    usable: np.ndarray
    dx: np.ndarray
    dy: np.ndarray
    flux: np.ndarray


def fit(
    exposure: Exposure, x: np.ndarray, y: np.ndarray, size: int, order: int
) -> tuple[StampField, np.ndarray, float]:
    """Fit the PSF of a background-subtracted exposure.

    Parameters
    ----------
    exposure : Exposure
        Pixels of the planes BAD, SAT, CR, INTRP and NO_DATA are not used.
    x, y : (n,) arrays
        Centroids of stars [pixel].
    size : int
        Side of the stamps, odd [pixel].
    order : int
        Highest polynomial order in position; lowered until there are five stars per term.

    Returns
    -------
    psf : StampField
        Unit-sum stamps of sources at the centre of the centre pixel.
    used : (n,) bool array
        Stars that the model rests on.
    chi2 : float
        Median of their chi2 per pixel, errors of the model of 5 % of the peak forgiven.

    Raises
    ------
    BadData
        When fewer than three stars are left, or the model is not a PSF or one that is sharper than the pixels show.
    """
    x, y = np.asarray(x, float), np.asarray(y, float)
    stars = _cut(exposure, x, y, size)
    used = enough = stars.usable.mean((1, 2)) > MIN_USABLE
    _require(used)
    profile = _first_guess(stars, used)
    psf = StampField(profile.stamp(size)[None], 0, exposure.shape)
    for number in range(ROUNDS):
        width = float(np.nan_to_num(fwhm(psf.centre())))
        box = max(BOX, int(width) | 1) if number >= CONSTANT_ROUNDS else 0
        core = profile if width < SHARP_FWHM else NO_CORE
        weights, chi2 = _fit_stars(stars, psf(x, y), core, box, crude=number == 0, learning=number < ROUNDS - 1)
        used = enough & _inliers(chi2, stars.flux, used)
        _require(used)
        order_now = polynomials.affordable(order if number >= CONSTANT_ROUNDS else 0, used.sum(), STARS_PER_TERM)
        columns = (column[used] for column in (stars.data, weights, stars.flux, stars.dx, stars.dy))
        profile = psf_profile.of_stars(*columns, moments_sigma(psf.centre()))
        psf = _solve(stars, weights, used, x, y, psf, order_now, profile, width < SHARP_FWHM)
        profile = profile.times(1 / psf.terms[0].sum())
        psf = psf.normalised()
    width = fwhm(psf.centre())
    if not (np.isfinite(psf.terms).all() and width < size):
        raise BadData("the PSF model is not a point source", Kind.PSF)
    if width < LEAST_FWHM:
        raise BadData(f"PSF of {width:.2f} pixel FWHM: below {LEAST_FWHM} the pixels do not show its shape", Kind.PSF)
    return psf, used, float(np.median(chi2[used]))


def _cut(exposure: Exposure, x: np.ndarray, y: np.ndarray, size: int) -> _Stars:
    """Stamps of the stars around the nearest pixels."""
    ny, nx = exposure.shape
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    t = np.arange(size) - size // 2
    yy, xx = iy[:, None, None] + t[:, None], ix[:, None, None] + t
    inside = (yy >= 0) & (yy < ny) & (xx >= 0) & (xx < nx)
    yy, xx = np.clip(yy, 0, ny - 1), np.clip(xx, 0, nx - 1)
    data, variance = exposure.image[yy, xx].astype(float), exposure.variance[yy, xx].astype(float)
    flawed = (exposure.mask[yy, xx] & bits("BAD", "SAT", "CR", "INTRP", "NO_DATA")) != 0
    usable = inside & ~flawed & (variance > 0) & np.isfinite(data)
    return _Stars(np.where(usable, data, 0), np.where(usable, variance, 1), usable, x - ix, y - iy, np.ones(len(x)))


def _first_guess(stars: _Stars, used: np.ndarray) -> Profile:
    """A Gaussian of the median size of some stars, of unit sum."""
    widths = np.array([moments_sigma(stamp) for stamp in stars.data[used][:GUESS_STARS]])
    sigma = np.median(widths[np.isfinite(widths)]) if np.isfinite(widths).any() else GUESS_SIGMA
    guess = Profile(np.ones(1), np.array([sigma]))
    return guess.times(1 / guess.stamp(stars.data.shape[-1]).sum())


def _fit_stars(
    stars: _Stars, stamps: np.ndarray, core: Profile, box: int, crude: bool, learning: bool
) -> tuple[np.ndarray, np.ndarray]:
    """One Gauss-Newton step in flux and centroid of every star; its pixel weights and mean misfit (chi2 per pixel).

    Neighbours are looked for in boxes of the side `box` [pixel], or not at all, and in cores that the model has learnt.

    A crude PSF is believed where the star is bright; its wings, whatever they are, must not matter.
    """
    size, step = stamps.shape[-1], SLOPE_STEP
    my, mx = shift_matrices(stars.dy, size), shift_matrices(stars.dx, size)
    slope_y = (shift_matrices(stars.dy + step, size) - shift_matrices(stars.dy - step, size)) / (2 * step)
    slope_x = (shift_matrices(stars.dx + step, size) - shift_matrices(stars.dx - step, size)) / (2 * step)
    rows = my @ stamps
    basis = [rows @ _t(mx), rows @ _t(slope_x), slope_y @ stamps @ _t(mx)]
    if len(core.widths):
        basis[0] += core.left_out(stars.dx, stars.dy, size)
        for index, (x, y) in enumerate(((step, 0), (0, step)), 1):
            after, before = (core.left_out(stars.dx + s * x, stars.dy + s * y, size) for s in (1, -1))
            basis[index] += (after - before) / (2 * step)
    # Flux for the error model, from the pixels alone.
    stars.flux = _ratio(basis[0] * stars.data * stars.usable, basis[0] ** 2 * stars.usable)
    model = stars.flux[:, None, None] * basis[0]
    kept = stars.usable
    if box:
        kept = kept & ((stars.data - model) ** 2 < PIXEL_CLIP**2 * stars.variance + (CLIP_MODEL * model) ** 2)
        # The core of a star may be off because the model has still to learn from it; in the end it has a neighbour.
        core_pixels = basis[0] > CORE * basis[0].max((1, 2), keepdims=True)
        kept &= (core_pixels & learning) | ~_neighbours(kept * (stars.data - model), stars.variance, model, box)
    # Errors of the model fall more slowly from the peak than the PSF: shifts of its core ripple into the wings.
    scale = np.maximum(model, 0)
    peak = scale.max((1, 2), keepdims=True)
    model_variance = peak * (peak if crude else scale)
    weights = kept / (stars.variance + MODEL_ERROR**2 * model_variance)
    normal = np.array([[(a * weights * b).sum((1, 2)) for b in basis] for a in basis]).transpose(2, 0, 1)
    projection = np.array([(a * weights * stars.data).sum((1, 2)) for a in basis]).T
    solution = np.zeros_like(projection)
    with data_may_fail("fit of the PSF stars"):
        regular = np.linalg.cond(normal) < MAX_CONDITION
        solution[regular] = np.linalg.solve(normal[regular], projection[regular][..., None])[..., 0]
    flux, fdx, fdy = solution.T
    positive = flux > 0
    fitted = sum(value[:, None, None] * term for value, term in zip(solution.T, basis))
    # Weighted with the PSF: what is not a star differs in the core, and most pixels of a stamp are sky.
    misfit = kept * (stars.data - fitted) ** 2 / (stars.variance + STAR_TOLERANCE**2 * model_variance)
    share = kept * np.maximum(basis[0], 0)
    chi2 = np.where(positive, _ratio(share * misfit, share), np.inf)
    stars.flux = np.where(positive, flux, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        stars.dx = stars.dx + np.where(positive, np.clip(fdx / flux, -MAX_STEP, MAX_STEP), 0)
        stars.dy = stars.dy + np.where(positive, np.clip(fdy / flux, -MAX_STEP, MAX_STEP), 0)
    return weights, chi2


def _neighbours(residual: np.ndarray, variance: np.ndarray, model: np.ndarray, box: int) -> np.ndarray:
    """Pixels of boxes whose sum is off: sources too faint to stand out in a pixel, which would add to the wings."""
    residual, variance, model = (uniform_filter(a, box, axes=(1, 2)) for a in (residual, variance / box**2, model))
    off = residual**2 > BOX_CLIP**2 * variance + (BOX_MODEL * model) ** 2
    return maximum_filter(off, box, axes=(1, 2))


def _inliers(chi2: np.ndarray, flux: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Stars whose chi2 is like that of the others, or about one."""
    middle = np.median(chi2[used])
    scatter = median_width(chi2[used] - middle)
    return (flux > 0) & (chi2 <= middle + max(STAR_CLIP * scatter, LEAST_CHI2_REACH))


def _solve(
    stars: _Stars,
    weights: np.ndarray,
    used: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    start: StampField,
    order: int,
    profile: Profile,
    sharp: bool,
) -> StampField:
    """The field T that minimises sum_s W (d_s - f_s S_s sum_m P_m T_m)**2 + prior, by conjugate gradients.

    Of a sharp PSF, d_s is without what S_s leaves out of the profile.
    """
    size = start.size
    field = StampField(np.zeros((polynomials.n_terms(order), size, size)), order, start.shape)
    n_kept = min(len(field.terms), len(start.terms))
    field.terms[:n_kept] = start.terms[:n_kept]
    design = field.polynomials(x[used], y[used])
    my, mx = shift_matrices(stars.dy[used], size), shift_matrices(stars.dx[used], size)
    flux, w, data = stars.flux[used][:, None, None], weights[used], stars.data[used]
    if sharp:
        data = data - flux * profile.left_out(stars.dx[used], stars.dy[used], size)

    def back(stamps: np.ndarray) -> np.ndarray:
        return np.tensordot(design, flux * (_t(my) @ stamps @ mx), 1)

    def forward(terms: np.ndarray) -> np.ndarray:
        return flux * (my @ np.tensordot(design.T, terms, 1) @ _t(mx))

    mean, precision = np.zeros_like(field.terms), np.zeros(field.terms.shape)
    mean[0] = profile.stamp(size)
    precision[:] = (PRIOR * mean[0] + WING_FLOOR * mean[0].max()) ** -2
    # A start far outside of a prior that has become narrower would take more steps than there are.
    width = START_WIDTHS / np.sqrt(precision)
    field.terms[:] = np.clip(field.terms, mean - width, mean + width)
    diagonal = np.tensordot(design**2, flux**2 * w, 1) + precision
    terms = _conjugate_gradients(
        lambda t: back(w * forward(t)) + precision * t, back(w * data) + precision * mean, field.terms, diagonal
    )
    return StampField(terms, order, start.shape)


def _conjugate_gradients(
    apply: Callable[[np.ndarray], np.ndarray], right: np.ndarray, start: np.ndarray, diagonal: np.ndarray
) -> np.ndarray:
    """Solve apply(x) = right by `CG_STEPS` preconditioned steps: the early stop leaves unconstrained modes alone."""
    x = start.copy()
    residual = right - apply(x)
    z = residual / diagonal
    direction, rho = z, np.vdot(residual, z)
    first = rho
    for _ in range(CG_STEPS):
        if not rho > CG_TOLERANCE * first:
            break
        image = apply(direction)
        alpha = rho / np.vdot(direction, image)
        x += alpha * direction
        residual -= alpha * image
        z = residual / diagonal
        previous, rho = rho, np.vdot(residual, z)
        direction = z + rho / previous * direction
    return x


def _require(used: np.ndarray) -> None:
    """BadData where too few stars are left."""
    if used.sum() < MINIMUM:
        raise BadData(f"{used.sum()} PSF stars < {MINIMUM}", Kind.PSF)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Ratios (n,) of the sums of stamps."""
    return numerator.sum((1, 2)) / np.maximum(denominator.sum((1, 2)), 1e-300)


def _t(matrices: np.ndarray) -> np.ndarray:
    """Each of the matrices transposed."""
    return matrices.transpose(0, 2, 1)
