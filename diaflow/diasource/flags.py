"""Which mask planes touch a DIASource, and whether it is reliable."""

import numpy as np

from diaflow.detect.footprints import Footprints
from diaflow.image.planes import bits
from diaflow.measure import photometry

# A source is unreliable with the first planes in its footprint or with any of these in its central 3 x 3.
UNRELIABLE_FOOTPRINT = ("SAT", "SAT_TEMPLATE", "NO_DATA", "EDGE")
UNRELIABLE_CENTRE = ("BAD", "CR", "INTRP", "SAT", "SAT_TEMPLATE", "NO_DATA", "EDGE", "SUSPECT", "STREAK")

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


def set_columns(table: np.ndarray, mask: np.ndarray, found: Footprints) -> None:
    """Set the flags of pixels in the footprint and in the central 3 x 3 of the position.

    Parameters
    ----------
    table : (n,) table "dia_source"
        With positions; its columns pixelFlags are set in place.
    mask : (ny, nx) int32 array
        Of the difference.
    found : Footprints
        Of the n sources.
    """
    centre = photometry.planes_within(mask, table["x"], table["y"], photometry.CENTRE_RADIUS)
    footprint = found.planes | centre
    for name, plane in PLANES.items():
        table[f"pixelFlags_{name}"] = (footprint & bits(plane)) != 0
        if name in CENTRE_PLANES:
            table[f"pixelFlags_{name}Center"] = (centre & bits(plane)) != 0
    table["pixelFlags"] = ((footprint & bits(*UNRELIABLE_FOOTPRINT)) | (centre & bits(*UNRELIABLE_CENTRE))) != 0
