"""Rings of tracts of about the same size over the whole sky, and one at either pole (lsst/skymap RingsSkyMap).

Tract 0 is at the south pole.  The others follow ring by ring towards the north, in a ring with the right ascension
from `ra_start` on; the last one is at the north pole.  Rings and the caps at the poles are of equal height, and a ring
is cut into equal parts.  The share of a tract is this part of its ring, not what is nearest to its centre.
"""

import base64
import functools
import hashlib
import struct

import numpy as np

from diaflow.sky.skymap import whole_sky
from diaflow.sky.skymap.tract import Tract

OPTIONS = {
    "num_rings": {
        "type": "integer",
        "minimum": 1,
        "maximum": 1000,
        "default": 120,
        "description": "rings of tracts between those at the poles",
    },
    "ra_start": {
        "type": "number",
        "minimum": 0,
        "exclusiveMaximum": 360,
        "default": 0.0,
        "description": "right ascension of the first tract of every ring [deg]",
    },
    "version": {
        "enum": [0, 1],
        "default": 1,
        "description": "numbering of the tracts; 0 is that of the first maps of LSST, which lacks one of them",
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


@functools.cache
def tracts_of_rings(num_rings: int) -> np.ndarray:
    """How many tracts each ring has, from south to north.

    Parameters
    ----------
    num_rings : int

    Returns
    -------
    (num_rings,) int array
    """
    height = np.pi / (num_rings + 1)
    # In the two rings at the equator the ratio is a whole number but for its rounding, which decides: these terms in
    # this order give the numbers of lsst/skymap.
    edges = height * (np.arange(num_rings) + 0.5) - 0.5 * np.pi
    nearest = np.minimum(np.abs(edges), np.abs(edges + height))
    return (2 * np.pi * np.cos(nearest) / height).astype(int) + 1


def n_tracts(num_rings: int) -> int:
    """How many tracts there are, those at the poles included.

    Parameters
    ----------
    num_rings : int

    Returns
    -------
    int
    """
    return int(tracts_of_rings(num_rings).sum()) + 2


def find_tract(config: dict, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """The tract whose share of the sky holds each position.

    Parameters
    ----------
    config : dict
        `num_rings`, `ra_start` and `version` of section `skymap` of the configuration.
    ra, dec : (n,) arrays or floats
        [deg]

    Returns
    -------
    (n,) int array
        In version 0, where the first tract of the northernmost ring should be, the one at the north pole, which does
        not reach there.
    """
    num_rings, counts = config["num_rings"], tracts_of_rings(config["num_rings"])
    height = np.pi / (num_rings + 1)
    ra, dec = np.radians(np.asarray(ra, float) - config["ra_start"]) % (2 * np.pi), np.radians(dec)
    south = 0.5 * height - 0.5 * np.pi
    ring = np.clip(((dec - south) / height).astype(int), 0, num_rings - 1)
    part = (ra / (2 * np.pi / counts[ring]) + 0.5).astype(int) % counts[ring]
    if config["version"] == 0:
        ring = ring + ((part == 0) & (ring > 0))
    number = 1 + np.concatenate([[0], np.cumsum(counts)])[ring] + part
    return np.where(dec < south, 0, np.where(dec > -south, n_tracts(num_rings) - 1, number))


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
    num_rings, counts = config["num_rings"], tracts_of_rings(config["num_rings"])
    ring = np.repeat(np.arange(num_rings), counts)
    part = np.arange(len(ring)) - np.repeat(np.cumsum(counts) - counts, counts)
    if config["version"] == 0:  # the first tract of a ring has the number after its last one, but for the first ring
        ring[1:], part[1:] = ring[:-1].copy(), part[:-1] + 1
    ra = (360 * part / counts[ring] + config["ra_start"]) % 360
    dec = 180 / (num_rings + 1) * (ring + 1) - 90
    ra, dec = np.concatenate([[0], ra, [0]]), np.concatenate([[-90], dec, [90]])
    radius = 90 / (num_rings + 1) + config["tract_overlap"] / 3600
    return whole_sky.tracts(config, ra, dec, np.full(len(ra), radius), 0.0, "raise skymap.num_rings")


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


def identity(config: dict) -> str:
    """Fingerprint of a map, by which LSST's butler knows that two maps are the same.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.

    Returns
    -------
    str
        SHA-1 as lsst/skymap computes it of a RingsSkyMap with the legacy tract builder, in base 64.
    """
    size, overlap = config["patch_size"], config["tract_overlap"] / 3600
    grid = struct.pack("<iiidd", size, size, config["patch_border"], overlap, config["pixel_scale"])
    projection = struct.pack("<3sd", config["projection"].encode(), 0.0)
    rings = struct.pack("<id", config["num_rings"], config["ra_start"])
    return base64.b64encode(hashlib.sha1(b"RingsSkyMap" + grid + projection + rings).digest()).decode()
