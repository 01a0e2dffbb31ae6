"""Discrete sky map: one tract around all images (lsst/skymap DiscreteSkyMap, makeDiscreteSkyMap).

The corners of the images give a spherical convex hull; the tract's circle is centred on the centroid of the hull
and reaches its farthest vertex.  The tract depends on the list of images: give `center` and `radius` where two
runs must share it.
"""

import numpy as np
from scipy.spatial import ConvexHull

from diaflow.errors import InputError
from diaflow.sky import sphere
from diaflow.sky.skymap.tract import MAX_RADIUS, Tract, check_size

OPTIONS = {
    "center": {
        "type": ["array", "null"],
        "prefixItems": [
            {"type": "number", "minimum": -360, "maximum": 360},
            {"type": "number", "minimum": -90, "maximum": 90},
        ],
        "minItems": 2,
        "maxItems": 2,
        "default": None,
        "description": "ra, dec of the tract; null for the centre of the images [deg]",
    },
    "radius": {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": None,
        "description": "radius of the tract; null to hold all images [deg]",
    },
}

# Keeps the farthest corner inside the tract whatever its rounding [deg].
ROUNDING = 1e-9


def tracts(config: dict, ra: np.ndarray, dec: np.ndarray, pixel_scale: float) -> list[Tract]:
    """The one tract that holds all images.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.
    ra, dec : (n, 4) arrays
        Corners of the images [deg].
    pixel_scale : float
        [arcsec]

    Returns
    -------
    list of Tract
        Of one.

    Raises
    ------
    InputError
        When the images are too far apart for one plane, or the plane has too many patches.
    """
    vectors = sphere.unit_vectors(ra, dec).reshape(-1, 3)
    if config["center"] is None:
        vectors = convex_hull(vectors)
        centre = sphere.sky_position(centroid(vectors))
    else:
        centre = config["center"][0] % 360.0, config["center"][1]
    radius = config["radius"]
    if radius is None:
        radius = float(np.degrees(sphere.separation(vectors, sphere.unit_vectors(*centre)).max())) + ROUNDING
    remedy = "run fields that are far apart separately, or set skymap.center and skymap.radius"
    check_size(radius, pixel_scale, config["patch_size"], remedy)
    size, border = config["patch_size"], config["patch_border"]
    return [Tract(0, float(centre[0]), float(centre[1]), float(radius), pixel_scale, size, border)]


def strays(config: dict, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, str]:
    """Images that are too far from the others for the tract of both.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration; with a `center` the images do not decide the tract.
    ra, dec : (n, 4) arrays
        Corners of the images [deg].

    Returns
    -------
    strays : (n,) bool array
    reason : str
        Where the others are.
    """
    centres = sphere.unit_vectors(ra, dec).mean(1)
    # Each coordinate of most of the images is where its median is, wherever the others are.
    middle = centres[np.argmin(np.linalg.norm(centres - np.median(centres, axis=0), axis=1))]
    far = np.degrees(sphere.separation(centres, middle)) > MAX_RADIUS
    ra, dec = sphere.sky_position(middle)
    where = f"more than {MAX_RADIUS:g} deg from the others, around RA {ra:.4f} Dec {dec:.4f}"
    return far & (config["center"] is None), f"{where}: run fields that are far apart separately"


def convex_hull(vectors: np.ndarray) -> np.ndarray:
    """The spherical convex hull: the one in the gnomonic plane at the mean direction, where great circles are straight.

    Parameters
    ----------
    vectors : (n, 3) array
        Of unit length.

    Returns
    -------
    (m, 3) array
        Those that are its vertices, counter-clockwise seen from outside the sphere.

    Raises
    ------
    InputError
        When the points do not fit in one half of the sky.
    """
    mean = vectors.sum(0)
    plane = np.stack(sphere.gnomonic(*sphere.sky_position(vectors), *sphere.sky_position(mean)), axis=1)
    if not np.all(np.isfinite(plane)):
        raise InputError("skymap: the images are spread over half the sky; run fields that are far apart separately")
    # East is left from inside the sphere, right from outside: (xi, eta) is right-handed seen from outside.
    return vectors[ConvexHull(plane).vertices]


def centroid(vertices: np.ndarray) -> np.ndarray:
    """Centroid of a spherical polygon, from the normals of its edges times their angles.

    Parameters
    ----------
    vertices : (n, 3) array
        Unit vectors, counter-clockwise seen from outside.

    Returns
    -------
    (3,) array
        Unit vector.
    """
    following = np.roll(vertices, -1, axis=0)
    normals = np.cross(vertices, following)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    angles = np.arctan2(length, np.sum(vertices * following, axis=1, keepdims=True))
    total = np.sum(normals / length * angles, axis=0)
    return total / np.linalg.norm(total)
