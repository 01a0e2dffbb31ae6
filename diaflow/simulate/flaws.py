"""What a camera adds to light and what it spoils: cosmic rays, bleeding, dead columns and corners, stray light.

Cosmic rays, bleeding and a few bad columns are in every image; the rest is there where the configuration asks for it.
Stray light (ghosts, spikes, satellites) has photon noise like all light.
"""

import numpy as np
from numba import njit

from diaflow.jit import EXACT
from diaflow.psf.stampfield import FWHM_PER_SIGMA
from diaflow.simulate import camera, gaussians
from diaflow.simulate.pointing import Visit, stream

# Cosmic rays, chosen: number per pixel, mean length beyond the first pixel [pixel], median charge [electron/pixel] and
# the scatter of its logarithm; charge is laid down at this many points along a track.
COSMIC_RAYS = 30 / 1024**2
COSMIC_RAY_LENGTH, COSMIC_RAY_CHARGE, COSMIC_RAY_SCATTER = 5.0, 1500.0, 0.7
TRACK_POINTS = 100
# Tracks of slow electrons, chosen: steps of a pixel, scatter of the direction from one to the next [rad], median charge
# of a step [electron] and the scatter of its logarithm.
SLOW_STEPS, SLOW_TURN, SLOW_CHARGE, SLOW_SCATTER = 40, 0.4, 150.0, 0.5
# All of these are chosen: radii of a ghost [pixel]; length of a spike [pixel], the sigma of its cross-section [pixel]
# and the angle of the first of its four arms [deg]; peak of a satellite's trail [DN].
GHOST_RADII = (25.0, 70.0)
SPIKE_LENGTH, SPIKE_WIDTH, SPIKE_ANGLE = 80, 1.2, 40.0
SATELLITE_PEAK = (20.0, 500.0)
ADC_MAX = 65535  # of 16 bits [DN]


def add_cosmic_rays(electrons: np.ndarray, rng: np.random.Generator) -> None:
    """Straight tracks of the charge that particles leave, one pixel wide.

    Parameters
    ----------
    electrons : (ny, nx) float array
        Changed in place [electron].
    rng : numpy.random.Generator
    """
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


def add_slow_tracks(electrons: np.ndarray, number: float, rng: np.random.Generator) -> None:
    """Winding tracks of low charge, as slow electrons leave them.

    Parameters
    ----------
    electrons : (ny, nx) float array
        Changed in place [electron].
    number : float
        Mean number of tracks.
    rng : numpy.random.Generator
    """
    ny, nx = electrons.shape
    n = rng.poisson(number)
    angle = rng.uniform(0, 2 * np.pi, (n, 1)) + np.cumsum(rng.normal(0, SLOW_TURN, (n, SLOW_STEPS)), axis=1)
    x = np.rint(rng.uniform(0, nx, (n, 1)) + np.cumsum(np.cos(angle), axis=1)).astype(int)
    y = np.rint(rng.uniform(0, ny, (n, 1)) + np.cumsum(np.sin(angle), axis=1)).astype(int)
    charge = SLOW_CHARGE * rng.lognormal(0, SLOW_SCATTER, (n, SLOW_STEPS))
    inside = (x >= 0) & (x < nx) & (y >= 0) & (y < ny)
    np.add.at(electrons, (y[inside], x[inside]), charge[inside])


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


def spoil_columns(image: np.ndarray, dead: int, hot: int, rng: np.random.Generator) -> None:
    """Columns that read nothing and columns that read the ADC's maximum.

    Parameters
    ----------
    image : (ny, nx) uint16 array
        Changed in place [DN].
    dead, hot : int
        Numbers of columns.
    rng : numpy.random.Generator
        Of the detector, so that they are the same in every visit.
    """
    columns = rng.choice(image.shape[1], dead + hot, replace=False)
    image[:, columns[:dead]] = 0
    image[:, columns[dead:]] = ADC_MAX


