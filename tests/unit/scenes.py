"""Pairs of images for the tests of image subtraction, after the recipe of LSST's ip_diffim (makeTestImage)."""

import numpy as np
from builders import IDENTITY, constant_psf, exposure, gaussian, source_table

CONFIG = {
    "mode": "auto",
    "kernel_order": 1,
    "background_order": 2,
    "scale_order": 0,
    "basis": "gaussian",
    "min_coverage": 0.1,
}


def add_stars(image, x, y, flux, sigma):
    """Add Gaussian stars in place."""
    half = 20
    padded = np.pad(image, half)
    for xi, yi, f in zip(x, y, flux):
        col, row = round(xi), round(yi)
        box = padded[row : row + 2 * half + 1, col : col + 2 * half + 1]
        box += f * gaussian(sigma, 2 * half + 1, xi - col, yi - row)
    image[:] = padded[half:-half, half:-half]


def make_image(sigma=2.0, noise=1.0, noise_seed=6, n_stars=20, size=256, background=None, border=20):
    """An exposure and its sources; the stars depend on the number and the size of the image alone."""
    stars, rng = np.random.RandomState(5), np.random.RandomState(noise_seed)
    buffer = 31 // 2 + border + 1
    x, y = (stars.rand(n_stars) * (size - 2 * buffer) + buffer for _ in range(2))
    flux = (stars.rand(n_stars) + 1) * 500
    image = np.zeros((size, size))
    add_stars(image, x, y, flux, sigma)
    # The recipe adds the root of the image to the variance, a noise that is not in the pixels; not here.
    pixels = rng.randn(size, size) * noise
    image += pixels - pixels.mean()
    if background is not None:
        u, v = np.meshgrid(*(2 * np.arange(size) / (size - 1) - 1,) * 2)
        image += background(u, v)
    psf = constant_psf(gaussian(sigma), (size, size))
    error = noise * np.sqrt(4 * np.pi) * sigma
    return exposure(image, noise**2, psf, **IDENTITY), source_table(x, y, flux, error)


def without_stars(exposure, table, radius=20):
    """Pixels that are unmasked and far from every star."""
    ny, nx = exposure.shape
    far = exposure.mask == 0
    yy, xx = np.mgrid[:ny, :nx]
    for row in table:
        far &= (xx - row["x"]) ** 2 + (yy - row["y"]) ** 2 > radius**2
    return far


def psf_flux(exposure, x, y, psf=None):
    """PSF flux and error at whole-pixel positions, weights 1/V."""
    x, y = np.asarray(x), np.asarray(y)
    stamps = (psf or exposure.psf)(x, y)
    t = np.arange(stamps.shape[-1]) - stamps.shape[-1] // 2
    rows, cols = y[:, None, None] + t[:, None], x[:, None, None] + t
    weights = stamps / exposure.variance[rows, cols]
    power = (weights * stamps).sum((1, 2))
    return (weights * exposure.image[rows, cols]).sum((1, 2)) / power, 1 / np.sqrt(power)
