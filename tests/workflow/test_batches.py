"""Visits that share jobs: the same tables from fewer jobs, planned, run again and failing like single visits."""

import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from plans import ask, outputs_made, planned, products

RUN = Path("results/tiny")
# Visits 1 to 3 make the template, 4 and 5 are differenced.
BATCHES = {
    "calexp": [["1", "2"], ["3", "4"], ["5"]],
    "warp": [["1", "2"], ["3"]],
    "warp_matched": [["1", "2"], ["3"]],
    "diffim": [["4", "5"]],
    "forced_diffim": [["4", "5"]],
}


@pytest.fixture(scope="module")
def paired(tiny) -> dict:
    """Configuration of the tiny survey with two visits to a job."""
    return tiny | {"visits_per_job": 2}


@pytest.fixture(scope="module")
def paired_run(tmp_path_factory, tiny_run, snakemake, paired, root) -> tuple[Path, dict, str]:
    """Folder of its completed run, what the planner had said of it, and all that Snakemake says."""
    folder = tmp_path_factory.mktemp("paired") / "run"
    shutil.copytree(tiny_run / "demo", folder / "demo")
    answer, _ = ask(root, folder, paired)
    done = snakemake(folder, paired, "--verbose")
    assert done.returncode == 0, done.stderr[-5000:]
    return folder, answer, done.stderr


def test_tables_are_those_of_single_visits(paired_run, tiny_run):
    tables_of_pairs, expected = (
        sorted((folder / RUN / "tables").glob("*.parquet")) for folder in (paired_run[0], tiny_run)
    )
    assert [path.name for path in tables_of_pairs] == [path.name for path in expected] != []
    for path, of_singles in zip(tables_of_pairs, expected):
        assert pd.read_parquet(path).equals(pd.read_parquet(of_singles)), path.name


def test_the_plan_is_what_is_run(paired_run):
    folder, answer, _ = paired_run
    assert products(answer) == outputs_made(folder)
    jobs = Counter({rule["rule"]: rule["jobs"] for rule in answer["rules"]})
    assert {rule: jobs[rule] for rule in BATCHES} == {rule: len(batches) for rule, batches in BATCHES.items()}


def test_snakemake_looks_for_jobs_to_start_when_one_ends_and_no_more(paired_run):
    _, answer, output = paired_run
    assert output.count("Finished jobid") >= answer["total"]["jobs"]
    assert 0 < output.count("Ready jobs: ") <= answer["total"]["jobs"] + 2


@pytest.fixture(scope="module")
def finished(tmp_path_factory, paired_run, snakemake, paired) -> tuple[Path, dict]:
    """The same as a run of image files."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(paired_run[0], folder)
    config = {key: value for key, value in paired.items() if key != "simulate"}
    config |= {"images": "demo/images/*.fits", "calexp": {"joint_visits": 3}}
    done = snakemake(folder, config, "--touch")
    assert done.returncode == 0, done.stderr[-5000:]
    return folder, config


def batches(jobs, *rules: str) -> dict[str, list[list[str]]]:
    """The visits of each job of some rules."""
    return {rule: sorted(job.visits for job in jobs if job.rule == rule) for rule in rules}


def test_changed_image_makes_its_batch_again_and_what_follows(root, finished, image):
    """Visit 3, which shares the job, is of the template: all of that is made again, and every difference."""
    folder, config = finished
    assert planned(root, folder, config) == []
    image("4_0.fits", "4_0.fits", GAIN=2.0)
    jobs = planned(root, folder, config)
    again = {"calexp": [["3", "4"]], "warp": [["3"]], "diffim": [["4", "5"]]}
    assert batches(jobs, *again) == again
    assert "jointcal" not in {job.rule for job in jobs}


def test_new_visit_fills_the_last_batch(root, finished, image):
    folder, config = finished
    for detector in (0, 1):
        image(f"5_{detector}.fits", f"6_{detector}.fits", VISIT=6)
    jobs = planned(root, folder, config)
    again = {"calexp": [["5", "6"]], "warp": [], "coadd_template": [], "diffim": [["4", "5"], ["6"]]}
    assert batches(jobs, *again) == again


def test_visits_that_others_are_calibrated_against_have_batches_before_them(tmp_path, root, paired):
    """Without a catalogue the second band's leader follows the first one's, and all others their leader."""
    config = paired | {"refcat": None, "simulate": paired["simulate"] | {"bands": ["g", "r"]}}
    jobs = planned(root, tmp_path, config)
    of_one = {job.visits[0] for job in jobs if job.rule == "calexp" and len(job.visits) == 1}
    assert {"1"} < of_one
    for job in jobs:
        before = [other for k in job.after if (other := jobs[k]).rule == "calexp"] if job.rule == "calexp" else []
        assert all(len(other.visits) == 1 for other in before)


def test_visits_selected_by_measured_seeing_are_warped_one_by_one(tmp_path, root, paired):
    jobs = planned(root, tmp_path, paired | {"template": paired["template"] | {"best": 2}})
    assert {len(job.visits) for job in jobs if job.rule in ("warp", "warp_matched")} == {1}
    assert {len(job.visits) for job in jobs if job.rule == "diffim"} == {2}


def test_resources_that_are_set_for_a_rule_hold_for_its_batches(tmp_path, snakemake, paired):
    words = ["--set-threads", "calexp=2", "--set-resources", "calexp:mem_mb=100*threads"]
    done = snakemake(tmp_path, paired, f"{RUN}/src/4.parquet", "--dry-run", *words)
    job = done.stdout.split("rule calexp_3:")[1].split("rule ")[0]
    assert "threads: 2" in job and "mem_mb=200" in job
