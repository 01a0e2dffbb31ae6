"""A run on a simulated survey beside its truth: everything that the figures are made of.

In come the truth tables and the folder of a run, out goes a `Comparison`: the tables, the flux that every true source
has on its difference image, and what forced photometry measures there, at constant stars and at empty places.  The
error of a true flux is the one that forced photometry reports, so that "true S/N" is expected flux over error.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_area
from scipy.ndimage import distance_transform_edt

from diaflow.forced import measure
from diaflow.forced.measure import UNRELIABLE
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.psf.stampfield import fwhm, major_sigma, moments_sigma
from diaflow.sky.wcs import sky_to_pixel
from diaflow.store import ids, tables
from diaflow.validate import matching
from diaflow.validate.difference_flux import Template, expected_flux, read_template
from diaflow.validate.efficiency import noise_peaks

EMPTY = 5.0  # distance of an empty place from any object, and of a constant star from any that varies [arcsec], chosen
N_EMPTY = 500  # random places of an image, of which those far from all objects are kept
FLEETING = ("asteroid",)  # types of objects that do not stay where they are: no template has them
# Of a difference image: what was searched [deg2], peaks of noise alone in it, widths of its PSF, the last one along its
# longer axis [pixel], error of a flux on its empty sky [nJy], and its pixel scale [arcsec].
IMAGE = [
    ("visit", int),
    ("detector", int),
    *((c, float) for c in ("area", "noise", "fwhm", "sigma", "major", "error", "pixel_scale")),
]


@dataclass(frozen=True)
class Comparison:
    """Truth and products of a run.

    Attributes
    ----------
    objects, truth, truth_images : tables "truth_object", "truth_flux", "truth_image"
        `truth` has n rows.
    of_truth : (n,) table "truth_object"
        The object of each row of `truth`.
    summary, sources, dia_objects, forced : tables "visit_summary", "dia_source", "dia_object", "dia_forced_source"
    expected : (n,) array
        Flux on the difference image [nJy]; NaN where there is no template.
    templates : list of Template
    at_truth : (n,) table "dia_forced_source"
        Forced photometry at the true places; fluxes NaN where there is no difference.
    at_stars, at_nothing : tables "dia_forced_source"
        The same at constant stars and at random places at least `EMPTY` from any object.
    unmasked, usable : (n,) bool arrays
        True places without a flawed pixel within the width of the PSF; with usable pixels in the central 3 x 3.
    to_edge : (m,) array
        Distance of the DIASources from a missing pixel or the edge of the image [pixel].
    images : (k,) structured array
        The difference images, with the columns of `IMAGE`.
    products : Path
    """

    objects: np.ndarray
    truth: np.ndarray
    truth_images: np.ndarray
    of_truth: np.ndarray
    summary: np.ndarray
    sources: np.ndarray
    dia_objects: np.ndarray
    forced: np.ndarray
    expected: np.ndarray
    templates: list[Template]
    at_truth: np.ndarray
    at_stars: np.ndarray
    at_nothing: np.ndarray
    unmasked: np.ndarray
    usable: np.ndarray
    to_edge: np.ndarray
    images: np.ndarray
    products: Path

    @classmethod
    def read(
        cls, objects: str | Path, fluxes: str | Path, truth_images: str | Path, products: str | Path, threshold: float
    ) -> "Comparison":
        """Read a run and measure at the true places.

        Parameters
        ----------
        objects, fluxes, truth_images : path
            Tables "truth_object", "truth_flux" and "truth_image".
        products : path
            Folder of the run: ``visit_summary.parquet, tables/, calexp/, diffim/, coadd/template/``.
        threshold : float
            Of the detection [sigma].

        Returns
        -------
        Comparison

        Raises
        ------
        InputError
            When a table or an image is missing or unreadable.
        """
        products = Path(products)
        objects, truth = tables.read("truth_object", objects), tables.read("truth_flux", fluxes)
        sources, dia_objects, forced = (
            tables.read(name, products / f"tables/{name}.parquet")
            for name in ("dia_source", "dia_object", "dia_forced_source")
        )
        of_truth = objects[ids.rows_of(objects["objectId"], truth["objectId"])]
        templates = [read_template(path) for path in sorted(products.glob("coadd/template/*/*/*.fits"))]
        lasting = ~np.isin(of_truth["type"].astype(str), FLEETING)
        return cls(
            objects=objects,
            truth=truth,
            truth_images=tables.read("truth_image", truth_images),
            of_truth=of_truth,
            summary=tables.read("visit_summary", products / "visit_summary.parquet"),
            sources=sources,
            dia_objects=dia_objects,
            forced=forced,
            expected=expected_flux(truth, lasting, templates),
            templates=templates,
            products=products,
            **_measured(truth, objects, sources, products, threshold),
        )

    @property
    def kind(self) -> np.ndarray:
        """Type of the object of each row of `truth`."""
        return self.of_truth["type"].astype(str)

    @property
    def snr(self) -> np.ndarray:
        """True S/N on the difference image, with the sign of the flux."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.expected / self.at_truth["psfFluxErr"]

    @property
    def truth_fwhm(self) -> np.ndarray:
        """FWHM of the PSF of the difference image of each row of `truth` [pixel]; NaN where there is no difference."""
        return self.of_image("fwhm", self.truth)

    @property
    def truth_sigma(self) -> np.ndarray:
        """Adaptive sigma of the same PSF [pixel], from which the error of a position follows."""
        return self.of_image("sigma", self.truth)

    @property
    def truth_major(self) -> np.ndarray:
        """Sigma of the same PSF along its longer axis [pixel], where a position is known least."""
        return self.of_image("major", self.truth)

    def of_image(self, column: str, table: np.ndarray) -> np.ndarray:
        """A column of `images` for the rows of another table.

        Parameters
        ----------
        column : str
        table : table of m rows
            With visit and detector.

        Returns
        -------
        (m,) array
            NaN where there is no difference image.
        """
        known = dict(zip(matching.data_ids(self.images), self.images[column]))
        return np.array([known.get(data_id, np.nan) for data_id in matching.data_ids(table)], float)


