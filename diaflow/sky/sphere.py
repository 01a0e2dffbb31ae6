"""The sphere: unit vectors, angles, and the gnomonic plane, in which great circles are straight lines."""

import numpy as np

# Beyond this distance from the tangent point [cosine], 84 deg, an image cannot be on a tract, and TAN runs away.
LEAST_COSINE = 0.1


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors of positions.

    Parameters
    ----------
    ra, dec : arrays or floats
        [deg]

    Returns
    -------
    (..., 3) array
    """
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def axes(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors to the east and to the north of positions, those of the right ascension at a pole too.

    Parameters
    ----------
    ra, dec : arrays or floats
        [deg]

    Returns
    -------
    (..., 2, 3) array
    """
    ra, dec = np.broadcast_arrays(np.radians(ra), np.radians(dec))
    east = np.stack([-np.sin(ra), np.cos(ra), np.zeros(ra.shape)], axis=-1)
    north = np.stack([-np.sin(dec) * np.cos(ra), -np.sin(dec) * np.sin(ra), np.cos(dec)], axis=-1)
    return np.stack([east, north], axis=-2)


def sky_position(vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `unit_vectors`.

    Parameters
    ----------
    vectors : (..., 3) array
        Of any length but 0.

    Returns
    -------
    ra, dec : (...) arrays [deg]
        Right ascension in 0 ... 360.
    """
    x, y, z = np.moveaxis(vectors, -1, 0)
    return np.degrees(np.arctan2(y, x)) % 360.0, np.degrees(np.arctan2(z, np.hypot(x, y)))


def separation(v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Angles between unit vectors, from half their chord: exact where they are small.

    Parameters
    ----------
    v, w : (..., 3) arrays

    Returns
    -------
    (...) array
        [rad]
    """
    return 2 * np.arcsin(np.clip(np.linalg.norm(v - w, axis=-1) / 2, 0, 1))


def between(v: np.ndarray, w: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Unit vectors on the great circle through pairs of others, at a part of the way from the first to the second.

    Parameters
    ----------
    v, w : (n, 3) arrays
    part : (n,) array
        Below 0 and above 1 it is beyond one of them.

    Returns
    -------
    (n, 3) array
        The first one where both are the same.
    """
    angle = np.maximum(separation(v, w), np.finfo(float).tiny)[:, None]
    part = np.asarray(part)[:, None]
    return (np.sin((1 - part) * angle) * v + np.sin(part * angle) * w) / np.sin(angle)


def gnomonic(ra: np.ndarray, dec: np.ndarray, ra_0: float, dec_0: float) -> tuple[np.ndarray, np.ndarray]:
    """Position in the plane that touches the sky at (ra_0, dec_0), xi to the east, eta to the north.

    Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3.

    Parameters
    ----------
    ra, dec, ra_0, dec_0 : arrays or floats [deg]

    Returns
    -------
    xi, eta : arrays [rad]; NaN for positions 84 deg or more from the tangent point.
    """
    a, d, d0 = np.radians(np.asarray(ra, float) - ra_0), np.radians(dec), np.radians(dec_0)
    sin_d, cos_d, sin_d0, cos_d0, cos_a = np.sin(d), np.cos(d), np.sin(d0), np.cos(d0), np.cos(a)
    cosine = sin_d0 * sin_d + cos_d0 * cos_d * cos_a
    cosine = np.where(cosine > LEAST_COSINE, cosine, np.nan)
    return cos_d * np.sin(a) / cosine, (cos_d0 * sin_d - sin_d0 * cos_d * cos_a) / cosine


def equal_area(ra: np.ndarray, dec: np.ndarray, ra_0: float, dec_0: float) -> tuple[np.ndarray, np.ndarray]:
    """Position in Lambert's zenithal equal-area projection about a point, the whole sky in a circle of radius 2.

    Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.7.

    Parameters
    ----------
    ra, dec, ra_0, dec_0 : arrays or floats [deg]

    Returns
    -------
    x, y : arrays [rad]
        To the east and to the north; NaN at the opposite point.
    """
    east, north = axes(ra_0, dec_0)
    v = unit_vectors(ra, dec)
    beyond = 1 + v @ unit_vectors(ra_0, dec_0)
    stretch = np.sqrt(2 / np.where(beyond > 0, beyond, np.nan))
    return v @ east * stretch, v @ north * stretch


def from_gnomonic(
    xi: np.ndarray, eta: np.ndarray, ra_0: np.ndarray, dec_0: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `gnomonic`, exact at the poles too.

    Parameters
    ----------
    xi, eta : arrays [rad]
    ra_0, dec_0 : [deg]

    Returns
    -------
    ra, dec : arrays [deg]
        Right ascension in 0 ... 360.
    """
    d0 = np.radians(dec_0)
    outwards = np.cos(d0) - eta * np.sin(d0)  # from the axis of the sphere
    dec = np.arctan2(np.sin(d0) + eta * np.cos(d0), np.hypot(xi, outwards))
    return (ra_0 + np.degrees(np.arctan2(xi, outwards))) % 360, np.degrees(dec)


def moved(
    ra: np.ndarray, dec: np.ndarray, pm_ra: np.ndarray, pm_dec: np.ndarray, days: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions after some time of proper motion, along straight lines in the plane that touches the sky at each.

    Parameters
    ----------
    ra, dec : (n,) arrays
        [deg]
    pm_ra, pm_dec : (n,) arrays
        Proper motion, that in right ascension times cos(dec) [deg/d].
    days : (n,) array
        [d]

    Returns
    -------
    ra, dec : (n,) arrays
        [deg]; unchanged where the motion or the time is not known.
    """
    ra, dec = ra.copy(), dec.copy()
    moving = np.flatnonzero(np.isfinite(pm_ra + pm_dec + days))
    east, north = (np.radians(pm[moving] * days[moving]) for pm in (pm_ra, pm_dec))
    ra[moving], dec[moving] = from_gnomonic(east, north, ra[moving], dec[moving])
    return ra, dec


def offsets(ra: np.ndarray, dec: np.ndarray, ra_0: np.ndarray, dec_0: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Small offsets to the east and to the north of a position, across RA 0 too.

    Parameters
    ----------
    ra, dec, ra_0, dec_0 : arrays or floats
        Positions and where the offsets begin [deg].

    Returns
    -------
    east, north : arrays [deg]
        Along the circle of declination and the meridian of the beginning: right to the square of the offset.
    """
    return ((ra - ra_0 + 180) % 360 - 180) * np.cos(np.radians(dec_0)), dec - dec_0


def within(ra: np.ndarray, dec: np.ndarray, ra_0: float, dec_0: float, radius: float) -> np.ndarray:
    """Which positions are within a circle on the sky.

    Parameters
    ----------
    ra, dec : (n,) arrays
        Positions [deg].
    ra_0, dec_0, radius : float
        Of the circle [deg].

    Returns
    -------
    (n,) bool array
    """
    near = np.abs(dec - dec_0) <= radius
    near[near] = separation(unit_vectors(ra[near], dec[near]), unit_vectors(ra_0, dec_0)) <= np.radians(radius)
    return near


def towards(ra: float, dec: float, to_ra: float, to_dec: float) -> tuple[float, float]:
    """Where one point of the sky is, seen from another.

    Towards the zenith they are the zenith distance and the parallactic angle.

    Parameters
    ----------
    ra, dec : float
        Where one looks from [deg].
    to_ra, to_dec : float
        Where one looks to [deg].

    Returns
    -------
    distance, angle : float
        Angle between them, and position angle, from north through east [deg].
    """
    d, to_d, along = np.radians([dec, to_dec, to_ra - ra])
    east = np.cos(to_d) * np.sin(along)
    north = np.cos(d) * np.sin(to_d) - np.sin(d) * np.cos(to_d) * np.cos(along)
    up = np.sin(d) * np.sin(to_d) + np.cos(d) * np.cos(to_d) * np.cos(along)
    return float(np.degrees(np.arctan2(np.hypot(east, north), up))), float(np.degrees(np.arctan2(east, north)))
