"""How good a run on a simulated survey is: its products against the truth.

In come the truth tables and the folder of a run, out go a dictionary of figures and a text table of them.
The error of a true flux on a difference image is the one that forced photometry reports there, so that "true S/N" is
expected flux (`difference_flux`) over error.
"""

from pathlib import Path

import numpy as np
from astropy.wcs.utils import proj_plane_pixel_area

from diaflow.forced.diffim import forced_photometry
from diaflow.image.exposure import Exposure
from diaflow.sky import sphere
from diaflow.statistics import robust_width
from diaflow.store import tables
from diaflow.validate import calibration
from diaflow.validate.difference_flux import expected_flux, read_template

# All of these are chosen.  True S/N that must be found, and true S/N from which a detection is real.
COMPLETE_SNR, REAL_SNR = 6.0, 3.0
# Distance of a detection from its source, of a false one from any source, and of an empty place from any object
# [arcsec]; a detection also matches within this many pixels.
MATCH, FALSE_MATCH, EMPTY = 1.0, 1.5, 5.0
MATCH_PIXELS = 2.0
N_EMPTY = 500  # random places of an image, of which those far from all objects are kept

FIGURES = {
    "n_visits": "visits differenced",
    "n_images": "difference images",
    "n_dia_sources": "DIASources",
    "n_dia_sources_unflagged": "DIASources without pixel flags",
    "n_dia_objects": "DIAObjects",
    "n_true_sources": f"true sources with S/N > {COMPLETE_SNR:g} away from masked pixels",
    "completeness": "fraction of them found",
    "n_false": "unflagged DIASources at no true source",
    "false_per_square_degree": "the same per square degree and image",
    "n_repeated_objects": "DIAObjects with two sources or more",
    "object_purity": "fraction of them at a supernova or variable",
    "zero_point_error_median": "median error of the zero point [mag]",
    "zero_point_error_max": "largest error of the zero point [mag]",
    "photometry_offset_rms": "mean error of the stars' PSF magnitudes in an image: rms over the images [mag]",
    "photometry_offset_max": "the same, worst image [mag]",
    "repeatability": "scatter of a bright star's magnitudes over the visits, median of the stars (PA1) [mag]",
    "astrometry_rms_median": "rms error of the WCS per coordinate, median of the images [mas]",
    "astrometry_rms_max": "rms error of the WCS per coordinate, worst image [mas]",
} | {
    f"{kind}_pull_{figure}": f"forced flux of {where}, (measured - true) / error: {what}"
    for kind, where in {
        "all": "supernovae and variables",
        "hostless": "supernovae without a host",
        "empty": "nothing",
        "object": "DIAObjects as tabulated",
    }.items()
    for figure, what in {"n": "number", "median": "median", "width": "robust width"}.items()
}


def validate(
    objects: str | Path, fluxes: str | Path, truth_images: str | Path, products: str | Path
) -> dict[str, float]:
    """Compare a run on a simulated survey with the truth.

    Parameters
    ----------
    objects, fluxes, truth_images : path
        Tables "truth_object", "truth_flux" and "truth_image".
    products : path
        Folder of the run: ``visit_summary.parquet, tables/, calexp/, diffim/, coadd/template/``.

    Returns
    -------
    dict
        The figures that `FIGURES` describes; NaN where there is nothing to judge.

    Raises
    ------
    InputError
        When a table or an image is missing or unreadable.
    BadData
        When the stars of a calibrated image do not agree on a zero point.
    """
    products = Path(products)
    objects = tables.read("truth_object", objects)
    truth = tables.read("truth_flux", fluxes)
    truth_images = tables.read("truth_image", truth_images)
    summary = tables.read("visit_summary", products / "visit_summary.parquet")
    sources, dia_objects, forced_sources = (
        tables.read(name, products / f"tables/{name}.parquet")
        for name in ("dia_source", "dia_object", "dia_forced_source")
    )
    of_fluxes = objects[_index(objects["objectId"], truth["objectId"])]
    lasting = of_fluxes["type"] != "asteroid"
    hostless = (of_fluxes["type"] == "supernova") & (of_fluxes["hostId"] == 0)
    templates = [read_template(path) for path in sorted(products.glob("coadd/template/*/*/*.fits"))]
    expected = expected_flux(truth, lasting, templates)
    images = sorted(path for path in products.glob("diffim/*/*.fits") if path.stem.isdigit())
    measured, empty, area = measure(truth, objects, images, products / "calexp")
    pulls = {
        "all": pull(measured[lasting], expected[lasting]),
        "hostless": pull(measured[hostless], expected[hostless]),
        "empty": pull(empty, np.zeros(len(empty))),
        "object": pull(*dia_object_fluxes(dia_objects, forced_sources, truth[lasting], expected[lasting])),
    }
    figures = {
        "n_visits": len({path.parent.name for path in images}),
        "n_images": len(images),
        "n_dia_sources": len(sources),
        "n_dia_sources_unflagged": int((~sources["pixelFlags"]).sum()),
        "n_dia_objects": len(dia_objects),
        **detections(truth, expected, measured, sources, area, float(np.median(truth_images["pixel_scale"]))),
        **object_purity(dia_objects, truth[lasting]),
        **calibration.zero_point_errors(truth_images, summary),
        **calibration.photometric_errors(objects, tables.read("source", products / "tables/source.parquet")),
        **calibration.astrometric_errors(truth_images, objects, sorted(products.glob("calexp/*/*.fits"))),
    }
    for name, values in pulls.items():
        median, width = (np.median(values), robust_width(values)) if len(values) else (np.nan, np.nan)
        figures |= {f"{name}_pull_n": len(values), f"{name}_pull_median": median, f"{name}_pull_width": width}
    return {name: np.asarray(figures[name]).item() for name in FIGURES}


