"""Moments of DIASources and of the PSF beneath them, and whether a source is a point."""

import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.measure.moments import extendedness, psf_moments, source_moments

REACH = 4.0  # of the weight of the moments, where the compiled loop cuts it [sigma of the PSF]


def set_columns(table: np.ndarray, difference: Exposure, side: np.ndarray, sigma: float) -> np.ndarray:
    """Set moments of sources and PSF, and extendedness, which dipoles have none of.

    Parameters
    ----------
    table : (n,) table "dia_source"
        With positions, S/N and isDipole; its columns of shapes are set in place.
    difference : Exposure
    side : (n,) array
        Side of a pixel at each source [arcsec].
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    (3, n) array
        xx, yy, xy beyond those of the PSF [pixel**2].
    """
    x, y = table["x"], table["y"]
    moments, of_psf = source_moments(difference.image, x, y, sigma), psf_moments(difference.psf, x, y, sigma)
    for names, values in ((("ixx", "iyy", "ixy"), moments), (("ixxPSF", "iyyPSF", "ixyPSF"), of_psf)):
        for name, value in zip(names, values):
            table[name] = value * side**2
    reach, (ny, nx) = np.ceil(REACH * sigma), difference.shape
    table["shape_flag"] = ~np.isfinite(moments).all(0)
    table["shape_flag_not_contained"] = np.minimum.reduce([x, y, nx - 1 - x, ny - 1 - y]) < reach
    extended = extendedness(moments, of_psf, np.abs(table["snr"]))
    table["extendedness"] = np.where(table["isDipole"], np.nan, extended)
    return moments - of_psf
