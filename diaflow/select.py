"""Selection of visits: which go into the template of a patch, and which are differenced.

Rules apply in order (list of visits, dates, seeing, best N per patch and band), and every candidate left out
keeps the first reason.  The seeing is a FWHM in pixels, measured, or from headers while nothing is measured yet.
"""

import logging
from collections.abc import Mapping

import numpy as np

from diaflow import tables

_log = logging.getLogger(__name__)
CANDIDATE = np.dtype([
    ("tract", "i4"), ("patch", object), ("band", object), ("visit", "i8"), ("mjd", "f8"), ("fwhm", "f8"),
])  # fmt: skip


def needs_measured_seeing(config_template: dict) -> bool:
    """Whether the selection depends on the seeing, so that it cannot be made before the calexps are."""
    return config_template["fwhm"] is not None or config_template["best"] is not None


def header_fwhm(exposures: np.ndarray) -> dict[int, float]:
    """PSF FWHM [pixel] of each visit as its headers have it (median over detectors; NaN where they do not)."""
    return _per_visit(exposures, exposures["seeing"].astype(float) / exposures["pixel_scale"])


def measured_fwhm(visit_summary: np.ndarray) -> dict[int, float]:
    """PSF FWHM [pixel] of each visit that was calibrated (median over detectors), from table "visit_summary"."""
    return _per_visit(visit_summary, visit_summary["psf_fwhm"].astype(float))


def candidates(overlaps: np.ndarray, exposures: np.ndarray, fwhm_by_visit: Mapping[int, float]) -> np.ndarray:
    """One row for each (tract, patch, band, visit) that overlaps.

    Parameters
    ----------
    overlaps : table "overlap"
    exposures : table "exposure" or "visit_summary"
        Gives the date of each visit.
    fwhm_by_visit : mapping of int to float
        PSF FWHM [pixel]; a visit that is not in it has an unknown seeing (NaN).

    Returns
    -------
    structured array with the columns of `CANDIDATE`, sorted by tract, patch (as in `overlaps`), band and visit
    """
    names = ("tract", "patch", "band", "visit")
    seen = list(dict.fromkeys(zip(*(overlaps[name].tolist() for name in names))))
    patch_order = {key: k for k, key in enumerate(dict.fromkeys(key[:2] for key in seen))}
    seen.sort(key=lambda key: (patch_order[key[:2]], *key[2:]))
    dated = exposures[np.isfinite(exposures["mjd"])]
    dates = dict(zip(dated["visit"].tolist(), dated["mjd"].tolist()))
    rows = [(*key, dates.get(key[3], np.nan), fwhm_by_visit.get(key[3], np.nan)) for key in seen]
    return np.array(rows, dtype=CANDIDATE)


def template_visits(candidates: np.ndarray, config_template: dict) -> np.ndarray:
    """Choose the visits of every template.

    Parameters
    ----------
    candidates : structured array
        Columns of `CANDIDATE`, one row per tract, patch, band and visit.
    config_template : dict
        Section `template` of the configuration: visits, mjd, fwhm, best.

    Returns
    -------
    table "selection", in the order of `candidates`: `selected`, or the `reason` why not.  A seeing that is not
    finite is rejected when a seeing window or the best visits are asked for (as in LSST's PsfWcsSelectImages).
    """
    table = tables.empty("selection", len(candidates))
    for name in ("tract", "patch", "band", "visit", "fwhm"):
        table[name] = candidates[name]
    reason = np.full(len(candidates), "", dtype=object)
    _exclude_visits(reason, candidates, config_template["visits"], "template.visits")
    _exclude_dates(reason, candidates, config_template["mjd"], "template.mjd")
    if needs_measured_seeing(config_template):
        _exclude(reason, ~np.isfinite(candidates["fwhm"]), "seeing unknown")
    if config_template["fwhm"] is not None:
        low, high = config_template["fwhm"]
        outside = (candidates["fwhm"] < low) | (candidates["fwhm"] > high)
        _exclude(reason, outside, f"seeing outside template.fwhm {low:g} to {high:g} pixels")
    if config_template["best"] is not None:
        beyond = _rank(candidates, reason == "") >= config_template["best"]
        _exclude(reason, beyond, f"not among the best {config_template['best']} in seeing")
    table["reason"] = reason
    table["selected"] = reason == ""
    return table


def science_visits(exposures: np.ndarray, config_science: dict) -> list[int]:
    """Visits to difference, in order: those with a usable image that the section `science` lets through."""
    usable = exposures[exposures["status"] == "ok"]
    _, first = np.unique(usable["visit"], return_index=True)
    visits = usable[first]
    reason = np.full(len(visits), "", dtype=object)
    _exclude_visits(reason, visits, config_science["visits"], "science.visits")
    _exclude_dates(reason, visits, config_science["mjd"], "science.mjd")
    return visits["visit"][reason == ""].tolist()


def _exclude(reason: np.ndarray, out: np.ndarray, why: str) -> None:
    reason[out & (reason == "")] = why


def _exclude_visits(reason: np.ndarray, rows: np.ndarray, wanted: list[int], key: str) -> None:
    if wanted:
        absent = sorted(set(wanted) - set(rows["visit"].tolist()))
        if absent:
            _log.warning("%s: no usable image of visit %s", key, ", ".join(map(str, absent)))
        _exclude(reason, ~np.isin(rows["visit"], wanted), f"not in {key}")


def _exclude_dates(reason: np.ndarray, rows: np.ndarray, window: list[float] | None, key: str) -> None:
    if window is not None:
        first, last = window
        _exclude(reason, ~((rows["mjd"] >= first) & (rows["mjd"] <= last)), f"outside {key} {first:g} to {last:g}")


def _rank(rows: np.ndarray, eligible: np.ndarray) -> np.ndarray:
    """Place of each eligible row among those of its tract, patch and band, the sharpest being 0; -1 for others."""
    place = np.full(len(rows), -1)
    taken: dict[tuple, int] = {}
    for k in np.lexsort((rows["visit"], rows["fwhm"])).tolist():
        if eligible[k]:
            group = (rows["tract"][k], rows["patch"][k], rows["band"][k])
            place[k] = taken.get(group, 0)
            taken[group] = place[k] + 1
    return place


def _per_visit(rows: np.ndarray, fwhm: np.ndarray) -> dict[int, float]:
    """Median of the finite values of each visit with a usable image; NaN for a visit that has none."""
    usable = rows["status"] == "ok"
    known = usable & np.isfinite(fwhm)
    order = np.argsort(rows["visit"][known], kind="stable")
    visits, first = np.unique(rows["visit"][known][order], return_index=True)
    medians = {int(v): float(np.median(part)) for v, part in zip(visits, np.split(fwhm[known][order], first[1:]))}
    return {visit: medians.get(visit, np.nan) for visit in np.unique(rows["visit"][usable]).tolist()}
