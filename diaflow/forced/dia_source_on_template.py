"""Forced photometry of the DIASources of a visit on the template patches that have them.

Patches overlap, so a source may have several rows; in one of them, that of the patch that owns its position,
`detect_isPrimary` is set (as in `forcedPhotCoaddDiaSrc` of LSST's dia_pipe).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from diaflow.forced import measure
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.sky.skymap.maps import SkyMap
from diaflow.store import ids, tables

NAME = "dia_source_on_template"


def forced_photometry(sources: np.ndarray, templates: Sequence[str | Path], skymap: SkyMap) -> np.ndarray:
    """PSF fluxes of DIASources on the templates of their visit.

    Parameters
    ----------
    sources : "dia_source" table
        Of one visit.
    templates : sequence of path
        Template coadds of the band of the visit, named {tract}/{patch}/{band}.fits.
    skymap : SkyMap
        With all tracts that reach the visit.

    Returns
    -------
    table "dia_source_on_template"
        Sorted by diaSourceId, tract and patch.  A source whose own patch has no template has a row for it without a
        flux.
    """
    sources = sources[np.isfinite(sources["ra"]) & np.isfinite(sources["dec"])]
    positions = Positions.of(sources, "diaSourceId")
    tract, patch = skymap.owner(positions.ra, positions.dec)
    parts = [_on_patch(positions, Path(path)) for path in templates]
    measured = tables.concatenate(NAME, parts)
    row = ids.rows_of(sources["diaSourceId"], measured["diaSourceId"])
    measured["detect_isPrimary"] = (measured["tract"] == tract[row]) & (measured["patch"] == patch[row])
    without = ~np.isin(sources["diaSourceId"], measured["diaSourceId"][measured["detect_isPrimary"]])
    missing = tables.from_columns(
        NAME,
        ra=positions.ra[without],
        dec=positions.dec[without],
        diaSourceId=sources["diaSourceId"][without],
        tract=tract[without],
        patch=patch[without],
        psfFlux_flag=True,
        detect_isPrimary=True,
    )
    table = tables.concatenate(NAME, [measured, missing[: without.sum()]])
    row = ids.rows_of(sources["diaSourceId"], table["diaSourceId"])
    for column in ("visit", "detector", "band"):
        table[column] = sources[column][row]
    return table[np.lexsort((table["patch"].astype(str), table["tract"], table["diaSourceId"]))]


def _on_patch(positions: Positions, path: Path) -> np.ndarray:
    """The rows of one patch; none where there is no template on it."""
    template = Exposure.read(path)
    if template.metadata.get("status") == "failed":
        return tables.empty(NAME)
    table = measure.at_positions(NAME, template, positions)
    table["tract"], table["patch"] = int(path.parent.parent.name), path.parent.name
    return table
