"""Probes: points of known signal to noise, each in one science image, by which a run is judged.

They stand on empty sky, on galaxies and on stars, far from each other and from all that varies.  Their signal to noise
is flux * sqrt(sum P**2) / sigma, where P is the PSF on the pixels of that image at the place of the probe, and sigma
the noise of its empty sky (`background.sky_sigma`): that of a matched filter on the science image where nothing else
shines and the template has no noise.
"""

import numpy as np
from astropy.wcs import WCS

from diaflow.simulate import background, movers, optics, sources
from diaflow.simulate.pointing import FIRST_NIGHT, Visit, stream
from diaflow.simulate.population import FIRST_ID, Population
from diaflow.sky import sphere
from diaflow.store import tables
from diaflow.units import NANOJANSKY_ZERO_POINT

PLACES = ("sky", "galaxy", "star")
# All of these are chosen: distance from the edge of the image [pixel], of empty sky from all objects [arcsec], faintest
# galaxy, brightest and faintest star under a probe in the last band [mag].
MARGIN, EMPTY = 20, 5.0
GALAXY_LIMIT, STAR_LIMITS = 22.5, (17.0, 21.0)
TRIES = 20  # places that are looked at for each probe of a kind
STAMP = 40  # half side of the image on which the PSF of a probe is summed, at least [pixel]
STAMP_SIZE = 6  # half side of the same [FWHM]
VARYING = ("supernova", "variable")  # types that probes keep away from in all visits


def population(config: dict, epochs: list[Visit], objects: np.ndarray, flux: np.ndarray) -> Population:
    """The probes of all science images.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    epochs : list of Visit
    objects : "truth_object" table
        All else that is on the sky.
    flux : (n_objects, n_visits) array
        [nJy]

    Returns
    -------
    rows : "truth_object" table
    flux : (n, n_visits) array
        [nJy]
    """
    lasting = np.isin(objects["type"].astype(str), VARYING)
    taken = sphere.unit_vectors(objects["ra"][lasting], objects["dec"][lasting])
    parts, fluxes = [tables.empty("truth_object", 0, config["bands"])], [np.zeros((0, len(epochs)))]
    for visit in epochs:
        if visit.mjd < FIRST_NIGHT["science"] or not config["probes"]["number"]:
            continue
        passing = (objects["type"] == "asteroid") & (flux[:, visit.visit - 1] > 0)
        here = sphere.unit_vectors(*movers.positions(objects[passing], visit.mjd))
        for detector in range(config["detectors"]):
            table, light = _of_image(config, visit, detector, objects, np.vstack([taken, here]))
            taken = np.vstack([taken, sphere.unit_vectors(table["ra"], table["dec"])])
            parts.append(table)
            fluxes.append(np.outer(light, [epoch is visit for epoch in epochs]))
    table = tables.concatenate("truth_object", parts)
    table["objectId"] = FIRST_ID["probe"] * 1_000_000 + np.arange(len(table))
    return table, np.vstack(fluxes)


def _of_image(config: dict, visit: Visit, detector: int, objects: np.ndarray, taken: np.ndarray) -> Population:
    """Rows and flux (n,) [nJy] of the probes of an image; they keep away from the unit vectors `taken`."""
    rng = stream(config["seed"], "probes", visit.visit, detector)
    wcs = optics.true_wcs(config, visit, detector)
    ends = np.cumsum([0, *config["probes"]["places"]])
    numbers = np.diff(np.rint(config["probes"]["number"] * ends / ends[-1]).astype(int))
    distance = np.radians(config["probes"]["distance"] / 3600)
    parts = []
    for place, number in zip(PLACES, numbers):
        x, y, host = _candidates(config, wcs, objects, place, TRIES * number, rng)
        ra, dec = wcs.all_pix2world(x, y, 0)
        vectors = sphere.unit_vectors(ra, dec)
        kept = []
        for i, vector in enumerate(vectors):
            if len(kept) == number:
                break
            if (sphere.separation(np.vstack([taken, vectors[kept]]), vector) > distance).all():
                kept.append(i)
        taken = np.vstack([taken, vectors[kept]])
        parts.append((place, x[kept], y[kept], ra[kept], dec[kept], host[kept]))
    return _rows(config, visit, detector, objects, parts, rng)


