"""The static sky of a run on a simulated survey beside its truth: Objects, deep coadds and light curves of Objects.

In come the truth and the folder of a run, out goes a `StaticSky`, of which `object_figures` makes the figures.  The
error of a true flux is that of forced photometry at its place on the coadd, so that "true S/N" is flux over that error.
"""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_area
from scipy.spatial import cKDTree

from diaflow.catalogue.blends import Blends
from diaflow.catalogue.detection import THRESHOLD
from diaflow.catalogue.measure.apertures import noise_factor
from diaflow.catalogue.measure.psf_flux import PsfFluxes
from diaflow.catalogue.measure.scene import Scene
from diaflow.forced.measure import UNRELIABLE
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.psf.stampfield import fwhm
from diaflow.sky.sphere import unit_vectors
from diaflow.sky.wcs import sky_to_pixel
from diaflow.store import tables
from diaflow.units import ARCSEC, nanojansky
from diaflow.validate.efficiency import noise_peaks
from diaflow.validate.matching import nearest

FLEETING = ("asteroid", "probe")  # types of what is in one visit
CONSTANT = ("star", "galaxy", "blend")  # types of objects that all visits see alike
# Chosen: distance of empty places from all objects [arcsec], places that are tried on a patch, and radius of the
# apertures there [pixel].
EMPTY, N_EMPTY, APERTURES = 4.0, 4000, (6.0, 12.0)
MATCH = 0.5  # largest distance of an Object from what it is [FWHM of the sharpest coadd], chosen
GRID, SPAN = 8, 2**20  # pixels between those of a tract that are counted, and more than a tract has along a side
# What counts for an object to be alone: distance of others [FWHM of the broadest coadd], and their share of its flux in
# any band; chosen, such that what they add to a PSF flux is well below a hundredth.
ALONE, NEIGHBOUR = 2.5, 0.1


@dataclass(frozen=True)
class Deep:
    """The deep coadds of a band.

    Attributes
    ----------
    err : (n,) array
        Error of the PSF flux at the true places [nJy]; NaN where there is no coadd.
    given : (n,) array
        Flux of pairs of stars in a fit of all points at their true places [nJy]; NaN for all else.
    clean : (n,) bool array
        True places without a flawed pixel in the middle.
    fwhm : float
        Median over the patches [arcsec].
    fwhm_pixel : float
        [pixel]
    noise_peaks : float
        Peaks of noise alone that theory expects.
    sky_pulls : dict of (m,) arrays
        Flux over error at empty places, by "PSF" and the radii of apertures in words.
    """

    err: np.ndarray
    given: np.ndarray
    clean: np.ndarray
    fwhm: float
    fwhm_pixel: float
    noise_peaks: float
    sky_pulls: dict[str, np.ndarray]


