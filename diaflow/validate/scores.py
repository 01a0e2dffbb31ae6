"""How good a run on a simulated survey is, in short: a dictionary of figures and a text table of them.

In come a run and its truth side by side (`comparison`).  Every class of sources, with errors and bars, is judged by
`scorecard`.
"""

import numpy as np

from diaflow.statistics import robust_width
from diaflow.store import ids, tables
from diaflow.validate import calibration
from diaflow.validate.comparison import FLEETING, Comparison
from diaflow.validate.matching import nearest, rows_of_image

# All of these are chosen.  True S/N that must be found, and true S/N from which a detection is real.
COMPLETE_SNR, REAL_SNR = 6.0, 3.0
# Distance of a detection from its source, and of a false one from any source [arcsec]; a detection also matches within
# this many pixels.
MATCH, FALSE_MATCH = 1.0, 1.5
MATCH_PIXELS = 2.0
PROBE = "probe"  # type of the objects that `scorecard` alone judges

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


def validate(run: Comparison) -> dict[str, float]:
    """The figures of a run on a simulated survey.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    dict
        The figures that `FIGURES` describes; NaN where there is nothing to judge.

    Raises
    ------
    InputError
        When a table or an image is missing or unreadable.
    """
    truth, expected, measured = run.truth, run.expected, run.at_truth
    lasting = ~np.isin(run.kind, (*FLEETING, PROBE))
    hostless = (run.kind == "supernova") & (run.of_truth["hostId"] == 0)
    pulls = {
        "all": pull(measured[lasting], expected[lasting]),
        "hostless": pull(measured[hostless], expected[hostless]),
        "empty": pull(run.at_nothing, np.zeros(len(run.at_nothing))),
        "object": pull(*dia_object_fluxes(run.dia_objects, run.forced, truth[lasting], expected[lasting])),
    }
    area, scale = run.images["area"].sum(), float(np.median(run.truth_images["pixel_scale"]))
    stars = tables.read("source", run.products / "tables/source.parquet")
    calexps = sorted(run.products.glob("calexp/*/*.fits"))
    figures = {
        "n_visits": len(np.unique(run.images["visit"])),
        "n_images": len(run.images),
        "n_dia_sources": len(run.sources),
        "n_dia_sources_unflagged": int((~run.sources["pixelFlags"]).sum()),
        "n_dia_objects": len(run.dia_objects),
        **detections(truth, expected, measured, run.sources, area, scale),
        **object_purity(run.dia_objects, truth[lasting]),
        **calibration.zero_point_errors(run.truth_images, run.summary),
        **calibration.photometric_errors(run.objects, stars),
        **calibration.astrometric_errors(run.truth_images, run.objects, calexps),
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
        true, candidates, clean = (rows_of_image(table, visit, detector) for table in (truth, sources, unflagged))
        radius = max(MATCH, MATCH_PIXELS * pixel_scale)
        n_found += (nearest(truth[true & judged], sources[candidates])[0] < radius).sum()
        n_false += (nearest(unflagged[clean], truth[true & real])[0] >= FALSE_MATCH).sum()
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
    true = (nearest(repeated, places)[0] < MATCH).sum()
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
    forced_sources = forced_sources[forced_sources["diaObjectId"] != 0]  # without the user's positions
    places = truth[np.unique(truth["objectId"], return_index=True)[1]]
    if not (len(places) and len(dia_objects) and len(forced_sources)):
        return forced_sources[:0], np.empty(0)
    distance, place = nearest(dia_objects, places)
    match = np.where(distance < MATCH, places["objectId"][place], 0)
    true_id = match[ids.rows_of(dia_objects["diaObjectId"], forced_sources["diaObjectId"])]
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


def _ratio(count: float, total: float) -> float:
    return count / total if total else np.nan
