"""The sky around a source as a plane: steps to the east and to the north, and vectors of pixels on it."""

import numpy as np
from astropy.wcs import WCS

from diaflow.sky import sphere


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
    columns = [sphere.offsets(*wcs.all_pix2world(x + dx, y + dy, 0), ra, dec) for dx, dy in ((1, 0), (0, 1))]
    return 3600 * np.transpose(columns, (2, 1, 0))


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