@dataclass(frozen=True)
class StaticSky:
    """Truth and Objects of a run.

    Attributes
    ----------
    truth : (n,) table "truth_object"
        What does not vary.
    varying : table "truth_object"
        All else.
    objects : (m,) table "object"
        Those that are primary.
    forced : table "forced_source"
        Of Objects; empty where there is none.
    deep : dict of str to Deep
        By band, from blue to red as the survey names them.
    threshold : float
        Of the detection [sigma].
    """

    truth: np.ndarray
    varying: np.ndarray
    objects: np.ndarray
    forced: np.ndarray
    deep: dict[str, Deep]
    threshold: float

    @classmethod
    def read(cls, truth: np.ndarray, products: str | Path) -> "StaticSky":
        """Read the Objects of a run and measure on its deep coadds.

        Parameters
        ----------
        truth : "truth_object" table
        products : path
            Folder of the run: ``tables/object.parquet, coadd/deep/`` and, if there, ``tables/forced_source.parquet``.

        Returns
        -------
        StaticSky

        Raises
        ------
        InputError
            When a table or a coadd is missing or unreadable.
        """
        products = Path(products)
        objects = tables.read("object", products / "tables/object.parquet")
        forced = products / "tables/forced_source.parquet"
        constant = np.isin(truth["type"].astype(str), CONSTANT)
        deep = {
            band: _deep(truth[constant], truth, sorted(products.glob(f"coadd/deep/*/*/{band}.fits")), levels)
            for band, levels in ((b, _sky_levels(objects, b)) for b in tables.bands("truth_object", truth))
        }
        return cls(
            truth=truth[constant],
            varying=truth[~constant],
            objects=objects[objects["detect_isPrimary"]],
            forced=tables.read("forced_source", forced) if forced.exists() else tables.empty("forced_source"),
            deep=deep,
            threshold=THRESHOLD,
        )

    @cached_property
    def flux(self) -> dict[str, np.ndarray]:
        """True flux of the n objects in each band [nJy]."""
        return {band: nanojansky(self.truth[f"{band}_mag"].astype(float)) for band in self.deep}

    @cached_property
    def snr(self) -> dict[str, np.ndarray]:
        """True S/N of the n objects in each band, as point sources."""
        return {band: self.flux[band] / self.deep[band].err for band in self.deep}

    @cached_property
    def match(self) -> np.ndarray:
        """Row of the Object that each of the n objects is, -1 where it is none; no two are the same."""
        radius = MATCH * min(deep.fwhm for deep in self.deep.values())
        distance, index = nearest(self.truth, self.objects)
        back = nearest(self.objects, self.truth)[1]
        mutual = np.zeros(len(self.truth), bool)
        if len(self.objects):
            mutual = back[index] == np.arange(len(self.truth))
        return np.where(mutual & (distance < radius), index, -1)

    @cached_property
    def alone(self) -> np.ndarray:
        """Which of the n objects have no neighbour that matters: what single visits see, many average away."""
        radius = ALONE * max(deep.fwhm for deep in self.deep.values()) * ARCSEC
        tree = cKDTree(unit_vectors(self.truth["ra"], self.truth["dec"]))
        a, b = tree.query_pairs(2 * np.sin(radius / 2), output_type="ndarray").T
        lasting = self.varying[~np.isin(self.varying["type"].astype(str), FLEETING)]
        alone = nearest(self.truth, lasting)[0] * ARCSEC > radius
        for flux in self.flux.values():
            alone[a[flux[b] > NEIGHBOUR * flux[a]]] = False
            alone[b[flux[a] > NEIGHBOUR * flux[b]]] = False
        return alone

    def kind(self, name: str) -> np.ndarray:
        """Which of the n objects are of a type.

        Parameters
        ----------
        name : str

        Returns
        -------
        (n,) bool array
        """
        return self.truth["type"] == name

    def measured(self, column: str) -> np.ndarray:
        """A column of the Objects for the n objects.

        Parameters
        ----------
        column : str

        Returns
        -------
        (n,) array
            NaN where an object is no Object.
        """
        values = np.append(self.objects[column].astype(float), np.nan)
        return values[self.match]


def _sky_levels(objects: np.ndarray, band: str) -> dict[tuple[str, str], float]:
    """Sky of a band that was taken off the coadds before Objects were measured, by tract and patch [nJy]."""
    places = zip(objects["tract"].astype(str), objects["patch"].astype(str))
    return dict(zip(places, np.nan_to_num(objects[f"{band}_sky"])))


