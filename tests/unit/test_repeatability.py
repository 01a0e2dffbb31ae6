"""Scatter of stars against magnitude: the model is found again, its depth is S/N 5, stars are put together."""

import numpy as np
import pytest

from diaflow.report import repeatability
from diaflow.report.repeatability import Model, Stars
from diaflow.store import tables

N_VISITS = 12
TRUE = Model(0.004, 22.5, 0.039)


@pytest.fixture(scope="module")
def sources():
    """2000 stars in 12 visits, scattered as the model has it, with errors that leave the floor out."""
    rng = np.random.default_rng(1)
    mag = rng.uniform(16, 22.8, 2000)
    at = 0.003 + 0.01 * np.indices((40, 50)).reshape(2, -1)  # clear of borders of the cells of 1 arcmin
    seen = mag + TRUE.sigma(mag) * rng.normal(size=(N_VISITS, len(mag)))
    wander = rng.normal(0, 0.05 / 3600, (2, N_VISITS, len(mag)))
    n = seen.size
    flux = 10 ** (-0.4 * (seen.ravel() - 31.4))
    return tables.from_columns(
        "source",
        visit=np.repeat(np.arange(N_VISITS), len(mag)),
        band="r",
        ra=(at[0] + wander[0]).ravel(),
        dec=(at[1] + wander[1]).ravel(),
        psfFlux=flux,
        psfFluxErr=flux * np.tile(Model(0, TRUE.m5, TRUE.gamma).sigma(mag), N_VISITS),
        extendedness=np.zeros(n),
    )


def test_floor_and_depth_are_found_again(sources):
    stars = repeatability.stars(sources)["r"]
    assert len(stars) == 2000
    # Standard deviations of 12 draws have a median 3 % low, so that m5 is 0.04 mag too faint; those of the 150 stars of
    # a bin are good to 2 %.  The floor is most of the scatter in a few bins only: it is known half as well.
    found = repeatability.fit(stars, "r", 23.0)
    assert found.floor == pytest.approx(TRUE.floor, rel=0.1)
    assert found.m5 == pytest.approx(TRUE.m5, abs=0.06)


def test_depth_is_where_the_signal_is_five_times_the_noise():
    # Without the floor, 1.0857 / 5 mag; 0.09 mag below m5.
    model = Model(0.0, 22.0, 0.039)
    assert model.sigma(model.depth) == pytest.approx(2.5 / np.log(10) / 5)
    assert model.depth == pytest.approx(22.09, abs=0.005)
    assert model.sigma(22.0) == pytest.approx(0.2)


def test_stars_of_fewer_than_three_visits_and_extended_sources_do_not_count(sources, tmp_path):
    table = sources[sources["visit"] < 4].copy()
    star = np.tile(np.arange(2000), 4)
    table["extendedness"][star < 100] = 1
    table["pixelFlags_saturated"][(star >= 100) & (star < 300)] = True
    table = table[(star >= 500) | (table["visit"] < 2)]
    tables.write("source", table, tmp_path / "source.parquet")
    assert len(repeatability.stars(repeatability.read_sources(tmp_path / "source.parquet"))["r"]) == 1500


def test_of_a_large_table_the_same_places_are_read_in_every_visit(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(repeatability, "MAX_ROWS", len(sources) // 3)
    tables.write("source", sources, tmp_path / "source.parquet")
    part = repeatability.read_sources(tmp_path / "source.parquet")
    assert 0.15 * len(sources) < len(part) < 0.5 * len(sources)
    stars = repeatability.stars(part)["r"]
    assert len(stars) == len(part) / N_VISITS


def test_pa1_and_pf1_are_of_stars_of_high_signal_to_noise():
    stars = Stars(
        np.array([17.0, 17, 22]), np.array([0.004, 0.006, 0.3]), np.array([300.0, 250, 5]), np.array([0, 0.2, 1])
    )
    assert stars.pa1 == pytest.approx(0.005) and stars.pf1 == pytest.approx(0.1)


def test_too_few_bins_have_no_model():
    assert repeatability.fit(Stars(*np.full((4, 5), 20.1)), "r", 23.0) is None


@pytest.mark.parametrize(("band", "floor", "m5"), [("g", 2.5, 22.67), ("r", 2.1, 22.64)])
def test_the_demo_has_the_floor_and_the_depth_that_it_should_have(root, band, floor, m5):
    """As an earlier fit without weights to an earlier run had them [mmag, mag]; statistical errors: 0.5 and 0.04."""
    rows = np.loadtxt(root / "tests/data/demo_stars.txt", dtype=str)
    mag, scatter, snr, outliers = rows[rows[:, 0] == band, 1:].astype(float).T
    found = repeatability.fit(Stars(mag, scatter / 1e3, snr, outliers), band, 22.8)
    assert 1e3 * found.floor == pytest.approx(floor, abs=1.0)
    assert found.m5 == pytest.approx(m5, abs=0.08)