def blank_corners(image: np.ndarray, side: int) -> None:
    """Fill triangles in all four corners with zeros.

    Parameters
    ----------
    image : (ny, nx) array
        Changed in place.
    side : int
        Length of the triangles' sides along the edges of the image [pixel].
    """
    y, x = np.indices(image.shape)
    from_edge = np.minimum(x, image.shape[1] - 1 - x) + np.minimum(y, image.shape[0] - 1 - y)
    image[from_edge < side] = 0


def amplifier_levels(nx: int, amplifiers: int, step: float, rng: np.random.Generator) -> np.ndarray:
    """What the amplifiers, each of which reads a strip of columns, add to the bias.

    Parameters
    ----------
    nx : int
        Columns of the detector.
    amplifiers : int
        Number of strips.
    step : float
        Largest level of an amplifier, up or down [DN].
    rng : numpy.random.Generator

    Returns
    -------
    (nx,) array
        [DN]
    """
    levels = rng.uniform(-step, step, amplifiers)
    return levels[np.arange(nx) * amplifiers // nx]


def add_ghosts(image: np.ndarray, x: np.ndarray, y: np.ndarray, flux: np.ndarray, axis: tuple[float, float]) -> None:
    """Reflections of bright stars: discs with a hole, opposite to the star in the camera.

    Parameters
    ----------
    image : (ny, nx) float array
        Changed in place.
    x, y : (n,) arrays
        Positions of the stars, also outside the image [pixel].
    flux : (n,) array
        Light in the ghosts.
    axis : (float, float)
        x, y of the camera's centre [pixel].
    """
    rows, columns = np.indices(image.shape)
    inner, outer = GHOST_RADII
    for star_x, star_y, light in zip(x, y, flux):
        distance = np.hypot(columns - (2 * axis[0] - star_x), rows - (2 * axis[1] - star_y))
        image[(distance >= inner) & (distance < outer)] += light / (np.pi * (outer**2 - inner**2))


def add_spikes(image: np.ndarray, x: np.ndarray, y: np.ndarray, flux: np.ndarray) -> None:
    """Diffraction spikes: four arms whose brightness falls as one over the distance.

    Parameters
    ----------
    image : (ny, nx) float array
        Changed in place.
    x, y : (n,) arrays
        Positions of the stars [pixel].
    flux : (n,) array
        Light in the spikes of each.
    """
    distance = np.arange(1.0, SPIKE_LENGTH + 1)
    angle = np.radians(SPIKE_ANGLE + 90 * np.arange(4))
    share = 1 / distance / (len(angle) * np.sum(1 / distance))
    step_x, step_y = (np.outer(part, distance).ravel() for part in (np.cos(angle), np.sin(angle)))
    light = np.outer(flux, np.tile(share, len(angle))).ravel()
    moments = np.tile([SPIKE_WIDTH**2, 0, SPIKE_WIDTH**2], (len(light), 1))
    gaussians.add(image, np.add.outer(x, step_x).ravel(), np.add.outer(y, step_y).ravel(), light, moments)


def add_satellites(image: np.ndarray, config: dict, visit: Visit, detector: int) -> None:
    """Straight trails that cross all detectors of a visit.

    Parameters
    ----------
    image : (size, size) float array
        Changed in place [DN].
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int
    """
    rng = stream(config["seed"], "satellites", visit.visit)
    width = visit.seeing / config["pixel_scale"] / FWHM_PER_SIGMA
    x0, y0 = camera.centre(config, detector)
    rows, columns = np.indices(image.shape)
    for _ in range(rng.poisson(config["flaws"]["satellites"])):
        angle, peak = rng.uniform(0, np.pi), rng.uniform(*SATELLITE_PEAK)
        half = config["size"] / 2 * np.array([config["detectors"], 1])
        from_x, from_y = (x0, y0) + half * rng.uniform(-1, 1, 2)
        across = (rows - from_y) * np.cos(angle) - (columns - from_x) * np.sin(angle)
        image += peak * np.exp(-0.5 * (across / width) ** 2)
