"""A tract for every HEALPix pixel, in the order of its rings from the north pole on (lsst/skymap HealpixSkyMap).

The angles are those of everybody's HEALPix, the polar angle counted from the north pole.  LSST's map adds 90 deg to
the declination instead: its tract N at some declination is the tract N of this map at the opposite one.  As there,
tracts are turned by 45 deg, as the pixels are.
"""

import numpy as np

from diaflow.sky import healpix, sphere
from diaflow.sky.skymap import whole_sky
from diaflow.sky.skymap.tract import Tract

OPTIONS = {
    "nside": {
        "type": "integer",
        "minimum": 1,
        "maximum": 128,
        "default": 32,
        "description": "tracts along the side of each of the 12 faces of HEALPix",
    },
    "tract_overlap": {
        "type": "number",
        "minimum": 4,
        "maximum": 36000,
        "default": 60.0,
        "description": "how far tracts reach beyond their share of the sky [arcsec]",
    },
    "projection": {"enum": ["TAN"], "default": "TAN", "description": "of the sky on the plane of a tract"},
}

ROTATION = 45.0  # of the tracts [deg]
# Along every side of a pixel, which is not straight.
POINTS = 8


def find_tract(config: dict, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """The tract whose share of the sky holds each position.

    Parameters
    ----------
    config : dict
        `nside` of section `skymap` of the configuration.
    ra, dec : (n,) arrays
        [deg]

    Returns
    -------
    (n,) int array
    """
    return healpix.ring_numbers(*healpix.pixels(ra, dec, config["nside"]), config["nside"])


def every_tract(config: dict) -> Tract:
    """All tracts of the sky.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.

    Returns
    -------
    Tract
        Its fields are arrays, in the order of the numbers.

    Raises
    ------
    InputError
        When the configuration has no pixel scale, or tracts are too large for a plane or have too many patches.
    """
    side = config["nside"]
    face, x, y = (steps.ravel() for steps in np.indices((12, side, side)))
    order = np.argsort(healpix.ring_numbers(face, x, y, side))
    face, x, y = face[order], x[order], y[order]
    ra, dec = healpix.positions(face, (x + 0.5) / side, (y + 0.5) / side)
    along, end = np.linspace(0, 1, POINTS), np.ones(POINTS)
    step_x, step_y = np.concatenate([along, along, 0 * end, end]), np.concatenate([0 * end, end, along, along])
    border = healpix.positions(
        np.repeat(face[:, None], len(step_x), axis=1), (x[:, None] + step_x) / side, (y[:, None] + step_y) / side
    )
    xi, eta = sphere.gnomonic(*border, ra[:, None], dec[:, None])
    # In the turned plane the pixel is close to an upright square.
    half = (np.abs(xi) + np.abs(eta)).max(axis=1) / np.sqrt(2)
    radius = np.degrees(np.arctan(half)) + config["tract_overlap"] / 3600
    return whole_sky.tracts(config, ra, dec, radius, ROTATION, "raise skymap.nside")


def tracts(config: dict, ra: np.ndarray, dec: np.ndarray, pixel_scale: float) -> list[Tract]:
    """The tracts that images may reach.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.
    ra, dec : (n, 4) arrays
        Corners of the images [deg].
    pixel_scale : float
        Not used: tracts do not depend on the images.

    Returns
    -------
    list of Tract
        And some more.

    Raises
    ------
    InputError
        As `every_tract`.
    """
    return whole_sky.near(every_tract(config), ra, dec)
