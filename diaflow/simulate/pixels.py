"""Raw images: every source as a sum of elliptical Gaussians through the true WCS, then what a CCD does to it.

Point sources are the PSF's three Gaussians; galaxies are three Gaussians convolved with those three, i.e. nine with
added covariances.  Pixels are integrated to second order by adding 1/12 pixel**2 to the moments, which conserves
flux.  Then sky, cosmic rays, Poisson noise, bleeding, read noise, bias, bad columns, and rounding to uint16.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits
from numba import njit

from diaflow.image.exposure_file import write_fits
from diaflow.jit import EXACT
from diaflow.simulate import optics, pointing
from diaflow.simulate.pointing import Visit, stream
from diaflow.simulate.sky import Survey
from diaflow.units import NANOJANSKY_ZERO_POINT

# Least-squares fit to an exponential disc; sigma in units of its half-light radius.
DISC_WEIGHT = np.array([0.5041, 0.3951, 0.1008])
DISC_SIGMA = np.array([0.7276, 1.3779, 0.2926])
PIXEL_MOMENT = 1 / 12  # of a square pixel [pixel**2]
REACH = 6.0  # half side of a Gaussian's box [sigma]; 4e-9 of the flux is outside
SOURCE_REACH = 60.0  # largest distance of a source that is drawn from the edge of the image [arcsec]
# Cosmic rays, chosen: number per pixel, mean length beyond the first pixel [pixel], median charge [electron/pixel] and
# the scatter of its logarithm; charge is laid down at this many points along a track.
COSMIC_RAYS = 30 / 1024**2
COSMIC_RAY_LENGTH, COSMIC_RAY_CHARGE, COSMIC_RAY_SCATTER = 5.0, 1500.0, 0.7
TRACK_POINTS = 100
FULL_WELL = 1.02 * pointing.SATURATION  # where pixels bleed [DN]: above what the header calls saturated
DEAD_COLUMNS, HOT_COLUMNS = 2, 1  # of each detector, chosen
ADC_MAX = 65535  # of 16 bits [DN]


def render(survey: Survey, visit: int, detector: int) -> tuple[np.ndarray, fits.Header]:
    """One raw image.

    Parameters
    ----------
    survey : Survey
    visit, detector : int

    Returns
    -------
    image : (size, size) uint16 array
        Raw counts [DN].
    header : astropy.io.fits.Header
        What the `generic` instrument map reads; its WCS has no distortion and a pointing error.
    """
    epoch = survey.visit(visit)
    rng = stream(survey.config["seed"], "pixels", visit, detector)
    electrons = sky_image(survey.config, epoch, detector) + scene(survey, visit, detector)
    electrons *= pointing.GAIN
    _add_cosmic_rays(electrons, rng)
    electrons = rng.poisson(electrons).astype(float)
    bleed(electrons, pointing.GAIN * (FULL_WELL - pointing.BIAS))
    electrons += rng.normal(0, pointing.READ_NOISE, electrons.shape)
    counts = np.rint(electrons / pointing.GAIN + pointing.BIAS)
    image = np.clip(counts, 0, ADC_MAX).astype(np.uint16)
    _spoil_columns(image, stream(survey.config["seed"], "columns", detector))
    return image, fits.Header([(key, *card) for key, card in pointing.header(survey.config, epoch, detector).items()])


def write(survey: Survey, visit: int, detector: int, path: str | Path) -> None:
    """Render one raw image and write it.

    Parameters
    ----------
    survey : Survey
    visit, detector : int
    path : path
        A FITS file, which appears under its name only when it is complete.

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    write_fits([fits.PrimaryHDU(*render(survey, visit, detector))], path)


def sky_image(config: dict, visit: Visit, detector: int) -> np.ndarray:
    """The sky background: a plane.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int

    Returns
    -------
    (size, size) array
        [DN]
    """
    t = np.arange(config["size"])
    u, v = optics.focal_plane(config, detector, t, t)
    gx, gy = visit.sky_gradient
    return visit.sky * (1 + gx * u + gy * v[:, None])


def scene(survey: Survey, visit: int, detector: int) -> np.ndarray:
    """All objects on a detector without noise, sky or defects.

    Parameters
    ----------
    survey : Survey
    visit, detector : int

    Returns
    -------
    (size, size) array
        [DN]
    """
    size = survey.config["size"]
    epoch = survey.visit(visit)
    wcs = optics.true_wcs(survey.config, epoch, detector)
    flux = survey.flux[:, visit - 1] * 10 ** (0.4 * (epoch.zero_point - NANOJANSKY_ZERO_POINT))
    x, y = wcs.all_world2pix(survey.objects["ra"], survey.objects["dec"], 0)
    reach = SOURCE_REACH / survey.config["pixel_scale"]
    near = (flux > 0) & (np.abs(x - size / 2) < size / 2 + reach) & (np.abs(y - size / 2) < size / 2 + reach)
    objects, flux, x, y = survey.objects[near], flux[near], x[near], y[near]
    psf = optics.psf(survey.config, epoch, detector, x, y)
    image = np.zeros((size, size))
    point = objects["radius"] == 0
    _add(image, x[point], y[point], flux[point], optics.PSF_WEIGHT, psf[point])
    disc = _disc_moments(objects[~point], epoch.true.rotation, survey.config["pixel_scale"])
    weights = np.outer(DISC_WEIGHT, optics.PSF_WEIGHT).ravel()
    moments = (disc[:, :, None, :] + psf[~point][:, None, :, :]).reshape(-1, len(weights), 3)
    _add(image, x[~point], y[~point], flux[~point], weights, moments)
    return image


