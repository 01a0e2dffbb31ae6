"""A run is known from headers alone, and an exposure table is used again as long as its files are the same."""

import os
from dataclasses import replace

import numpy as np
import pytest
from astropy.io import fits

from diaflow.errors import InputError
from diaflow.image.exposure_file import write_fits
from diaflow.run import plan as planning
from diaflow.run.config import validated
from diaflow.simulate import pixels, pointing
from diaflow.simulate.sky import Survey
from diaflow.sky.skymap.maps import SkyMap
from diaflow.store import tables

SURVEY = {"bands": ["g", "r"], "template_visits": 2, "science_visits": 2, "detectors": 1, "size": 256}


def simulated(**changes) -> dict:
    return validated({"images": "simulated", "simulate": SURVEY, "science": {"mjd": [60400, 61000]}} | changes)


@pytest.fixture
def survey_files(tmp_path) -> dict:
    """Configuration of a survey whose images are on disk, found by a glob."""
    config = simulated()
    survey = Survey.make(config["simulate"])
    for row in pointing.plan(config["simulate"]):
        image, header = pixels.render(survey, row["visit"], row["detector"])
        write_fits([fits.PrimaryHDU(image, header)], tmp_path / f"night {row['visit']}" / f"{row['detector']}.fits")
    return config | {"images": f"{tmp_path}/night*/*.fits"}


def test_template_and_science_visits_follow_from_the_configuration(tmp_path):
    plan = planning.make(simulated(template={"mjd": [60000, 60400]}), tmp_path / "absent")
    chosen = {visit for visits in plan.template.values() for visit in visits}
    assert len(plan.visits) == 8 and len(plan.science) == 4
    assert chosen == set(plan.visits) - set(plan.science)
    for visit in plan.science:
        assert {band for _, _, band in plan.template_patches(visit)} == {plan.bands[visit]}
        assert all(visit in plan.science_visits[patch] for patch in plan.patches[visit])


def test_guard_keeps_visits_to_difference_out_of_templates(tmp_path):
    every = {visit for visits in planning.make(simulated(), tmp_path / "absent").template.values() for visit in visits}
    plan = planning.make(simulated(template={"guard": 0}), tmp_path / "absent")
    chosen = {visit for visits in plan.template.values() for visit in visits}
    assert every == set(plan.visits)
    assert chosen == every - set(plan.science)


def test_bands_and_detectors_restrict_the_survey(tmp_path):
    plan = planning.make(simulated(bands=["r"]), tmp_path / "absent")
    assert set(plan.bands.values()) == {"r"}


def test_without_header_seeing_a_dry_run_plans_with_all_visits(tmp_path, monkeypatch):
    blind = pointing.plan(simulated()["simulate"])
    blind["seeing"] = np.nan
    monkeypatch.setattr(pointing, "plan", lambda config: blind)
    every = planning.make(simulated(), tmp_path / "absent").template
    for rule in ({"best": 1}, {"quantile": [0, 0.3], "min_visits": 1}, {"fwhm": [0, 1]}, {"seeing": [0, 0.1]}):
        assert planning.make(simulated(template=rule), tmp_path / "absent").template == every


def test_nothing_to_difference_is_an_error(tmp_path):
    plan = planning.make(simulated(science={"mjd": [1, 2]}), tmp_path / "absent")
    with pytest.raises(InputError, match="science"):
        planning.check_selection(plan)


def test_exposure_table_is_read_again_only_while_its_files_are_the_same(survey_files, tmp_path, monkeypatch):
    path = tmp_path / "exposures.parquet"
    tables.write("exposure", planning.ingest(survey_files), path, note=planning.ingest_digest(survey_files))
    monkeypatch.setattr(planning, "ingest", lambda config: "headers were read")
    assert len(planning.exposure_table(survey_files, path)) == 8
    image = next(tmp_path.glob("night*/*.fits"))
    os.utime(image, ns=(1, 1))
    assert planning.exposure_table(survey_files, path) == "headers were read"


def test_change_of_a_file_whose_name_reads_as_a_pattern_is_seen(tmp_path):
    path = tmp_path / "a[1].fits"
    path.touch()
    config = validated({"images": [str(path)]})
    digest = planning.ingest_digest(config)
    os.utime(path, ns=(1, 1))
    assert planning.ingest_digest(config) != digest


