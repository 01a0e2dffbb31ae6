"""What shines: stars, galaxies, supernovae, variables, asteroids and probes, and their flux in every visit.

All objects of the field are rows of one table ("truth_object"); one matrix holds the true flux of each object in
each visit's band, zero where it does not shine.  Fluxes are nJy, AB zero point 31.4.  Each kind of object has its
own stream of random numbers, so that more of one kind leaves the others where they are.
"""

from dataclasses import dataclass

import numpy as np

from diaflow.simulate import blends, field, lightcurves, movers, probes
from diaflow.simulate.field import DITHER
from diaflow.simulate.pointing import FIRST_NIGHT, Visit, length, stream, visits
from diaflow.simulate.population import Population, flux, rows
from diaflow.store import tables

# All of these are chosen.  Magnitudes are those of the last band; a colour is the difference of magnitude between
# neighbouring bands [mag].
BRIGHTEST_STAR, STAR_SLOPE = 16.0, 0.15  # [mag], and slope of log10 counts per mag
BRIGHT_STARS, BRIGHT_MAGS = 100.0, (13.0, 14.6)  # per square degree: these saturate
BRIGHTEST_GALAXY, GALAXY_SLOPE = 17.5, 0.3
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
STRONG_MAGS, STRONG_AMPLITUDES = (18.5, 20.5), (1.0, 2.5)  # of strong variables, peak to peak: up to ten-fold [mag]
NUCLEUS_SIGMAS, NUCLEUS_TIMESCALES = (0.2, 0.5), (30, 100)  # of their random walk [mag], [d]
DECLINE = (40.0, 60.0)  # e-folding time of supernovae in the bluest and the reddest band [d]
STRETCH = (0.9, 1.1)  # of that of a supernova
HALF_LIGHT = 1.678  # half-light radius of an exponential disc over its scale length
MARGIN = 2 * DITHER  # of stars and galaxies around the camera's field [arcsec]
SQUARE_DEGREE = 900  # product of the half sides of a field of this area [arcmin**2]


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
        stars = _stars(config, epochs)
        populations = [
            stars,
            galaxies,
            blends.population(config, epochs, _together([stars, galaxies])[0]),
            _supernovae(config, epochs, hosts[:n_hosted]),
            _variable_stars(config, epochs),
            _nuclei(config, epochs, hosts[n_hosted:]),
            _asteroids(config, epochs),
            _strong_variables(config, epochs),
            movers.population(config, epochs),
        ]
        populations.append(probes.population(config, epochs, *_together(populations)))
        return cls(config, epochs, *_together(populations))

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

    def positions(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the objects are in a visit.

        Parameters
        ----------
        number : int
            Of the visit.

        Returns
        -------
        ra, dec : (n_objects,) arrays
            [deg]
        """
        return movers.positions(self.objects, self.visit(number).mjd)


def _together(populations: list[Population]) -> Population:
    objects = tables.concatenate("truth_object", [table for table, _ in populations])
    return objects, np.vstack([flux for _, flux in populations])


def _stars(config: dict, epochs: list[Visit]) -> Population:
    rng = stream(config["seed"], "stars")
    area = np.prod(field.half_size(config, MARGIN)) / SQUARE_DEGREE
    n_faint, n_bright = rng.poisson(config["stars"] * area), rng.poisson(BRIGHT_STARS * area)
    mag = np.append(
        _power_law(rng, (BRIGHTEST_STAR, config["faintest"]), STAR_SLOPE, n_faint), rng.uniform(*BRIGHT_MAGS, n_bright)
    )
    ra, dec = field.positions(config, rng, len(mag), MARGIN)
    table = rows(config, "star", ra, dec, mag, rng.uniform(*STAR_COLOURS, len(mag)))
    return table, flux(table, epochs)


def _galaxies(config: dict, epochs: list[Visit]) -> Population:
    rng = stream(config["seed"], "galaxies")
    n = rng.poisson(config["galaxies"] * np.prod(field.half_size(config, MARGIN)) / SQUARE_DEGREE)
    mag = _power_law(rng, (BRIGHTEST_GALAXY, config["faintest"]), GALAXY_SLOPE, n)
    ra, dec = field.positions(config, rng, n, MARGIN)
    table = rows(config, "galaxy", ra, dec, mag, rng.uniform(*GALAXY_COLOURS, n))
    log_radius = RADIUS_SLOPE * (mag - TYPICAL_MAG) + rng.normal(0, RADIUS_SCATTER, n)
    table["radius"] = np.clip(TYPICAL_RADIUS * 10**log_radius, *RADII)
    table["axisRatio"] = rng.uniform(*AXIS_RATIOS, n)
    table["positionAngle"] = rng.uniform(0, 180, n)
    early = stream(config["seed"], "early types").uniform(size=n) < config["early_types"]
    table["sersic"] = np.where(early, 4, 1)
    return table, flux(table, epochs)


def _supernovae(config: dict, epochs: list[Visit], hosts: np.ndarray) -> Population:
    rng = stream(config["seed"], "supernovae")
    n = config["supernovae"]
    ra, dec = field.positions(config, rng, n, 0)
    # Distances from the host's centre follow its light: the radial law of an exponential disc of the same radius.
    distance = rng.gamma(2, hosts["radius"] / HALF_LIGHT)
    angle = rng.uniform(0, 2 * np.pi, len(hosts))
    along, across = distance * np.cos(angle), distance * np.sin(angle) * hosts["axisRatio"]
    sin, cos = np.sin(np.radians(hosts["positionAngle"])), np.cos(np.radians(hosts["positionAngle"]))
    east, north = (along * sin + across * cos) / 3600, (along * cos - across * sin) / 3600
    ra[: len(hosts)], dec[: len(hosts)] = field.moved(config, hosts["ra"], hosts["dec"], east, north)
    table = rows(config, "supernova", ra, dec, rng.uniform(*SUPERNOVA_MAGS, n), rng.uniform(*SUPERNOVA_COLOURS, n))
    table["hostId"][: len(hosts)] = hosts["objectId"]
    season = FIRST_NIGHT["science"] + np.array([0, length(config, "science")])
    peak = rng.uniform(*season, n)
    stretch = rng.uniform(*STRETCH, n)
    decline = dict(zip(config["bands"], np.linspace(*DECLINE, len(config["bands"]))))
    shape = [lightcurves.supernova(visit.mjd - peak, stretch * decline[visit.band]) for visit in epochs]
    return table, flux(table, epochs) * np.array(shape).T


def _variable_stars(config: dict, epochs: list[Visit]) -> Population:
    rng = stream(config["seed"], "variable stars")
    n = config["variables"] - round(NUCLEI * config["variables"])
    ra, dec = field.positions(config, rng, n, 0)
    table = rows(config, "variable", ra, dec, rng.uniform(*VARIABLE_MAGS, n), rng.uniform(*VARIABLE_COLOURS, n))
    pulsating = np.arange(n) < round(RR_LYRAE * n)
    period = np.where(pulsating, rng.uniform(*RR_LYRAE_PERIODS, n), 10 ** rng.uniform(*LOG_PERIODS, n))
    amplitude = np.where(pulsating, rng.uniform(*RR_LYRAE_AMPLITUDES, n), rng.uniform(*AMPLITUDES, n))
    mjd = np.array([visit.mjd for visit in epochs])
    phase = mjd / period[:, None] + rng.uniform(0, 1, (n, 1))
    shapes = [shape(phase, amplitude[:, None]) for shape in (lightcurves.rr_lyrae, lightcurves.sinusoid)]
    return table, flux(table, epochs, np.where(pulsating[:, None], *shapes))


def _nuclei(config: dict, epochs: list[Visit], hosts: np.ndarray) -> Population:
    rng = stream(config["seed"], "nuclei")
    hosts = hosts[: round(NUCLEI * config["variables"])]
    n = len(hosts)
    mag, colour = rng.uniform(*VARIABLE_MAGS, n), rng.uniform(*NUCLEUS_COLOURS, n)
    table = rows(config, "nucleus", hosts["ra"], hosts["dec"], mag, colour)
    table["hostId"] = hosts["objectId"]
    mjd = np.array([visit.mjd for visit in epochs])
    walk = lightcurves.damped_walk
    offset = [walk(mjd, rng.uniform(*NUCLEUS_SIGMAS), rng.uniform(*NUCLEUS_TIMESCALES), rng) for _ in range(n)]
    return table, flux(table, epochs, np.reshape(offset, (n, len(epochs))))


def _strong_variables(config: dict, epochs: list[Visit]) -> Population:
    rng = stream(config["seed"], "strong variables")
    n = config["strong_variables"]
    ra, dec = field.positions(config, rng, n, 0)
    mag, colour = rng.uniform(*STRONG_MAGS, n), rng.uniform(*VARIABLE_COLOURS, n)
    table = rows(config, "strong variable", ra, dec, mag, colour)
    period, amplitude = 10 ** rng.uniform(*LOG_PERIODS, (n, 1)), rng.uniform(*STRONG_AMPLITUDES, (n, 1))
    phase = np.array([visit.mjd for visit in epochs]) / period + rng.uniform(0, 1, (n, 1))
    return table, flux(table, epochs, lightcurves.sinusoid(phase, amplitude))


def _asteroids(config: dict, epochs: list[Visit]) -> Population:
    """Fresh ones in every visit: they cross the field between visits but stay put within an exposure."""
    n = config["asteroids"]
    rng = stream(config["seed"], "asteroids")
    ra, dec = field.positions(config, rng, n * len(epochs), DITHER)
    mag, colour = rng.uniform(*ASTEROID_MAGS, len(ra)), rng.uniform(*ASTEROID_COLOURS, len(ra))
    table = rows(config, "asteroid", ra, dec, mag, colour)
    present = np.repeat(np.eye(len(epochs)), n, axis=0)
    return table, flux(table, epochs) * present


def _hosts(config: dict, galaxies: np.ndarray) -> np.ndarray:
    """The brighter galaxies inside the camera's field, in random order."""
    suitable = field.inside(config, galaxies["ra"], galaxies["dec"]) & (
        galaxies[f"{config['bands'][-1]}_mag"] < HOST_LIMIT
    )
    return galaxies[stream(config["seed"], "hosts").permutation(np.flatnonzero(suitable))]


def _power_law(rng: np.random.Generator, mags: tuple[float, float], slope: float, n: int) -> np.ndarray:
    """Magnitudes whose number per magnitude rises as 10**(slope mag)."""
    low, high = 10 ** (slope * np.array(mags))
    return np.log10(rng.uniform(low, high, n)) / slope
