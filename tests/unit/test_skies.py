"""Every sky of config/skies is a complete configuration that can be planned and made."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from diaflow.run import config
from diaflow.run import plan as planning
from diaflow.simulate import pixels, pointing, truth
from diaflow.simulate.sky import Survey
from diaflow.store import tables

SKIES = sorted((Path(__file__).parents[2] / "config/skies").glob("*.yaml"))
NAMES = [path.stem for path in SKIES]
ISSUED = {"poor_seeing", "undersampled", "crowded", "wings", "wide", "north", "ra_zero", "pole", "dirty", "movers"} | {
    "static"
}


@pytest.fixture(params=SKIES, ids=NAMES)
def sky(request) -> dict:
    return config.validated(yaml.safe_load(request.param.read_text()))


def test_no_sky_is_missing():
    assert set(NAMES) == ISSUED


def test_a_sky_is_named_after_its_file_everywhere(sky):
    name = sky["run"]
    assert name in NAMES and sky["simulate"]["name"] == name and sky["images"] == "simulated"
    assert sky["refcat"]["path"] == f"simulated/{name}/refcat.parquet"
    assert set(sky["refcat"]["bands"]) == set(sky["simulate"]["bands"])


def test_a_sky_can_be_planned_without_its_pixels(sky, tmp_path):
    plan = planning.make(sky, tmp_path / "exposures.parquet", tmp_path / "visit_summary.parquet")
    visits = pointing.visits(sky["simulate"])
    assert set(plan.science) == {visit.visit for visit in visits if visit.mjd > 60400}
    template = {visit for visits in plan.template.values() for visit in visits}
    assert template == {visit.visit for visit in visits if visit.mjd < 60400}


def test_a_small_copy_of_a_sky_can_be_made(sky, tmp_path):
    settings = sky["simulate"] | {"size": 256, "detectors": 2}
    survey = Survey.make(settings)
    first = [visit.visit for visit in survey.visits if visit.mjd > 60400][0]
    for visit in (1, first):
        image, _ = pixels.render(survey, visit, 1)
        level = survey.visit(visit).sky + pointing.BIAS
        assert abs(np.median(image) - level) < 0.3 * level
    truth.write_truth(survey, tmp_path)
    truth.write_refcat(survey, tmp_path / "refcat.parquet")
    images = tables.read("truth_image", tmp_path / "truth_image.parquet")
    assert np.isfinite(images["psfFwhm"]).all() and (images["skySigma"] > 0).all()
    objects = tables.read("truth_object", tmp_path / "truth_object.parquet")
    assert (objects["type"] == "probe").any()


def of(name: str) -> tuple[dict, np.ndarray]:
    """Settings and true images of a sky."""
    settings = config.validated(yaml.safe_load(SKIES[NAMES.index(name)].read_text()))["simulate"]
    return settings, truth.images(Survey.make(settings | {"stars": 0, "galaxies": 0, "probes": {"number": 0}}))


def test_poor_seeing_is_as_poor_as_it_should_be():
    settings, images = of("poor_seeing")
    good = (images["defect"] == "") | (images["defect"] == "clouds")
    for band in settings["bands"]:
        widths = images["psfFwhm"][good & (images["band"] == band)]
        assert widths.max() > 1.8 * np.median(widths) or widths.min() < 0.72 * np.median(widths)
    assert images["psfFwhm"][good].min() < 3.2 and images["psfFwhm"][good].max() > 9.5
    assert sorted(set(images["defect"])) == ["", "clouds", "defocused", "trailed"]
    assert [(images["defect"] == word).sum() for word in ("clouds", "defocused", "trailed")] == [2, 1, 2]
    template = [visit.band for visit in pointing.visits(settings) if visit.mjd < 60400]
    assert template.count("g") == 3


def test_undersampled_images_are_between_1_3_and_2_5_pixels_wide():
    _, images = of("undersampled")
    assert 1.25 < images["psfFwhm"].min() < 1.5 and 2.2 < images["psfFwhm"].max() < 2.6


def test_wings_differ_and_wide_is_2_5_degrees_from_its_reference():
    settings, _ = of("wings")
    assert settings["psf"]["beta"] == [2.5, 5.0] and settings["psf"]["double"] > 0
    settings, _ = of("wide")
    assert np.hypot(*settings["reference_offset"]) == pytest.approx(2.5, abs=0.05)
