"""Selection of template and science visits."""

import logging

import numpy as np
import pytest

from diaflow.run import config, select
from diaflow.store import tables


def template(**changes):
    return config.validated({"images": "x", "template": changes})["template"]


def science(**changes):
    return config.validated({"images": "x", "science": changes})["science"]


def rows(*entries):
    """Candidates from (patch, band, visit, mjd, fwhm) with pixels of 0.5 arcsec."""
    return np.array([(0, *entry, entry[-1] / 2) for entry in entries], dtype=select.CANDIDATE)


def chosen(table):
    return table["visit"][table["selected"]].tolist()


FIVE = rows(
    ("0_0", "r", 1, 59000.5, 4.0),
    ("0_0", "r", 2, 59010.5, 3.0),
    ("0_0", "r", 3, 59020.5, np.nan),
    ("0_0", "r", 4, 59030.5, 3.0),
    ("0_0", "r", 5, 59040.5, 5.0),
)


def exposures(visits, mjd, status="ok", **columns):
    return tables.from_columns("exposure", visit=visits, mjd=mjd, status=status, band="r", **columns)


def test_everything_is_selected_by_default_even_with_unknown_seeing():
    table = select.coadd_visits(FIVE, template())
    assert chosen(table) == [1, 2, 3, 4, 5]
    assert set(table["reason"]) == {""}
    assert table.dtype == tables.empty("selection").dtype


def test_best_takes_the_sharpest_with_ties_by_visit():
    table = select.coadd_visits(FIVE[::-1], template(best=1))
    assert chosen(table) == [2]
    reasons = dict(zip(table["visit"].tolist(), table["reason"]))
    assert reasons[3] == "seeing unknown"
    assert reasons[4] == reasons[1] == "not among the best 1 in seeing"


def test_best_counts_in_each_patch_and_band():
    table = rows(
        ("0_0", "g", 1, 59000, 4.0), ("0_0", "g", 2, 59000, 3.0), ("0_0", "r", 3, 59000, 9.0),
        ("1_0", "g", 1, 59000, 4.0),
    )  # fmt: skip
    found = select.coadd_visits(table, template(best=1))
    assert list(zip(found["patch"][found["selected"]], found["band"][found["selected"]], chosen(found))) == [
        ("0_0", "g", 2), ("0_0", "r", 3), ("1_0", "g", 1),
    ]  # fmt: skip


def test_rules_apply_in_order_and_the_first_reason_stays():
    """Best is taken among what visits, dates and seeing leave."""
    table = select.coadd_visits(FIVE, template(visits=[1, 2, 3, 5], mjd=[59005, 59045], fwhm=[2.0, 6.0], best=1))
    assert chosen(table) == [2]
    assert table["reason"].tolist() == [
        "outside template.mjd 59005 to 59045", "", "seeing unknown", "not in template.visits",
        "not among the best 1 in seeing",
    ]  # fmt: skip


def test_windows_include_their_ends():
    assert chosen(select.coadd_visits(FIVE, template(mjd=[59010.5, 59030.5]))) == [2, 3, 4]
    assert chosen(select.coadd_visits(FIVE, template(fwhm=[3.0, 4.0]))) == [1, 2, 4]


def test_every_rejected_candidate_has_a_reason():
    table = select.coadd_visits(FIVE, template(fwhm=[3.5, 4.5]))
    assert np.all((table["reason"] == "") == table["selected"])
    assert table["reason"][4] == "seeing outside template.fwhm 3.5 to 4.5 pixels"


def test_unknown_dates_are_outside_any_window():
    table = select.coadd_visits(rows(("0_0", "r", 1, np.nan, 3.0)), template(mjd=[50000, 70000]))
    assert not table["selected"][0]


def test_no_candidates_give_an_empty_selection():
    assert len(select.coadd_visits(FIVE[:0], template(best=3, visits=[4]))) == 0


def test_result_does_not_depend_on_the_order_of_candidates():
    order = np.random.default_rng(2).permutation(5)
    one, two = (select.coadd_visits(table, template(best=2)) for table in (FIVE, FIVE[order]))
    assert sorted(chosen(one)) == sorted(chosen(two)) == [2, 4]


def test_visits_that_do_not_exist_are_named_in_a_warning(caplog):
    with caplog.at_level(logging.WARNING):
        select.coadd_visits(FIVE, template(visits=[1, 77]))
    assert "template.visits: no usable image of visit 77" in caplog.text


@pytest.mark.parametrize(
    ("changes", "needs"),
    [({}, False), ({"visits": [1], "mjd": [1, 2]}, False), ({"best": 3}, True), ({"fwhm": [1, 2]}, True)],
)
def test_seeing_is_needed_for_windows_and_best_only(changes, needs):
    assert select.needs_measured_seeing(template(**changes)) is needs


def test_candidates_have_one_row_per_visit_and_patch():
    overlap = tables.from_columns(
        "overlap",
        tract=0,
        patch=np.array(["0_0", "0_0", "0_0", "2_0", "10_0"], dtype=object),
        visit=[7, 7, 3, 7, 3],
        detector=[0, 1, 0, 0, 0],
        band="r",
    )
    table = select.candidates(overlap, exposures([3, 7], [59001.0, 59002.0], pixel_scale=[0.3, 0.2]), {7: 3.5})
    assert list(zip(table["patch"], table["visit"].tolist())) == [("0_0", 3), ("0_0", 7), ("2_0", 7), ("10_0", 3)]
    assert table["mjd"].tolist() == [59001.0, 59002.0, 59002.0, 59001.0]
    assert table["fwhm"][[1, 2]].tolist() == [3.5, 3.5]
    assert np.all(np.isnan(table["fwhm"][[0, 3]]))
    np.testing.assert_allclose(table["seeing"][[1, 2]], 0.7, rtol=1e-6)
    assert chosen(select.coadd_visits(table, template(best=1))) == [7, 7]


