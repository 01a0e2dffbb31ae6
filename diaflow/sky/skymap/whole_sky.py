"""What kinds of sky maps have in common whose tracts cover the whole sky and do not depend on the images."""

import numpy as np

from diaflow.errors import InputError
from diaflow.sky import sphere
from diaflow.sky.skymap.many import one_by_one
from diaflow.sky.skymap.tract import Tract, check_size


def tracts(config: dict, ra: np.ndarray, dec: np.ndarray, radius: np.ndarray, rotation: float, remedy: str) -> Tract:
    """Tracts with the patches of the configuration.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.
    ra, dec, radius : (n,) arrays
        Of each tract, in the order of their numbers [deg].
    rotation : float
        Of all of them [deg].
    remedy : str
        What makes tracts smaller.

    Returns
    -------
    Tract
        Its fields are arrays.

    Raises
    ------
    InputError
        When the configuration has no pixel scale, or tracts are too large for a plane or have too many patches.
    """
    scale, size, border = (config[key] for key in ("pixel_scale", "patch_size", "patch_border"))
    if scale is None:
        raise InputError(f"skymap.pixel_scale: the tracts of {config['type']} do not depend on the images: give one")
    check_size(float(radius.max()), scale, size, remedy)
    same = (np.full(len(ra), value) for value in (scale, size, border, rotation))
    return Tract(np.arange(len(ra)), ra, dec, radius, *same)


def near(every: Tract, ra: np.ndarray, dec: np.ndarray) -> list[Tract]:
    """The tracts that images may reach.

    Parameters
    ----------
    every : Tract
        Its fields are arrays.
    ra, dec : (n, 4) arrays
        Corners of the images [deg].

    Returns
    -------
    list of Tract
        And some more: each is taken twice as large as it is, whatever the positions in the headers are worth.
    """
    from scipy.spatial import cKDTree  # jobs that only look up do without

    corners = sphere.unit_vectors(ra, dec)
    middle = corners.mean(1)
    image = np.linalg.norm(corners - middle[:, None], axis=2).max()
    away, _ = cKDTree(middle).query(sphere.unit_vectors(every.ra, every.dec))
    return one_by_one(every, np.flatnonzero(away < 2 * every.half_diagonal + image))
