"""The WCS of images: read quietly, checked for what diaflow understands, and asked where things are."""

import warnings

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from diaflow.errors import BadData, Kind
from diaflow.sky import wcs_cards
from diaflow.sky.sphere import unit_vectors
from diaflow.units import ARCSEC

LARGEST_PIXEL = 1000.0  # side, longer than those of any camera [arcsec]
LEAST_WIDTH = (
    0.1  # square root of the area of a pixel over its longer side; wcslib puts 1 deg where a matrix has zeros only
)

UNREAD = "-TNX"  # projection whose distortion, in cards WAT, astropy passes over

# How far from an image its distortion is still inverted: pixels, and a part of its longer side; and how well [pixel].
MARGIN, MARGIN_FRACTION, INVERSION_TOLERANCE = 100, 0.25, 1e-5

# Those of wcslib are ValueErrors; the others come from impossible cards.
_WCS_ERRORS = (ValueError, TypeError, KeyError, fits.VerifyError)


def read_wcs(header: fits.Header) -> WCS:
    """The WCS of a header, silent about keywords that astropy repairs.

    Parameters
    ----------
    header : fits.Header

    Returns
    -------
    astropy.wcs.WCS

    Raises
    ------
    ValueError, TypeError, KeyError, fits.VerifyError
        When astropy or wcslib cannot make one of its cards.
    """
    if str(header.get("CTYPE1")).endswith("-TPV"):
        header = header.copy()
        for key in ("PV1_1", "PV2_1"):  # 1 where the card is missing by the convention, 0 by wcslib
            header.setdefault(key, 1.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)


def header_wcs(header: fits.Header, exact: bool = False) -> WCS:
    """The WCS of the first two axes of an image header, which must be right ascension and declination, equinox 2000.

    Parameters
    ----------
    header : fits.Header
    exact : bool
        Whether it must be all that the header tells: astropy passes over the distortion of some projections.

    Returns
    -------
    astropy.wcs.WCS

    Raises
    ------
    BadData
        When there is no such WCS; the message says what is there.
    """
    cards = wcs_cards.celestial(header)
    try:
        wcs = read_wcs(cards)
        celestial = wcs.has_celestial
    except _WCS_ERRORS as error:
        raise BadData(f"unusable WCS of type {header.get('CTYPE1')}: {_last_line(error)}", Kind.WCS) from error
    axes = tuple(wcs.wcs.ctype)
    if not celestial:
        raise BadData(
            f"no celestial WCS in the header (CTYPE {', '.join(axis or 'missing' for axis in axes)})", Kind.WCS
        )
    if not (axes[0].startswith("RA-") and axes[1].startswith("DEC-")):
        raise BadData(f"the WCS must have RA and DEC as its axes, in this order (CTYPE {', '.join(axes)})", Kind.WCS)
    if exact and header["CTYPE1"].endswith(UNREAD):
        raise BadData(
            f"the distortion of a WCS of type {header['CTYPE1']} cannot be read, so it cannot be trusted", Kind.WCS
        )
    return wcs


def image_corners(wcs: WCS, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The corners of an image at its pixel edges: lower left, lower right, upper right, upper left.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)

    Returns
    -------
    ra, dec : (4,) arrays [deg]

    Raises
    ------
    BadData
        When the WCS does not give a position there.
    """
    ny, nx = shape
    x, y = np.array([0, nx, nx, 0]) - 0.5, np.array([0, 0, ny, ny]) - 0.5
    return _sky(wcs, x, y)


def image_centre(wcs: WCS, shape: tuple[int, int]) -> tuple[float, float]:
    """The middle of an image.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)

    Returns
    -------
    ra, dec : float
        [deg]

    Raises
    ------
    BadData
        When the WCS does not give a position there.
    """
    ra, dec = _sky(wcs, np.array([(shape[1] - 1) / 2]), np.array([(shape[0] - 1) / 2]))
    return float(ra[0]), float(dec[0])


def central_pixel_scale(wcs: WCS, shape: tuple[int, int]) -> float:
    """Square root of the pixel area at the centre of an image, distortion included.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)

    Returns
    -------
    float
        [arcsec]

    Raises
    ------
    BadData
        When the WCS does not give a position there, or the pixel has no area, or is larger or longer than any camera's.
    """
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    ra, dec = _sky(wcs, x + np.array([-0.5, 0.5, 0.0, 0.0]), y + np.array([0.0, 0.0, -0.5, 0.5]))
    v = unit_vectors(ra, dec)
    sides = np.linalg.norm([v[1] - v[0], v[3] - v[2]], axis=1) / ARCSEC
    scale = float(np.sqrt(np.linalg.norm(np.cross(v[1] - v[0], v[3] - v[2]))) / ARCSEC)
    if not (sides.max() < LARGEST_PIXEL and scale > LEAST_WIDTH * sides.max()):
        raise BadData(
            f"the WCS of type {wcs.wcs.ctype[0]} has pixels of {sides[0]:.3g} x {sides[1]:.3g} arcsec "
            f"and {scale**2:.3g} arcsec**2",
            Kind.WCS,
        )
    return scale


def image_circle(wcs: WCS, shape: tuple[int, int]) -> tuple[np.ndarray, float]:
    """The circle around an image.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)

    Returns
    -------
    centre : (3,) array
        Unit vector.
    radius : float
        Chord from the centre to the farthest corner, on the unit sphere.
    """
    ny, nx = shape
    x = [(nx - 1) / 2, -0.5, nx - 0.5, -0.5, nx - 0.5]
    y = [(ny - 1) / 2, -0.5, -0.5, ny - 0.5, ny - 0.5]
    directions = unit_vectors(*wcs.all_pix2world(x, y, 0))
    return directions[0], float(np.linalg.norm(directions[1:] - directions[0], axis=1).max())


def _sky(wcs: WCS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        ra, dec = wcs.all_pix2world(x, y, 0)
    except _WCS_ERRORS as error:
        raise BadData(f"unusable WCS of type {wcs.wcs.ctype[0]}: {_last_line(error)}", Kind.WCS) from error
    if not np.all(np.isfinite(ra) & np.isfinite(dec)):
        raise BadData(f"the WCS of type {wcs.wcs.ctype[0]} has no position on the sky for parts of the image", Kind.WCS)
    return ra % 360.0, dec


def _last_line(error: Exception) -> str:
    """What wcslib says last is the cause; before it come line numbers of its source."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def sky_to_pixel(
    wcs: WCS, ra: np.ndarray, dec: np.ndarray, box: tuple[float, float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions in an image: exact in and near its box, without distortion far from it.

    The inverse of a distortion need not converge far from the pixels for which it was made.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    ra, dec : arrays of one shape
        Sky positions [deg].
    box : (x0, y0, x1, y1)
        Where the image has pixels.

    Returns
    -------
    x, y : arrays of that shape
        NaN where the projection does not reach.
    """
    shape = np.shape(ra)
    ra, dec = np.ravel(ra), np.ravel(dec)
    x, y = wcs.wcs_world2pix(ra, dec, 0)
    if wcs.has_distortion:
        x0, y0, x1, y1 = box
        margin = MARGIN + MARGIN_FRACTION * max(x1 - x0, y1 - y0)
        near = (x > x0 - margin) & (x < x1 + margin) & (y > y0 - margin) & (y < y1 + margin)
        if near.any():
            x[near], y[near] = wcs.all_world2pix(ra[near], dec[near], 0, tolerance=INVERSION_TOLERANCE, quiet=True)
    return x.reshape(shape), y.reshape(shape)
