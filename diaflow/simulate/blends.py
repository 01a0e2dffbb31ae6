"""Blends: pairs of constant stars of set ratios and separations, far from all else that is as bright.

They stand in cells of a grid over the field in which there is room.  The reference catalogue has none of them, so that
they tell how blends are taken apart and have no part in the calibration.
"""

import numpy as np
from scipy.spatial import cKDTree

from diaflow.simulate import field
from diaflow.simulate.pointing import Visit, stream
from diaflow.simulate.population import Population, flux, rows
from diaflow.sky.sphere import unit_vectors
from diaflow.units import ARCSEC

# All of these are chosen: side of a cell beyond the widest pair, and least distance of its middle from other objects
# [arcsec]; objects that are this much fainter than the faintest of the brighter stars are no neighbours [mag].
ROOM, ISOLATION, NEGLIGIBLE = 8.0, 5.0, 4.0
COLOURS = (0.2, 1.4)  # of both stars of a pair [mag]: those of stars


def population(config: dict, epochs: list[Visit], objects: np.ndarray) -> Population:
    """The stars of all pairs.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    epochs : list of Visit
    objects : "truth_object" table
        Stars and galaxies of the field.

    Returns
    -------
    rows : "truth_object" table
        The brighter stars, then the fainter ones, which have the brighter one as host.
    flux : (n, n_visits) array
        [nJy]
    """
    blends = config["blends"]
    rng = stream(config["seed"], "blends")
    kinds = [(ratio, separation) for ratio in blends["ratios"] for separation in blends["separations"]]
    ratio, separation = np.tile(kinds, (blends["pairs"], 1)).T
    ra, dec = _places(config, objects, rng)
    n = min(len(ratio), len(ra))
    ra, dec, ratio, separation = ra[:n], dec[:n], ratio[:n], separation[:n] / 3600
    angle = rng.uniform(0, 2 * np.pi, n)
    fainter = field.moved(config, ra, dec, separation * np.sin(angle), separation * np.cos(angle))
    mag, colour = rng.uniform(*blends["mag"], n), rng.uniform(*COLOURS, n)
    table = rows(
        config,
        "blend",
        np.append(ra, fainter[0]),
        np.append(dec, fainter[1]),
        np.append(mag, mag - 2.5 * np.log10(ratio)),
        np.tile(colour, 2),
    )
    table["hostId"][n:] = table["objectId"][:n]
    return table, flux(table, epochs)


def _places(config: dict, objects: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places in the field far from its objects and from each other, in random order [deg]."""
    blends = config["blends"]
    if not blends["pairs"]:
        return np.zeros(0), np.zeros(0)
    pitch = max(blends["separations"]) + ROOM
    half = 60 * field.half_size(config, -pitch)
    east, north = (axis.ravel() / 3600 for axis in np.meshgrid(*(np.arange(-h, h + 1, pitch) for h in half)))
    ra, dec = field.moved(config, *field.centre(config), east, north)
    near = objects[objects[f"{config['bands'][-1]}_mag"] < blends["mag"][1] + NEGLIGIBLE]
    chord = 2 * np.sin(ISOLATION * ARCSEC / 2)
    taken = cKDTree(unit_vectors(near["ra"], near["dec"])).query_ball_point(
        unit_vectors(ra, dec), chord, return_length=True
    )
    kept = rng.permutation(np.flatnonzero(taken == 0))
    return ra[kept], dec[kept]
