"""Forced photometry: the PSF flux at given sky positions, whether or not anything was detected there.

Positions of DIAObjects become pixels by the WCS of the difference image and are not fitted.  Every position on the
image gives one row; where there is no usable pixel the fluxes are NaN and flagged, never 0.
"""

import numpy as np
from astropy.wcs import WCS

from diaflow import ids as identifiers
from diaflow import measure, tables
from diaflow.exposure import Exposure, bits

# Planes that make a measurement suspect when they are in its central 3 x 3.
UNRELIABLE = (*measure.UNUSABLE, "INTRP", "SUSPECT", "STREAK")


def photometry(difference: Exposure, science: Exposure, ra: np.ndarray, dec: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """PSF fluxes on a difference image and its calexp at fixed positions.

    Parameters
    ----------
    difference, science : Exposure
        Difference image and calexp, on the same pixels.
    ra, dec : (n,) arrays
        Positions, ICRS [deg].
    ids : (n,) int64 array
        DIAObject at each position.

    Returns
    -------
    table "dia_forced_source"
        One row for each position on the pixels of the image, in the given order.
    """
    ra, dec, ids = np.asarray(ra, float), np.asarray(dec, float), np.asarray(ids, np.int64)
    inside, x, y = positions_inside(difference.wcs, difference.shape, ra, dec)
    table = tables.empty("dia_forced_source", len(x))
    metadata = difference.metadata
    table["diaForcedSourceId"] = identifiers.source_ids(metadata["visit"], metadata["detector"], len(x))
    table["diaObjectId"], table["ra"], table["dec"], table["x"], table["y"] = ids[inside], ra[inside], dec[inside], x, y
    table["visit"], table["detector"], table["band"] = metadata["visit"], metadata["detector"], metadata["band"]
    table["midpointMjdTai"] = metadata["mjd"]
    table["visitInTemplate"] = metadata.get("visit_in_template", False)
    for column, exposure in (("psfFlux", difference), ("scienceFlux", science)):
        fit = measure.exposure_flux(exposure, x, y)
        table[column], table[f"{column}Err"] = fit.flux, fit.err
    table["psfFlux_flag"] = ~np.isfinite(table["psfFlux"])
    centre = measure.planes_within(difference.mask, x, y, measure.CENTRE_RADIUS)
    table["pixelFlags"] = (centre & bits(*UNRELIABLE)) != 0
    return table


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
    on_pixels = measure.is_inside(shape, x, y)
    inside = np.zeros(len(ra), bool)
    inside[rows[on_pixels]] = True
    return inside, x[on_pixels], y[on_pixels]


def _unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
