"""Forced photometry on a calibrated exposure at the positions of objects and at the user's own.

Zero points rest on PSF fluxes, so that the PSF flux of a star is its total flux as it is; the flux in the calibration
aperture is brought to it by the aperture correction of the image.
"""

import numpy as np

from diaflow.forced import measure
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.measure import photometry
from diaflow.store import ids


def forced_photometry(
    exposure: Exposure, positions: Positions, aperture: float, aperture_correction: float
) -> np.ndarray:
    """PSF and aperture fluxes on a calexp at fixed positions.

    Parameters
    ----------
    exposure : Exposure
        Calibrated, with its PSF [nJy].
    positions : Positions
        With objectId, positionId or both.
    aperture : float
        Radius of the calibration aperture [pixel].
    aperture_correction : float
        Flux in it over the PSF flux of stars: the column of "visit_summary".

    Returns
    -------
    table "forced_source"
        One row for each position on the pixels of the image, in the order of the positions.
    """
    table = measure.at_positions("forced_source", exposure, positions)
    metadata, x, y = exposure.metadata, table["x"], table["y"]
    table["forcedSourceId"] = ids.source_ids(metadata["visit"], metadata["detector"], len(table))
    table["visit"], table["detector"], table["midpointMjdTai"] = (metadata[k] for k in ("visit", "detector", "mjd"))
    flux, err, truncated = photometry.aperture_flux(exposure.image, exposure.variance, x, y, aperture)
    correction = aperture_correction if np.isfinite(aperture_correction) else 1.0
    table["apFlux"], table["apFluxErr"] = flux / correction, err / correction
    table["apFlux_flag"] = truncated | ~np.isfinite(flux)
    return table
