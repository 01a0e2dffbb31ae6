"""Sky positions on an image: which of them lie on its pixels, and where."""

import numpy as np
from astropy.wcs import WCS

from diaflow.measure import photometry
from diaflow.sky.sphere import unit_vectors
from diaflow.sky.wcs import image_circle, sky_to_pixel

ROOM = 1.05  # around the circle about an image: what rounding and distortion may add to its radius


def positions_inside(
    wcs: WCS, shape: tuple[int, int], ra: np.ndarray, dec: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which sky positions are on the pixels of an image, and where.

    The inverse of a distorted WCS means something near its image only, so positions beyond the circle about the
    image's corners are put aside first.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)
    ra, dec : (n,) arrays
        Positions [deg].

    Returns
    -------
    inside : (n,) bool array
    x, y : arrays, one value per position inside [pixel]
    """
    ny, nx = shape
    centre, radius = image_circle(wcs, shape)
    near = np.linalg.norm(unit_vectors(ra, dec) - centre, axis=1) <= ROOM * radius
    rows = np.flatnonzero(near)
    x, y = sky_to_pixel(wcs, ra[rows], dec[rows], (0, 0, nx - 1, ny - 1))
    on_pixels = photometry.is_inside(shape, x, y)
    inside = np.zeros(len(ra), bool)
    inside[rows[on_pixels]] = True
    return inside, x[on_pixels], y[on_pixels]
