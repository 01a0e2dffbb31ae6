"""Difference, science and template of skies with known transients, for the tests of detection and what follows it."""

import numpy as np
from builders import constant_psf, exposure, pixel_gaussian, tan_wcs

CONFIG = {"threshold": 5.0, "aperture": 12.0}
SIGMA = 2.4  # PSF [pixel], as in LSST's test_detectAndMeasure
SCIENCE_NOISE, TEMPLATE_NOISE = 1.0, 0.25


def wcs_at(x0=0.0, y0=0.0):
    """0.2 arcsec pixels, north up; the image's first pixel is (x0, y0) of a larger grid."""
    return tan_wcs((1, 1), centre=(150.0, -30.0), shift=(-x0, -y0))


def with_noise(image, noise, sigma=SIGMA, wcs=None):
    """An image whose variance plane says that it has this noise."""
    psf = constant_psf(pixel_gaussian(sigma, 41), image.shape)
    identity = {"visit": 42, "detector": 7, "band": "r", "mjd": 60000.5, "exptime": 30.0}
    return exposure(image, noise**2, psf, wcs or wcs_at(), **identity)


def stars(shape, x, y, flux, sigma=SIGMA):
    """Image of stars integrated over pixels."""
    image = np.zeros(shape)
    for xi, yi, fi in zip(x, y, np.broadcast_to(flux, np.shape(x))):
        ix, iy = int(np.floor(xi + 0.5)), int(np.floor(yi + 0.5))
        image[iy - 25 : iy + 26, ix - 25 : ix + 26] += fi * pixel_gaussian(sigma, 51, xi - ix, yi - iy)
    return image


def scattered(rng, shape, n, distance=40):
    """Positions at least `distance` apart and from the border."""
    x, y = np.zeros(0), np.zeros(0)
    while len(x) < n:
        new_x, new_y = rng.uniform(distance, shape[1] - distance), rng.uniform(distance, shape[0] - distance)
        if not (np.hypot(x - new_x, y - new_y) < distance).any():
            x, y = np.append(x, new_x), np.append(y, new_y)
    return x, y


def triplet(transients, seed=0, wcs=None, static=None):
    """Difference, science and template of a sky whose transients are an image of their pixels."""
    rng = np.random.default_rng(seed)
    shape = transients.shape
    static = np.zeros(shape) if static is None else static
    template = static + TEMPLATE_NOISE * rng.normal(size=shape)
    science = static + transients + SCIENCE_NOISE * rng.normal(size=shape)
    return (
        with_noise(science - template, np.hypot(SCIENCE_NOISE, TEMPLATE_NOISE), wcs=wcs),
        with_noise(science, SCIENCE_NOISE, wcs=wcs),
        with_noise(template, TEMPLATE_NOISE, wcs=wcs),
    )
