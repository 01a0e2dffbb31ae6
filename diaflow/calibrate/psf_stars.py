"""Choice of the stars that the PSF model rests on.

In comes a background-subtracted exposure, out go positions of bright, isolated, unflagged point sources.  The
seeing need not be known: among bright sources stars share one size and galaxies do not, so the densest clump in
log(size) tells it, about which `stellar_locus` finds the stars.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import sep
from scipy.spatial import cKDTree

from diaflow import polynomials
from diaflow.calibrate import stellar_locus
from diaflow.errors import BadData, Kind, data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.measure.extraction import extract
from diaflow.measure.moments import source_moments
from diaflow.psf.stampfield import FWHM_PER_SIGMA
from diaflow.statistics import effective_number, robust_width

DETECT_SIGMA = 3.0  # per pixel; far below the stars, so that their neighbours are known
DETECT_PIXELS = 5  # least pixels of a source, chosen: noise and hot pixels have fewer
SNR_LEVELS = (50.0, 20.0, 10.0)  # fainter stars are taken only where brighter ones are too few: chosen
ENOUGH = 40  # stars; with fewer the next level is tried too: chosen, a quadratic PSF takes 30
MINIMUM = 3  # stars
N_SEEING = 1000  # brightest sources that tell the seeing, chosen
FIRST_SIGMA, SEEING_ROUNDS = (
    1.5,
    3,
)  # of the window that measures sizes [pixel], then that of the stars: chosen
CLUMP_WIDTH = 0.1  # width of the window that finds the clump, in ln(size): chosen
APERTURE_FWHM = 0.7  # radius of the aperture of the S/N, in FWHM: about where that of a Gaussian is best
CORE_FWHM, MARGIN_FWHM, MIN_MARGIN = 1.5, 2.0, 8.0  # no flaws within, no edge within [FWHM], nor within [pixel]: chosen
CLOSE_FWHM = 2.0  # a neighbour within this many FWHM always counts, chosen
SHAPE_FLOOR = 0.01  # least relative error of the size of a star, chosen: bright stars must not decide alone
SHAPE_CLIP = 4.0  # errors from the polynomial at which the shape of a star is that of a blend, chosen
NEIGHBOUR_FLUX = 0.05  # flux of a neighbour, relative to the star, that spoils it
CELLS, PER_CELL = 8, 6  # the detector is cut in cells so that no corner decides the fit; 384 stars are plenty
# Smallest window of sizes and centres [pixel]: in a smaller one they depend on where in its pixel a star is, by over
# 3 % for stars of 1.5 pixels FWHM.
LEAST_WINDOW = 1.2
MIN_SIGMA = 0.4  # sharper sources are cosmic rays or hot pixels [pixel]


@dataclass(frozen=True)
class Stars:
    """Point sources.

    Attributes
    ----------
    x, y : (n,) arrays
        Positions [pixel].
    snr : (n,) array
        Signal to noise.
    fwhm : float
        Typical FWHM [pixel].
    """

    x: np.ndarray
    y: np.ndarray
    snr: np.ndarray
    fwhm: float


def select(exposure: Exposure, size: int) -> Stars:
    """Bright, isolated point sources of a background-subtracted exposure.

    Parameters
    ----------
    exposure : Exposure
        Its variance and mask are used; any unit.
    size : int
        Side of the PSF stamps [pixel]: neighbours within half of it count.

    Returns
    -------
    Stars

    Raises
    ------
    BadData
        When fewer than three stars are found, or the sizes of many scatter like those of galaxies.
    """
    detected = bright_sources(exposure)
    if len(detected) < MINIMUM:
        raise BadData(f"only {len(detected)} sources detected: no stars for the PSF", Kind.PSF)
    x, y, sigma = _centres_and_seeing(exposure.image, detected)
    fwhm = FWHM_PER_SIGMA * sigma
    flux, err, _ = photometry.aperture_flux(exposure.image, exposure.variance, x, y, APERTURE_FWHM * fwhm)
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = np.where(err > 0, flux / err, 0)
    clean = _clean(exposure, x, y, fwhm)
    in_stamp = _isolated(x, y, detected["flux"], max(size / 2, CLOSE_FWHM * fwhm))
    in_core = _isolated(x, y, detected["flux"], CLOSE_FWHM * fwhm)
    size_log = _log_size(exposure.image, x, y, max(sigma, LEAST_WINDOW))
    best, found, refused = np.zeros(0, int), None, 0
    for level, isolated in product(SNR_LEVELS, (in_stamp, in_core)):
        candidates = np.flatnonzero(clean & isolated & (snr > level) & np.isfinite(size_log))
        if len(candidates) < MINIMUM:
            continue
        locus = stellar_locus.find(*(values[candidates] for values in (size_log, snr, x, y)), exposure.shape)
        # Where bright sources have no common size, faint ones cannot hide in their noise that they have none.
        if not locus.exists or (refused and not locus.shown):
            refused = max(refused, len(candidates))
        elif found is None or (locus.shown, locus.star.sum()) > (found.shown, len(best)):
            best, found = candidates[locus.star], locus
        if len(best) >= ENOUGH:
            break
    if refused and not (found and found.shown):
        raise BadData(f"no common size among {refused} bright sources: no stars for the PSF", Kind.PSF)
    if len(best) < MINIMUM:
        raise BadData(f"{len(best)} PSF stars < {MINIMUM}", Kind.PSF)
    best = best[_spread(x[best], y[best], snr[best], exposure.shape)]
    return Stars(x[best], y[best], snr[best], FWHM_PER_SIGMA * float(np.exp(np.median(size_log[best]))))


def varying_order(exposure: Exposure, stars: Stars, highest: int) -> int:
    """The order in position that the shapes of stars show: noise that is taken for variation is in every flux.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted.
    stars : Stars
    highest : int
        The order that is not exceeded.

    Returns
    -------
    int
        At least one, where there are stars for that: no PSF is the same all over a detector.

    Notes
    -----
    Size and both ellipticities, the relative errors of which are about 2 over S/N for a Gaussian, vary with the orders
    that `polynomials.likeliest` prefers; the highest of these is that of the PSF, for each of them is in its fluxes or
    its residuals.  What they scatter about the highest order that is tried is their noise.
    """
    xx, yy, xy = source_moments(exposure.image, stars.x, stars.y, max(stars.fwhm / FWHM_PER_SIGMA, LEAST_WINDOW))
    size = xx + yy
    known = np.isfinite(size)
    shapes = np.array([np.log(size), (xx - yy) / size, 2 * xy / size])[:, known]
    error = np.hypot(2 / stars.snr[known], SHAPE_FLOOR)
    highest = polynomials.affordable(highest, effective_number(error), stellar_locus.STARS_PER_TERM)
    if highest <= 1:
        return highest
    u, v = polynomials.centred(stars.x[known], stars.y[known], exposure.shape)
    errors = np.broadcast_to(error, shapes.shape)
    terms, _ = polynomials.likeliest(u, v, shapes, errors, (highest,), SHAPE_CLIP)
    design = polynomials.terms(u, v, highest)
    freedom = 1 - len(design) / len(error)
    errors = errors * robust_width((shapes - terms @ design) / errors) / np.sqrt(freedom)
    orders = range(1, highest + 1)
    fits = (polynomials.likeliest(u, v, *shape, orders, SHAPE_CLIP)[0] for shape in zip(shapes, errors))
    return max(map(polynomials.order_of, fits))


def bright_sources(exposure: Exposure) -> np.ndarray:
    """Sources standing out of the unfiltered image.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted.

    Returns
    -------
    structured array
        As `extract` gives them.

    Raises
    ------
    BadData
        As `extract`.
    """
    unusable = exposure.flagged("BAD", "NO_DATA", "CR")
    return extract(exposure.image, DETECT_SIGMA, var=exposure.variance, mask=unusable, minarea=DETECT_PIXELS)


def _centres_and_seeing(image: np.ndarray, detected: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Windowed centroids of the sources, and the sigma [pixel] of the densest clump of sizes."""
    bright = np.argsort(-detected["flux"], kind="stable")[:N_SEEING]
    sigma = FIRST_SIGMA
    for _ in range(SEEING_ROUNDS):
        window = max(sigma, LEAST_WINDOW)
        x, y = _windowed_centres(image, detected[bright], window)
        size_log = _log_size(image, x, y, window)
        finite = np.isfinite(size_log)
        if not finite.any():
            raise BadData("no source has a size: no stars for the PSF", Kind.PSF)
        sigma = float(np.exp(stellar_locus.clump(size_log[finite], np.ones(finite.sum()), CLUMP_WIDTH)))
    return *_windowed_centres(image, detected, max(sigma, LEAST_WINDOW)), sigma


