"""What shines: stars, galaxies, supernovae, variable stars and nuclei, asteroids, and their flux in every visit.

All objects of the field are rows of one table ("truth_object"); one matrix holds the true flux of each object in
each visit's band, zero where it does not shine.  Fluxes are nJy, AB zero point 31.4.  Each kind of object has its
own stream of random numbers, so that more of one kind leaves the others where they are.
"""

from dataclasses import dataclass

import numpy as np

from diaflow.simulate import lightcurves
from diaflow.simulate.pointing import CADENCE, DITHER, FIELD, FIRST_NIGHT, GAP, Visit, stream, visits
from diaflow.store import tables
from diaflow.units import NANOJANSKY_ZERO_POINT

FIRST_ID = {"star": 1, "galaxy": 2, "supernova": 3, "variable": 4, "nucleus": 5, "asteroid": 6}  # millions
# All of these are chosen.  Magnitudes are those of the last band; a colour is the difference of magnitude between
# neighbouring bands [mag].
STAR_MAGS, STAR_SLOPE = (16.0, 24.0), 0.15  # range [mag] and slope of log10 counts per mag
BRIGHT_STARS, BRIGHT_MAGS = 100.0, (13.0, 14.6)  # per square degree: these saturate
GALAXY_MAGS, GALAXY_SLOPE = (17.5, 24.0), 0.3
RADII = (0.3, 1.5)  # smallest and largest half-light radius of a galaxy [arcsec]
# Half-light radius of a galaxy of this magnitude [arcsec, mag], slope and scatter of its log10 with magnitude.
TYPICAL_RADIUS, TYPICAL_MAG, RADIUS_SLOPE, RADIUS_SCATTER = 0.5, 22.0, -0.1, 0.1
AXIS_RATIOS = (0.35, 1.0)
SUPERNOVA_MAGS, VARIABLE_MAGS, ASTEROID_MAGS = (19.7, 22.8), (18.5, 21.5), (19.5, 23.0)
STAR_COLOURS, GALAXY_COLOURS, SUPERNOVA_COLOURS = (0.2, 1.4), (0.3, 1.1), (0.0, 0.3)
VARIABLE_COLOURS, NUCLEUS_COLOURS, ASTEROID_COLOURS = (0.1, 1.0), (0.0, 0.5), (0.4, 0.7)
HOSTED, HOST_LIMIT = 0.75, 22.5  # fraction of supernovae in a galaxy, and the faintest such galaxy [mag]
NUCLEI = 0.2  # active nuclei among the variables
RR_LYRAE = 0.4  # RR Lyrae among the variable stars
RR_LYRAE_PERIODS, RR_LYRAE_AMPLITUDES = (0.4, 0.8), (0.4, 1.0)  # [d], peak to peak [mag]
LOG_PERIODS, AMPLITUDES = (-0.5, 2), (0.1, 0.6)  # of the other variable stars, log10 of [d] and [mag]
NUCLEUS_SIGMAS, NUCLEUS_TIMESCALES = (0.2, 0.5), (30, 100)  # of their random walk [mag], [d]
DECLINE = (40.0, 60.0)  # e-folding time of supernovae in the bluest and the reddest band [d]
STRETCH = (0.9, 1.1)  # of that of a supernova
HALF_LIGHT = 1.678  # half-light radius of an exponential disc over its scale length
MARGIN = 2 * DITHER  # of stars and galaxies around the camera's field [arcsec]
SQUARE_DEGREE = 900  # product of the half sides of a field of this area [arcmin**2]

Population = tuple[np.ndarray, np.ndarray]  # rows of "truth_object" and their flux (n, n_visits) [nJy]


@dataclass(frozen=True)
class Survey:
    """The whole survey but for its pixels.

    Attributes
    ----------
    config : dict
        The `simulate` section.
    visits : list of Visit
        In order of time; ``visits[i].visit == i + 1``.
    objects : "truth_object" table
        One row per object of the sky.
    flux : (n_objects, n_visits) array
        True flux of each object in the band and at the time of each visit [nJy].
    """

    config: dict
    visits: list[Visit]
    objects: np.ndarray
    flux: np.ndarray

    @classmethod
    def make(cls, config: dict) -> "Survey":
        """Populate the sky and evaluate its light curves at the times of the visits.

        Parameters
        ----------
        config : dict
            The complete `simulate` section.

        Returns
        -------
        Survey
        """
        epochs = visits(config)
        galaxies = _galaxies(config, epochs)
        hosts = _hosts(config, galaxies[0])
        n_hosted = min(round(HOSTED * config["supernovae"]), len(hosts))
        populations = [
            _stars(config, epochs),
            galaxies,
            _supernovae(config, epochs, hosts[:n_hosted]),
            _variable_stars(config, epochs),
            _nuclei(config, epochs, hosts[n_hosted:]),
            _asteroids(config, epochs),
        ]
        objects = tables.concatenate("truth_object", [table for table, _ in populations])
        return cls(config, epochs, objects, np.vstack([flux for _, flux in populations]))

    def visit(self, number: int) -> Visit:
        """The visit of a number.

        Parameters
        ----------
        number : int
            From 1.

        Returns
        -------
        Visit
        """
        return self.visits[number - 1]


