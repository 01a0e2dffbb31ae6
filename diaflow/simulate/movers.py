"""Asteroids that last a night: they move along great circles at constant rates, through all visits of the night."""

import numpy as np

from diaflow.simulate import field
from diaflow.simulate.pointing import Visit, stream
from diaflow.simulate.population import Population, flux, rows
from diaflow.sky import sphere

MAGS, COLOURS = (19.0, 22.5), (0.4, 0.7)  # in the last band, and between neighbouring bands [mag]; chosen
ARCSEC_PER_HOUR = 24 / 3600  # [deg/d]
NIGHT = 0.5  # longest time for which motion is followed from the middle of a night [d]


def population(config: dict, epochs: list[Visit]) -> Population:
    """Fresh ones in every night, template nights too.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    epochs : list of Visit

    Returns
    -------
    rows : "truth_object" table
        Positions and directions in the middle of their night.
    flux : (n, n_visits) array
        [nJy]; 0 outside of their night.
    """
    n, rates = config["movers"]["number"], config["movers"]["rate"]
    night = np.array([int(visit.mjd_start) for visit in epochs])
    mjd = np.array([visit.mjd for visit in epochs])
    nights = np.unique(night)
    rng = stream(config["seed"], "movers")
    ra, dec = field.positions(config, rng, n * len(nights), 0)
    at_edge = np.arange(len(ra)) % max(n, 1) < round(config["movers"]["edge"] * n)
    ra[at_edge], dec[at_edge] = _at_edges(config, stream(config["seed"], "movers at edges"), at_edge.sum())
    table = rows(config, "mover", ra, dec, rng.uniform(*MAGS, len(ra)), rng.uniform(*COLOURS, len(ra)))
    table["rate"] = ARCSEC_PER_HOUR * rng.uniform(*rates, len(ra))
    table["direction"] = rng.uniform(0, 360, len(ra))
    table["mjd"] = np.repeat([mjd[night == one].mean() for one in nights], n)
    return table, flux(table, epochs) * (night == np.repeat(nights, n)[:, None])


def _at_edges(config: dict, rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Random positions ra, dec [deg] along the border of the camera's field, as far from it as visits are dithered."""
    half = field.half_size(config, 0) / 60
    along = rng.uniform(-1, 1, n) * half[:, None]
    across = rng.choice([-1, 1], n) * (half[:, None] + rng.uniform(-1, 1, n) * field.DITHER / 3600)
    upper_or_lower = rng.uniform(size=n) < half[0] / half.sum()
    x, y = np.where(upper_or_lower, (along[0], across[1]), (across[0], along[1]))
    return field.moved(config, *field.centre(config), x, y)


def positions(objects: np.ndarray, mjd: float) -> tuple[np.ndarray, np.ndarray]:
    """Where objects are at a time; those that move stay in place in other nights than their own.

    Parameters
    ----------
    objects : "truth_object" table
    mjd : float
        Middle of an exposure, MJD in TAI.

    Returns
    -------
    ra, dec : (n,) arrays
        [deg]
    """
    moving = (objects["rate"] > 0) & (np.abs(mjd - objects["mjd"]) < NIGHT)
    ra, dec = objects["ra"].copy(), objects["dec"].copy()
    some = objects[moving]
    way, angle = np.radians(some["rate"] * (mjd - some["mjd"]))[:, None], np.radians(some["direction"])[:, None]
    pole_side = sphere.unit_vectors(some["ra"], some["dec"] + 90)  # 90 deg to the north of each
    east = np.cross(pole_side, sphere.unit_vectors(some["ra"], some["dec"]))
    ahead = np.cos(angle) * pole_side + np.sin(angle) * east
    start = sphere.unit_vectors(some["ra"], some["dec"])
    ra[moving], dec[moving] = sphere.sky_position(np.cos(way) * start + np.sin(way) * ahead)
    return ra, dec
