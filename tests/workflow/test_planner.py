"""What the planner says is what Snakemake then does, and each change makes exactly its own products again.

The states to plan from are copies of the finished tiny run; ``--touch`` makes it that of another configuration.
"""

import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from plans import ask, outputs_made, planned, products, rules

import planner.__main__
from planner import cost

AFTER_DIFFIM = {"associate", "forced_diffim", "tables", "report"}
AFTER_TEMPLATE = {"diffim"} | AFTER_DIFFIM
AFTER_SKYMAP = {"warp", "warp_matched", "coadd_template"} | AFTER_TEMPLATE
AFTER_CALEXP = {"visit_summary", "select_template"} | AFTER_SKYMAP
AFTER_HEADERS = {"skymap", "select_template", "tables", "report"}
# These change which visits are inputs, not what is done to them.
INPUTS_CHANGE = {"science"}


def test_first_plan_is_what_is_then_run(tmp_path, root, tiny_run, tiny):
    answer, text = ask(root, tmp_path, tiny, "--cores", "1", "4")
    assert products(answer) == outputs_made(tiny_run)
    assert {reason for rule in answer["rules"] for reason in rule["why"]} == {"missing"}
    assert all(rule["earlier_jobs"] == 0 for rule in answer["rules"]) and "costs.json" in text
    assert [wall["cores"] for wall in answer["wall"]] == [1, 4]
    hours_1, hours_4 = (wall["hours"] for wall in answer["wall"])
    launched = len(answer["jobs"]) * cost.LAUNCH / 3600  # one core does nothing else meanwhile
    assert hours_1 == pytest.approx(answer["total"]["core_hours"] + launched) and hours_1 / 4 < hours_4 < hours_1
    assert "Plan of run tiny" in (tmp_path / "plan.html").read_text()
    # the tables of a simulation, and inputs that are no images, do not count as images
    of_visits = sum(job["work"]["images"] for job in answer["jobs"] if job["rule"] == "calexp")
    assert max(job["work"]["images"] for job in answer["jobs"]) == pytest.approx(of_visits)


def test_shared_jobs_temporary_warps_and_a_queue_change_time_and_disk(tmp_path, root, tiny):
    plain, _ = ask(root, tmp_path, tiny, "--cores", "4")
    words = ["--what-if", "visits_per_job=5", "storage.keep_warps=false", "--cores", "4", "--queue-wait", "60"]
    other, text = ask(root, tmp_path, tiny, *words)
    assert other["total"]["core_hours"] < plain["total"]["core_hours"]
    assert other["wall"][0]["hours"] > plain["wall"][0]["hours"] + 5 / 60
    assert other["wall"][0]["disk_gb"] < other["total"]["gb"]
    assert plain["wall"][0]["disk_gb"] == pytest.approx(plain["total"]["gb"])
    assert f"{other['total']['jobs']} of {other['total']['jobs']} jobs take less time than their start" in text


def test_what_if_plan_is_what_is_then_run_and_leaves_the_run_alone(tmp_path, root, tiny_run, snakemake, tiny):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    targets = [f"results/tiny/dia_object/0/{patch}.parquet" for patch in ("0_0", "1_0")]
    before = {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*")}
    answer, text = ask(root, folder, tiny, "--what-if", "associate.radius=0.6", "--", *targets)
    assert before == {path: path.stat().st_mtime_ns for path in (folder / "results").rglob("*")}
    assert "associate.radius changed from 0.5 to 0.6" in text
    assert all(rule["earlier_jobs"] > 0 for rule in answer["rules"])
    # what they took; they ask for 1000 MB and more
    assert all(0 < rule["memory_mb"] < 800 for rule in answer["rules"])
    started = time.time()
    done = snakemake(folder, tiny | {"associate": {"radius": 0.6}}, *targets)
    assert done.returncode == 0, done.stderr[-5000:]
    assert products(answer) == outputs_made(folder, started)


def test_wrong_key_is_one_line(tmp_path, root, tiny):
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(tiny))
    words = [sys.executable, "-m", "planner", "--directory", tmp_path, "--configfile", tmp_path / "my.yaml"]
    done = subprocess.run(
        [*map(str, words), "--what-if", "associate.radios=1"], cwd=root, text=True, capture_output=True
    )
    assert done.returncode != 0 and "radios" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("target", ["results/tiny/tables/visit.parquet", "tables", "results"])
