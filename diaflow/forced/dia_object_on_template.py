"""Forced photometry of the DIAObjects of a patch, and of the user's positions that it owns, on its template."""

from pathlib import Path

import numpy as np

from diaflow.forced import measure
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.store import tables

NAME = "dia_object_on_template"


def forced_photometry(positions: Positions, path: str | Path) -> np.ndarray:
    """PSF fluxes on a template coadd at fixed positions.

    Parameters
    ----------
    positions : Positions
        Those that the patch owns, with diaObjectId, positionId or both.
    path : path
        The template, named {tract}/{patch}/{band}.fits.

    Returns
    -------
    table "dia_object_on_template"
        One row for each position, in their order; without a flux where there is no template.
    """
    path = Path(path)
    template = Exposure.read(path)
    if template.metadata.get("status") == "failed":
        table = tables.empty(NAME, len(positions))
        for column, ids in positions.ids.items():
            table[column] = ids
        table["ra"], table["dec"], table["psfFlux_flag"] = positions.ra, positions.dec, True
    else:
        table = measure.at_positions(NAME, template, positions)
    table["tract"], table["patch"], table["band"] = int(path.parent.parent.name), path.parent.name, path.stem
    return table
