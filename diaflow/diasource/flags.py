"""Which mask planes touch a DIASource, and whether it is reliable."""

import numpy as np

from diaflow.detect.footprints import Footprints
from diaflow.image.planes import bits, in_planes
from diaflow.measure import photometry

# A source is unreliable with the first planes in its footprint, since the light there may be that of a saturated star,
# with any of the second in its central 3 x 3, or with too much of its weight lost to the third.
UNRELIABLE_FOOTPRINT = ("SAT", "SAT_TEMPLATE")
UNRELIABLE_CENTRE = ("BAD", "CR", "INTRP", "SAT", "SAT_TEMPLATE", "NO_DATA", "EDGE", "SUSPECT", "STREAK")
LOST = ("NO_DATA", "EDGE")
# Largest share w of sum(P**2) that a fit may do without: the error that the PSF model has there moves the flux by
# w / (1 - w) of itself, and flux and position are no longer independent.  Where an edge cuts off 0.2 of a Gaussian
# their correlation is 0.42, and a flux at a fitted position has an error 10 % above the tabulated one.
MAX_LOST = 0.2

# Column of each plane after "pixelFlags_", and those that have a second one for the central 3 x 3.
PLANES = {
    "bad": "BAD",
    "cr": "CR",
    "edge": "EDGE",
    "nodata": "NO_DATA",
    "interpolated": "INTRP",
    "saturated": "SAT",
    "saturatedTemplate": "SAT_TEMPLATE",
    "highVariance": "HIGH_VARIANCE",
    "suspect": "SUSPECT",
    "streak": "STREAK",
    "sensor_edge": "SENSOR_EDGE",
    "inexact_psf": "INEXACT_PSF",
}
CENTRE_PLANES = (
    "cr",
    "nodata",
    "interpolated",
    "saturated",
    "saturatedTemplate",
    "suspect",
    "streak",
    "sensor_edge",
    "inexact_psf",
)


def set_columns(
    table: np.ndarray, mask: np.ndarray, science_mask: np.ndarray, found: Footprints, stamp: np.ndarray
) -> None:
    """Set the flags of pixels in the footprint and in the central 3 x 3 of the position.

    Parameters
    ----------
    table : (n,) table "dia_source"
        With positions, PSF fluxes and `sharp`; its columns pixelFlags are set in place.
    mask, science_mask : (ny, nx) int32 arrays
        Of the difference, and of the calexp.
    found : Footprints
        Of the n sources.
    stamp : (k, k) array
        PSF, k odd.
    """
    centre = photometry.planes_within(mask, table["x"], table["y"], photometry.CENTRE_RADIUS)
    footprint = found.planes | centre
    for name, plane in PLANES.items():
        table[f"pixelFlags_{name}"] = (footprint & bits(plane)) != 0
        if name in CENTRE_PLANES:
            table[f"pixelFlags_{name}Center"] = (centre & bits(plane)) != 0
    # what a template of a single input may hold that no other has is negative on the difference
    of_science = photometry.planes_within(science_mask, table["x"], table["y"], photometry.CENTRE_RADIUS)
    harmless = np.where(table["psfFlux"] > 0, ~of_science & bits("SUSPECT"), 0)
    flawed = (footprint & bits(*UNRELIABLE_FOOTPRINT)) | (centre & bits(*UNRELIABLE_CENTRE) & ~harmless)
    table["pixelFlags"] = (flawed != 0) | table["sharp"]
    # where nothing of the footprint is lost, nearly all of the weight is there
    rows = np.flatnonzero((footprint & bits(*LOST)) != 0)
    lost = _lost_weight(mask, table["x"][rows], table["y"][rows], stamp)
    table["pixelFlags"][rows] |= lost > MAX_LOST


def _lost_weight(mask: np.ndarray, x: np.ndarray, y: np.ndarray, stamp: np.ndarray) -> np.ndarray:
    """Share (n,) of sum(P**2) on pixels that are lost or off the image."""
    column, row = np.rint([x, y]).astype(int)
    there = photometry.cutouts(np.ones(mask.shape, bool), column, row, len(stamp) // 2)
    planes = photometry.cutouts(mask, column, row, len(stamp) // 2)
    left = there & ~in_planes(planes, *LOST)
    return 1 - (left * stamp**2).sum((1, 2)) / (stamp**2).sum()