def _deep(truth: np.ndarray, every: np.ndarray, paths: list[Path], levels: dict[tuple[str, str], float]) -> Deep:
    """What the coadds of a band, without levels of their sky, are at the places of n true objects, and at places where
    none of `every` is."""
    (err, given), clean = np.full((2, len(truth)), np.nan), np.zeros(len(truth), bool)
    points, pair = truth["radius"] == 0, truth["type"] == "blend"
    widths, scales, peaks, places, pulls = [], [], [], [], {}
    for number, path in enumerate(paths):
        coadd = Exposure.read(path)
        there = ~coadd.flagged("NO_DATA")
        if coadd.psf is None or not there.any():
            continue
        coadd.image -= levels.get(path.parts[-3:-1], np.float32(0))
        ny, nx = coadd.shape
        x, y = sky_to_pixel(coadd.wcs, truth["ra"], truth["dec"], (0, 0, nx - 1, ny - 1))
        new = np.flatnonzero(photometry.is_inside(coadd.shape, x, y) & ~np.isfinite(err))
        err[new] = photometry.exposure_flux(coadd, x[new], y[new]).err
        fitted = new[points[new]]
        given[fitted] = np.where(pair[fitted], _joint_flux(coadd, x[fitted], y[fitted]), np.nan)
        centre = photometry.planes_within(coadd.mask, x[new], y[new], photometry.CENTRE_RADIUS)
        clean[new] = np.isfinite(err[new]) & (centre & bits(*UNRELIABLE) == 0)
        middle = [np.array([np.median(axis)]) for axis in np.nonzero(there)]
        stamp = coadd.psf(*middle[::-1])[0]
        widths.append(fwhm(stamp))
        scales.append(3600 * np.sqrt(proj_plane_pixel_area(coadd.wcs)))
        peaks.append(noise_peaks(stamp, THRESHOLD) / 2)  # of the brighter sign
        places.append(_places(coadd, there, int(path.parent.parent.name)))
        for name, values in _sky_pulls(coadd, there, every, np.random.default_rng(number)).items():
            pulls.setdefault(name, []).append(values)
    if not widths:
        return Deep(err, given, clean, np.nan, np.nan, 0.0, {})
    width, scale = np.median(widths), np.median(scales)
    n_pixels = GRID**2 * len(np.unique(np.concatenate(places)))
    pulls = {name: np.concatenate(parts) for name, parts in pulls.items()}
    return Deep(err, given, clean, width * scale, width, float(np.mean(peaks)) * n_pixels, pulls)


def _joint_flux(coadd: Exposure, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """PSF fluxes of points that are fitted together, without any deblending."""
    n, (column, row) = len(x), np.rint([x, y]).astype(int)
    boxes, pixels = np.column_stack([column, row, column, row]), np.zeros(n, np.float32)
    points = Blends(x, y, np.full(n, -1), np.zeros(n, int), boxes, np.arange(n + 1), pixels, np.zeros(n, bool))
    return PsfFluxes(Scene(coadd, points)).columns(np.ones(n, bool))["psfFlux"]


def _places(coadd: Exposure, there: np.ndarray, tract: int) -> np.ndarray:
    """Numbers of the pixels of a tract that a patch has, one in each square of `GRID` pixels: patches overlap."""
    left, below = np.rint(-coadd.wcs.wcs.crpix).astype(np.int64)
    y, x = np.nonzero(there)
    x, y = x + left, y + below
    kept = (x % GRID == 0) & (y % GRID == 0)
    return (tract * SPAN + y[kept]) * SPAN + x[kept]


def _sky_pulls(
    coadd: Exposure, there: np.ndarray, every: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Fluxes over their errors at random places without an object."""
    row, column = np.nonzero(there)
    at = rng.integers(0, len(row), N_EMPTY)
    x, y = column[at] + rng.uniform(-0.5, 0.5, N_EMPTY), row[at] + rng.uniform(-0.5, 0.5, N_EMPTY)
    ra, dec = coadd.wcs.all_pix2world(x, y, 0)
    empty = nearest(np.rec.fromarrays([ra, dec], names="ra,dec"), every)[0] > EMPTY
    around = photometry.planes_within(coadd.mask, x, y, max(APERTURES))
    empty &= around & bits(*UNRELIABLE, "DETECTED") == 0
    x, y = x[empty], y[empty]
    fit = photometry.exposure_flux(coadd, x, y)
    pulls = {"PSF": fit.flux / fit.err}
    for radius in APERTURES:
        flux, err, truncated = photometry.aperture_flux(coadd.image, coadd.variance, x, y, radius)
        pull = flux / (err * np.sqrt(noise_factor(coadd.noise, radius)))
        pulls[f"aperture of {radius:.0f} pixels"] = pull[~truncated]
    return {name: values[np.isfinite(values)] for name, values in pulls.items()}
