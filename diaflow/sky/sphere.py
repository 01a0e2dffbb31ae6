"""The sphere: unit vectors, angles, and the gnomonic plane, in which great circles are straight lines."""

import numpy as np

# Beyond this distance from the tangent point [cosine] an image cannot be on a tract, and TAN runs away.
_NEAR = 0.1


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) of positions [deg]."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def sky_position(vector: np.ndarray) -> tuple[float, float]:
    """Right ascension and declination [deg] of a vector (3,)."""
    x, y, z = (float(component) for component in vector)
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def separation(v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Angles between unit vectors (..., 3) [rad], exact at any angle."""
    return 2 * np.arcsin(np.clip(np.linalg.norm(v - w, axis=-1) / 2, 0, 1))


def gnomonic(ra: np.ndarray, dec: np.ndarray, ra_0: float, dec_0: float) -> tuple[np.ndarray, np.ndarray]:
    """Position in the plane that touches the sky at (ra_0, dec_0), xi to the east, eta to the north.

    Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3.

    Parameters
    ----------
    ra, dec, ra_0, dec_0 : [deg]

    Returns
    -------
    xi, eta : arrays [rad]; NaN for positions 84 deg or more from the tangent point.
    """
    a, d, d0 = np.radians(np.asarray(ra, float) - ra_0), np.radians(dec), np.radians(dec_0)
    cosine = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    cosine = np.where(cosine > _NEAR, cosine, np.nan)
    xi = np.cos(d) * np.sin(a) / cosine
    eta = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / cosine
    return xi, eta
