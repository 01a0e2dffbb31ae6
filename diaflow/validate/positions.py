"""Forced photometry at positions of the user's choice against the truth: empty places, and constant stars.

In come the collected table of a variant and the true objects, out go pulls.
"""

import numpy as np

from diaflow.units import nanojansky
from diaflow.validate import matching
from diaflow.validate.comparison import EMPTY
from diaflow.validate.figures import Figure, pulls

ON_STAR = 0.1  # distance of a position that is a star's [arcsec], chosen: far below any seeing
# S/N of the stars that are judged: above, a thousandth of a flux, as zero points and PSF models have, is no noise.
FAINT_SNR = 50.0
ON_DIFFERENCES = ("dia_forced_source",)  # tables in which what is constant has no flux


def at_positions(name: str, table: np.ndarray, objects: np.ndarray) -> list[Figure]:
    """Pulls of the rows of a table that are at positions of the user's choice.

    Parameters
    ----------
    name : str
        Of the table, e.g. "forced_source".
    table : that table
        Of its rows, only those without flags, with a positionId, and either farther than `EMPTY` from every object or
        on a constant star that is as far from every other object.
    objects : table "truth_object"

    Returns
    -------
    list of Figure
        None where the table has no positions of the user's.
    """
    if "positionId" not in table.dtype.names:
        return []
    table = table[(table["positionId"] != 0) & ~table["psfFlux_flag"] & ~table["pixelFlags"]]
    if not len(table):
        return []
    distance, nearest = matching.nearest(table, objects)
    crowded = np.unique(matching.close_pairs(objects, EMPTY))
    constant = objects["type"].astype(str) == "star"
    constant[crowded] = False
    star = (distance < ON_STAR) & constant[nearest]
    true = np.where(star, true_fluxes(objects[nearest], table["band"]), 0.0)
    faint = true < FAINT_SNR * table["psfFluxErr"]
    expected = 0.0 if name in ON_DIFFERENCES else true
    pull = (table["psfFlux"] - expected) / table["psfFluxErr"]
    return [
        figure
        for of, rows in (("empty", distance > EMPTY), ("star", star & faint))
        for figure in pulls("position_pull", f"{name}, {of}", pull[rows])
    ]


def true_fluxes(objects: np.ndarray, bands: np.ndarray) -> np.ndarray:
    """Fluxes of objects, each in a band of its own.

    Parameters
    ----------
    objects : (n,) table "truth_object"
    bands : (n,) array of str

    Returns
    -------
    (n,) array
        [nJy]
    """
    fluxes = np.full(len(objects), np.nan)
    for band in np.unique(bands):
        rows = bands == band
        fluxes[rows] = nanojansky(objects[f"{band}_mag"][rows])
    return fluxes
