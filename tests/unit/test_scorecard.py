"""A run as theory wants it meets all bars; a fault that is put in is seen by the figures that must, and no other."""

from dataclasses import replace

import numpy as np
import pytest
from optionalfigures import OPTIONAL, STATIC
from perfectrun import ERROR, RADIUS, THRESHOLD, perfect, with_sources
from scipy.stats import norm

from diaflow.store import tables
from diaflow.validate import figures, scorecard, scores
from diaflow.validate.bars import BARS, DESCRIPTIONS, bar_of
from diaflow.validate.figures import Figure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return perfect(tmp_path_factory.mktemp("run"))


def card(run) -> scorecard.Scorecard:
    return scorecard.score(run, THRESHOLD, RADIUS, {})


def unmet(run) -> set[str]:
    """Names of the figures that miss their bar."""
    return {row["name"] for row in card(run).rows() if row["met"] is False}


def test_a_perfect_run_meets_all_bars(run):
    rows = card(run).rows()
    required = {bar.figure for bar in BARS} - OPTIONAL - STATIC
    assert {row["name"] for row in rows if row["met"] is not None} == required
    assert unmet(run) == set()


def test_bars_of_a_perfect_run_are_wider_than_its_errors_where_they_are_met_with_few_sources(run):
    half = next(row for row in card(run).rows() if row["name"] == "efficiency_half" and row["of"] == "sky")
    assert half["n"] == 1750
    assert half["error"] < 0.15 / 2
    assert half["value"] == pytest.approx(half["expected"], abs=4 * half["error"])


def test_a_shifted_catalogue_is_seen_in_the_positions(run):
    sources = run.sources.copy()
    sources["dec"] += 0.3 / 3600
    assert unmet(with_sources(run, sources)) == {"position_error"}


def test_halved_errors_of_sources_are_seen_in_their_pulls(run):
    sources = run.sources.copy()
    sources["psfFluxErr"] /= 2
    # their medians, of a few sources, are twice as far from zero as those of normal deviates
    assert (
        {"detected_pull_width"} <= unmet(with_sources(run, sources)) <= {"detected_pull_width", "detected_pull_median"}
    )


def test_halved_errors_of_forced_fluxes_are_seen_wherever_true_signal_to_noise_is(run):
    at_truth = run.at_truth.copy()
    at_truth["psfFluxErr"] /= 2
    seen = {"forced_pull_width", "efficiency_half", "completeness_over_theory", "position_error"}
    assert unmet(replace(run, at_truth=at_truth)) == seen


def test_few_pulls_that_are_narrow_by_chance_meet_the_bar_and_many_do_not():
    """16 of a width of 0.4: their quartiles have an error of 0.29; 1600 are known to be too narrow."""
    for n, met in ((16, True), (1600, False)):
        median, width = figures.pulls("forced_pull", "mover", 0.4 * norm.ppf((np.arange(n) + 0.5) / n))
        assert width.value == pytest.approx(0.4, rel=0.1)
        assert bar_of(width).met(width) is met
        assert (median.error, width.error) == pytest.approx((1.2533 / n**0.5, 1.1664 / n**0.5))


def test_halved_errors_at_empty_places_are_seen_there_only(run):
    at_nothing = run.at_nothing.copy()
    at_nothing["psfFluxErr"] /= 2
    rows = [row for row in card(replace(run, at_nothing=at_nothing)).rows() if row["met"] is False]
    assert [(row["name"], row["of"]) for row in rows] == [("forced_pull_width", "empty place")]
    assert rows[0]["value"] == pytest.approx(2, abs=0.3)


def test_a_source_twice_is_a_close_pair(run):
    twice = run.sources[:1].copy()
    twice["dec"] += 0.1 / 3600
    assert unmet(with_sources(run, np.append(run.sources, twice))) == {"close_pairs"}


def test_an_object_twice_is_split_and_a_close_pair(run):
    sources = run.sources.copy()
    of_first = np.flatnonzero(sources["diaObjectId"] == sources["diaObjectId"][0])
    sources["diaObjectId"][of_first[:4]] = 2_000_000
    assert unmet(with_sources(run, sources)) == {"objects_split", "close_pairs"}


def test_objects_of_two_true_sources_are_merged(run):
    sources = run.sources.copy()
    lasting = np.unique(sources["diaObjectId"][sources["diaObjectId"] <= 80])
    for a, b in lasting[:30].reshape(15, 2):
        sources["diaObjectId"][sources["diaObjectId"] == b] = a
    assert unmet(with_sources(run, sources)) == {"objects_merged", "object_purity"}


def test_a_class_that_is_not_detected_is_missed_by_name(run):
    kind = dict(zip(run.objects["objectId"], run.objects["type"]))
    others = np.array([kind.get(each) != "asteroid" for each in run.sources["diaObjectId"]])
    rows = [row for row in card(with_sources(run, run.sources[others])).rows() if row["met"] is False]
    missed = {"detected_pull_median", "detected_pull_width", "detected_bias", "position_error"}
    assert {row["name"] for row in rows if row["of"] == "mover"} == missed
    assert {row["name"] for row in rows if row["of"] != "mover"} == {"completeness_over_theory"}


def test_a_class_too_small_in_the_truth_is_not_judged_where_its_signal_to_noise_is_known(run):
    at_truth, expected = run.at_truth.copy(), run.expected.copy()
    faint = np.flatnonzero(run.kind == "variable")[4:]
    expected[faint] = at_truth["psfFlux"][faint] = 5 * ERROR
    few = replace(run, at_truth=at_truth, expected=expected)
    assert ("forced_bias", "variable") not in {(row["name"], row["of"]) for row in card(few).rows()}
    at_truth["psfFluxErr"][faint] = np.nan
    unknown = card(replace(few, at_truth=at_truth)).rows()
    assert ("forced_bias", "variable") in {(row["name"], row["of"]) for row in unknown}


