"""Selection of visits: which go into the template or the deep coadd of a patch, and which are differenced.

Rules apply in order (list of visits, dates, guard, seeing, best N or quantile per patch and band), and every candidate
left out keeps the first reason.  The seeing is measured, or from headers while nothing is measured yet.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from diaflow.store import tables

_log = logging.getLogger(__name__)
CANDIDATE = np.dtype([
    ("tract", "i4"), ("patch", object), ("band", object), ("visit", "i8"), ("mjd", "f8"), ("fwhm", "f8"),
    ("seeing", "f8"),
])  # fmt: skip
SEEING_RULES = ("fwhm", "seeing", "best", "quantile")


def needs_measured_seeing(config_coadd: dict) -> bool:
    """Whether the selection depends on the seeing, so that it cannot be made before the calexps are."""
    return any(config_coadd[rule] is not None for rule in SEEING_RULES)


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
    exposures : table "exposure"
        Gives the date and the pixel scale of each visit.
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
    usable = exposures[exposures["status"] == "ok"]
    dates = dict(zip(usable["visit"].tolist(), usable["mjd"].tolist()))
    scales = dict(zip(usable["visit"].tolist(), usable["pixel_scale"].astype(float).tolist()))
    rows = []
    for key in seen:
        visit = key[3]
        fwhm = fwhm_by_visit.get(visit, np.nan)
        rows.append((*key, dates.get(visit, np.nan), fwhm, fwhm * scales.get(visit, np.nan)))
    return np.array(rows, dtype=CANDIDATE)


def coadd_visits(
    candidates: np.ndarray, config_coadd: dict, science: Sequence[int] = (), section: str = "template"
) -> np.ndarray:
    """Choose the visits of every template, or of every deep coadd.

    Parameters
    ----------
    candidates : structured array
        Columns of `CANDIDATE`, one row per tract, patch, band and visit.
    config_coadd : dict
        Section `template` or `deep` of the configuration: visits, mjd, fwhm, seeing, best, quantile, min_visits, and
        guard of a template.
    science : sequence of int
        Visits to difference, from which `guard` keeps the template away.
    section : str
        Which of the two it is.

    Returns
    -------
    table "selection", in the order of `candidates`: `selected`, or the `reason` why not.  A seeing that is not
    finite is rejected when a seeing window or the best visits are asked for (as in LSST's PsfWcsSelectImages).
    """
    table = tables.empty("selection", len(candidates))
    for name in ("tract", "patch", "band", "visit", "fwhm"):
        table[name] = candidates[name]
    reason = np.full(len(candidates), "", dtype=object)
    _exclude_visits(reason, candidates, config_coadd["visits"], f"{section}.visits")
    _exclude_dates(reason, candidates, config_coadd["mjd"], f"{section}.mjd")
    if config_coadd.get("guard") is not None:
        _exclude(
            reason, _near_science(candidates, science, config_coadd["guard"]), f"within {section}.guard of science"
        )
    if needs_measured_seeing(config_coadd):
        _exclude(reason, ~np.isfinite(candidates["fwhm"]), "seeing unknown")
    for rule, unit in (("fwhm", "pixels"), ("seeing", "arcsec")):
        if config_coadd[rule] is not None:
            low, high = config_coadd[rule]
            outside = (candidates[rule] < low) | (candidates[rule] > high)
            _exclude(reason, outside, f"seeing outside {section}.{rule} {low:g} to {high:g} {unit}")
    if config_coadd["best"] is not None:
        rank, _ = _rank(candidates, reason == "")
        _exclude(reason, rank >= config_coadd["best"], f"not among the best {config_coadd['best']} in seeing")
    if config_coadd["quantile"] is not None:
        low, high = config_coadd["quantile"]
        beyond = _outside_quantile(*_rank(candidates, reason == ""), low, high, config_coadd["min_visits"])
        _exclude(reason, beyond, f"seeing outside {section}.quantile {low:g} to {high:g}")
    table["reason"] = reason
    table["selected"] = reason == ""
    return table


def planned(
    section: str,
    config: dict,
    exposures: np.ndarray,
    overlaps: np.ndarray,
    summary_path: str | Path,
    science: Sequence[int] = (),
) -> tuple[np.ndarray, dict[tuple[int, str, str], list[int]], str]:
    """Visits of every template, or of every deep coadd, as far as they are known before the run.

    Parameters
    ----------
    section : str
        "template" or "deep".
    config : dict
        The whole configuration.
    exposures, overlaps : tables "exposure" and "overlap"
    summary_path : path
        Table "visit_summary" of an earlier run, which need not exist.
    science : sequence of int
        Visits to difference, from which `guard` keeps a template away.

    Returns
    -------
    selection : table "selection"
    visits : dict of (tract, patch, band) to list of int
        The key of every coadd that has a visit by list and date; empty where the seeing excludes all.
    seeing : str
        What the selection was planned with, see `diaflow.run.plan.Plan`.
    """
    fwhm, seeing = _seeing(config[section], exposures, summary_path)
    rows = candidates(overlaps, exposures, fwhm)
    whatever_seeing = config[section] | dict.fromkeys(SEEING_RULES)
    unseen = coadd_visits(rows, whatever_seeing, science, section)
    selection = unseen
    if seeing in ("header", "measured"):
        selection = coadd_visits(rows, config[section], science, section)
    # Which coadds there are must not depend on the seeing: they are the same before and after it is measured.
    return selection, dict.fromkeys(selected(unseen), []) | selected(selection), seeing


def selected(selection: np.ndarray) -> dict[tuple[int, str, str], list[int]]:
    """Selected visits of every (tract, patch, band) that has one.

    Parameters
    ----------
    selection : table "selection"

    Returns
    -------
    dict of (tract, patch, band) to list of int
    """
    visits: dict[tuple[int, str, str], list[int]] = {}
    rows = selection[selection["selected"]]
    columns = (rows[name].tolist() for name in ("tract", "patch", "band", "visit"))
    for tract, patch, band, visit in zip(*columns):
        visits.setdefault((tract, patch, band), []).append(visit)
    return visits


def science_visits(exposures: np.ndarray, config_science: dict) -> list[int]:
    """Visits to difference, in order: those with a usable image that the section `science` lets through."""
    usable = exposures[exposures["status"] == "ok"]
    _, first = np.unique(usable["visit"], return_index=True)
    visits = usable[first]
    reason = np.full(len(visits), "", dtype=object)
    _exclude_visits(reason, visits, config_science["visits"], "science.visits")
    _exclude_dates(reason, visits, config_science["mjd"], "science.mjd")
    return visits["visit"][reason == ""].tolist()


def reference_visits(bands: dict[int, str], exptimes: dict[int, float]) -> dict[int, int | None]:
    """The visit that each is aligned to without a catalogue: the leader of its band, and for that the leader of all.

    Leaders are the longest exposures, the first of them: their stars are the most and the best measured.

    Parameters
    ----------
    bands, exptimes : dicts of int
        Band and exposure time [s] of each visit.

    Returns
    -------
    dict of int to int or None
        None for the leader of all.
    """
    ranked = sorted(bands, key=lambda visit: (-exptimes[visit], visit))
    leaders: dict[str, int] = {}
    for visit in ranked:
        leaders.setdefault(bands[visit], visit)
    reference = {}
    for visit, band in bands.items():
        leader = leaders[band]
        reference[visit] = leader if visit != leader else (ranked[0] if visit != ranked[0] else None)
    return reference


def _seeing(config_coadd: dict, exposures: np.ndarray, summary_path: str | Path) -> tuple[dict[int, float], str]:
    """PSF FWHM [pixel] of each visit, measured before from headers, and what `planned` says of it."""
    fwhm = header_fwhm(exposures)
    if not needs_measured_seeing(config_coadd):
        return fwhm, ""
    measured = measured_fwhm(tables.read("visit_summary", summary_path)) if Path(summary_path).is_file() else {}
    if fwhm.keys() <= measured.keys():
        return measured, "measured"
    all_in_headers = all(np.isfinite(fwhm[visit]) for visit in fwhm.keys() - measured.keys())
    return fwhm | measured, "header" if all_in_headers else "none"


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


def _near_science(rows: np.ndarray, science: Sequence[int], guard: float) -> np.ndarray:
    """Which rows are within `guard` days of a visit to difference that has the same patch and band."""
    near = np.zeros(len(rows), bool)
    differenced = np.isin(rows["visit"], science)
    for members in _groups(rows):
        gaps = np.abs(rows["mjd"][members][:, None] - rows["mjd"][members[differenced[members]]])
        near[members] = (gaps <= guard).any(1)
    return near


def _outside_quantile(rank: np.ndarray, n: np.ndarray, low: float, high: float, min_visits: int) -> np.ndarray:
    """Which places among n lie outside a range of quantiles that holds at least `min_visits` (LSST's quantile rule)."""
    first = np.minimum(np.round(low * n), np.maximum(n - min_visits, 0))
    return (rank >= 0) & ((rank < first) | (rank >= np.maximum(np.round(high * n), min_visits)))


def _rank(rows: np.ndarray, eligible: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Place of each eligible row among those of its tract, patch and band, the sharpest being 0, and their number.

    The place of other rows is -1.
    """
    place, number = np.full(len(rows), -1), np.zeros(len(rows), int)
    for members in _groups(rows):
        chosen = members[eligible[members]]
        place[chosen[np.lexsort((rows["visit"][chosen], rows["fwhm"][chosen]))]] = np.arange(len(chosen))
        number[members] = len(chosen)
    return place, number


def _groups(rows: np.ndarray) -> list[np.ndarray]:
    """Indices of the rows of each tract, patch and band."""
    groups: dict[tuple, list[int]] = {}
    for k, key in enumerate(zip(*(rows[name].tolist() for name in ("tract", "patch", "band")))):
        groups.setdefault(key, []).append(k)
    return [np.array(members) for members in groups.values()]


def _per_visit(rows: np.ndarray, fwhm: np.ndarray) -> dict[int, float]:
    """Median of the finite values of each visit with a usable image; NaN for a visit that has none."""
    usable = rows["status"] == "ok"
    known = usable & np.isfinite(fwhm)
    order = np.argsort(rows["visit"][known], kind="stable")
    visits, first = np.unique(rows["visit"][known][order], return_index=True)
    medians = {int(v): float(np.median(part)) for v, part in zip(visits, np.split(fwhm[known][order], first[1:]))}
    return {visit: medians.get(visit, np.nan) for visit in np.unique(rows["visit"][usable]).tolist()}
