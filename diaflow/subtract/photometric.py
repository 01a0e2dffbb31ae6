"""Flux ratio of two images from their common stars, without a matching kernel.

Each image is convolved with the PSF of the other, so that a star, its neighbours and the galaxy beneath look the same
in both; the slope of one against the other is the flux ratio.  Where it changes over the field, many stars say so
together, and a polynomial follows them; that a single star differs makes it a variable one.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft2, next_fast_len, rfft2

from diaflow import polynomials
from diaflow.errors import BadData, Kind, data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.measure import photometry
from diaflow.psf.stampfield import FWHM_PER_SIGMA, moments_sigma
from diaflow.psfmatch.solution import MIN_STARS, STARS_PER_TERM
from diaflow.statistics import agreeing, robust_width

CLIP = 3.0  # errors from the polynomial at which a star's flux ratio is not believed
# Before there is a polynomial: change of the flux ratio over the field that is no reason not to believe a star.
FIELD_CHANGE = 0.05
MAX_ORDER = 3  # of the flux ratio in position, where the stars choose it: chosen
MAX_STARS = 1000  # brightest that are compared: they tell the flux ratio to 0.03 %
# By this part of their fluxes stars may differ beyond noise, whatever their S/N: colours, flat field, PSF models.  The
# least is chosen: on simulated skies stars of S/N 150 to 300 scatter by their noise.
SCATTERS = 0.005 * 2.0 ** np.arange(5)
MIN_SNR = 10.0  # of the stars that tell what is left of the template
REACH = 2  # around them without unusable pixels [pixel]
MAX_SHIFT = 1.0  # from their places on the science image [radius of the PSF]
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
    used : (n,) bool array
        Stars that the ratio rests on.
    """

    terms: np.ndarray
    order: int
    scatter: float
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
        With their PSFs and variance planes of the noise at low frequencies.
    x, y : (n,) arrays
        The best first, of which the first thousand are used.
    bad : (ny, nx) bool array
        Pixels that may not lie in the box that is compared.
    order : int or None
        Degree of the flux ratio as a polynomial in position, lowered when there are too few stars; None for the one
        that is most probable (Schwarz 1978).

    Returns
    -------
    PhotometricMatch

    Raises
    ------
    BadData
        When fewer than three stars can be used, or one of them has no structure.
    """
    psfs = [exposure.psf(x, y) for exposure in (science, template)]
    usable = np.isfinite(psfs[0]).all((1, 2)) & np.isfinite(psfs[1]).all((1, 2))
    sigma = max(moments_sigma(psf[usable].mean(0)) for psf in psfs) if usable.any() else 0
    half = max(MIN_HALF, round(HALF * FWHM_PER_SIGMA * sigma))
    usable &= _clean(x, y, bad, half)
    usable &= np.cumsum(usable) <= MAX_STARS
    if usable.sum() < MIN_STARS:
        n_usable = int(usable.sum())
        raise BadData(
            f"{n_usable} kernel stars, at least {MIN_STARS} needed", Kind.KERNEL, found=n_usable, needed=MIN_STARS
        )
    psfs = [psf[usable] for psf in psfs]
    ratio, error = _compare(science, template, psfs, x[usable], y[usable], half)
    terms, kept = _flux_ratio(ratio, error, *polynomials.spanned(x[usable], y[usable], science.shape), order)
    used = np.zeros(len(x), bool)
    used[usable] = kept
    return PhotometricMatch(terms, polynomials.order_of(terms), float(robust_width(ratio[kept])), used)


def left_over(difference: Exposure, matched_template: Exposure, x: np.ndarray, y: np.ndarray) -> float:
    """Part of the template that a difference still has, or has lost, as PSF fluxes of constant stars feel it.

    `match` compares images, in boxes that hold stars with their wings; forced photometry weighs with the PSF of the
    difference.  Where a PSF model is not exact, these differ by one part of the flux for all stars, and fluxes are what
    a difference is for.  They are taken at the places that stars have in the template: as those of DIAObjects, these
    are a mean of several images, so that stars that are displaced in the science image lose there what they lose in
    forced photometry.

    Parameters
    ----------
    difference, matched_template : Exposure
        The template as it was subtracted.
    x, y : (n,) arrays
        Positions of stars [pixel]; those on unusable pixels are left out.

    Returns
    -------
    float
        In units of the matched template; 0 where fewer than three stars tell it.
    """
    usable = photometry.is_usable(difference, x, y, REACH)
    template = replace(difference, image=matched_template.image, flux_error=None)
    x, y, _, _, failed = photometry.psf_centroid(
        template.image, template.variance, template.psf, x[usable], y[usable],
        max_shift=MAX_SHIFT * moments_sigma(difference.psf.centre()),
    )  # fmt: skip
    left, star = (photometry.exposure_flux(exposure, x[~failed], y[~failed]) for exposure in (difference, template))
    bright = star.flux > MIN_SNR * left.err
    if bright.sum() < MIN_STARS:
        return 0.0
    part, error = (quantity[bright] / star.flux[bright] for quantity in (left.flux, left.err))
    terms, _ = polynomials.fit_most(np.ones((1, len(part))), part, error, SCATTERS)
    return float(terms[0])


def _flux_ratio(
    ratio: np.ndarray, error: np.ndarray, u: np.ndarray, v: np.ndarray, order: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of the polynomial through the ratios of stars, and the stars that it rests on."""
    middle = abs(np.median(ratio))
    agree = agreeing(ratio, np.hypot(error, FIELD_CHANGE * middle), np.ones(len(ratio), bool), CLIP)
    if agree.sum() < MIN_STARS:
        raise BadData(f"{agree.sum()} kernel stars agree on a flux ratio, at least {MIN_STARS} needed", Kind.KERNEL)
    ratio, error, u, v = ratio[agree], error[agree], u[agree], v[agree]
    highest = polynomials.affordable(MAX_ORDER if order is None else order, len(ratio), STARS_PER_TERM)
    best = None
    for degree in range(highest + 1) if order is None else (highest,):
        design = polynomials.terms(u, v, degree)
        terms, belongs = polynomials.fit_most(design, ratio, error, SCATTERS * middle)
        misfit = np.minimum(((ratio - terms @ design) / np.hypot(error, SCATTERS[0] * middle)) ** 2, CLIP**2).sum()
        # where stars scatter by more than their errors, these are too small by a factor that is not known either
        criterion = len(ratio) * np.log(max(misfit, len(ratio))) + len(terms) * np.log(len(ratio))
        if best is None or criterion < best[0]:
            best = criterion, terms, belongs > 0.5
    kept = agree.copy()
    kept[agree] = best[2]
    return best[1], kept


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
    science: Exposure, template: Exposure, psfs: list[np.ndarray], x: np.ndarray, y: np.ndarray, half: int
) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of the science box on [template, its gradients, 1]: flux ratios (n,) and their errors.

    The gradients take what a shift of a star leaves; `psfs` are the stamps (n, k, k) of both images.
    """
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
        weights = np.linalg.solve(gram, design)[:, 0]
    ratio = np.einsum("np,np->n", weights, target)
    # noise of N (x) P_r - ratio R (x) P_n in the weighted sum
    spectra = np.abs(rfft2(weights.reshape(len(x), 2 * half + 1, -1), (side, side))) ** 2
    power = (
        v_n[:, None, None] * np.abs(transforms[1]) ** 2 + (ratio**2 * v_r)[:, None, None] * np.abs(transforms[0]) ** 2
    )
    halves = np.full(side // 2 + 1, 2.0)
    halves[0] = 1
    if side % 2 == 0:
        halves[-1] = 1
    return ratio, np.sqrt(np.einsum("nvu,nvu,u->n", spectra, power, halves)) / side