def _stars(config: dict, epochs: list[Visit]) -> Population:
    rng = stream(config["seed"], "stars")
    area = np.prod(_half_size(config, MARGIN)) / SQUARE_DEGREE
    n_faint, n_bright = rng.poisson(config["stars"] * area), rng.poisson(BRIGHT_STARS * area)
    mag = np.append(_power_law(rng, STAR_MAGS, STAR_SLOPE, n_faint), rng.uniform(*BRIGHT_MAGS, n_bright))
    ra, dec = _positions(config, rng, len(mag), MARGIN)
    table = _rows(config, "star", ra, dec, mag, rng.uniform(*STAR_COLOURS, len(mag)))
    return table, _flux(table, epochs)


def _galaxies(config: dict, epochs: list[Visit]) -> Population:
    rng = stream(config["seed"], "galaxies")
    n = rng.poisson(config["galaxies"] * np.prod(_half_size(config, MARGIN)) / SQUARE_DEGREE)
    mag = _power_law(rng, GALAXY_MAGS, GALAXY_SLOPE, n)
    ra, dec = _positions(config, rng, n, MARGIN)
    table = _rows(config, "galaxy", ra, dec, mag, rng.uniform(*GALAXY_COLOURS, n))
    log_radius = RADIUS_SLOPE * (mag - TYPICAL_MAG) + rng.normal(0, RADIUS_SCATTER, n)
    table["radius"] = np.clip(TYPICAL_RADIUS * 10**log_radius, *RADII)
    table["axisRatio"] = rng.uniform(*AXIS_RATIOS, n)
    table["positionAngle"] = rng.uniform(0, 180, n)
    return table, _flux(table, epochs)


def _supernovae(config: dict, epochs: list[Visit], hosts: np.ndarray) -> Population:
    rng = stream(config["seed"], "supernovae")
    n = config["supernovae"]
    ra, dec = _positions(config, rng, n, 0)
    # Distances from the host's centre follow its light: the radial law of an exponential disc of the same radius.
    distance = rng.gamma(2, hosts["radius"] / HALF_LIGHT)
    angle = rng.uniform(0, 2 * np.pi, len(hosts))
    along, across = distance * np.cos(angle), distance * np.sin(angle) * hosts["axisRatio"]
    sin, cos = np.sin(np.radians(hosts["positionAngle"])), np.cos(np.radians(hosts["positionAngle"]))
    ra[: len(hosts)] = hosts["ra"] + (along * sin + across * cos) / 3600 / np.cos(np.radians(hosts["dec"]))
    dec[: len(hosts)] = hosts["dec"] + (along * cos - across * sin) / 3600
    table = _rows(config, "supernova", ra, dec, rng.uniform(*SUPERNOVA_MAGS, n), rng.uniform(*SUPERNOVA_COLOURS, n))
    table["hostId"][: len(hosts)] = hosts["objectId"]
    season = FIRST_NIGHT["science"] + np.array([0, CADENCE * config["science_visits"]])
    peak = rng.uniform(*season, n)
    stretch = rng.uniform(*STRETCH, n)
    decline = dict(zip(config["bands"], np.linspace(*DECLINE, len(config["bands"]))))
    shape = [lightcurves.supernova(visit.mjd - peak, stretch * decline[visit.band]) for visit in epochs]
    return table, _flux(table, epochs) * np.array(shape).T


def _variable_stars(config: dict, epochs: list[Visit]) -> Population:
    rng = stream(config["seed"], "variable stars")
    n = config["variables"] - round(NUCLEI * config["variables"])
    ra, dec = _positions(config, rng, n, 0)
    table = _rows(config, "variable", ra, dec, rng.uniform(*VARIABLE_MAGS, n), rng.uniform(*VARIABLE_COLOURS, n))
    pulsating = np.arange(n) < round(RR_LYRAE * n)
    period = np.where(pulsating, rng.uniform(*RR_LYRAE_PERIODS, n), 10 ** rng.uniform(*LOG_PERIODS, n))
    amplitude = np.where(pulsating, rng.uniform(*RR_LYRAE_AMPLITUDES, n), rng.uniform(*AMPLITUDES, n))
    mjd = np.array([visit.mjd for visit in epochs])
    phase = mjd / period[:, None] + rng.uniform(0, 1, (n, 1))
    shapes = [shape(phase, amplitude[:, None]) for shape in (lightcurves.rr_lyrae, lightcurves.sinusoid)]
    return table, _flux(table, epochs, np.where(pulsating[:, None], *shapes))


