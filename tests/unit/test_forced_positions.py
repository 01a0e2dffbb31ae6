"""Positions of the user's choice: read from any table, brought to a date, and never where nothing is known."""

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import SkyCoord
from astropy.table import Table
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.errors import InputError
from diaflow.forced import request
from diaflow.forced.positions import Positions
from diaflow.refcat import positions
from diaflow.store import tables

CONFIG = {"id": "id", "ra": "ra", "dec": "dec", "pm": [], "epoch": None, "mjd": None}


def table(tmp_path, config=(), **columns):
    """The user's table, written as CSV and read."""
    path = tmp_path / "mine.csv"
    Table(columns).write(path, format="ascii.csv", overwrite=True)
    return positions.convert([path], CONFIG | dict(config), "forced.positions")


def test_identifiers_of_any_kind_are_kept(tmp_path):
    big = 2**62 + 1
    rows = table(tmp_path, id=["17", str(big), "SN 2026a"], ra=[10.0, 20.0, 30.0], dec=[1.0, 2.0, 3.0])
    assert {17, big} < set(rows["positionId"].tolist())
    assert sorted(rows["name"]) == sorted(["17", str(big), "SN 2026a"])
    at = positions.at(rows, 60000.0)
    assert dict(zip(at["positionId"], at["ra"]))[big] == 20.0
    none = table(tmp_path, {"id": None}, ra=[10.0, 20.0], dec=[1.0, 2.0])
    assert len(set(none["positionId"])) == 2


def test_sexagesimal_and_units_are_understood(tmp_path):
    rows = table(tmp_path, id=[1], ra=["02:20:00.0"], dec=["-04:30:00"])
    assert (rows["ra"][0], rows["dec"][0]) == pytest.approx((35.0, -4.5))


@pytest.mark.parametrize("dec", [-4.5, 89.99])
def test_stars_move_by_their_proper_motion(tmp_path, dec):
    motion = {"pm": ["pmra", "pmdec"], "epoch": 2016.0}
    rows = table(tmp_path, motion, id=[1], ra=[359.9999], dec=[dec], pmra=[3000.0], pmdec=[-2000.0])
    mjd = 61000.0
    motion = {"pm_ra_cosdec": 3 * u.arcsec / u.yr, "pm_dec": -2 * u.arcsec / u.yr, "distance": 1 * u.kpc}
    start = SkyCoord(359.9999 * u.deg, dec * u.deg, obstime=Time(2016.0, format="jyear", scale="tcb"), **motion)
    true = start.apply_space_motion(Time(mjd, format="mjd", scale="tai"))
    at = positions.at(rows, mjd)
    assert SkyCoord(at["ra"][0] * u.deg, at["dec"][0] * u.deg).separation(true).arcsec < 5e-3


@settings(max_examples=30, deadline=None)
@given(
    ra=st.floats(0, 359.99), dec=st.floats(-89.9, 89.9), angle=st.floats(0, 360), length=st.floats(0.001, 5),
    part=st.floats(0, 1),
)  # fmt: skip
def test_what_moves_is_on_the_great_circle_between_its_dates(ra, dec, angle, length, part):
    begin = SkyCoord(ra * u.deg, dec * u.deg)
    end = begin.directional_offset_by(angle * u.deg, length * u.deg)
    rows = np.zeros(2, tables.empty("position").dtype)
    rows["positionId"], rows["mjd"] = 5, [60000.0, 60010.0]
    rows["ra"], rows["dec"] = [ra, end.ra.deg], [dec, end.dec.deg]
    at = positions.at(rows, 60000.0 + 10 * part)
    true = begin.directional_offset_by(angle * u.deg, part * length * u.deg)
    assert SkyCoord(at["ra"][0] * u.deg, at["dec"][0] * u.deg).separation(true).arcsec < 1e-4


def test_nothing_is_anywhere_before_its_first_or_after_its_last_date(tmp_path):
    dates = {"mjd": "mjd"}
    columns = {
        "id": [7, 9, 7, 9],
        "ra": [10.0, 20.0, 12.0, 21.0],
        "dec": [0.0] * 4,
        "mjd": [60000, 60005, 60002, 60006],
    }
    rows = table(tmp_path, dates, **columns)
    where = {mjd: dict(zip(at["positionId"].tolist(), at["ra"])) for mjd in (59999, 60000, 60001, 60002, 60003, 60006)
             for at in [positions.at(rows, mjd)]}  # fmt: skip
    assert {mjd: sorted(found) for mjd, found in where.items()} == {
        59999: [], 60000: [7], 60001: [7], 60002: [7], 60003: [], 60006: [9],
    }  # fmt: skip
    assert where[60001][7] == pytest.approx(11.0) and where[60006][9] == pytest.approx(21.0)


@pytest.mark.parametrize(
    "config, columns, message",
    [
        ({}, {"id": [1, 1], "ra": [1.0, 2.0], "dec": [0.0, 0.0]}, "repeat an identifier"),
        ({}, {"id": [1], "ra": [np.nan], "dec": [0.0]}, "no row with a position"),
        ({}, {"id": [1], "RA": [1.0], "dec": [0.0]}, "no column 'ra'"),
        ({"mjd": "mjd"}, {"id": [1, 2], "ra": [1.0, 2], "dec": [0.0, 0], "mjd": [60000.0, np.nan]}, "has no date"),
        ({"mjd": "mjd"}, {"id": [1, 1], "ra": [1.0, 2], "dec": [0.0, 0], "mjd": [60000.0, 60000.0]}, "one date"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, config, columns, message):
    with pytest.raises(InputError, match="forced.positions.*" + message):
        table(tmp_path, config, **columns)


@pytest.mark.parametrize(
    "config, message", [({"pm": ["a", "b"]}, "epoch is missing"), ({"mjd": "mjd", "id": None}, "need an identifier")]
)
def test_what_cannot_work_is_refused_before_any_job(config, message):
    with pytest.raises(InputError, match=message):
        positions.check(CONFIG | config, "forced.positions")


def test_calexps_are_measured_at_positions_of_the_users_alone():
    with pytest.raises(InputError, match="forced.positions, which is missing"):
        request.check({"variants": ["diffim", "calexp"], "positions": None})


def test_sets_of_positions_are_joined_with_zero_for_what_they_are_not():
    a = Positions(np.array([1.0]), np.array([2.0]), {"diaObjectId": np.array([2**60 + 1])})
    b = Positions(np.array([3.0]), np.array([4.0]), {"positionId": np.array([5])})
    both = Positions.joined([a, b])
    assert both.ids["diaObjectId"].tolist() == [2**60 + 1, 0] and both.ids["positionId"].tolist() == [0, 5]
    assert both[np.array([1])].ra.tolist() == [3.0]