def _measured(
    truth: np.ndarray, objects: np.ndarray, sources: np.ndarray, products: Path, threshold: float
) -> dict[str, np.ndarray]:
    """The fields of a `Comparison` that are measured on the difference images."""
    at_truth = tables.empty("dia_forced_source", len(truth))
    unmasked, usable = np.zeros((2, len(truth)), bool)
    to_edge = np.full(len(sources), np.inf)
    stars = objects[objects["type"] == "star"]
    stars = stars[matching.nearest(stars, truth)[0] > EMPTY]
    at_stars, at_nothing, images = [], [], []
    for path in sorted(path for path in products.glob("diffim/*/*.fits") if path.stem.isdigit()):
        visit, detector = int(path.parent.name), int(path.stem)
        difference = Exposure.read(path)
        rows = np.flatnonzero(matching.rows_of_image(truth, visit, detector))
        measured = _forced(difference, truth["ra"][rows], truth["dec"][rows])
        rows = rows[measured["diaObjectId"]]
        at_truth[rows] = measured
        at_stars.append(_forced(difference, stars["ra"], stars["dec"]))
        empty = _empty_places(difference, objects, np.random.default_rng([visit, detector]))
        at_nothing.append(_forced(difference, *empty))
        image = np.array((visit, detector, *_image(difference, at_nothing[-1]["psfFluxErr"], threshold)), IMAGE)
        images.append(image)
        unmasked[rows], usable[rows] = _flawless(difference, measured, float(image["fwhm"]))
        mine = np.flatnonzero(matching.rows_of_image(sources, visit, detector))
        to_edge[mine] = _distance_to_edge(difference, sources[mine])
    return {
        "at_truth": at_truth,
        "at_stars": tables.concatenate("dia_forced_source", at_stars),
        "at_nothing": tables.concatenate("dia_forced_source", at_nothing),
        "unmasked": unmasked,
        "usable": usable,
        "to_edge": to_edge,
        "images": np.array(images, IMAGE),
    }


def _image(difference: Exposure, errors: np.ndarray, threshold: float) -> tuple[float, ...]:
    """The columns of `IMAGE` after visit and detector; `errors` are those of fluxes on empty sky."""
    ny, nx = difference.shape
    stamp = difference.psf(np.array([(nx - 1) / 2]), np.array([(ny - 1) / 2]))[0]
    n_searched = int((~difference.flagged("NO_DATA", "EDGE", "BAD")).sum())
    area = proj_plane_pixel_area(difference.wcs)
    errors = errors[np.isfinite(errors)]
    error = np.median(errors) if len(errors) else np.nan
    widths = fwhm(stamp), moments_sigma(stamp), major_sigma(stamp)
    return n_searched * area, n_searched * noise_peaks(stamp, threshold), *widths, error, 3600 * np.sqrt(area)


def _flawless(difference: Exposure, forced: np.ndarray, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Which places have no flawed pixel within the width of the PSF [pixel]; which have a usable centre."""
    there = ~forced["psfFlux_flag"]
    wide = np.fmax(width, photometry.CENTRE_RADIUS)
    around = photometry.planes_within(difference.mask, forced["x"], forced["y"], wide) & bits(*UNRELIABLE)
    centre = photometry.planes_within(difference.mask, forced["x"], forced["y"], photometry.CENTRE_RADIUS)
    return there & (around == 0), there & (centre & bits(*photometry.UNUSABLE) == 0)


def _forced(difference: Exposure, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Table "dia_forced_source" of the places on an image, whose diaObjectId is their running number."""
    return measure.at_positions(
        "dia_forced_source", difference, Positions(ra, dec, {"diaObjectId": np.arange(len(ra))})
    )


def _empty_places(difference: Exposure, objects: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    ny, nx = difference.shape
    ra, dec = difference.wcs.all_pix2world(rng.uniform(0, nx - 1, N_EMPTY), rng.uniform(0, ny - 1, N_EMPTY), 0)
    empty = matching.nearest(np.rec.fromarrays([ra, dec], names="ra,dec"), objects)[0] > EMPTY
    return ra[empty], dec[empty]


def _distance_to_edge(difference: Exposure, sources: np.ndarray) -> np.ndarray:
    """Distance of sources from the nearest missing pixel or pixel off the image [pixel]."""
    ny, nx = difference.shape
    there = np.pad(~difference.flagged("NO_DATA", "EDGE"), 1)
    x, y = sky_to_pixel(difference.wcs, sources["ra"], sources["dec"], (0, 0, nx - 1, ny - 1))
    column, row = (np.clip(np.rint(at), 0, n - 1).astype(int) + 1 for at, n in ((x, nx), (y, ny)))
    return distance_transform_edt(there)[row, column]
