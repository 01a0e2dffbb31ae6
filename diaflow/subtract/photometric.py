"""Flux ratio and registration of two images from their common stars, without a matching kernel.

Each image is convolved with the PSF of the other, so that a star, its neighbours and the galaxy beneath look the same
in both; the slope of one against the other is the flux ratio, and what is left along the gradient is a shift.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft2, next_fast_len, rfft2

from diaflow import polynomials
from diaflow.errors import BadData, Kind, data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.psf.stampfield import FWHM_PER_SIGMA, moments_sigma
from diaflow.psfmatch.solution import MIN_STARS, STARS_PER_TERM
from diaflow.statistics import agreeing, robust_width

CLIP = 3.0  # errors from the polynomial at which a star's flux ratio is not believed
# Before there is a polynomial: change of the flux ratio over the field that is no reason not to believe a star.
FIELD_CHANGE = 0.05
MAX_ORDER = 3  # of the flux ratio in position, where the stars choose it: chosen
MAX_STARS = 1000  # brightest that are compared: they tell the flux ratio to 0.03 %
# A star tells the flux ratio no better than this whatever its S/N: colours, flat field.
SCALE_FLOOR = 0.01
MIN_HALF, HALF = 5, 2.0  # of the compared box, and in units of the FWHM of a Gaussian as broad as the larger PSF


@dataclass(frozen=True)
class PhotometricMatch:
    """What the stars of two images say.

    Attributes
    ----------
    terms : (n_terms,) array
        Flux in the science image over that in the template, as coefficients of a polynomial of the `spanned`
        position.
    order : int
    scatter : float
        Robust scatter of the ratios of single stars.
    registration : (float, float)
        Rms shift of the stars in x and y, beyond noise [pixel].
    used : (n,) bool array
        Stars that the ratio rests on.
    """

    terms: np.ndarray
    order: int
    scatter: float
    registration: tuple[float, float]
    used: np.ndarray

    @property
    def scale(self) -> float:
        """Flux ratio at the centre of the detector."""
        return float(self.terms[0])

    def scale_image(self, shape: tuple[int, int]) -> np.ndarray | np.float32:
        """The flux ratio in every pixel.

        Parameters
        ----------
        shape : (ny, nx)

        Returns
        -------
        (ny, nx) float32 array
            Or the number that it is everywhere.
        """
        if self.order == 0:
            return np.float32(self.scale)
        return polynomials.image(self.terms, shape)


def match(
    science: Exposure, template: Exposure, x: np.ndarray, y: np.ndarray, bad: np.ndarray, order: int | None
) -> PhotometricMatch:
    """Compare the stars at x, y [pixel] of two images on one grid.

    Parameters
    ----------
    science, template : Exposure
        With `StampField` PSFs and variance planes of the noise at low frequencies.
    x, y : (n,) arrays
        The best first, of which the first thousand are used.
    bad : (ny, nx) bool array
        Pixels that may not lie in the box that is compared.
    order : int or None
        Degree of the flux ratio as a polynomial in position, lowered when there are too few stars; None for the one
        that predicts other stars best (Akaike 1974).

    Returns
    -------
    PhotometricMatch

    Raises
    ------
    BadData
        When fewer than three stars can be used, or one of them has no structure.
    """
    sigma = max(moments_sigma(exposure.psf.centre()) for exposure in (science, template))
    half = max(MIN_HALF, round(HALF * FWHM_PER_SIGMA * sigma))
    usable = _clean(x, y, bad, half)
    usable &= np.cumsum(usable) <= MAX_STARS
    if usable.sum() < MIN_STARS:
        n_usable = int(usable.sum())
        raise BadData(
            f"{n_usable} kernel stars, at least {MIN_STARS} needed", Kind.KERNEL, found=n_usable, needed=MIN_STARS
        )
    values, errors = _compare(science, template, x[usable], y[usable], half)
    terms, kept = _flux_ratio(values[0], errors[0], *polynomials.spanned(x[usable], y[usable], science.shape), order)
    shifts = [_rms(value[kept], error[kept]) for value, error in zip(values[1:], errors[1:])]
    used = np.zeros(len(x), bool)
    used[usable] = kept
    scatter = float(robust_width(values[0][kept]))
    return PhotometricMatch(terms, polynomials.order_of(terms), scatter, tuple(shifts), used)


def _flux_ratio(
    ratio: np.ndarray, error: np.ndarray, u: np.ndarray, v: np.ndarray, order: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of the polynomial through the ratios of stars, and the stars that it rests on."""
    middle = abs(np.median(ratio))
    agree = agreeing(ratio, np.hypot(error, FIELD_CHANGE * middle), np.ones(len(ratio), bool), CLIP)
    if agree.sum() < MIN_STARS:
        raise BadData(f"{agree.sum()} kernel stars agree on a flux ratio, at least {MIN_STARS} needed", Kind.KERNEL)
    ratio, error, u, v = ratio[agree], np.hypot(error, SCALE_FLOOR * middle)[agree], u[agree], v[agree]
    highest = polynomials.affordable(MAX_ORDER if order is None else order, len(ratio), STARS_PER_TERM)
    if order is None:
        terms, used = polynomials.likeliest(u, v, ratio, error, range(highest + 1), CLIP)
    else:
        terms, used = polynomials.fit(polynomials.terms(u, v, highest), ratio, error, CLIP)
    kept = agree.copy()
    kept[agree] = used
    return terms, kept


