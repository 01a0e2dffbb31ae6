"""Simulated star fields of known PSF, for the tests of single-frame calibration."""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from builders import exposure_row, tan_wcs

from diaflow.store import tables

GAIN, READ_NOISE, BIAS, SKY, SATURATION = 2.0, 6.0, 300.0, 400.0, 60000.0
FWHM, BETA = 3.5, 3.5  # Moffat, at the centre of the field [pixel]
PIXEL_SCALE = 0.5
ZERO_POINT = 28.3


@dataclass
class Field:
    """Counts [DN] with the exposure-table row, and what is in them."""

    image: np.ndarray
    row: np.void
    x: np.ndarray
    y: np.ndarray
    flux: np.ndarray
    noiseless: np.ndarray


def moffat(dx, dy, fwhm, e1=0.0, e2=0.0, size=41, oversampling=5) -> np.ndarray:
    """Pixel-integrated elliptical Moffat stamps of unit sum, (n, size, size), displaced by dx, dy."""
    dx, dy, fwhm, e1, e2 = (v[:, None, None] for v in np.broadcast_arrays(np.atleast_1d(dx), dy, fwhm, e1, e2))
    t = (np.arange(size * oversampling) - (size * oversampling - 1) / 2) / oversampling
    u, v = t - dx, t[:, None] - dy
    r2 = ((1 - e1) * u**2 + (1 + e1) * v**2 - 2 * e2 * u * v) / np.sqrt(1 - e1**2 - e2**2)
    profile = (1 + r2 * 4 * (2 ** (1 / BETA) - 1) / fwhm**2) ** -BETA
    stamps = profile.reshape(len(profile), size, oversampling, size, oversampling).sum((2, 4))
    return stamps / stamps.sum((1, 2), keepdims=True)


def psf_at(x, y, shape) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FWHM and ellipticity of the fields at pixel positions: quadratic and linear over the detector."""
    u, v = 2 * np.asarray(x) / shape[1] - 1, 2 * np.asarray(y) / shape[0] - 1
    return FWHM * (1 + 0.06 * u + 0.04 * v**2 - 0.03 * u * v), 0.03 * u, 0.02 * v


def painted(shape, x, y, flux, fwhm, e1=0.0, e2=0.0) -> np.ndarray:
    """Noiseless image of stars."""
    size = 41
    h = size // 2
    big = np.zeros((shape[0] + 2 * size, shape[1] + 2 * size))
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    stamps = moffat(x - ix, y - iy, fwhm, e1, e2, size) * np.asarray(flux)[:, None, None]
    for stamp, i, j in zip(stamps, ix + size - h, iy + size - h):
        big[j : j + size, i : i + size] += stamp
    return big[size:-size, size:-size]


def make(size=512, spacing=36, log_flux=(3.0, 5.3), seed=1, keep=1.0, sky=SKY, varying=True, fwhm=FWHM) -> Field:
    """Stars near the nodes of a grid, so that all are isolated, at random sub-pixel phases.

    `seed` fixes the stars and `seed` + 1000 the noise; `keep` is the fraction of the nodes that have a star.
    """
    rng = np.random.default_rng(seed)
    node = np.arange(spacing / 2, size - spacing / 3, spacing)
    x, y = (g.ravel() + rng.uniform(-4, 4, g.size) for g in np.meshgrid(node, node))
    kept = rng.random(len(x)) < keep
    x, y = x[kept], y[kept]
    flux = 10 ** rng.uniform(*log_flux, len(x))
    shape = (size, size)
    width, e1, e2 = psf_at(x, y, shape) if varying else (fwhm, 0.0, 0.0)
    noiseless = painted(shape, x, y, flux, width, e1, e2)
    return Field(observed(noiseless + sky, seed + 1000), row(size), x, y, flux, noiseless)


def observed(counts: np.ndarray, seed: int) -> np.ndarray:
    """Noisy image [DN] of expected counts above the bias [DN]."""
    rng = np.random.default_rng(seed)
    electrons = rng.poisson(counts * GAIN) + rng.normal(0, READ_NOISE, counts.shape)
    return (electrons / GAIN + BIAS).astype(np.float32)


def row(size: int, **values) -> np.void:
    """Row of the exposure table."""
    known = {"gain": GAIN, "read_noise": READ_NOISE, "bias": BIAS, "saturation": SATURATION, "pixel_scale": PIXEL_SCALE}
    return exposure_row((size, size), **(known | values))


def wcs(size: int, offset: float = 0.0) -> WCS:
    """TAN projection, displaced by `offset` [deg] along right ascension."""
    return tan_wcs((size, size), PIXEL_SCALE, centre=(150 + offset, 2.0))


def refcat(field: Field) -> np.ndarray:
    """The stars of a field as a reference catalogue."""
    ra, dec = wcs(len(field.image)).all_pix2world(field.x, field.y, 0)
    mag = ZERO_POINT - 2.5 * np.log10(field.flux)
    return tables.from_columns(
        "refcat", id=np.arange(len(mag)), ra=ra, dec=dec, mag=mag, mag_err=0.01, star=np.ones(len(mag), bool)
    )


def robust(values: np.ndarray) -> tuple[float, float]:
    """Median and width (1.4826 MAD)."""
    middle = np.median(values)
    return float(middle), 1.4826 * float(np.median(np.abs(values - middle)))
