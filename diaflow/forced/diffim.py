"""Forced photometry on a difference image, and on its calexp, at the positions of DIAObjects.

Positions become pixels by the WCS of the difference image and are not fitted.  Every position on the image gives one
row; where there is no usable pixel the fluxes are NaN and flagged, never 0.
"""

import numpy as np

from diaflow.forced.positions import positions_inside
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.store import ids as identifiers
from diaflow.store import tables

# Planes that make a measurement suspect when they are in its central 3 x 3.
UNRELIABLE = (*photometry.UNUSABLE, "INTRP", "SUSPECT", "STREAK")


def forced_photometry(
    difference: Exposure,
    science: Exposure,
    ra: np.ndarray,
    dec: np.ndarray,
    ids: np.ndarray,
    science_variance_factor: float,
) -> np.ndarray:
    """PSF fluxes on a difference image and its calexp at fixed positions.

    Parameters
    ----------
    difference, science : Exposure
        Difference image and calexp, on the same pixels.
    ra, dec : (n,) arrays
        Positions, ICRS [deg].
    ids : (n,) int64 array
        DIAObject at each position.
    science_variance_factor : float
        By which the variance plane of the calexp must be multiplied to agree with its sky: the column of
        "diffim_summary".

    Returns
    -------
    table "dia_forced_source"
        One row for each position on the pixels of the image, in the order of the positions.
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
    on_difference, on_science = (photometry.exposure_flux(exposure, x, y) for exposure in (difference, science))
    table["psfFlux"], table["psfFluxErr"] = on_difference.flux, on_difference.err
    table["scienceFlux"] = on_science.flux
    table["scienceFluxErr"] = on_science.err * np.sqrt(science_variance_factor)
    table["psfFlux_flag"] = ~np.isfinite(table["psfFlux"])
    centre = photometry.planes_within(difference.mask, x, y, photometry.CENTRE_RADIUS)
    table["pixelFlags"] = (centre & bits(*UNRELIABLE)) != 0
    return table
