"""Which row of one table is which row of another: by place on the sky, by image."""

import numpy as np
from scipy.spatial import cKDTree

from diaflow.sky.sphere import unit_vectors
from diaflow.units import ARCSEC

APART = 10.0  # of images beside each other in the space in which neighbours are looked for, above the sphere's diameter


def nearest(a: np.ndarray, b: np.ndarray, by_image: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """The row of b that is nearest to each row of a.

    Parameters
    ----------
    a, b : tables of n and m rows
        With ra and dec [deg], and visit and detector where `by_image`.
    by_image : bool
        Only rows of the same image are neighbours.

    Returns
    -------
    distance : (n,) array
        [arcsec]; infinite where there is no neighbour.
    index : (n,) int array
        Row of b; meaningless where there is no neighbour.
    """
    if not (len(a) and len(b)):
        return np.full(len(a), np.inf), np.zeros(len(a), int)
    distance, index = cKDTree(_places(b, by_image)).query(_places(a, by_image))
    arc = 2 * np.arcsin(np.minimum(distance / 2, 1)) / ARCSEC
    return np.where(distance < APART / 2, arc, np.inf), index


def close_pairs(table: np.ndarray, radius: float, by_image: bool = False) -> np.ndarray:
    """Pairs of rows closer than a radius.

    Parameters
    ----------
    table : table of n rows
        As in `nearest`.
    radius : float
        [arcsec]
    by_image : bool
        Only rows of the same image are pairs.

    Returns
    -------
    (m, 2) int array
        Rows of the table.
    """
    if not len(table):
        return np.zeros((0, 2), int)
    chord = 2 * np.sin(radius * ARCSEC / 2)
    return cKDTree(_places(table, by_image)).query_pairs(chord, output_type="ndarray")


def rows_of_image(table: np.ndarray, visit: int, detector: int) -> np.ndarray:
    """Which rows belong to an image.

    Parameters
    ----------
    table : table of n rows
        With visit and detector.
    visit, detector : int

    Returns
    -------
    (n,) bool array
    """
    return (table["visit"] == visit) & (table["detector"] == detector)


def data_ids(table: np.ndarray) -> list[tuple[int, int]]:
    """Visit and detector of the rows.

    Parameters
    ----------
    table : table
        With visit and detector.

    Returns
    -------
    list of (int, int)
    """
    return list(zip(table["visit"].tolist(), table["detector"].tolist()))


def _places(table: np.ndarray, by_image: bool) -> np.ndarray:
    """Places on the unit sphere; of images, in two more dimensions in which they are apart."""
    sphere = unit_vectors(table["ra"], table["dec"])
    if not by_image:
        return sphere
    return np.column_stack([sphere, APART * table["visit"], APART * table["detector"]])