def _clean(x: np.ndarray, y: np.ndarray, bad: np.ndarray, half: int) -> np.ndarray:
    """Positions whose box is in the image and free of bad pixels."""
    ny, nx = bad.shape
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    clean = (column >= half) & (row >= half) & (column < nx - half) & (row < ny - half)
    if clean.any():
        windows = sliding_window_view(bad, (2 * half + 1,) * 2)
        clean[clean] = ~windows[row[clean] - half, column[clean] - half].any((1, 2))
    return clean


def _compare(
    science: Exposure, template: Exposure, x: np.ndarray, y: np.ndarray, half: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Least squares of the science box on [template, its gradients, 1]: ratio and shifts, and their errors.

    Returns
    -------
    values, errors : (3, n) arrays
        Flux ratio, shift in x and in y [pixel].
    """
    psfs = [exposure.psf(x, y) for exposure in (science, template)]
    reach = half + 1 + max(psf.shape[-1] for psf in psfs) // 2
    column, row = np.rint(x).astype(int), np.rint(y).astype(int)
    side = next_fast_len(2 * reach + 1, True)
    transforms = [rfft2(psf, (side, side)) for psf in psfs]

    def boxes(image, transform, k):
        windows = sliding_window_view(np.pad(image, reach), (2 * reach + 1,) * 2)[row, column]
        full = irfft2(rfft2(windows, (side, side)) * transform, (side, side))
        # position 0 of the box is that of the window plus half the PSF
        first = reach - half - 1 + k // 2
        return full[:, first : first + 2 * half + 3, first : first + 2 * half + 3]

    n_box = boxes(science.image, transforms[1], psfs[1].shape[-1])
    r_box = boxes(template.image, transforms[0], psfs[0].shape[-1])
    inner = np.s_[:, 1:-1, 1:-1]
    columns = [
        r_box[inner],
        (r_box[:, 1:-1, 2:] - r_box[:, 1:-1, :-2]) / 2,
        (r_box[:, 2:, 1:-1] - r_box[:, :-2, 1:-1]) / 2,
    ]
    design = np.stack([*columns, np.ones_like(columns[0])], axis=1).reshape(len(x), 4, -1)
    target = n_box[inner].reshape(len(x), -1)
    v_n, v_r = (exposure.variance[row, column] for exposure in (science, template))
    gram = design @ design.transpose(0, 2, 1)
    # the noise of the template is in the design; its expectation is taken out
    gram[:, 0, 0] -= v_r * (psfs[0] ** 2).sum((1, 2)) * target.shape[1]
    with data_may_fail("comparison of the stars of the two images"):
        weights = np.linalg.solve(gram, design)[:, :3]
    ratio, dx, dy = np.einsum("nip,np->in", weights, target)
    # noise of N (x) P_r - ratio R (x) P_n in the weighted sums
    spectra = np.abs(rfft2(weights.reshape(len(x), 3, 2 * half + 1, -1), (side, side))) ** 2
    power = (
        v_n[:, None, None] * np.abs(transforms[1]) ** 2 + (ratio**2 * v_r)[:, None, None] * np.abs(transforms[0]) ** 2
    )
    halves = np.full(side // 2 + 1, 2.0)
    halves[0] = 1
    if side % 2 == 0:
        halves[-1] = 1
    errors = np.sqrt(np.einsum("nivu,nvu,u->in", spectra, power, halves)) / side
    # N(x) = ratio R(x - shift): the coefficient of the gradient is -ratio times the shift
    return np.stack([ratio, -dx / ratio, -dy / ratio]), np.stack([errors[0], *(errors[1:] / np.abs(ratio))])


def _rms(values: np.ndarray, errors: np.ndarray) -> float:
    """Rms about zero of the half of the values that is known best, beyond their errors; outliers are not felt."""
    best = errors <= np.median(errors)
    square = np.median(values[best]) ** 2 + robust_width(values[best]) ** 2 - np.median(errors[best] ** 2)
    return float(np.sqrt(max(square, 0)))
