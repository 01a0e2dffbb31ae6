"""Objects on a detector: stars and galaxies as sums of elliptical Gaussians.

Point sources are the Gaussians of the PSF; galaxies are three Gaussians convolved with each of those, i.e. with added
covariances.
"""

import numpy as np

from diaflow.simulate import field, gaussians, optics
from diaflow.simulate.pointing import Visit
from diaflow.simulate.profiles import Profile

# Least-squares fit to an exponential disc; sigma in units of its half-light radius.
DISC_WEIGHT = np.array([0.5041, 0.3951, 0.1008])
DISC_SIGMA = np.array([0.7276, 1.3779, 0.2926])


def draw(
    image: np.ndarray,
    config: dict,
    visit: Visit,
    detector: int,
    objects: np.ndarray,
    flux: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    corner: tuple[int, int] = (0, 0),
) -> None:
    """Add objects to an image, or to a part of one.

    Parameters
    ----------
    image : (ny, nx) float64 array
        Changed in place.
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int
    objects : "truth_object" table
    flux : (n,) array
        Total of each [unit of the image].
    x, y : (n,) arrays
        Their positions on the detector [pixel].
    corner : (int, int)
        x, y of the image's first pixel on the detector.
    """
    profile = optics.profile(config, visit, detector)
    psf = optics.psf(config, visit, detector, x, y)
    x, y = x - corner[0], y - corner[1]
    point = objects["radius"] == 0
    _add(image, x[point], y[point], flux[point], profile, psf[point])
    galaxies, m = objects[~point], len(profile.weight)
    true = visit.true
    rotation = true.rotation + field.convergence(config, true.ra, true.dec, galaxies["ra"], galaxies["dec"])
    disc = disc_moments(galaxies, rotation, config["pixel_scale"])
    convolved = Profile(np.outer(DISC_WEIGHT, profile.weight).ravel(), np.tile(profile.sigma, 3), profile.copies)
    moments = (disc[:, :, None, :] + psf[~point][:, None, :, :]).reshape(-1, 3 * m, 3)
    _add(image, x[~point], y[~point], flux[~point], convolved, moments)


def disc_moments(galaxies: np.ndarray, rotation: np.ndarray | float, pixel_scale: float) -> np.ndarray:
    """Second moments of the Gaussians of galaxies, before seeing, for pixels with x west and y north.

    The major axis has the half-light radius times the Gaussians' sigma, at the position angle east of north.

    Parameters
    ----------
    galaxies : "truth_object" table
    rotation : (n,) array or float
        Position angle of the y axis at the galaxies [deg].
    pixel_scale : float
        [arcsec]

    Returns
    -------
    (n, 3, 3) array
        xx, xy, yy [pixel**2] (last axis) of the three Gaussians, whose weights are `DISC_WEIGHT`.
    """
    angle = np.radians(90 + galaxies["positionAngle"] - rotation)
    major = (galaxies["radius"] / pixel_scale) ** 2
    minor = major * galaxies["axisRatio"] ** 2
    cos, sin = np.cos(angle), np.sin(angle)
    unit = np.stack([major * cos**2 + minor * sin**2, (major - minor) * sin * cos, major * sin**2 + minor * cos**2], -1)
    return DISC_SIGMA[:, None] ** 2 * unit[:, None, :]


def _add(image: np.ndarray, x: np.ndarray, y: np.ndarray, flux: np.ndarray, profile: Profile, moments: np.ndarray):
    """Add sources: fluxes (n,), moments (n, m, 3) before pixel integration of Gaussians of the profile's weights."""
    m, copies = len(profile.weight), len(profile.copies)
    light = np.outer(flux, profile.weight).ravel() / copies
    for copy_x, copy_y in profile.copies:
        gaussians.add(image, np.repeat(x + copy_x, m), np.repeat(y + copy_y, m), light, moments.reshape(-1, 3))
