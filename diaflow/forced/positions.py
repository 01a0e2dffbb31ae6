"""Sky positions on an image: which of them lie on its pixels, and where."""

import numpy as np
from astropy.wcs import WCS

from diaflow.measure import photometry


def positions_inside(
    wcs: WCS, shape: tuple[int, int], ra: np.ndarray, dec: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which sky positions are on the pixels of an image, and where.

    The inverse of a distorted WCS means something near its image only, so positions beyond the circle about the
    image's corners are put aside first.

    Returns
    -------
    inside : (n,) bool array
    x, y : arrays, one value per position inside [pixel]
    """
    ny, nx = shape
    x_corner, y_corner = np.array([(-0.5, -0.5), (nx - 0.5, -0.5), (-0.5, ny - 0.5), (nx - 0.5, ny - 0.5)]).T
    centre = _unit_vectors(*wcs.all_pix2world((nx - 1) / 2, (ny - 1) / 2, 0))
    corners = _unit_vectors(*wcs.all_pix2world(x_corner, y_corner, 0))
    radius = 1.05 * np.linalg.norm(corners - centre, axis=1).max()
    near = np.linalg.norm(_unit_vectors(ra, dec) - centre, axis=1) <= radius
    rows = np.flatnonzero(near)
    x, y = wcs.all_world2pix(ra[rows], dec[rows], 0, quiet=True)
    on_pixels = photometry.is_inside(shape, x, y)
    inside = np.zeros(len(ra), bool)
    inside[rows[on_pixels]] = True
    return inside, x[on_pixels], y[on_pixels]


def _unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
