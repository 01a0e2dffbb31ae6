"""Objects on a detector: stars and galaxies as sums of elliptical Gaussians.

Point sources are the Gaussians of the PSF; galaxies are the Gaussians of an exponential disc or of a de Vaucouleurs
profile convolved with each of those, i.e. with added covariances.
"""

import numpy as np

from diaflow.simulate import field, gaussians, optics
from diaflow.simulate.pointing import Visit
from diaflow.simulate.profiles import Profile

# Least-squares fit to an exponential disc; sigma in units of its half-light radius.
DISC_WEIGHT = np.array([0.5041, 0.3951, 0.1008])
DISC_SIGMA = np.array([0.7276, 1.3779, 0.2926])
# Amplitudes and variances of Hogg & Lang (2013, PASP 125, 719) for a de Vaucouleurs profile that ends at 8 half-light
# radii, within 3 % of it from 0.05 to 4; scaled such that half of the light is within a sigma of 1.
_LUV_AMPLITUDE = np.array([0.0426348, 0.240127, 0.685908, 1.51937, 2.83627, 4.46468, 5.72441, 5.60990])
_LUV_VARIANCE = np.array([2.23759e-4, 1.00220e-3, 4.18731e-3, 1.69433e-2, 6.84850e-2, 0.287207, 1.33320, 8.40215])
_LUV_HALF_LIGHT = 0.91546  # of their sum
BULGE_WEIGHT, BULGE_SIGMA = _LUV_AMPLITUDE / _LUV_AMPLITUDE.sum(), np.sqrt(_LUV_VARIANCE) / _LUV_HALF_LIGHT
GALAXY_PROFILES = {1: (DISC_WEIGHT, DISC_SIGMA), 4: (BULGE_WEIGHT, BULGE_SIGMA)}  # by Sérsic index


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
    for index, (weight, sigma) in GALAXY_PROFILES.items():
        mine = ~point & (objects["sersic"] == index)
        galaxies, true = objects[mine], visit.true
        rotation = true.rotation + field.convergence(config, true.ra, true.dec, galaxies["ra"], galaxies["dec"])
        own = galaxy_moments(galaxies, rotation, config["pixel_scale"], sigma)
        convolved = Profile(
            np.outer(weight, profile.weight).ravel(), np.tile(profile.sigma, len(sigma)), profile.copies
        )
        moments = (own[:, :, None, :] + psf[mine][:, None, :, :]).reshape(len(galaxies), len(convolved.weight), 3)
        _add(image, x[mine], y[mine], flux[mine], convolved, moments)


def galaxy_moments(
    galaxies: np.ndarray, rotation: np.ndarray | float, pixel_scale: float, sigma: np.ndarray
) -> np.ndarray:
    """Second moments of the Gaussians of galaxies, before seeing, for pixels with x west and y north.

    The major axis has the half-light radius times the Gaussians' sigma, at the position angle east of north.

    Parameters
    ----------
    galaxies : "truth_object" table
    rotation : (n,) array or float
        Position angle of the y axis at the galaxies [deg].
    pixel_scale : float
        [arcsec]
    sigma : (m,) array
        Of the Gaussians of their profile [half-light radius].

    Returns
    -------
    (n, m, 3) array
        xx, xy, yy [pixel**2] (last axis) of the Gaussians.
    """
    angle = np.radians(90 + galaxies["positionAngle"] - rotation)
    major = (galaxies["radius"] / pixel_scale) ** 2
    minor = major * galaxies["axisRatio"] ** 2
    cos, sin = np.cos(angle), np.sin(angle)
    unit = np.stack([major * cos**2 + minor * sin**2, (major - minor) * sin * cos, major * sin**2 + minor * cos**2], -1)
    return sigma[:, None] ** 2 * unit[:, None, :]


def _add(image: np.ndarray, x: np.ndarray, y: np.ndarray, flux: np.ndarray, profile: Profile, moments: np.ndarray):
    """Add sources: fluxes (n,), moments (n, m, 3) before pixel integration of Gaussians of the profile's weights."""
    m, copies = len(profile.weight), len(profile.copies)
    light = np.outer(flux, profile.weight).ravel() / copies
    for copy_x, copy_y in profile.copies:
        gaussians.add(image, np.repeat(x + copy_x, m), np.repeat(y + copy_y, m), light, moments.reshape(-1, 3))
