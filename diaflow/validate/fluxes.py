"""Fluxes, errors and positions of every class of sources against the truth.

Forced fluxes are judged at all true places, those of DIASources only where the source is bright: one near the threshold
is detected because noise is added to it, and at its fitted place the flux is too large by 1 / (S/N) of its error.
"""

import numpy as np

from diaflow.sky.sphere import offsets
from diaflow.validate.comparison import Comparison
from diaflow.validate.detections import PLACES
from diaflow.validate.figures import FEWEST, Figure, pulls, weighted_bias, width_about_zero
from diaflow.validate.scores import dia_object_fluxes, pull

BRIGHT_SNR = 20.0  # true S/N from which biases and the fluxes of DIASources are judged
# True S/N of the DIASources whose positions are judged: above, the WCS matters; below, which of them are detected.
POSITION_SNR = 8.0, 50.0
CLASSES = {"supernova": "supernova", "variable": "variable", "asteroid": "mover"}  # by type of object


def classes(run: Comparison) -> dict[str, np.ndarray]:
    """Rows of the truth of each class that the truth has.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    dict
        (n,) bool arrays by "probe on sky", ..., "supernova", "variable", "mover".
    """
    rows = {f"probe on {place}": (run.kind == "probe") & (run.of_truth["place"] == place) for place in PLACES}
    rows |= {name: run.kind == kind for kind, name in CLASSES.items()}
    return {name: mine for name, mine in rows.items() if mine.any()}


def forced(run: Comparison) -> list[Figure]:
    """Pulls and bias of forced photometry: at the true places, as the run has it, at constant stars, at empty places.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    list of Figure
    """
    out = []
    good = _good(run.at_truth) & np.isfinite(run.expected)
    bright = _may_be_within(run, BRIGHT_SNR)
    for name, mine in classes(run).items():
        out += pulls("forced_pull", name, forced_pulls(run)[mine & good])
        if (mine & bright).sum() >= FEWEST:
            rows = mine & bright & good
            ratio = run.at_truth["psfFlux"][rows] / run.expected[rows]
            out.append(weighted_bias("forced_bias", name, ratio, run.snr[rows]))
    lasting = np.isin(run.kind, ("supernova", "variable"))
    if lasting.any():
        tabulated = dia_object_fluxes(run.dia_objects, run.forced, run.truth[lasting], run.expected[lasting])
        out += pulls("forced_pull", "DIAObject as tabulated", pull(*tabulated))
    for name, table in (("constant star", run.at_stars), ("empty place", run.at_nothing)):
        table = table[_good(table)]
        out += pulls("forced_pull", name, table["psfFlux"] / table["psfFluxErr"])
    return out


def detected(run: Comparison, matches: np.ndarray) -> list[Figure]:
    """Pulls and bias of bright DIASources, and their distances from the true places.

    Parameters
    ----------
    run : Comparison
    matches : (n,) int array
        DIASource of each row of the truth, -1 for none.

    Returns
    -------
    list of Figure
    """
    out = []
    bright, placed = _may_be_within(run, BRIGHT_SNR), _may_be_within(run, *POSITION_SNR)
    there = (matches >= 0) & np.isfinite(run.snr)
    for name, mine in classes(run).items():
        if (mine & bright).sum() >= FEWEST:
            rows = mine & bright & there
            flux, error = (run.sources[column][matches[rows]] for column in ("psfFlux", "psfFluxErr"))
            out += pulls("detected_pull", name, (flux - run.expected[rows]) / error)
            out.append(weighted_bias("detected_bias", name, flux / run.expected[rows], run.snr[rows]))
        if (mine & placed).sum() >= FEWEST:
            out.append(width_about_zero("position_error", name, _position_errors(run, matches, mine & placed & there)))
    return out


def forced_pulls(run: Comparison) -> np.ndarray:
    """(measured - true) / error of forced photometry at the true places.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    (n,) array
        NaN where there is no flux, a flawed pixel, or no truth.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        off = (run.at_truth["psfFlux"] - run.expected) / run.at_truth["psfFluxErr"]
    return np.where(_good(run.at_truth), off, np.nan)


def _may_be_within(run: Comparison, low: float, high: float = np.inf) -> np.ndarray:
    """Rows of the truth in a range of S/N, and those whose S/N is not known: a class is judged that may have enough."""
    with np.errstate(invalid="ignore"):
        return ~((np.abs(run.snr) <= low) | (np.abs(run.snr) >= high))


def _position_errors(run: Comparison, matches: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Offsets of DIASources, east and north, over what noise gives: sqrt(2) sigma / (S/N) of a Gaussian PSF."""
    sources, truth = run.sources[matches[rows]], run.truth[rows]
    sigma = run.truth_sigma[rows] * run.of_image("pixel_scale", truth)
    offset = 3600 * np.array(offsets(sources["ra"], sources["dec"], truth["ra"], truth["dec"]))
    return (offset * np.abs(run.snr[rows]) / (np.sqrt(2) * sigma)).ravel()


def _good(table: np.ndarray) -> np.ndarray:
    """Forced sources with a flux and without flawed pixels."""
    return ~table["psfFlux_flag"] & ~table["pixelFlags"] & np.isfinite(table["psfFlux"])