def text(figures: dict[str, float]) -> str:
    """The figures as a table, one line each.

    Parameters
    ----------
    figures : dict
        As `validate` gives them.

    Returns
    -------
    str
    """
    return "".join(f"{figures[name]:>12.6g}  {description}\n" for name, description in FIGURES.items())


def measure(
    truth: np.ndarray, objects: np.ndarray, images: list[Path], calexps: Path
) -> tuple[np.ndarray, np.ndarray, float]:
    """Forced photometry at true and at empty positions of all difference images.

    Parameters
    ----------
    truth, objects : tables "truth_flux", "truth_object"
    images : list of Path
        Difference images, {visit}/{detector}.fits.
    calexps : Path
        Folder that holds the calibrated images under the same names.

    Returns
    -------
    at_truth : (n,) structured array
        Table "dia_forced_source" in the order of `truth`; fluxes NaN where there is no difference.
    at_nothing : structured array
        The same table at random positions at least `EMPTY` from any object.
    area : float
        Sum of the images' usable areas [square degree].
    """
    at_truth = tables.empty("dia_forced_source", len(truth))
    at_nothing, area = [], 0.0
    for path in images:
        visit, detector = int(path.parent.name), int(path.stem)
        difference = Exposure.read(path)
        science = Exposure.read(calexps / path.parent.name / path.name)
        usable = ~difference.flagged("NO_DATA", "EDGE", "BAD")
        area += usable.sum() * proj_plane_pixel_area(difference.wcs)
        rows = np.flatnonzero((truth["visit"] == visit) & (truth["detector"] == detector))
        ra, dec = _empty_positions(difference, objects, np.random.default_rng([visit, detector]))
        ids = np.concatenate([rows, len(truth) + np.arange(len(ra))])
        ra, dec = np.append(truth["ra"][rows], ra), np.append(truth["dec"][rows], dec)
        table = forced_photometry(difference, science, ra, dec, ids, 1.0)  # no flux on the calexp is judged
        place = table["diaObjectId"]
        at_truth[place[place < len(truth)]] = table[place < len(truth)]
        at_nothing.append(table[place >= len(truth)])
    return at_truth, tables.concatenate("dia_forced_source", at_nothing), area


def detections(
    truth: np.ndarray, expected: np.ndarray, measured: np.ndarray, sources: np.ndarray, area: float, pixel_scale: float
) -> dict[str, float]:
    """Completeness and false detections.

    A true source counts when its S/N exceeds `COMPLETE_SNR` and forced photometry found no masked pixel at its
    place; it is found when any DIASource of the same image, flagged or not, of either sign, is within `MATCH` or
    `MATCH_PIXELS`.  An unflagged DIASource is false when no true source of S/N > `REAL_SNR` of the same image is
    within `FALSE_MATCH`; where the error of a true source is unknown, it counts as real.

    Parameters
    ----------
    truth, expected, measured
        Rows of "truth_flux", their flux on the difference images [nJy] and their forced photometry.
    sources : structured array
        Table "dia_source".
    area : float
        Area that was searched, summed over images [square degree].
    pixel_scale : float
        [arcsec]

    Returns
    -------
    dict
        n_true_sources, completeness, n_false and false_per_square_degree, see `FIGURES`.
    """
    with np.errstate(invalid="ignore"):
        snr = np.abs(expected) / measured["psfFluxErr"]
    judged = (snr > COMPLETE_SNR) & ~measured["pixelFlags"] & ~measured["psfFlux_flag"]
    real = (expected != 0) & ~(snr <= REAL_SNR)
    unflagged = sources[~sources["pixelFlags"]]
    n_found, n_false = 0, 0
    for visit, detector in np.unique(np.stack([sources["visit"], sources["detector"]]), axis=1).T:
        true, candidates, clean = (_of_image(table, visit, detector) for table in (truth, sources, unflagged))
        radius = max(MATCH, MATCH_PIXELS * pixel_scale)
        n_found += (_separation(truth[true & judged], sources[candidates]).min(1, initial=np.inf) < radius).sum()
        n_false += (_separation(unflagged[clean], truth[true & real]).min(1, initial=np.inf) >= FALSE_MATCH).sum()
    return {
        "n_true_sources": judged.sum(),
        "completeness": _ratio(n_found, judged.sum()),
        "n_false": n_false,
        "false_per_square_degree": _ratio(n_false, area),
    }


