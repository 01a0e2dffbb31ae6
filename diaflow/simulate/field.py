"""Where the survey is on the sky, and positions on it.

The field of the demo survey is laid out flat: a step to the east is a step in right ascension over cos(dec).  Every
field that the configuration names lies on the sphere, so that it may have a pole or right ascension 0 in it.
"""

import numpy as np

from diaflow.simulate.camera import GAP
from diaflow.sky import sphere

FIELD = (35.0, -4.5)  # of the demo: ra, dec [deg], chosen
DITHER = 20.0  # largest dither per axis [arcsec], chosen


def centre(config: dict) -> tuple[float, float]:
    """Centre of the field.

    Parameters
    ----------
    config : dict
        The `simulate` section.

    Returns
    -------
    ra, dec : float
        [deg]
    """
    return tuple(config["field"] or FIELD)


def half_size(config: dict, margin: float) -> np.ndarray:
    """Half width and height of the camera's field.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    margin : float
        Around it [arcsec].

    Returns
    -------
    (2,) array
        [arcmin]
    """
    n, size = config["detectors"], config["size"]
    return (np.array([n * size + (n - 1) * GAP, size]) * config["pixel_scale"] / 2 + margin) / 60


def moved(
    config: dict, ra: np.ndarray, dec: np.ndarray, east: np.ndarray, north: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions at small offsets from others.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    ra, dec : arrays or floats
        Where the offsets begin [deg].
    east, north : arrays or floats
        [deg]; on the sphere, in the plane that touches it at the beginning.

    Returns
    -------
    ra, dec : arrays
        [deg]
    """
    if config["field"] is None:
        return ra + east / np.cos(np.radians(dec)), dec + north
    return sphere.from_gnomonic(np.radians(east), np.radians(north), ra, dec)


def positions(config: dict, rng: np.random.Generator, n: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Random positions in the camera's field.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    rng : numpy.random.Generator
    n : int
    margin : float
        Around the field [arcsec].

    Returns
    -------
    ra, dec : (n,) arrays
        [deg]
    """
    x, y = half_size(config, margin)[:, None] / 60 * rng.uniform(-1, 1, (2, n))
    return moved(config, *centre(config), x, y)


def inside(config: dict, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Which positions are in the camera's field without its dithers.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    ra, dec : (n,) arrays
        [deg]

    Returns
    -------
    (n,) bool array
    """
    x, y = half_size(config, 0) / 60
    ra_0, dec_0 = centre(config)
    if config["field"] is None:
        east, north = (ra - ra_0) * np.cos(np.radians(dec_0)), dec - dec_0
    else:
        east, north = np.degrees(sphere.gnomonic(ra, dec, ra_0, dec_0))
    return (np.abs(east) < x) & (np.abs(north) < y)


def convergence(config: dict, ra_0: float, dec_0: float, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """How much the position angle of a direction changes when it is carried along a great circle.

    The meridians at both ends are not parallel; one of Napier's analogies has the angle between them.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    ra_0, dec_0 : float
        Where the way begins [deg].
    ra, dec : arrays or floats
        Where it ends [deg].

    Returns
    -------
    array or float
        To be added to the position angle [deg]; 0 on the flat field of the demo.
    """
    if config["field"] is None:
        return 0.0
    half, d0, d = np.radians((ra - ra_0) / 2), np.radians(dec_0), np.radians(dec)
    angle = 2 * np.arctan2(np.sin(half) * np.sin((d0 + d) / 2), np.cos(half) * np.cos((d0 - d) / 2))
    return np.degrees(angle)
