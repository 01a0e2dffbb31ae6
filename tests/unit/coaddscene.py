"""Coadds made for the measurement of Objects: sources with known truth, and footprints as a perfect deblender gives."""

import numpy as np
from builders import constant_psf, gaussian, tan_wcs

from diaflow.catalogue.blends import Blends
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.psf.coadd import CoaddPsf, PsfInput

SIGMA = 1.7  # of the PSF: 4 pixels FWHM [pixel]
STAMP = 31


def gaussians(shape, x, y, flux, sigma=SIGMA):
    """Images (n, m, m) of round Gaussians and their boxes (n, 4); m is odd and holds 6 sigma."""
    x, y, flux, sigma = np.broadcast_arrays(*(np.atleast_1d(np.asarray(a, float)) for a in (x, y, flux, sigma)))
    half = int(np.ceil(6 * sigma.max()))
    t = np.arange(-half, half + 1)
    ix, iy = np.round(x).astype(int), np.round(y).astype(int)
    gx, gy = (np.exp(-((t + (i - p)[:, None]) ** 2) / (2 * sigma[:, None] ** 2)) for i, p in ((ix, x), (iy, y)))
    images = (flux / (2 * np.pi * sigma**2))[:, None, None] * gy[:, :, None] * gx[:, None, :]
    return images, np.column_stack([ix - half, iy - half, ix + half, iy + half])


def painted(shape, images, boxes):
    """The sum of images (n, m, m) in boxes that may leave it."""
    out = np.zeros(np.array(shape) + 2 * images.shape[-1])
    margin = images.shape[-1]
    for image, (x0, y0, x1, y1) in zip(images, boxes):
        out[margin + y0 : margin + y1 + 1, margin + x0 : margin + x1 + 1] += image
    return out[margin:-margin, margin:-margin]


def coadd(image, sigma_noise=1.0, psf=None, noise=WHITE, seed=1, variance=None):
    """An exposure with white noise added and a variance plane."""
    image = np.asarray(image, float)
    variance = np.full(image.shape, sigma_noise**2) if variance is None else variance
    pixels = image + np.random.default_rng(seed).normal(0, 1, image.shape) * np.sqrt(variance)
    psf = constant_psf(gaussian(SIGMA, STAMP), image.shape) if psf is None else psf
    return exposure_of(pixels, variance, psf, noise)


def exposure_of(pixels, variance, psf, noise=WHITE):
    """An exposure with one input."""
    shape = pixels.shape
    wcs = tan_wcs(shape)
    source = PsfInput(1, 0, 1.0, psf, wcs, (0, 0, shape[1] - 1, shape[0] - 1), 0.98)
    return Exposure(
        image=pixels.astype(np.float32),
        variance=np.asarray(variance, np.float32),
        mask=np.zeros(shape, np.int32),
        wcs=wcs,
        psf=CoaddPsf([source], wcs),
        noise=noise,
        metadata={"band": "r", "n_inputs": 1},
    )


def blends(exposure, x, y, half=10, shares=None, parent=None, n_child=None):
    """Boxes of 2 half + 1 pixels about each source; the pixels are those of the image times the shares (n, m, m)."""
    ny, nx = exposure.shape
    ix, iy = np.round(x).astype(int), np.round(y).astype(int)
    boxes = np.column_stack([ix - half, iy - half, ix + half, iy + half])
    boxes = np.clip(boxes, 0, [nx - 1, ny - 1, nx - 1, ny - 1])
    parts, footprints = [], []
    for n, (x0, y0, x1, y1) in enumerate(boxes):
        pixels = exposure.image[y0 : y1 + 1, x0 : x1 + 1]
        part = pixels if shares is None else pixels * shares[n]
        parts.append(part.ravel())
        footprints.append(np.ones(part.size, bool))
    sizes = [len(part) for part in parts]
    return Blends(
        x=np.asarray(x, float),
        y=np.asarray(y, float),
        parent=np.full(len(x), -1) if parent is None else np.asarray(parent),
        n_child=np.zeros(len(x), int) if n_child is None else np.asarray(n_child),
        boxes=boxes,
        offsets=np.r_[0, np.cumsum(sizes)],
        pixels=np.concatenate(parts).astype(np.float32) if parts else np.empty(0, np.float32),
        footprint=np.concatenate(footprints) if parts else np.empty(0, bool),
    )