def test_a_failed_detector_does_not_hide_the_date_of_its_visit():
    overlap = tables.from_columns("overlap", tract=0, patch="0_0", visit=[7], detector=0, band="r")
    table = select.candidates(overlap, exposures([7, 7], [59001.0, np.nan], ["ok", "failed"]), {})
    assert table["mjd"].tolist() == [59001.0]


def test_a_failed_detector_does_not_hide_the_scale_of_its_visit():
    overlap = tables.from_columns("overlap", tract=0, patch=["0_0"], band="r", visit=7)
    two = exposures([7, 7], [59001.0, 59001.0], ["ok", "failed"], pixel_scale=[0.5, np.nan])
    assert select.candidates(overlap, two, {7: 3.0})["seeing"].tolist() == [1.5]


def test_candidates_of_nothing():
    assert len(select.candidates(tables.empty("overlap"), exposures([1], [59000.0]), {})) == 0


def test_header_seeing_is_in_pixels_per_visit():
    table = exposures([1, 1, 2, 3], 59000.0, seeing=[1.0, 2.0, np.nan, 4.0], pixel_scale=0.5)
    table["status"][3] = "failed"
    fwhm = select.header_fwhm(table)
    assert fwhm[1] == 3.0
    assert np.isnan(fwhm[2])
    assert set(fwhm) == {1, 2}


def test_measured_seeing_is_the_median_of_the_usable_detectors():
    status = ["ok", "ok", "ok", "failed", "failed", "ok"]
    table = tables.from_columns(
        "visit_summary", visit=[7, 4, 7, 7, 5, 6], psf_fwhm=[3.0, 2.0, 4.0, 9.0, 1.0, np.nan], status=status
    )
    fwhm = select.measured_fwhm(table)
    assert (fwhm[7], fwhm[4]) == (3.5, 2.0)
    assert np.isnan(fwhm[6])
    assert set(fwhm) == {4, 6, 7}
    assert select.measured_fwhm(table[:0]) == {}


def test_science_visits_are_sorted_and_usable():
    table = exposures([5, 5, 2, 9, -1], [59005, 59005, 59002, 59009, np.nan], detector=[0, 1, 0, 0, -1])
    table["status"][[1, 3, 4]] = "failed"
    assert select.science_visits(table, science()) == [2, 5]


def test_science_windows_apply():
    table = exposures([1, 2, 3], [59001.0, 59002.0, 59003.0])
    assert select.science_visits(table, science(visits=[3, 1])) == [1, 3]
    assert select.science_visits(table, science(mjd=[59001.5, 59003.0])) == [2, 3]
    assert select.science_visits(table, science(visits=[1], mjd=[59001.5, 59003.0])) == []


def test_seeing_window_is_in_arcsec():
    table = select.coadd_visits(FIVE, template(seeing=[1.4, 2.1]))
    assert chosen(table) == [1, 2, 4]
    assert table["reason"][4] == "seeing outside template.seeing 1.4 to 2.1 arcsec"


@pytest.mark.parametrize(
    ("n", "quantile", "min_visits", "wanted"),
    [
        (12, [0, 0.33], 2, range(4)),
        (12, [0, 0.33], 6, range(6)),
        (4, [0, 0.33], 6, range(4)),
        (10, [0.2, 0.6], 2, range(2, 6)),
        # the lower end gives way so that enough are left
        (10, [0.8, 1.0], 5, range(5, 10)),
    ],
)
def test_quantiles_follow_the_rule_of_lsst(n, quantile, min_visits, wanted):
    """lower = min(round(q_min n), max(0, n - n_min)), upper = max(round(q_max n), n_min)."""
    table = rows(*(("0_0", "r", 100 + k, 59000.0 + k, 3 + 0.1 * k) for k in range(n)))
    found = select.coadd_visits(table[::-1], template(quantile=quantile, min_visits=min_visits))
    assert sorted(chosen(found)) == [100 + k for k in wanted]


def test_quantile_counts_only_what_other_rules_leave():
    table = rows(*(("0_0", "r", k, 59000.0 + k, 3 + 0.1 * k) for k in range(9)))
    found = select.coadd_visits(table, template(mjd=[59003, 59008], quantile=[0, 0.5], min_visits=1))
    assert chosen(found) == [3, 4, 5]


def test_guard_keeps_science_visits_and_their_neighbours_out():
    table = rows(
        ("0_0", "r", 1, 59000.0, 4.0), ("0_0", "r", 2, 59010.0, 3.0), ("0_0", "r", 3, 59014.0, 3.0),
        ("0_0", "r", 4, 59021.0, 3.0), ("0_0", "g", 5, 59010.1, 3.0), ("1_0", "r", 6, 59010.2, 3.0),
    )  # fmt: skip
    assert chosen(select.coadd_visits(table, template(guard=10), [2])) == [4, 5, 6], "other bands and patches may"
    assert chosen(select.coadd_visits(table, template(guard=0), [2, 4])) == [1, 3, 5, 6]
    assert chosen(select.coadd_visits(table, template(), [2])) == [1, 2, 3, 4, 5, 6], "flagged only, without a guard"
    reasons = select.coadd_visits(table, template(guard=5), [2])["reason"]
    assert reasons.tolist() == ["", *["within template.guard of science"] * 2, "", "", ""]