def test_fluxes_of_sources_one_per_cent_too_large_are_a_bias(run):
    sources = run.sources.copy()
    sources["psfFlux"] *= 1.01
    assert unmet(with_sources(run, sources)) == {"detected_bias", "detected_pull_median"}


def test_positions_of_the_users_are_of_no_true_object(run):
    own = run.forced.copy()
    own["diaObjectId"], own["positionId"], own["psfFlux"] = 0, 1, 1e6
    every = np.concatenate([run.forced, own])
    rows, _ = scores.dia_object_fluxes(run.dia_objects, every, run.truth, run.expected)
    np.testing.assert_array_equal(rows["diaObjectId"], run.forced["diaObjectId"])


def test_forced_fluxes_one_per_cent_too_large_are_a_bias(run):
    at_truth = run.at_truth.copy()
    at_truth["psfFlux"] *= 1.01
    bias = [row for row in card(replace(run, at_truth=at_truth)).rows() if row["name"] == "forced_bias"]
    assert all(row["value"] == pytest.approx(0.01, abs=4 * row["error"]) for row in bias)
    assert any(row["met"] is False for row in bias)


def test_false_sources_are_counted_by_kind(run):
    false = np.tile(run.sources[-1:], 60)
    false["ra"] -= 0.01 * (1 + np.arange(60))
    false["isDipole"][:20] = True
    false["pixelFlags_cr"][20:40] = True
    rows = card(with_sources(run, np.append(run.sources, false))).rows()
    counts = {row["of"]: row["n"] for row in rows if row["name"] == "false_sources"}
    assert counts["all"] == 80 and counts["dipole"] == 20 and counts["track"] == 20 and counts["noise"] == 40
    assert unmet(with_sources(run, np.append(run.sources, false))) == {"false_sources"}


def test_flagged_sources_are_not_found(run):
    sources = run.sources.copy()
    sources["pixelFlags"] = True
    by_name = {(row["name"], row["of"]): row for row in card(with_sources(run, sources)).rows()}
    assert by_name["completeness_over_theory", "usable"]["value"] == 0
    assert np.isnan(by_name["efficiency_half", "sky"]["value"]) and not by_name["efficiency_half", "sky"]["met"]


def test_images_that_are_not_there_are_counted_with_their_reason(run, tmp_path):
    for name in ("calexp", "tables"):
        (tmp_path / name).mkdir()
    (tmp_path / "tables/source.parquet").symlink_to(run.products / "tables/source.parquet")
    visits = tables.read("visit", run.products / "tables/visit.parquet")
    visits["calexp_status"][:2], visits["calexp_reason"][:2] = "failed", ["3 of 17 stars", "12 of 20 stars"]
    tables.write("visit", visits, tmp_path / "tables/visit.parquet")
    scored = card(replace(run, products=tmp_path))
    assert scored.reasons == {"calexp failed: ... of ... stars": 2}
    assert {row["name"] for row in scored.rows() if row["met"] is False} == {"images_ok", "wcs_rms"}


@pytest.mark.parametrize(
    ("name", "column", "off"), [("zero_point_rms", "zero_point", 0.01), ("fwhm_rms", "psf_fwhm", 0.2)]
)
def test_errors_of_the_calibration_are_seen(run, name, column, off):
    summary = run.summary.copy()
    summary[column] += off
    assert unmet(replace(run, summary=summary)) == {name}


def test_nothing_at_all_meets_no_bar_that_needs_something(run):
    nothing = with_sources(run, run.sources[:0])
    none = replace(nothing, at_truth=tables.empty("dia_forced_source", len(run.truth)), images=run.images[:0])
    rows = card(none).rows()
    assert not any(row["met"] for row in rows if np.isnan(row["value"]))
    assert {"efficiency_half", "completeness_over_theory", "false_sources", "forced_bias"} <= {
        row["name"] for row in rows if row["met"] is False
    }


@pytest.mark.parametrize(
    ("value", "error", "met"),
    [(0.0015, np.nan, True), (-0.0025, np.nan, False), (-0.0025, 0.001, True), (np.nan, 1.0, False)],
)
def test_a_bar_is_three_standard_errors_where_that_is_larger(value, error, met):
    figure = Figure("forced_bias", "variable", value, error, 10)
    assert bar_of(figure).met(figure) is met


def test_every_figure_is_described_and_printed(run):
    scored = card(run)
    assert {figure.name for figure in scored.figures} == set(DESCRIPTIONS) - OPTIONAL - STATIC
    assert {bar.figure for bar in BARS} <= set(DESCRIPTIONS)
    lines = scored.text().splitlines()
    assert len(lines) == len(scored.figures)
    assert all(DESCRIPTIONS[figure.name] in line for figure, line in zip(scored.figures, lines))


def test_worst_cases_come_first(run):
    at_truth = run.at_truth.copy()
    at_truth["psfFlux"][5] += 50 * ERROR
    worst = [case for case in card(replace(run, at_truth=at_truth)).worst if case["kind"] == "forced flux: supernova"]
    assert len(worst) == 3
    assert worst[0]["value"] == pytest.approx(50, abs=4)
    assert worst[0]["visit"] == run.truth["visit"][5]