def test_target_after_the_configuration_file_is_one_line(tmp_path, monkeypatch, target):
    (tmp_path / "results").mkdir()
    (tmp_path / "my.yaml").write_text("run: tiny\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["planner", "--configfile", "my.yaml", target])
    with pytest.raises(SystemExit, match=f"{target}: .*; a target stands before --configfile"):
        planner.__main__.main()


@pytest.fixture(scope="module")
def finished(tmp_path_factory, tiny_run, snakemake, tiny) -> tuple[Path, dict]:
    """A finished run of image files, the template visits calibrated jointly, and its configuration."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(tiny_run, folder)
    config = {key: value for key, value in tiny.items() if key != "simulate"}
    config |= {"images": "demo/images/*.fits", "calexp": {"joint_visits": 3}}
    done = snakemake(folder, config, "--touch")
    assert done.returncode == 0, done.stderr[-5000:]
    return folder, config


def test_nothing_changed_nothing_runs(root, finished):
    folder, config = finished
    assert planned(root, folder, config) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"metadata": {"gain": 1.7}}, {"ingest", "jointcal", "calexp"} | AFTER_HEADERS | AFTER_CALEXP),
        ({"refcat": {"keep": {"id": 1}}}, {"refcat", "jointcal", "calexp"} | AFTER_CALEXP),
        ({"calexp": {"threshold": 6.0}}, {"jointcal", "calexp"} | AFTER_CALEXP),
        ({"skymap": {"patch_size": 400}}, {"ingest", "skymap", "select_template"} | AFTER_SKYMAP),
        ({"template": {"method": "psf_matched"}}, {"coadd_template"} | AFTER_TEMPLATE),
        ({"template": {"model_fwhm": 6.0}}, {"warp_matched", "coadd_template"} | AFTER_TEMPLATE),
        ({"template": {"visits": [1, 2]}}, {"select_template", "warp_matched", "coadd_template"} | AFTER_TEMPLATE),
        ({"subtract": {"kernel_order": 1}}, AFTER_TEMPLATE),
        ({"detect": {"threshold": 6.0}}, AFTER_TEMPLATE),
        ({"associate": {"radius": 0.6}}, AFTER_DIFFIM),
        ({"science": {"visits": [5]}}, AFTER_DIFFIM),
    ],
    ids=lambda value: (
        ".".join((section := next(iter(value)), next(iter(value[section])))) if isinstance(value, dict) else ""
    ),
)
def test_changed_key_runs_exactly_the_rules_that_depend_on_it(root, finished, change, expected):
    folder, config = finished
    section, keys = next(iter(change.items()))
    jobs = planned(root, folder, config | {section: config.get(section, {}) | keys})
    assert rules(jobs) == expected
    if section not in INPUTS_CHANGE:
        named = f"{section}.{next(iter(keys))}"
        assert any(why.startswith(named) and " changed from " in why for job in jobs for why in job.why)


def test_options_of_a_method_that_is_not_chosen_run_nothing(root, finished):
    folder, config = finished
    dcr = {"latitude": -30, "longitude": -70, "bands": {"g": [404, 552]}}
    assert planned(root, folder, config | {"template": config["template"] | {"dcr": dcr}}) == []


def test_new_science_visit_leaves_calibrated_visits_and_template_alone(root, finished, image):
    folder, config = finished
    for detector in (0, 1):
        image(f"5_{detector}.fits", f"6_{detector}.fits", VISIT=6)
    jobs = planned(root, folder, config)
    by_visit = Counter((job.rule, job.wildcards["visit"]) for job in jobs if "visit" in job.wildcards)
    assert {key for key in by_visit if key[0] != "forced_diffim"} == {("calexp", "6"), ("diffim", "6")}
    assert rules(jobs) == ({"ingest", "calexp", "visit_summary"} | AFTER_HEADERS | {"diffim"} | AFTER_DIFFIM) - {
        "validate"
    }


def test_a_new_year_calibrates_and_subtracts_its_own_visits_alone(root, finished, image):
    """The visits of the year before, which had been subtracted, join the template."""
    folder, config = finished
    for detector in (0, 1):
        image(f"5_{detector}.fits", f"6_{detector}.fits", VISIT=6, **{"MJD-OBS": 61100.0})
    years = {"template": {"mjd": [60000, 61000]}, "science": {"mjd": [61000, 62000]}}
    jobs = planned(root, folder, config | years)
    made = {(job.rule, job.wildcards["visit"]) for job in jobs if job.rule in ("calexp", "warp", "diffim")}
    assert made == {("calexp", "6"), ("warp", "4"), ("warp", "5"), ("diffim", "6")}


def test_new_template_visit_is_warped_alone(root, finished, image):
    folder, config = finished
    for detector in (0, 1):
        image(f"3_{detector}.fits", f"6_{detector}.fits", VISIT=6)
    jobs = planned(root, folder, config)
    assert {job.wildcards["visit"] for job in jobs if job.rule in ("calexp", "warp")} == {"6"}
    assert {"coadd_template", "diffim"} <= rules(jobs)


def test_changed_image_is_calibrated_and_subtracted_again(root, finished, image):
    """Also its header counts: the gain is read into the exposure table, which other visits do not depend on."""
    folder, config = finished
    image("5_0.fits", "5_0.fits", GAIN=2.0)
    jobs = planned(root, folder, config)
    assert {job.wildcards["visit"] for job in jobs if job.rule in ("calexp", "diffim")} == {"5"}
    assert not rules(jobs) & {"warp", "coadd_template", "jointcal"}


def test_changed_image_and_changed_key_are_both_seen(root, finished, image):
    folder, config = finished
    image("5_0.fits", "5_0.fits", GAIN=2.0)
    jobs = planned(root, folder, config | {"template": {"mjd": [60000, 60400], "method": "psf_matched"}})
    assert {"calexp", "coadd_template"} <= rules(jobs)


def test_touched_image_of_the_same_content_runs_nothing(root, finished, image):
    """Snakemake compares checksums of files up to 1 MB; larger ones are taken as changed."""
    folder, config = finished
    path = folder / "demo/images/5_0.fits"
    assert path.stat().st_size < 1_000_000
    os.utime(path)
    assert planned(root, folder, config) == []


def test_a_patch_is_made_from_the_visits_that_touch_it_alone(tmp_path, root):
    """A survey beyond one graph is run patch by patch, here of three fields next to each other."""
    rows = ["visit,band,mjd,ra,dec,rotation,seeing"]
    for k, ra in enumerate((10.0, 10.2, 10.4)):
        rows += [f"{2 * k + 1},r,60000,{ra},0,0,0.8", f"{2 * k + 2},r,60400,{ra},0,0,0.8"]
    (tmp_path / "visits.csv").write_text("\n".join(rows) + "\n")
    config = {
        "images": "visits.csv",
        "skymap": {"patch_size": 1000, "patch_border": 50},
        "template": {"mjd": [60000, 60001], "model_fwhm": 8.0},
        "science": {"mjd": [60400, 60401]},
    }
    whole = planned(root, tmp_path, config)
    patches = {job.wildcards["patch"] for job in whole if job.rule == "associate"}
    west = min(patches, key=lambda patch: int(patch.split("_")[0]))
    jobs = planned(root, tmp_path, config, [f"results/main/dia_object/0/{west}.parquet"])
    assert [job.wildcards["patch"] for job in jobs if job.rule == "associate"] == [west]
    assert {job.wildcards["visit"] for job in jobs if job.rule == "diffim"} < {"2", "4", "6"}
    assert {job.rule for job in whole} - rules(jobs) >= {"forced_diffim", "tables", "report"}
