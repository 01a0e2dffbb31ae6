"""A field of stars of many colours, seen through the atmosphere at several zenith distances: for the tests of DCR.

Every visit has its own seeing and its own geometry; its WCS and its PSF are those of the mean star, as calibration
makes them.  Light is spread over many more wavelengths than there are sub-bands.
"""

import builders
import numpy as np
from builders import constant_psf, source_table, star_image, tan_wcs

from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.psfmatch.homogeneous import homogenise, model_psf
from diaflow.sky import refraction

SETTINGS = {"latitude": -30.2446, "longitude": -70.7494, "altitude": 2663.0, "subbands": 3, "bands": {"g": [404, 552]}}
SHAPE = (420, 440)
PIXEL = 0.3
FIELD = 150.0, -20.0
N_WAVELENGTHS = 25
STAMP = 31
MATCHED_FWHM = 5.5

FINE = refraction.Subbands.from_config(SETTINGS | {"subbands": N_WAVELENGTHS}, "g")


def wcs(shape=SHAPE, rotation=0.0, pixel=PIXEL):
    """North up, east left, but for a rotation [deg]."""
    return tan_wcs(shape, pixel, rotation, centre=FIELD)


class Sky:
    """Stars with the colours of a random population.

    Attributes
    ----------
    x, y, flux : (n,) arrays
        In the pixels of `wcs()`, and in nJy.
    spectra : (n, N_WAVELENGTHS) array
        Part of the flux at each wavelength.
    """

    def __init__(self, n=60, seed=1, flux=(3e3, 6e4)):
        rng = np.random.default_rng(seed)
        columns = int(np.ceil(np.sqrt(n * SHAPE[1] / SHAPE[0])))
        rows = -(-n // columns)
        gx, gy = np.meshgrid(np.arange(columns), np.arange(rows))
        step = (SHAPE[1] - 60) / columns, (SHAPE[0] - 60) / rows
        self.x = 30 + (gx.ravel()[:n] + 0.5) * step[0] + rng.uniform(-6, 6, n)
        self.y = 30 + (gy.ravel()[:n] + 0.5) * step[1] + rng.uniform(-6, 6, n)
        self.flux = np.exp(rng.uniform(*np.log(flux), n))
        u = np.linspace(-1, 1, N_WAVELENGTHS)
        # A slope of up to a factor 3 either way across the band, and an absorption edge of up to 40 %.
        slope, edge, where = rng.uniform(-0.55, 0.55, n), rng.uniform(0, 0.4, n), rng.uniform(-1, 1, n)
        spectra = np.exp(-slope[:, None] * u) * (1 - edge[:, None] * (u < where[:, None]))
        self.spectra = spectra / spectra.sum(1, keepdims=True)

    def offsets(self, mjd, grid, shape):
        """Displacement of each wavelength from the mean star (N_WAVELENGTHS, 2) [pixel]."""
        offsets = FINE.offsets(mjd, grid, shape)
        return offsets - self.spectra.mean(0) @ offsets

    def displacements(self, mjd, grid, shape):
        """Displacement of each star from the mean star (n, 2) [pixel]."""
        return self.spectra @ self.offsets(mjd, grid, shape)

    def psf(self, mjd, grid, shape, sigma):
        """Stamp of the mean star."""
        offsets, spectrum = self.offsets(mjd, grid, shape), self.spectra.mean(0)
        places = STAMP // 2 + offsets
        stamp = sum(s * star_image((STAMP, STAMP), *place, sigma) for s, place in zip(spectrum, places))
        return stamp / stamp.sum()

    def image(self, mjd, grid, shape, sigma):
        """All stars without noise."""
        image = np.pad(np.zeros(shape), 3 * STAMP)
        x, y = grid.all_world2pix(*wcs().all_pix2world(self.x, self.y, 0), 0)
        offsets, half = self.offsets(mjd, grid, shape), STAMP
        box = (2 * half + 1, 2 * half + 1)
        for xi, yi, flux, spectrum in zip(x, y, self.flux, self.spectra):
            i, j = round(float(xi)), round(float(yi))
            places = np.array([half + xi - i, half + yi - j]) + offsets
            star = sum(s * star_image(box, *place, sigma) for s, place in zip(spectrum, places))
            image[j + 2 * half : j + 4 * half + 1, i + 2 * half : i + 4 * half + 1] += flux * star
        return image[3 * STAMP : -3 * STAMP, 3 * STAMP : -3 * STAMP]


def exposure(sky, visit, mjd, sigma, noise, grid=None, shape=SHAPE, seed=0, noiseless=False):
    """A visit; photon noise is not simulated, and none at all if wanted."""
    grid = wcs(shape) if grid is None else grid
    rng = np.random.default_rng([seed, visit])
    image = sky.image(mjd, grid, shape, sigma) + (0 if noiseless else rng.normal(0, noise, shape))
    psf = constant_psf(sky.psf(mjd, grid, shape, sigma), shape)
    identity = {"visit": visit, "detector": 0, "band": "g", "mjd": mjd}
    return builders.exposure(image, noise**2, psf, grid, **identity)


def warps(sky, dates, sigmas, noise, seed=0, noiseless=False):
    """Visits on the grid of a patch."""
    out = []
    for visit, (mjd, sigma) in enumerate(zip(dates, sigmas)):
        made = exposure(sky, visit, mjd, sigma, noise, seed=seed, noiseless=noiseless)
        source = PsfInput(visit, 0, 1.0, made.psf, made.wcs, (0, 0, SHAPE[1] - 1, SHAPE[0] - 1))
        made.psf = CoaddPsf([source], made.wcs)
        made.metadata["mean_variance"] = noise**2
        out.append(made)
    return out


def write(folder, made):
    """Files of the warps and of their PSF-matched versions."""
    model = model_psf(MATCHED_FWHM, STAMP)
    paths = [[str(folder / f"{kind}_{k}.fits") for k in range(len(made))] for kind in ("warp", "matched")]
    for warp, direct, matched in zip(made, *paths):
        warp.write(direct)
        homogenise(warp, model).write(matched)
    return paths


def airmass_and_angle(mjd):
    """Airmass and parallactic angle [deg] of the field."""
    place = (SETTINGS[name] for name in ("latitude", "longitude", "altitude"))
    distance, angle = refraction.towards(*FIELD, *refraction.zenith(mjd, *place))
    return 1 / np.cos(np.radians(distance)), angle


def sources(sky, grid, shape, sigma, noise):
    """Table of sources of an image, from the truth."""
    x, y = grid.all_world2pix(*wcs().all_pix2world(sky.x, sky.y, 0), 0)
    inside = (x > 25) & (x < shape[1] - 26) & (y > 25) & (y < shape[0] - 26)
    error = noise * np.sqrt(4 * np.pi) * sigma
    return source_table(x[inside], y[inside], sky.flux[inside], error)
