"""Forced photometry of what is on the templates on a difference image (`forcedPhotCcdTemplateDia` of LSST's dia_pipe).

Patches overlap, so an object may be measured several times; in one of its rows, that of the patch that owns it,
`detect_isPrimary` is set.  Parts of blends whose parent is not on the image are left out.
"""

import numpy as np

from diaflow.forced import measure
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.store import ids

NAME = "template_on_diffim"
APERTURES = (3, 6, 9, 12)  # radii [pixel]: those of dia_pipe
OF_OBJECTS = ("objectId", "parentObjectId", "tract", "patch", "detect_isPrimary")


def in_band(objects: np.ndarray, band: str) -> np.ndarray:
    """What is seen in a band, the parents of it included.

    Parameters
    ----------
    objects : table "object"
    band : str

    Returns
    -------
    table "object"
        Some of the rows; none where the table has not the band.
    """
    if f"{band}_merge_peak" not in objects.dtype.names:
        return objects[:0]
    seen = objects[f"{band}_merge_peak"]
    return objects[seen | np.isin(objects["objectId"], objects["parentObjectId"][seen])]


def forced_photometry(difference: Exposure, objects: np.ndarray) -> np.ndarray:
    """PSF and aperture fluxes on a difference image at the positions of objects of the templates.

    Parameters
    ----------
    difference : Exposure
    objects : table "object"
        Of all patches under the image, those of `in_band` of its band.

    Returns
    -------
    table "template_on_diffim"
        One row for each object on the pixels of the image, parts of blends only with their parent; sorted by parent.
    """
    table = measure.at_positions(NAME, difference, Positions.of(objects, "objectId"))
    row = ids.rows_of(objects["objectId"], table["objectId"])
    for column in OF_OBJECTS:
        table[column] = objects[column][row]
    band, metadata = difference.metadata["band"], difference.metadata
    for column in ("Flux", "FluxErr"):
        table[f"template{column}"] = objects[f"{band}_psf{column}"][row] if len(row) else np.nan
    stays = (table["parentObjectId"] == 0) | np.isin(table["parentObjectId"], table["objectId"])
    table = table[stays]
    table = table[np.lexsort((table["objectId"], table["parentObjectId"]))]
    table["templateOnDiffimId"] = ids.source_ids(metadata["visit"], metadata["detector"], len(table))
    table["visit"], table["detector"], table["midpointMjdTai"] = (metadata[k] for k in ("visit", "detector", "mjd"))
    for radius in APERTURES:
        _set_aperture(table, difference, radius)
    return table


def _set_aperture(table: np.ndarray, difference: Exposure, radius: int) -> None:
    x, y, name = table["x"], table["y"], f"ap{radius:02d}Flux"
    flux, err, truncated = photometry.aperture_flux(difference.image, difference.variance, x, y, radius)
    missing = (photometry.planes_within(difference.mask, x, y, radius) & bits("NO_DATA")) != 0
    table[name], table[f"{name}Err"] = flux, photometry.with_flux_error(difference, err, x, y)
    table[f"{name}_flag"] = truncated | missing | ~np.isfinite(flux)
