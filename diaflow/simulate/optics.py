"""What the camera does to light: true WCS with distortion, and a PSF that varies over the focal plane.

The distortion (a radial cubic and a tilt) is fixed in the camera and written as TAN-SIP (Shupe et al. 2005).
The PSF is a Moffat profile of beta = 3.5 in three elliptical Gaussians, within 3 % of it out to two FWHM; its
size and ellipticity change smoothly over the focal plane, differently in every visit.
"""

import numpy as np
from astropy.wcs import WCS, Sip

from diaflow.simulate.pointing import Visit, boresight, cd_matrix, stream

# Least-squares fit to a Moffat profile of beta = 3.5; sigma in units of the FWHM of the sum.
PSF_WEIGHT = np.array([0.4181, 0.5010, 0.0809])
PSF_SIGMA = np.array([0.36839, 0.61451, 1.16808])
RADIAL, TILT = 1.2e-9, 4e-7  # distortion [1/pixel**2, 1/pixel], chosen
# Chosen: relative change of the PSF's size from the centre to the edge of the camera; its ellipticity in a visit, and
# the change of that.
SIZE_VARIATION, ELLIPTICITY, ELLIPTICITY_VARIATION = 0.03, 0.03, 0.02


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
        TAN-SIP about the centre of the camera, without the polynomials of the inverse.
    """
    a, b = np.zeros((4, 4)), np.zeros((4, 4))
    a[3, 0] = a[1, 2] = b[0, 3] = b[2, 1] = RADIAL
    a[2, 0] = b[1, 1] = TILT
    wcs = WCS(naxis=2)
    reference = np.add(boresight(config, detector), 1)
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
    x0, y0 = boresight(config, detector)
    half = config["detectors"] * config["size"] / 2
    return (x - x0) / half, (y - y0) / half


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
    (n, 3, 3) array
        xx, xy, yy [pixel**2] (last axis) of the three Gaussians, whose weights are `PSF_WEIGHT`.
    """
    u, v = focal_plane(config, detector, x, y)
    rng = stream(config["seed"], "psf", visit.visit)
    terms = np.stack([u, v, u**2 + v**2])
    size = 1 + SIZE_VARIATION * (rng.uniform(-1, 1, 3) @ terms)
    e1, e2 = (rng.normal(0, ELLIPTICITY) + ELLIPTICITY_VARIATION * (rng.uniform(-1, 1, 3) @ terms) for _ in range(2))
    area = (size * visit.seeing / config["pixel_scale"]) ** 2 / np.sqrt(1 - e1**2 - e2**2)
    unit = np.stack([area * (1 + e1), area * e2, area * (1 - e1)], axis=-1)
    return PSF_SIGMA[:, None] ** 2 * unit[:, None, :]
