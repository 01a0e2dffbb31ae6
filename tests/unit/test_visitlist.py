"""A list of visits and a camera give the exposure table that the headers of the images would give."""

import numpy as np
import pytest
import yaml

from diaflow.errors import InputError
from diaflow.run import plan as planning
from diaflow.run import visitlist
from diaflow.run.config import validated
from diaflow.simulate import pointing
from diaflow.simulate.camera import GAP
from diaflow.sky import sphere

SURVEY = {"bands": ["g", "r"], "template_visits": 2, "science_visits": 2, "detectors": 3, "size": 256}
HEADER = "visit,band,mjd,ra,dec,rotation,seeing\n"


@pytest.fixture
def simulated(tmp_path) -> tuple[np.ndarray, dict]:
    """Exposure table of the built-in survey, and the configuration that lists its visits."""
    config = validated({"images": "simulated", "simulate": SURVEY})["simulate"]
    rows = [
        f"{v.visit},{v.band},{v.mjd},{v.header.ra},{v.header.dec},{v.header.rotation},{v.header_seeing}\n"
        for v in pointing.visits(config)
    ]
    path = tmp_path / "visits.csv"
    path.write_text(HEADER + "".join(rows))
    camera = {"detectors": [3, 1], "size": [256, 256], "pixel_scale": config["pixel_scale"], "gap": GAP}
    return pointing.plan(config), {"images": str(path), "camera": camera}


def test_listed_visits_have_the_exposure_table_of_the_same_images(simulated):
    """The built-in survey projects its corners with code of its own; 1e-9 deg is the rounding of doubles at 35 deg."""
    expected, config = simulated
    table = planning.exposure_table(validated(config), "absent")
    for column in ("visit", "detector", "band", "mjd", "seeing", "nx", "ny", "status"):
        assert (table[column] == expected[column]).all(), column
    for column in [axis + k for axis in ("ra", "dec") for k in ("", "_1", "_2", "_3", "_4")]:
        np.testing.assert_allclose(table[column], expected[column], atol=1e-9)


def test_rows_of_a_mosaic_are_stacked_northwards(tmp_path):
    (tmp_path / "visits.csv").write_text(HEADER + "7,r,60000,180,60,0,0.8\n")
    camera = {"detectors": [2, 2], "size": [1000, 500], "pixel_scale": 1.0, "gap": 100, "exptime": 30}
    table = visitlist.exposures(str(tmp_path / "visits.csv"), camera, [], [])
    xi, eta = sphere.gnomonic(table["ra"], table["dec"], 180.0, 60.0)
    np.testing.assert_allclose(np.degrees(xi) * 3600, [550, -550, 550, -550], atol=1e-6)
    np.testing.assert_allclose(np.degrees(eta) * 3600, [-300, -300, 300, 300], atol=1e-6)


def test_bands_and_detectors_restrict_the_list(simulated):
    _, config = simulated
    table = planning.exposure_table(validated(config | {"bands": ["r"], "detectors": [1]}), "absent")
    assert set(table["band"]) == {"r"} and set(table["detector"]) == {1} and len(table) == 4


def test_a_list_can_be_planned_but_not_processed(simulated):
    _, config = simulated
    with pytest.raises(InputError, match="visits.csv"):
        planning.ingest(validated(config))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("visit,band\n1,r\n", "visits.csv.*needs the columns"),
        (HEADER + "1,r,60000,10,0,0,bad\n", "visits.csv: line 2"),
        (HEADER + "1,r,60000,10,0,0\n", "visits.csv: line 2"),
        (HEADER + "1,r,60000,10,0,0,1\n1,g,60001,10,0,0,1\n", "visit 1 is listed twice"),
        (HEADER + "1,r,60000,10,0,0,1,2\n", "visits.csv: line 2: has not one value"),
        (HEADER + "1_0,r,60000,10,0,0,1\n", "visits.csv: line 2: the visit '1_0' is no whole number"),
        (HEADER + "1e3,r,60000,10,0,0,1\n", "visits.csv: line 2: the visit '1e3' is no whole number"),
        (HEADER + "-1,r,60000,10,0,0,1\n", "visits.csv: line 2: the visit '-1' is no whole number"),
        (HEADER + "1,r,6_0000,10,0,0,1\n", "visits.csv: line 2: '6_0000' is no number"),
        (HEADER + "1,r,nan,10,0,0,1\n", "visits.csv: line 2: 'nan' is no number"),
        (HEADER + "1,r,60000,10,95,0,1\n", "visits.csv: line 2: the declination 95 is beyond"),
        (HEADER + "1,\udcff,60000,10,0,0,1\n", "visits.csv: not a readable list"),
        (HEADER, "no visit"),
        (HEADER + "".join(f"{n},r,60000,2.6,-0.5,0,1\n" for n in range(10)), "visits.csv look like radians"),
    ],
)
def test_what_is_wrong_with_a_list_is_said_in_one_line(tmp_path, content, message):
    (tmp_path / "visits.csv").write_text(content, errors="surrogateescape")
    config = validated({"images": str(tmp_path / "visits.csv")})
    with pytest.raises(InputError, match=message):
        planning.exposure_table(config, "absent")


def test_degrees_near_the_origin_of_the_sky_are_taken_when_they_cannot_be_radians(tmp_path):
    (tmp_path / "visits.csv").write_text(HEADER + "".join(f"{n},r,60000,362.6,-0.5,0,1\n" for n in range(10)))
    table = planning.exposure_table(validated({"images": str(tmp_path / "visits.csv")}), "absent")
    assert np.allclose(table["ra"], 2.6, atol=0.5)


def test_visits_with_leading_zeros_and_blanks_around_values_are_what_they_are(tmp_path):
    lines = "\ufeffvisit,band,mjd,ra,dec,rotation,seeing\n0012, r ,60000, 10,0,0,1\n 0014,g,60001,10,0,0,1 \n"
    (tmp_path / "visits.csv").write_text(lines)
    table = planning.exposure_table(validated({"images": str(tmp_path / "visits.csv")}), "absent")
    assert table["visit"].tolist() == [12, 14] and table["band"].tolist() == ["r", "g"]


def test_example_release_has_its_year_as_science_and_the_years_before_as_template(root, monkeypatch):
    monkeypatch.chdir(root)
    config = validated(yaml.safe_load((root / "config/deep_field/release.yaml").read_text()))
    plan = planning.make(config, "absent")
    template = {visit for visits in plan.template.values() for visit in visits}
    assert plan.visits == list(range(1, 361)) and plan.science == list(range(241, 361))
    assert template and max(template) <= 240 and plan.detectors == list(range(9))
