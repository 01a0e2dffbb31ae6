"""What the camera does to light: true WCS with distortion, and a PSF that varies over the focal plane.

The distortion (a radial cubic and a tilt) is fixed in the camera and written as TAN-SIP (Shupe et al. 2005).
The PSF is a sum of elliptical Gaussians (see `profiles`), by default a Moffat profile of beta = 3.5 within 3 % of it
out to two FWHM; its size and ellipticity change smoothly over the focal plane, differently in every visit.
"""

import numpy as np
from astropy.wcs import WCS, Sip

from diaflow.simulate import camera, gaussians, profiles
from diaflow.simulate.camera import cd_matrix, reference_pixel
from diaflow.simulate.pointing import Visit, stream
from diaflow.simulate.profiles import Profile

RADIAL, TILT = 1.2e-9, 4e-7  # distortion of the demo [1/pixel**2, 1/pixel], chosen
# Chosen: relative change of the PSF's size from the centre to the edge of the camera; its ellipticity in a visit, and
# the change of that.
SIZE_VARIATION, ELLIPTICITY, ELLIPTICITY_VARIATION = 0.03, 0.03, 0.02
RAYS, STEPS = 64, 200  # on which the width of the PSF is sought, and steps of each: far better than 1 %


def true_wcs(config: dict, visit: Visit, detector: int) -> WCS:
    """The distorted WCS through which a detector sees the sky.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int

    Returns
    -------
    astropy.wcs.WCS
        TAN-SIP about its reference point, without the polynomials of the inverse.
    """
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[3, 0] = a[1, 2] = b[0, 3] = b[2, 1] = RADIAL * config["distortion"]
    a[2, 0] = b[1, 1] = TILT * config["distortion"]
    wcs = WCS(naxis=2)
    reference = np.add(reference_pixel(config, detector), 1)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.crval = [visit.true.ra, visit.true.dec]
    wcs.wcs.crpix = reference
    wcs.wcs.cd = cd_matrix(config, visit.true.rotation)
    wcs.sip = Sip(a, b, None, None, reference)
    wcs.wcs.set()
    return wcs


def focal_plane(config: dict, detector: int, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Position on the camera in units of its half width.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    detector : int
    x, y : (n,) arrays
        Pixel positions on the detector.

    Returns
    -------
    u, v : (n,) arrays
    """
    x0, y0 = camera.centre(config, detector)
    half = config["detectors"] * config["size"] / 2
    return (x - x0) / half, (y - y0) / half


def profile(config: dict, visit: Visit, detector: int) -> Profile:
    """The shape of a star's image on a detector.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int

    Returns
    -------
    Profile
    """
    shape, number = config["psf"], visit.visit
    rng = stream(config["seed"], "profile", number)
    weight, sigma = profiles.PSF_WEIGHT, profiles.PSF_SIGMA
    if rng.uniform() < shape["double"]:
        weight, sigma = profiles.double_gaussian(*shape["halo"])
    elif shape["beta"]:
        weight, sigma = profiles.moffat(rng.uniform(*shape["beta"]))
    trailed, defocused = dict(shape["trailed"]), {(v, d): radius for v, d, radius in shape["defocused"]}
    copies = profiles.SINGLE
    if (number, detector) in defocused:
        copies = profiles.ring(defocused[number, detector])
    elif number in trailed:
        copies = profiles.trail(trailed[number], stream(config["seed"], "trail", number).uniform(0, np.pi))
    return Profile(weight, sigma, copies)


def psf(config: dict, visit: Visit, detector: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Second moments of the PSF's Gaussians, before pixel integration.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int
    x, y : (n,) arrays
        Pixel positions on the detector.

    Returns
    -------
    (n, m, 3) array
        xx, xy, yy [pixel**2] (last axis) of the m Gaussians of the `profile`.
    """
    u, v = focal_plane(config, detector, x, y)
    rng = stream(config["seed"], "psf", visit.visit)
    terms = np.stack([u, v, u**2 + v**2])
    size = 1 + SIZE_VARIATION * (rng.uniform(-1, 1, 3) @ terms)
    e1, e2 = (rng.normal(0, ELLIPTICITY) + ELLIPTICITY_VARIATION * (rng.uniform(-1, 1, 3) @ terms) for _ in range(2))
    area = (size * visit.seeing / config["pixel_scale"]) ** 2 / np.sqrt(1 - e1**2 - e2**2)
    unit = np.stack([area * (1 + e1), area * e2, area * (1 - e1)], axis=-1)
    return profile(config, visit, detector).sigma[:, None] ** 2 * unit[:, None, :]


def fwhm(config: dict, visit: Visit, detector: int) -> float:
    """Full width at half maximum of the PSF in the middle of a detector, integrated over the pixels.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int

    Returns
    -------
    float
        Diameter of the circle with the area inside the outermost places of half of the maximum [pixel].
    """
    shape = profile(config, visit, detector)
    middle = np.array([(config["size"] - 1) / 2])
    moments = np.tile(psf(config, visit, detector, middle, middle)[0], (len(shape.copies), 1))
    x, y = np.repeat(shape.copies, len(shape.weight), axis=0).T
    *centres, flux, moments = gaussians.integrated(x, y, np.tile(shape.weight, len(shape.copies)), moments)
    # As far as the widest of the copies and the seeing together.
    reach = np.hypot(*shape.copies.T).max() + 2 * visit.seeing / config["pixel_scale"] + 1
    r = np.linspace(0, reach, STEPS)
    angle = 2 * np.pi * np.arange(RAYS) / RAYS
    rays = np.stack([np.outer(np.cos(angle), r), np.outer(np.sin(angle), r)]).reshape(2, -1)
    profile_on_rays = gaussians.values(*rays, centres, flux, moments).reshape(RAYS, -1)
    half = profile_on_rays.max() / 2
    return 2 * float(np.sqrt(np.mean([_last_crossing(r, values, half) ** 2 for values in profile_on_rays])))


def _last_crossing(r: np.ndarray, values: np.ndarray, level: float) -> float:
    """Where values last fall below a level, between two of them along a straight line; 0 where they never reach it."""
    above = np.flatnonzero(values >= level)
    if not len(above):
        return 0.0
    i = above[-1]
    return r[i] + (r[i + 1] - r[i]) * (values[i] - level) / (values[i] - values[i + 1])
