"""Known objects: the names that a table of the user's has for what is found."""

import numpy as np
from scipy.spatial import cKDTree

from diaflow.refcat import positions
from diaflow.sky import sphere
from diaflow.units import ARCSEC


def names(
    known: np.ndarray, ra: np.ndarray, dec: np.ndarray, mjd: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """The known object nearest to each position at its date.

    Parameters
    ----------
    known : table "position"
        What is known, with its motion.
    ra, dec, mjd : (n,) arrays
        Positions [deg] and their dates, TAI [d]; many share a date.
    radius : float
        Largest distance [arcsec].

    Returns
    -------
    name : (n,) object array
        Empty where none is within the radius.
    separation : (n,) array
        NaN where none is [arcsec].
    """
    name, separation = np.full(len(ra), "", object), np.full(len(ra), np.nan)
    for date in np.unique(mjd[np.isfinite(mjd)]):
        there = positions.at(known, date)
        mine = np.flatnonzero((mjd == date) & np.isfinite(ra) & np.isfinite(dec))
        if not len(there) or not len(mine):
            continue
        tree = cKDTree(sphere.unit_vectors(there["ra"], there["dec"]))
        chord, nearest = tree.query(sphere.unit_vectors(ra[mine], dec[mine]))
        apart = 2 * np.arcsin(np.minimum(chord / 2, 1)) / ARCSEC
        close = apart <= radius
        name[mine[close]], separation[mine[close]] = there["name"][nearest[close]], apart[close]
    return name, separation


def columns(rows: np.ndarray, known: np.ndarray, radius: float) -> dict[str, np.ndarray]:
    """What is known of sources or objects.

    Parameters
    ----------
    rows : "dia_source" or "dia_object" table
        An object is looked for at the mean of its first and its last date.
    known : table "position"
    radius : float
        [arcsec]

    Returns
    -------
    dict of str to (n,) arrays
        Columns knownName and knownSeparation.
    """
    if "midpointMjdTai" in rows.dtype.names:
        mjd = rows["midpointMjdTai"]
    else:
        mjd = (rows["firstDiaSourceMjdTai"] + rows["lastDiaSourceMjdTai"]) / 2
    name, separation = names(known, rows["ra"], rows["dec"], mjd, radius)
    return {"knownName": name, "knownSeparation": separation}
