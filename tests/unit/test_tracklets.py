"""Tracklets: what moves on a great circle at constant speed is linked, what stands still or is there once is not."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.associate import tracklets
from diaflow.sky import sphere
from diaflow.store import tables
from diaflow.units import ARCSEC
from diaflow.validate import moving as scored

CONFIG = {"max_rate": 60.0, "tracklet_members": 3, "radius": 0.5}
HOUR = 1 / 24


def moving(ra, dec, rate, direction, mjd, error=0.1, rng=None, flux=5000.0):
    """A source per date of what is at ra, dec [deg] at MJD 60000; rate [arcsec/h], direction [rad], error [arcsec]."""
    start = sphere.unit_vectors(ra, dec)
    east, north = sphere.axes(np.array([ra]), np.array([dec]))[0]
    along = np.sin(direction) * east + np.cos(direction) * north
    angle = rate * ARCSEC / HOUR * (np.asarray(mjd) - 60000)
    ra, dec = sphere.sky_position(np.cos(angle)[:, None] * start + np.sin(angle)[:, None] * along)
    table = tables.from_columns(
        "dia_source", ra=ra, dec=dec, midpointMjdTai=mjd, band="r", psfFlux=flux, psfFluxErr=100.0
    )
    if rng is not None:
        table["ra"] += rng.normal(0, error / 3600, len(ra)) / np.cos(np.radians(dec))
        table["dec"] += rng.normal(0, error / 3600, len(ra))
    table["raErr"] = table["decErr"] = error / 3600
    return table


def night(parts, dates):
    """All sources of a night, with identifiers, one visit per date."""
    table = np.concatenate(parts)
    table["visit"] = 1 + np.searchsorted(dates, table["midpointMjdTai"])
    table["diaSourceId"] = np.arange(1, len(table) + 1)
    return table


def link(table, **config):
    return tracklets.link(table, np.ones(len(table), bool), CONFIG | config)


@settings(max_examples=40, deadline=None)
@given(
    ra=st.floats(0, 359.999), dec=st.floats(-89.95, 89.95), rate=st.floats(5, 55), direction=st.floats(0, 2 * np.pi),
    number=st.integers(3, 6), seed=st.integers(0, 2**31),
)  # fmt: skip
def test_what_moves_is_linked_anywhere_on_the_sphere(ra, dec, rate, direction, number, seed):
    rng = np.random.default_rng(seed)
    dates = 60000 + np.sort(rng.choice(np.arange(1, 12), number, replace=False)) * HOUR / 2
    table = moving(ra, dec, rate, direction, dates, 0.05)
    table = night([table[rng.permutation(number)]], dates)
    found, links = link(table)
    assert len(found) == 1 and found["nDiaSources"][0] == number == len(links)
    assert found["rate"][0] == pytest.approx(rate, rel=1e-3)
    assert found["chi2"][0] < 1e-3 and found["residual"][0] < 1e-3
    assert (
        set(links["trackletId"]) == {found["trackletId"][0]} == {table["diaSourceId"][table["midpointMjdTai"].argmin()]}
    )
    at = moving(ra, dec, rate, direction, found["mjd"])
    apart = sphere.separation(*(sphere.unit_vectors(t["ra"], t["dec"]) for t in (found, at)))
    assert apart[0] < 2e-3 * ARCSEC
    later = moving(ra, dec, rate, direction, found["mjd"] + 1e-3)
    east, north = sphere.gnomonic(later["ra"], later["dec"], found["ra"][0], found["dec"][0])
    turned = found["positionAngle"][0] - np.degrees(np.arctan2(east[0], north[0]))
    assert abs((turned + 180) % 360 - 180) < 1


def test_errors_of_the_motion_are_as_the_errors_of_the_positions_say():
    """300 asteroids with 4 detections each: chi-squared of 4 degrees of freedom, so that its mean is known to 0.16."""
    rng = np.random.default_rng(0)
    dates = 60000 + np.array([0.5, 1.2, 2.0, 3.1]) * HOUR
    parts = [
        moving(35 + 0.02 * (k % 20), 0.02 * (k // 20), rng.uniform(5, 20), rng.uniform(0, 6.28), dates, 0.2, rng)
        for k in range(300)
    ]
    found, links = link(night(parts, dates), max_rate=25.0)
    whole = found[found["nDiaSources"] == 4]
    assert len(whole) > 0.97 * 300  # three sigma in two coordinates lose 1.1 % of the fourth members
    assert np.mean(whole["chi2"]) == pytest.approx(4, abs=4 * np.sqrt(8 / 300))
    assert len(links) == found["nDiaSources"].sum() and len(set(links["diaSourceId"])) == len(links)


def test_what_stands_still_is_negative_or_changes_too_much_is_not_linked():
    dates = 60000 + np.array([0.5, 1.5, 2.5]) * HOUR
    still = moving(35.0, 0.0, 0.0, 0.0, dates)
    gone = moving(35.1, 0.0, 20.0, 1.0, dates)
    gone["isNegative"] = True
    unlike = moving(35.2, 0.0, 20.0, 1.0, dates)
    unlike["psfFlux"] = [1000.0, 5000.0, 25000.0]
    fast = moving(35.3, 0.0, 61.0, 1.0, dates)
    found, links = link(night([still, gone, unlike, fast], dates))
    assert len(found) == len(links) == 0


def test_two_members_are_linked_by_option_and_three_are_preferred():
    dates = 60000 + np.array([0.5, 1.5, 2.5]) * HOUR
    table = night([moving(35.0, 0.0, 20.0, 1.0, dates), moving(35.1, 0.0, 20.0, 2.0, dates[:2])], dates)
    assert len(link(table)[0]) == 1
    found, _ = link(table, tracklet_members=2)
    assert sorted(found["nDiaSources"]) == [2, 3] and np.isnan(found["residual"][found["nDiaSources"] == 2]).all()


def test_unrelated_sources_are_linked_as_seldom_as_chance_has_it():
    """40 sources per visit on 0.2 x 0.2 degrees, three visits an hour apart, rates up to 60 arcsec/h.

    There are 40 * 40 pairs of the first two visits in 5.2e5 square arcseconds, of which pi 60**2 / 5.2e5 are slow:
    35.  A third source is within 3 sqrt(2) * 0.1 sqrt(1 + 4 + 1) arcsec of where it should be, an area of 3.4 square
    arcseconds, with 40 * 3.4 / 5.2e5: 0.01 tracklets in a night.
    """
    number = 0
    for seed in range(50):
        rng = np.random.default_rng(seed)
        dates = 60000 + np.array([1, 2, 3]) * HOUR
        parts = []
        for date in dates:
            part = tables.from_columns("dia_source", ra=35 + rng.uniform(0, 0.2, 40), dec=rng.uniform(0, 0.2, 40))
            part["midpointMjdTai"], part["band"], part["psfFlux"], part["psfFluxErr"] = date, "r", 1000.0, 100.0
            part["raErr"] = part["decErr"] = 0.1 / 3600
            parts.append(part)
        number += len(link(night(parts, dates))[0])
    assert number <= 6  # 50 nights: a Poisson deviate of mean 0.5 is larger once in a million


def test_the_order_of_the_rows_does_not_matter():
    rng = np.random.default_rng(3)
    dates = 60000 + np.array([0.5, 1.2, 2.0]) * HOUR
    parts = [
        moving(35 + rng.uniform(0, 0.05), rng.uniform(0, 0.05), 30, rng.uniform(0, 6), dates, 0.2, rng)
        for _ in range(60)
    ]
    table = night(parts, dates)
    found, links = link(table)
    for _ in range(3):
        again = link(table[rng.permutation(len(table))])
        np.testing.assert_array_equal(again[0], found)
        np.testing.assert_array_equal(again[1], links)
    assert len(found) > 30


def test_tracklets_are_scored_by_the_asteroids_that_are_seen_three_times(monkeypatch):
    """Of three asteroids one is linked, one in part and one seen twice; a tracklet holds two of them, one a star."""
    sources = tables.empty("dia_source", 13)
    sources["midpointMjdTai"] = 60000 + np.array([1, 2, 3, 1, 2, 3, 1, 2, 1, 2, 3, 25, 26]) * HOUR
    true = np.array([1, 1, 1, 2, 2, 2, 3, 3, 4, 4, 4, 0, 0])
    sources["trackletId"] = [7, 7, 7, 8, 8, 0, 8, 0, 9, 9, 9, 0, 0]
    objects = tables.from_columns("truth_object", objectId=np.array([1, 2, 3, 4]))
    objects["type"] = ["asteroid", "asteroid", "asteroid", "star"]
    monkeypatch.setattr(scored, "true_ids", lambda run: true)
    linked, false = scored.tracklets(SimpleNamespace(sources=sources, objects=objects))
    assert (linked.value, linked.n) == (0.5, 2)
    assert (false.value, false.n) == (1.0, 3)  # two in two nights
    sources["trackletId"] = 0
    assert scored.tracklets(SimpleNamespace(sources=sources, objects=objects)) == []


def test_an_empty_night_has_no_tracklets():
    found, links = link(tables.empty("dia_source"))
    assert len(found) == len(links) == 0
    assert tracklets.columns(tables.empty("dia_source", 2), links)["trackletId"].tolist() == [0, 0]
