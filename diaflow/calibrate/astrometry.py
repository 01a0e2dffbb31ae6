"""Astrometric calibration: matched stars in, a WCS out.

A gnomonic projection with SIP distortion is fitted by linear least squares (Shupe et al. 2005, ASP 347, 491).
"""

import numpy as np
from astropy.wcs import WCS

from diaflow import polynomials
from diaflow.calibrate.chance import MIN_MATCHES
from diaflow.calibrate.tan_sip import tan_sip
from diaflow.errors import BadData, Kind, data_may_fail
from diaflow.sky.localplane import from_plane, to_plane
from diaflow.statistics import SIGMA_PER_MEDIAN_LENGTH, median_width

STARS_PER_TERM = 3  # a polynomial of fewer stars would follow their errors
LEAST_ERROR = 1e-3  # of any star [pixel], chosen
LEAST_SIGMA = 0.1  # stars of perfect positions must not clip each other
SETTLED = 0.02  # relative change of the errors of the stars below which the fit of a WCS ends
ROUNDS = 8  # at most, of every iteration here: chosen
NO_SHIFT = 1e-13  # of CRVAL [deg]: a double holds no less of right ascension


def fit_wcs(
    x: np.ndarray,
    y: np.ndarray,
    ra: np.ndarray,
    dec: np.ndarray,
    centre: tuple[float, float],
    pixel_scale: float,
    shape: tuple[int, int],
    sip_order: int,
    errors: np.ndarray | None = None,
    distortion: np.ndarray | None = None,
    *,
    n_sigma: float = 4.0,
) -> tuple[WCS, np.ndarray, float]:
    """Fit a TAN-SIP WCS to matched stars.

    Parameters
    ----------
    x, y : (n,) arrays
        Pixel positions.
    ra, dec : (n,) arrays
        Catalogue positions [deg].
    centre : (ra, dec)
        A first guess of where the centre of the detector is [deg], good to a degree.
    pixel_scale : float
        There, roughly [arcsec].
    shape : (ny, nx)
        Of the detector; CRPIX is its centre and CRVAL the sky there.
    sip_order : int
        Highest order of the distortion.  The order is lowered until there are three stars per polynomial term:
        9 stars for a plain TAN, 18, 30, 45 for order 2, 3, 4; fewer than 9 still give a TAN.
    errors : (n,) array, optional
        Standard errors of the positions in one coordinate [pixel]; equal by default.  A floor is added in quadrature,
        which the better half of the stars shows: errors of the catalogue and of the atmosphere are not known.
    distortion : (n_terms, 2) array, optional
        The known distortion of the detector (see `jointcal`); then only an affine map is fitted.
    n_sigma : float
        Stars with a residual beyond this many robust standard deviations (of stars of their error) are left out.

    Returns
    -------
    wcs : WCS
        RA---TAN-SIP with A, B and an approximate inverse AP, BP; RA---TAN for order 1.
    used : (n,) bool array
    scatter : float
        Robust standard deviation of the residuals of the used stars in one coordinate [arcsec], corrected for the
        number of terms.

    Raises
    ------
    BadData
        When fewer than 6 stars are left.
    """
    u, v = polynomials.centred(x, y, shape)
    errors = np.zeros(len(u)) if errors is None else np.asarray(errors, float)
    better = errors <= np.nanmedian(errors)
    root, crval = np.ones(len(u)), np.array(centre)
    used = usable = np.isfinite(u) & np.isfinite(v) & np.isfinite(ra) & np.isfinite(dec) & np.isfinite(errors)
    for _ in range(ROUNDS):
        order = _affordable_order(used.sum(), sip_order if distortion is None else 1)
        terms = polynomials.terms(u, v, order).T
        if distortion is not None:
            terms[:, 1:] += polynomials.terms(u, v, polynomials.order_of(distortion)).T @ distortion
        crval, coefficients = _fit_plane(terms[used], ra[used], dec[used], root[used], crval)
        residual = (to_plane(ra, dec, crval) - terms @ coefficients) * 3600
        length = np.hypot(*residual.T) / pixel_scale
        freedom = used.sum() / max(used.sum() - terms.shape[1], 1)
        spread = SIGMA_PER_MEDIAN_LENGTH * np.median(length[used & better]) * np.sqrt(freedom)
        floor = np.sqrt(max(spread**2 - np.median(errors[used & better]) ** 2, LEAST_ERROR**2))
        settled, root = np.allclose(root * np.hypot(errors, floor), 1, rtol=SETTLED), 1 / np.hypot(errors, floor)
        sigma = max(SIGMA_PER_MEDIAN_LENGTH * np.median((length * root)[used]), LEAST_SIGMA)
        agreeing = usable & (length * root <= n_sigma * sigma)
        if settled and np.array_equal(agreeing, used):
            break
        used = agreeing
    scatter = median_width(residual[used]) * np.sqrt(freedom)
    if distortion is not None:
        affine, coefficients = coefficients, distortion @ coefficients[1:]
        coefficients[:3] += affine
    return tan_sip(crval, coefficients, shape), used, float(scatter)


def _affordable_order(n_stars: int, highest: int) -> int:
    """Order of the polynomial that this many stars can carry; BadData where they carry none."""
    if n_stars < MIN_MATCHES:
        raise BadData(f"no WCS: only {n_stars} matched stars agree", Kind.MATCH)
    return polynomials.affordable(highest, n_stars, STARS_PER_TERM, lowest=1)


def _fit_plane(terms, ra, dec, root, crval) -> tuple[np.ndarray, np.ndarray]:
    """CRVAL and coefficients (n_terms, 2) [deg] of the polynomial whose constant vanishes there."""
    for _ in range(ROUNDS):
        plane = to_plane(ra, dec, crval)
        with data_may_fail("fit of the WCS"):
            coefficients = np.linalg.lstsq(terms * root[:, None], plane * root[:, None], rcond=None)[0]
        if np.abs(coefficients[0]).max() < NO_SHIFT:
            break
        crval = np.array(from_plane(coefficients[0], crval))
    return crval, coefficients
