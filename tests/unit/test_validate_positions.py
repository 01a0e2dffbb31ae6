"""Pulls of forced photometry at positions of the user's: of empty places and of lonely constant stars, no other row."""

import numpy as np
import pytest

from diaflow.store import tables
from diaflow.units import nanojansky
from diaflow.validate.positions import at_positions

N = 4000
STEP = 20 / 3600  # between places on a line, far apart [deg]
MAG, ERROR = 22.0, 50.0  # of all stars [mag, nJy], S/N 115
# A pull of n normal deviates has a median and a width (from quartiles) that scatter by 1.25 and 1.17 over sqrt(n).
TOLERANCE = 4 * 1.26 / np.sqrt(N)


def sky(kinds):
    """True objects every `STEP` along the equator; the schema has a column of magnitudes for each band."""
    objects = np.zeros(len(kinds), [("type", "U9"), ("ra", float), ("dec", float), ("g_mag", float), ("r_mag", float)])
    objects["type"], objects["ra"] = kinds, 10 + STEP * np.arange(len(kinds))
    objects["g_mag"], objects["r_mag"] = MAG - 3, MAG
    return objects


def measured(name, objects, offset, flux, error=ERROR):
    table = tables.empty(name, len(objects))
    table["positionId"], table["band"] = np.arange(1, len(table) + 1), "r"
    table["ra"], table["dec"] = objects["ra"], objects["dec"] + offset
    table["psfFlux"] = flux + np.random.default_rng(1).normal(0, error, len(table))
    table["psfFluxErr"] = error
    return table


@pytest.mark.parametrize("name, constant", [("dia_forced_source", 0.0), ("forced_source", 1.0)])
def test_pulls_are_of_the_flux_that_a_constant_star_has_there(name, constant):
    objects = sky(["star"] * N)
    error = nanojansky(MAG) / 40
    table = measured(name, objects, 0.0, constant * nanojansky(MAG), error)
    figures = {(figure.name, figure.of): figure for figure in at_positions(name, table, objects)}
    assert figures["position_pull_median", f"{name}, star"].n == N
    assert abs(figures["position_pull_median", f"{name}, star"].value) < TOLERANCE
    assert abs(figures["position_pull_width", f"{name}, star"].value - 1) < TOLERANCE
    assert figures["position_pull_width", f"{name}, empty"].n == 0


def test_empty_places_are_far_from_everything():
    objects = sky(["galaxy", "variable", "star", "supernova"] * (N // 4))
    near, far = (measured("forced_source", objects, offset / 3600, 0.0) for offset in (4.0, 6.0))
    assert at_positions("forced_source", near, objects)[0].n == 0
    assert at_positions("forced_source", far, objects)[0].n == N


def test_stars_that_vary_are_bright_or_have_neighbours_are_no_reference():
    objects = sky(["variable", "star", "star", "star", "star"])
    objects["r_mag"][1] = MAG - 5
    objects["ra"][3] = objects["ra"][2] + 4 / 3600
    table = measured("forced_source", objects, 0.0, nanojansky(MAG), nanojansky(MAG) / 40)
    assert {figure.of: figure.n for figure in at_positions("forced_source", table, objects)} == {
        "forced_source, empty": 0,
        "forced_source, star": 1,
    }


def test_flagged_rows_and_those_of_objects_do_not_count():
    objects = sky(["star"] * 4)
    table = measured("forced_source", objects, 6 / 3600, 0.0)
    table["positionId"][0], table["psfFlux_flag"][1], table["pixelFlags"][2] = 0, True, True
    assert at_positions("forced_source", table, objects)[0].n == 1
    table["positionId"] = 0
    assert at_positions("forced_source", table, objects) == []
    assert at_positions("dia_source_on_template", tables.empty("dia_source_on_template"), objects) == []
