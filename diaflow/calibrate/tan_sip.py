"""A polynomial in the position on a detector as the TAN-SIP WCS that other programs read.

The polynomial gives positions on the tangent plane from `polynomials.centred` pixel positions.  Its linear part becomes
the CD matrix, the rest the SIP distortion A, B (Shupe et al. 2005, ASP 347, 491) with an approximate inverse AP, BP.
"""

import numpy as np
from astropy.wcs import WCS, Sip

from diaflow import polynomials
from diaflow.errors import data_may_fail

POINTS_PER_ORDER = 4  # along each axis of the grid that the inverse is fitted to, for each of its orders: chosen


def tan_sip(crval: np.ndarray, coefficients: np.ndarray, shape: tuple[int, int]) -> WCS:
    """The WCS of a polynomial.

    Parameters
    ----------
    crval : (ra, dec)
        Sky at the centre of the detector, where the polynomial is zero [deg].
    coefficients : (n_terms, 2) array
        Of the standard coordinates xi and eta [deg].
    shape : (ny, nx)
        Of the detector; CRPIX is its centre.

    Returns
    -------
    astropy.wcs.WCS
        RA---TAN-SIP, or RA---TAN for a polynomial of order 1.

    Raises
    ------
    BadData
        When the linear part is singular, or the distortion has no inverse.
    """
    ny, nx = shape
    order, scale = polynomials.order_of(coefficients), max(shape) / 2
    crpix = [(nx + 1) / 2, (ny + 1) / 2]
    wcs = WCS(naxis=2)
    suffix = "-SIP" if order > 1 else ""
    wcs.wcs.ctype = [f"RA---TAN{suffix}", f"DEC--TAN{suffix}"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.crpix, wcs.wcs.crval = crpix, crval
    cd = coefficients[1:3].T / scale
    wcs.wcs.cd = cd
    if order > 1:
        with data_may_fail("conversion of the distortion to pixels"):
            forward = np.linalg.solve(cd, coefficients.T)
        forward[:, :3] = 0
        # One order more, because the inverse of a polynomial is not one; over the detector it is then close.
        inverse = _inverse(forward, order, order + 1, scale, shape)
        wcs.sip = Sip(*_sip_matrices(forward, order, scale), *_sip_matrices(inverse, order + 1, scale), crpix)
    wcs.wcs.set()
    return wcs


def _inverse(forward, order, inverse_order, scale, shape) -> np.ndarray:
    """Polynomial (2, n_terms) that takes distorted offsets back, fitted on a grid over the detector [pixel]."""
    ny, nx = shape
    steps = np.linspace(-1, 1, POINTS_PER_ORDER * inverse_order)
    u, v = (grid.ravel() for grid in np.meshgrid(steps * nx / 2 / scale, steps * ny / 2 / scale))
    distortion = forward @ polynomials.terms(u, v, order)
    terms = polynomials.terms(u + distortion[0] / scale, v + distortion[1] / scale, inverse_order)
    with data_may_fail("inversion of the distortion"):
        return np.linalg.lstsq(terms.T, -distortion.T, rcond=None)[0].T


def _sip_matrices(coefficients, order, scale) -> list[np.ndarray]:
    """Matrices M[p, q] of the terms u**p v**q in pixels, from the order of `diaflow.polynomials.terms`."""
    matrices = np.zeros((2, order + 1, order + 1))
    for column, (p, q) in enumerate(polynomials.exponents(order)):
        matrices[:, p, q] = coefficients[:, column] / scale ** (p + q)
    return list(matrices)