def _windowed_centres(image: np.ndarray, detected: np.ndarray, sigma: float) -> tuple[np.ndarray, np.ndarray]:
    """Centroids in a Gaussian window, with the exact overlap of the pixels (`subpix` 0)."""
    with data_may_fail("centroiding of the sources"):
        x, y, _ = sep.winpos(image, detected["x"], detected["y"], sigma, subpix=0)
    return x, y


def _log_size(image: np.ndarray, x: np.ndarray, y: np.ndarray, sigma: float) -> np.ndarray:
    """ln of the radius det(Q)**(1/4) [pixel], NaN for what is sharper than any star."""
    ixx, iyy, ixy = source_moments(image, x, y, sigma)
    with np.errstate(invalid="ignore", divide="ignore"):
        size_log = 0.25 * np.log(ixx * iyy - ixy**2)
    return np.where(size_log > np.log(MIN_SIGMA), size_log, np.nan)


def _clean(exposure: Exposure, x: np.ndarray, y: np.ndarray, fwhm: float) -> np.ndarray:
    """No flawed pixel in the core, and well inside the image."""
    ny, nx = exposure.shape
    margin = max(MARGIN_FWHM * fwhm, MIN_MARGIN)
    inside = (x > margin) & (x < nx - 1 - margin) & (y > margin) & (y < ny - 1 - margin)
    flaws = photometry.planes_within(exposure.mask, x, y, CORE_FWHM * fwhm)
    return inside & ((flaws & bits("SAT", "BAD", "CR", "INTRP", "NO_DATA")) == 0)


def _isolated(x: np.ndarray, y: np.ndarray, flux: np.ndarray, radius: float) -> np.ndarray:
    """No neighbour within the radius that has a sizeable fraction of the source's flux."""
    with data_may_fail("search for neighbours of the sources"):
        first, second = cKDTree(np.column_stack([x, y])).query_pairs(radius, output_type="ndarray").T
    spoiled = np.zeros(len(x), bool)
    spoiled[first[flux[second] > NEIGHBOUR_FLUX * flux[first]]] = True
    spoiled[second[flux[first] > NEIGHBOUR_FLUX * flux[second]]] = True
    return ~spoiled


def _spread(x: np.ndarray, y: np.ndarray, snr: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Indices of the brightest stars of each cell, in order of position in the input."""
    cell = (y * CELLS / shape[0]).astype(int) * CELLS + (x * CELLS / shape[1]).astype(int)
    order = np.lexsort((-snr, cell))
    starts = np.searchsorted(cell[order], cell[order], "left")
    return np.sort(order[np.arange(len(order)) - starts < PER_CELL])