def object_purity(dia_objects: np.ndarray, lasting: np.ndarray) -> dict[str, float]:
    """How many DIAObjects of two or more sources are at a supernova or variable.

    Parameters
    ----------
    dia_objects : "dia_object" table
    lasting : "truth_flux" table
        Rows of supernovae and variables.

    Returns
    -------
    dict
        n_repeated_objects and object_purity, see `FIGURES`.
    """
    repeated = dia_objects[dia_objects["nDiaSources"] >= 2]
    places = lasting[np.unique(lasting["objectId"], return_index=True)[1]]
    true = (_separation(repeated, places).min(1, initial=np.inf) < MATCH).sum()
    return {"n_repeated_objects": len(repeated), "object_purity": _ratio(true, len(repeated))}


def dia_object_fluxes(
    dia_objects: np.ndarray, forced_sources: np.ndarray, truth: np.ndarray, expected: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Forced sources of the run that belong to a true supernova or variable, and their true fluxes.

    A DIAObject is the true object nearest to it within `MATCH`.

    Parameters
    ----------
    dia_objects, forced_sources : tables "dia_object", "dia_forced_source"
    truth : "truth_flux" table
        The n rows of supernovae and variables.
    expected : (n,) array
        Their flux on the difference images [nJy].

    Returns
    -------
    rows : (n,) structured array
        Rows of "dia_forced_source".
    expected : (n,) array
        True flux on the difference image [nJy]; NaN for rows without truth.
    """
    places = truth[np.unique(truth["objectId"], return_index=True)[1]]
    if not (len(places) and len(dia_objects) and len(forced_sources)):
        return forced_sources[:0], np.empty(0)
    distance = _separation(dia_objects, places)
    match = np.where(distance.min(1) < MATCH, places["objectId"][distance.argmin(1)], 0)
    true_id = match[_index(dia_objects["diaObjectId"], forced_sources["diaObjectId"])]
    true_flux = dict(zip(truth[["objectId", "visit", "detector"]].tolist(), expected))
    data_ids = zip(true_id.tolist(), forced_sources["visit"].tolist(), forced_sources["detector"].tolist())
    return forced_sources, np.array([true_flux.get(data_id, np.nan) for data_id in data_ids])


def pull(rows: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """(measured - true) / error of forced sources.

    Parameters
    ----------
    rows : "dia_forced_source" table
        Forced sources (n).
    expected : (n,) array
        True fluxes [nJy], NaN where unknown.

    Returns
    -------
    (m,) array
        Of the rows without flags whose true flux is known.
    """
    good = ~rows["psfFlux_flag"] & ~rows["pixelFlags"] & np.isfinite(rows["psfFlux"]) & np.isfinite(expected)
    return (rows["psfFlux"][good] - expected[good]) / rows["psfFluxErr"][good]


def _empty_positions(difference: Exposure, objects: np.ndarray, rng: np.random.Generator) -> tuple:
    ny, nx = difference.shape
    ra, dec = difference.wcs.all_pix2world(rng.uniform(0, nx - 1, N_EMPTY), rng.uniform(0, ny - 1, N_EMPTY), 0)
    places = np.rec.fromarrays([ra, dec], names="ra,dec")
    empty = _separation(places, objects).min(1, initial=np.inf) > EMPTY
    return ra[empty], dec[empty]


def _separation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Separations (n, m) of the rows of two tables with ra and dec, for small angles [arcsec]."""
    return 3600 * np.hypot(*sphere.offsets(b["ra"], b["dec"], a["ra"][:, None], a["dec"][:, None]))


def _of_image(table: np.ndarray, visit: int, detector: int) -> np.ndarray:
    return (table["visit"] == visit) & (table["detector"] == detector)


def _index(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Row of each wanted identifier in a column that has them all."""
    order = np.argsort(ids, kind="stable")
    return order[np.searchsorted(ids[order], wanted)]


def _ratio(count: float, total: float) -> float:
    return count / total if total else np.nan