def _candidates(config: dict, wcs: WCS, objects: np.ndarray, place: str, n: int, rng: np.random.Generator) -> tuple:
    """Random places x, y (n,) [pixel] of a kind and the rows of the objects under them, -1 for none."""
    first, last = MARGIN, config["size"] - 1 - MARGIN
    x, y = wcs.all_world2pix(objects["ra"], objects["dec"], 0)
    if place == "sky":
        at = rng.uniform(first, last, (2, n))
        still = objects["type"] != "asteroid"
        gaps = np.array([np.hypot(x[still] - a, y[still] - b).min(initial=np.inf) for a, b in at.T])
        at = at[:, gaps > EMPTY / config["pixel_scale"]]
        return *at, np.full(at.shape[1], -1)
    mag, kind = objects[f"{config['bands'][-1]}_mag"], objects["type"]
    bright = mag < GALAXY_LIMIT if place == "galaxy" else (mag > STAR_LIMITS[0]) & (mag < STAR_LIMITS[1])
    inside = (np.minimum(x, y) > first) & (np.maximum(x, y) < last)
    hosts = rng.permutation(np.flatnonzero((kind == place) & bright & inside))[:n]
    x, y = x[hosts], y[hosts]
    if place == "galaxy":
        # Anywhere out to the half-light radius of the minor axis.
        r = objects["radius"][hosts] * objects["axisRatio"][hosts] / config["pixel_scale"]
        r, angle = r * np.sqrt(rng.uniform(size=len(hosts))), rng.uniform(0, 2 * np.pi, len(hosts))
        x, y = x + r * np.cos(angle), y + r * np.sin(angle)
    return x, y, hosts


def _rows(
    config: dict, visit: Visit, detector: int, objects: np.ndarray, parts: list, rng: np.random.Generator
) -> Population:
    """Rows and flux of probes at the places that `_of_image` has chosen."""
    probes, bands = config["probes"], config["bands"]
    place = np.repeat([part[0] for part in parts], [len(part[1]) for part in parts])
    x, y, ra, dec, host = (np.concatenate(columns) for columns in list(zip(*parts))[1:])
    n = len(x)
    low, high = np.log(probes["bright_snr"])
    bright = rng.uniform(size=n) < probes["bright"]
    snr = np.where(bright, np.exp(rng.uniform(low, high, n)), rng.uniform(*probes["snr"], n))
    table = tables.empty("truth_object", n, bands)
    table["type"], table["place"], table["ra"], table["dec"] = "probe", place, ra, dec
    table["radius"], table["axisRatio"], table["positionAngle"], table["sersic"] = 0, 1, 0, 0
    scale = 10 ** (0.4 * (NANOJANSKY_ZERO_POINT - visit.zero_point))
    norm = np.array([_psf_norm(config, visit, detector, *at) for at in zip(x, y)])
    flux = scale * snr * background.sky_sigma(config, visit, detector) / norm
    table[f"{visit.band}_mag"] = NANOJANSKY_ZERO_POINT - 2.5 * np.log10(flux)
    for row in np.flatnonzero(host >= 0):
        under = objects[host[row] : host[row] + 1]
        table["hostId"][row] = under["objectId"][0]
        table["surfaceBrightness"][row] = _surface_brightness(config, visit, detector, under, x[row], y[row])
    return table, flux


def _psf_norm(config: dict, visit: Visit, detector: int, x: float, y: float) -> float:
    """Root of the sum of squares of the PSF's pixels at a position."""
    reach = STAMP + int(STAMP_SIZE * visit.seeing / config["pixel_scale"])
    star = tables.from_columns("truth_object", radius=0.0)
    image = np.zeros((2 * reach + 1, 2 * reach + 1))
    corner = round(x) - reach, round(y) - reach
    sources.draw(image, config, visit, detector, star, np.ones(1), np.array([x]), np.array([y]), corner)
    return float(np.sqrt((image**2).sum()))


def _surface_brightness(config: dict, visit: Visit, detector: int, under: np.ndarray, x: float, y: float) -> float:
    """Of one object in the last band, in the pixel at a position [nJy/arcsec**2]."""
    wcs = optics.true_wcs(config, visit, detector)
    at = wcs.all_world2pix(under["ra"], under["dec"], 0)
    flux = 10 ** (-0.4 * (under[f"{config['bands'][-1]}_mag"] - NANOJANSKY_ZERO_POINT))
    image = np.zeros((1, 1))
    sources.draw(image, config, visit, detector, under, flux, *at, (x, y))
    return float(image[0, 0]) / config["pixel_scale"] ** 2
