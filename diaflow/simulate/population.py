"""Rows of objects and their fluxes, as all kinds of objects need them."""

import numpy as np

from diaflow.simulate.pointing import Visit
from diaflow.store import tables
from diaflow.units import NANOJANSKY_ZERO_POINT

# Millions.
FIRST_ID = {
    "star": 1,
    "galaxy": 2,
    "supernova": 3,
    "variable": 4,
    "nucleus": 5,
    "asteroid": 6,
    "mover": 7,
    "strong variable": 8,
    "probe": 9,
    "blend": 10,
}
TYPE = {"nucleus": "variable", "strong variable": "variable", "mover": "asteroid"}  # of kinds that are none themselves

Population = tuple[np.ndarray, np.ndarray]  # rows of "truth_object" and their flux (n, n_visits) [nJy]


def rows(config: dict, kind: str, ra: np.ndarray, dec: np.ndarray, mag: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Rows of "truth_object".

    Parameters
    ----------
    config : dict
        The `simulate` section.
    kind : str
        One of `FIRST_ID`.
    ra, dec : (n,) arrays
        [deg]
    mag : (n,) array
        In the last band [mag].
    colour : (n,) array
        By which each bluer band is fainter [mag].

    Returns
    -------
    "truth_object" table
        Of point sources without a host that do not move.
    """
    bands = config["bands"]
    table = tables.empty("truth_object", len(ra), bands)
    table["objectId"] = FIRST_ID[kind] * 1_000_000 + np.arange(len(ra))
    table["type"] = TYPE.get(kind, kind)
    table["ra"], table["dec"] = ra, dec
    table["radius"], table["axisRatio"], table["positionAngle"], table["sersic"] = 0, 1, 0, 0
    for redder, band in enumerate(reversed(bands)):
        table[f"{band}_mag"] = mag + redder * colour
    return table


def flux(table: np.ndarray, epochs: list[Visit], offset: np.ndarray | float = 0.0) -> np.ndarray:
    """Flux of the magnitudes of the visits' bands.

    Parameters
    ----------
    table : "truth_object" table
    epochs : list of Visit
    offset : (n, n_visits) array or float
        Added to the magnitudes [mag].

    Returns
    -------
    (n, n_visits) array
        [nJy]
    """
    mag = np.array([table[f"{visit.band}_mag"] for visit in epochs], float).T
    return 10 ** (-0.4 * (mag + offset - NANOJANSKY_ZERO_POINT))
