"""What the static sky needs: galaxies of two profiles, pairs of stars, seeing of each band, a limit of its own."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from diaflow.run import config
from diaflow.simulate import pointing, sources, truth
from diaflow.simulate.sky import Survey
from diaflow.sky.sphere import separation, unit_vectors
from diaflow.store import ids, tables
from diaflow.units import ARCSEC

SKY = Path(__file__).parents[2] / "config/skies/static.yaml"


@pytest.fixture(scope="module")
def settings():
    return config.validated(yaml.safe_load(SKY.read_text()))["simulate"] | {"probes": {"number": 0}}


@pytest.fixture(scope="module")
def survey(settings):
    return Survey.make(settings)


@pytest.mark.parametrize("index", sources.GALAXY_PROFILES)
def test_half_of_the_light_of_a_galaxy_is_inside_its_radius(index):
    settings = config.validated({"images": "simulated"})["simulate"]
    galaxy = tables.from_columns("truth_object", radius=10.0, axisRatio=1.0, positionAngle=0.0, sersic=index)
    galaxy["ra"], galaxy["dec"] = 35.0, -4.5
    image = np.zeros((401, 401))
    sources.draw(
        image, settings, pointing.visits(settings)[0], 0, galaxy, np.ones(1), np.array([200.0]), np.array([200.0])
    )
    y, x = np.indices(image.shape) - 200
    # 20 pixels; the seeing, sigma 1.6 pixels, takes out a part in a hundred.
    assert image[np.hypot(x, y) < 20].sum() == pytest.approx(0.5, abs=0.015)
    assert image.sum() == pytest.approx(1, abs=5e-3)


def test_pairs_have_their_ratios_and_separations_and_no_neighbours(settings, survey):
    objects = survey.objects
    blends = settings["blends"]
    fainter = objects[(objects["type"] == "blend") & (objects["hostId"] > 0)]
    brighter = objects[ids.rows_of(objects["objectId"], fainter["hostId"])]
    assert len(fainter) == blends["pairs"] * len(blends["ratios"]) * len(blends["separations"])
    at = unit_vectors(brighter["ra"], brighter["dec"])
    apart = separation(at, unit_vectors(fainter["ra"], fainter["dec"])) / ARCSEC
    ratio = 10 ** (0.4 * (brighter["i_mag"] - fainter["i_mag"]))
    kinds, counts = np.unique(np.round([ratio, apart], 3), axis=1, return_counts=True)
    assert sorted(set(kinds[0])) == sorted(np.round(blends["ratios"], 3)) and (counts == blends["pairs"]).all()
    assert sorted(set(kinds[1])) == blends["separations"]
    others = objects[np.isin(objects["type"], ("star", "galaxy")) & (objects["i_mag"] < 24)]
    vectors = unit_vectors(others["ra"], others["dec"])
    assert separation(vectors[:, None], at).min() > 5 * ARCSEC


def test_pairs_have_no_part_in_the_calibration(survey, tmp_path):
    truth.write_refcat(survey, tmp_path / "refcat.parquet")
    known = pq.read_table(tmp_path / "refcat.parquet")["id"].to_numpy()
    blends = survey.objects["objectId"][survey.objects["type"] == "blend"]
    assert len(known) and not np.isin(blends, known).any()


def test_each_band_has_its_seeing(settings):
    for visit in pointing.visits(settings):
        low, high = settings["seeing"][visit.band]
        assert low <= visit.seeing <= high


def test_galaxies_are_of_both_profiles_and_reach_the_limit(settings, survey):
    galaxies = survey.objects[survey.objects["type"] == "galaxy"]
    share = (galaxies["sersic"] == 4).mean()
    assert abs(share - settings["early_types"]) < 4 * np.sqrt(0.3 * 0.7 / len(galaxies))
    assert set(galaxies["sersic"]) == {1, 4} and 24.9 < galaxies["i_mag"].max() <= 25