def _disc_moments(galaxies: np.ndarray, rotation: float, pixel_scale: float) -> np.ndarray:
    """Moments xx, xy, yy (n, 3, 3) [pixel**2] of the Gaussians of galaxies, for pixels with x west and y north.

    The major axis has the half-light radius times the Gaussians' sigma, at the position angle east of north.
    """
    angle = np.radians(90 + galaxies["positionAngle"] - rotation)
    major = (galaxies["radius"] / pixel_scale) ** 2
    minor = major * galaxies["axisRatio"] ** 2
    cos, sin = np.cos(angle), np.sin(angle)
    unit = np.stack([major * cos**2 + minor * sin**2, (major - minor) * sin * cos, major * sin**2 + minor * cos**2], -1)
    return DISC_SIGMA[:, None] ** 2 * unit[:, None, :]


def _add(image: np.ndarray, x: np.ndarray, y: np.ndarray, flux: np.ndarray, weights: np.ndarray, moments: np.ndarray):
    """Add sources as sums of Gaussians: fluxes (n,), weights (m,), moments (n, m, 3) before pixel integration."""
    xx, xy, yy = np.ascontiguousarray(moments.reshape(-1, 3).T)
    xx, yy, m = xx + PIXEL_MOMENT, yy + PIXEL_MOMENT, len(weights)
    add_gaussians(image, np.repeat(x, m), np.repeat(y, m), np.outer(flux, weights).ravel(), xx, xy, yy)


@njit(**EXACT)
def add_gaussians(image, x, y, flux, xx, xy, yy):
    """Add elliptical Gaussians to an image, sampled at the middle of the pixels.

    Along a row, both the Gaussian and the ratio of neighbouring pixels are geometric: two products per pixel.

    Parameters
    ----------
    image : (ny, nx) float64 array
        Changed in place.
    x, y, flux : (n,) arrays
        Centres [pixel] and totals [unit of the image].
    xx, xy, yy : (n,) arrays
        Second moments [pixel**2].
    """
    ny, nx = image.shape
    for k in range(len(x)):
        det = xx[k] * yy[k] - xy[k] ** 2
        a, b, c = yy[k] / det, -xy[k] / det, xx[k] / det
        amplitude = flux[k] / (2 * np.pi * np.sqrt(det))
        half_x, half_y = REACH * np.sqrt(xx[k]), REACH * np.sqrt(yy[k])
        first = max(0, int(np.ceil(x[k] - half_x)))
        last = min(nx - 1, int(np.floor(x[k] + half_x)))
        dx = first - x[k]
        step = np.exp(-a)
        for row in range(max(0, int(np.ceil(y[k] - half_y))), min(ny - 1, int(np.floor(y[k] + half_y))) + 1):
            dy = row - y[k]
            value = amplitude * np.exp(-0.5 * (a * dx * dx + 2 * b * dx * dy + c * dy * dy))
            ratio = np.exp(-a * (dx + 0.5) - b * dy)
            for column in range(first, last + 1):
                image[row, column] += value
                value *= ratio
                ratio *= step


def _add_cosmic_rays(electrons: np.ndarray, rng: np.random.Generator) -> None:
    """Straight tracks of the charge that particles leave, one pixel wide."""
    ny, nx = electrons.shape
    n = rng.poisson(COSMIC_RAYS * electrons.size)
    length = 1 + rng.exponential(COSMIC_RAY_LENGTH, n)
    angle = rng.uniform(0, np.pi, n)
    charge = COSMIC_RAY_CHARGE * rng.lognormal(0, COSMIC_RAY_SCATTER, n)
    along = np.linspace(0, 1, TRACK_POINTS)
    x = np.rint(rng.uniform(0, nx, n)[:, None] + along * (length * np.cos(angle))[:, None]).astype(int)
    y = np.rint(rng.uniform(0, ny, n)[:, None] + along * (length * np.sin(angle))[:, None]).astype(int)
    deposit = np.broadcast_to((charge * length / len(along))[:, None], x.shape)
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    np.add.at(electrons, (y[inside], x[inside]), deposit[inside])


@njit(**EXACT)
def bleed(electrons, full_well):
    """Spill what exceeds the full well along the column, half of it to either side; it leaves at the ends.

    Parameters
    ----------
    electrons : (ny, nx) float array
        Charge of the pixels [electron], changed in place.
    full_well : float
        What a pixel holds [electron].
    """
    ny, nx = electrons.shape
    excess = np.maximum(electrons - full_well, 0) / 2
    for column in range(nx):
        up = 0.0
        for row in range(ny):
            electrons[row, column] = min(electrons[row, column], full_well)
            up += excess[row, column]
            taken = min(up, full_well - electrons[row, column])
            electrons[row, column] += taken
            up -= taken
        down = 0.0
        for row in range(ny - 1, -1, -1):
            down += excess[row, column]
            taken = min(down, full_well - electrons[row, column])
            electrons[row, column] += taken
            down -= taken


def _spoil_columns(image: np.ndarray, rng: np.random.Generator) -> None:
    """Columns that read nothing and columns that read the ADC's maximum, the same in every visit."""
    columns = rng.choice(image.shape[1], DEAD_COLUMNS + HOT_COLUMNS, replace=False)
    image[:, columns[:DEAD_COLUMNS]] = 0
    image[:, columns[DEAD_COLUMNS:]] = ADC_MAX
