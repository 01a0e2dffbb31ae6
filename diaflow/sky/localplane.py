"""The sky around a point as a plane: gnomonic positions on it, steps to the east and north, vectors of pixels."""

import numpy as np
from astropy.wcs import WCS

from diaflow.sky import sphere
from diaflow.units import ARCSEC


def to_plane(ra: np.ndarray, dec: np.ndarray, crval: np.ndarray) -> np.ndarray:
    """Gnomonic projection about a point.

    Parameters
    ----------
    ra, dec : (n,) arrays
        [deg]
    crval : (ra, dec)
        The point [deg].

    Returns
    -------
    (n, 2) array
        Standard coordinates xi and eta [deg]; NaN far from the point.
    """
    return np.rad2deg(np.stack(sphere.gnomonic(ra, dec, *crval), -1))


def from_plane(plane: np.ndarray, crval: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Inverse of `to_plane`.

    Parameters
    ----------
    plane : (..., 2) array
        Standard coordinates [deg].
    crval : (ra, dec)
        The point of the projection [deg].

    Returns
    -------
    ra, dec : arrays
        [deg], right ascension in 0 ... 360.
    """
    return sphere.from_gnomonic(*np.deg2rad(np.moveaxis(plane, -1, 0)), *crval)


def steps(wcs: WCS, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Steps to the east and to the north for one pixel in x and in y.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    x, y : (n,) arrays
        Positions [pixel].

    Returns
    -------
    (n, 2, 2) array
        Rows are east and north, columns are x and y [arcsec].
    """
    ra, dec = wcs.all_pix2world(x, y, 0)
    columns = [sphere.gnomonic(*wcs.all_pix2world(x + dx, y + dy, 0), ra, dec) for dx, dy in ((1, 0), (0, 1))]
    return np.transpose(columns, (2, 1, 0)) / ARCSEC


def pixel_side(steps: np.ndarray) -> np.ndarray:
    """Square root of the area of a pixel.

    Parameters
    ----------
    steps : (n, 2, 2) array
        [arcsec]

    Returns
    -------
    (n,) array
        [arcsec]
    """
    return np.sqrt(np.abs(np.linalg.det(steps)))


def bearing(steps: np.ndarray, along: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Length and position angle of vectors of pixels.

    Parameters
    ----------
    steps : (n, 2, 2) array
        [arcsec]
    along : (2, n) array
        The vectors [pixel].

    Returns
    -------
    length : (n,) array
        [arcsec]
    angle : (n,) array
        East of north, in [0, 360) [deg].
    """
    east, north = np.einsum("nij,jn->in", steps, along)
    return np.hypot(east, north), np.degrees(np.arctan2(east, north)) % 360
