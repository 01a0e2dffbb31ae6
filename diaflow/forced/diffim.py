"""Forced photometry on a difference image, and on its calexp, at the positions of DIAObjects and the user's own."""

import numpy as np

from diaflow.forced import measure
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.measure import photometry
from diaflow.store import ids


def forced_photometry(
    difference: Exposure,
    science: Exposure,
    template_variance: np.ndarray,
    positions: Positions,
    science_variance_factor: float,
    template_noise: float,
) -> np.ndarray:
    """PSF fluxes on a difference image and its calexp at fixed positions.

    Parameters
    ----------
    difference, science : Exposure
        Difference image and calexp, on the same pixels.
    template_variance : (ny, nx) array
        Variance plane of the template as it was subtracted [nJy**2].
    positions : Positions
        With diaObjectId, positionId or both.
    science_variance_factor, template_noise : float
        By which the variance planes of calexp and template must be multiplied: to agree with the sky, and to be what
        the template adds to the noise of PSF fluxes on the difference.  The columns of "diffim_summary".

    Returns
    -------
    table "dia_forced_source"
        One row for each position on the pixels of the image, in the order of the positions.
    """
    table = measure.at_positions("dia_forced_source", difference, positions)
    metadata, x, y = difference.metadata, table["x"], table["y"]
    table["diaForcedSourceId"] = ids.source_ids(metadata["visit"], metadata["detector"], len(table))
    table["visit"], table["detector"], table["midpointMjdTai"] = (metadata[k] for k in ("visit", "detector", "mjd"))
    table["visitInTemplate"] = metadata.get("visit_in_template", False)
    good = ~difference.flagged(*photometry.UNUSABLE)
    of_template = photometry.psf_flux(difference.image, template_variance, good, difference.psf, x, y)
    table["psfFluxErrTemplate"] = of_template.err * np.sqrt(template_noise)
    on_science = photometry.exposure_flux(science, x, y)
    table["scienceFlux"] = on_science.flux
    table["scienceFluxErr"] = on_science.err * np.sqrt(science_variance_factor)
    return table
