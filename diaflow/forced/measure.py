"""The one measurement of forced photometry, whatever the positions and the image are.

Positions become pixels by the WCS of the image and are not fitted.  Every position on the image gives one row; where
there is no usable pixel the fluxes are NaN and flagged, never 0.
"""

import numpy as np

from diaflow.forced.positions import Positions, positions_inside
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.store import tables

# Planes that make a measurement suspect when they are in its central 3 x 3.
UNRELIABLE = (*photometry.UNUSABLE, "INTRP", "SUSPECT", "STREAK")
LIMIT = 5.0  # of psfFluxLimit5 [error of the flux]


def at_positions(name: str, exposure: Exposure, positions: Positions) -> np.ndarray:
    """PSF fluxes on an exposure at fixed positions.

    Parameters
    ----------
    name : str
        Of the table of the variant.
    exposure : Exposure
        With its PSF.
    positions : Positions
        The table has a column for each of their identifiers.

    Returns
    -------
    table `name`
        One row for each position on the pixels of the image, in the order of the positions; what only this variant has
        is empty.
    """
    inside, x, y = positions_inside(exposure.wcs, exposure.shape, positions)
    table = tables.empty(name, len(x))
    for column, ids in inside.ids.items():
        table[column] = ids
    table["ra"], table["dec"], table["x"], table["y"] = inside.ra, inside.dec, x, y
    table["band"] = exposure.metadata["band"]
    measured = photometry.exposure_flux(exposure, x, y)
    table["psfFlux"], table["psfFluxErr"] = measured.flux, measured.err
    table["psfFluxLimit5"] = LIMIT * measured.err
    table["psfFlux_flag"] = measured.flag
    centre = photometry.planes_within(exposure.mask, x, y, photometry.CENTRE_RADIUS)
    table["pixelFlags"] = (centre & bits(*UNRELIABLE)) != 0
    return table