def test_exposure_table_depends_on_instrument_and_metadata(survey_files):
    digest = planning.ingest_digest(survey_files)
    assert planning.ingest_digest(survey_files | {"metadata": {"gain": 3.0}}) != digest
    assert planning.ingest_digest(survey_files | {"instrument": "eimage"}) != digest
    assert planning.ingest_digest(survey_files | {"run": "other"}) == digest


def test_every_visit_but_the_first_has_a_reference_visit_of_its_band_or_the_first(tmp_path):
    plan = planning.make(simulated(), tmp_path / "absent")
    first = min(plan.visits)
    for visit, reference in plan.reference_visits.items():
        if visit == first:
            assert reference is None
        else:
            same = [other for other in plan.visits if plan.bands[other] == plan.bands[visit]]
            assert reference == (first if visit == min(same) else min(same))


def write_summary(path, plan, fwhm) -> None:
    """Table "visit_summary" with the given PSF FWHM [pixel] of each visit."""
    summary = tables.from_columns("visit_summary", visit=list(fwhm), psf_fwhm=list(fwhm.values()), status="ok")
    summary["band"] = [plan.bands[visit] for visit in fwhm]
    tables.write("visit_summary", summary, path)


def test_seeing_that_is_measured_goes_before_that_of_headers(tmp_path):
    config = simulated(template={"best": 1, "mjd": [60000, 60400]})
    planned = planning.make(config, tmp_path / "absent", tmp_path / "summary.parquet")
    assert planned.seeing == "header"
    first, *others = planned.visits
    write_summary(tmp_path / "some.parquet", planned, {first: 1.0})
    some = planning.make(config, tmp_path / "absent", tmp_path / "some.parquet")
    assert some.seeing == "header"
    assert all(visits == [first] for (_, _, band), visits in some.template.items() if band == some.bands[first])
    write_summary(tmp_path / "all.parquet", planned, {first: 9.0} | {visit: 2.0 + visit / 100 for visit in others})
    measured = planning.make(config, tmp_path / "absent", tmp_path / "all.parquet")
    assert measured.seeing == "measured" and first not in {v for visits in measured.template.values() for v in visits}


def test_which_templates_there_are_does_not_depend_on_the_seeing(tmp_path):
    every = planning.make(simulated(template={"mjd": [60000, 60400]}), tmp_path / "absent")
    none = planning.make(simulated(template={"mjd": [60000, 60400], "fwhm": [0.0, 0.1]}), tmp_path / "absent")
    assert every.template.keys() == none.template.keys() and not any(none.template.values())
    assert every.seeing == "" and none.seeing == "header"


def test_the_nights_of_visits_to_difference_are_half_a_day_apart(tmp_path):
    config = simulated(simulate=SURVEY | {"visits_per_night": 2})
    plan = planning.make(config, tmp_path / "none")
    assert sorted(visit for visits in plan.nights.values() for visit in visits) == plan.science
    for first, visits in plan.nights.items():
        dates = [plan.dates[visit] for visit in visits]
        assert first == visits[0] and dates == sorted(dates) and dates[-1] - dates[0] < 0.5
    assert len(plan.nights) < len(plan.science)


def test_rows_of_a_visit_are_its_part_of_the_exposure_table(tmp_path):
    plan = planning.make(simulated(), tmp_path / "absent")
    rows = tables.from_rows("exposure", plan.rows(3))
    assert (rows == plan.exposures[plan.exposures["visit"] == 3]).all()


def test_sky_around_a_tract_holds_what_its_corners_can_reach(tmp_path):
    plan = planning.make(simulated(), tmp_path / "absent")
    (tract,) = plan.skymap.tracts.values()
    step = np.degrees(tract.half_diagonal) / np.cos(np.radians(tract.dec))
    near, far = (replace(tract, id=k, ra=tract.ra + k * step) for k in (1, 3))
    neighbours = replace(plan, skymap=SkyMap("rings", {each.id: each for each in (tract, near, far)}))
    assert [entry["id"] for entry in neighbours.sky_around(tract.id)["tracts"]] == [tract.id, near.id]