def _nuclei(config: dict, epochs: list[Visit], hosts: np.ndarray) -> Population:
    rng = stream(config["seed"], "nuclei")
    hosts = hosts[: round(NUCLEI * config["variables"])]
    n = len(hosts)
    mag, colour = rng.uniform(*VARIABLE_MAGS, n), rng.uniform(*NUCLEUS_COLOURS, n)
    table = _rows(config, "nucleus", hosts["ra"], hosts["dec"], mag, colour)
    table["hostId"] = hosts["objectId"]
    mjd = np.array([visit.mjd for visit in epochs])
    walk = lightcurves.damped_walk
    offset = [walk(mjd, rng.uniform(*NUCLEUS_SIGMAS), rng.uniform(*NUCLEUS_TIMESCALES), rng) for _ in range(n)]
    return table, _flux(table, epochs, np.reshape(offset, (n, len(epochs))))


def _asteroids(config: dict, epochs: list[Visit]) -> Population:
    """Fresh ones in every visit: they cross the field between visits but stay put within an exposure."""
    n = config["asteroids"]
    rng = stream(config["seed"], "asteroids")
    ra, dec = _positions(config, rng, n * len(epochs), DITHER)
    mag, colour = rng.uniform(*ASTEROID_MAGS, len(ra)), rng.uniform(*ASTEROID_COLOURS, len(ra))
    table = _rows(config, "asteroid", ra, dec, mag, colour)
    present = np.repeat(np.eye(len(epochs)), n, axis=0)
    return table, _flux(table, epochs) * present


def _rows(config: dict, kind: str, ra: np.ndarray, dec: np.ndarray, mag: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Rows of "truth_object"; `mag` is that of the last band, each bluer band is fainter by `colour`."""
    bands = config["bands"]
    table = tables.empty("truth_object", len(ra), bands)
    table["objectId"] = FIRST_ID[kind] * 1_000_000 + np.arange(len(ra))
    table["type"] = "variable" if kind == "nucleus" else kind
    table["ra"], table["dec"] = ra, dec
    table["radius"], table["axisRatio"], table["positionAngle"] = 0, 1, 0
    for redder, band in enumerate(reversed(bands)):
        table[f"{band}_mag"] = mag + redder * colour
    return table


def _flux(table: np.ndarray, epochs: list[Visit], offset: np.ndarray | float = 0.0) -> np.ndarray:
    """Flux (n, n_visits) [nJy] of the magnitudes of the visits' bands, plus an offset (n, n_visits) [mag]."""
    mag = np.array([table[f"{visit.band}_mag"] for visit in epochs], float).T
    return 10 ** (-0.4 * (mag + offset - NANOJANSKY_ZERO_POINT))


def _half_size(config: dict, margin: float) -> np.ndarray:
    """Half width and height of the field [arcmin] with a margin [arcsec]."""
    n, size = config["detectors"], config["size"]
    return (np.array([n * size + (n - 1) * GAP, size]) * config["pixel_scale"] / 2 + margin) / 60


def _positions(config: dict, rng: np.random.Generator, n: int, margin: float) -> tuple[np.ndarray, np.ndarray]:
    x, y = _half_size(config, margin)[:, None] / 60 * rng.uniform(-1, 1, (2, n))
    return FIELD[0] + x / np.cos(np.radians(FIELD[1])), FIELD[1] + y


def _hosts(config: dict, galaxies: np.ndarray) -> np.ndarray:
    """The brighter galaxies inside the camera's field, in random order."""
    x, y = _half_size(config, 0) / 60
    east = (galaxies["ra"] - FIELD[0]) * np.cos(np.radians(FIELD[1]))
    inside = (np.abs(east) < x) & (np.abs(galaxies["dec"] - FIELD[1]) < y)
    suitable = inside & (galaxies[f"{config['bands'][-1]}_mag"] < HOST_LIMIT)
    return galaxies[stream(config["seed"], "hosts").permutation(np.flatnonzero(suitable))]


def _power_law(rng: np.random.Generator, mags: tuple[float, float], slope: float, n: int) -> np.ndarray:
    """Magnitudes whose number per magnitude rises as 10**(slope mag)."""
    low, high = 10 ** (slope * np.array(mags))
    return np.log10(rng.uniform(low, high, n)) / slope
