"""The whole DAG on a tiny survey: planned before a pixel is read, run, run again, killed and finished."""

import hashlib
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import command

from diaflow import tables

TABLES = ["visit", "source", "dia_source", "dia_object", "dia_forced_source"]


def job_counts(output: str) -> dict[str, int]:
    """Jobs per rule in Snakemake's table of job statistics."""
    block = output.split("Job stats:")[1]
    return {name: int(count) for name, count in re.findall(r"^(\w+)\s+(\d+)\s*$", block, re.MULTILINE)}


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of the tables that users open."""
    paths = sorted((folder / "results/tiny/tables").glob("*.parquet"))
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def test_dry_run_plans_every_job_before_any_pixel_exists(tmp_path, snakemake, tiny):
    done = snakemake(tmp_path, tiny, "--dry-run")
    assert done.returncode == 0, done.stderr
    counts = job_counts(done.stdout)
    n_template, n_science = (tiny["simulate"][f"{kind}_visits"] for kind in ("template", "science"))
    assert counts["calexp"] == n_template + n_science
    assert counts["warp"] == counts["warp_matched"] == n_template
    assert counts["diffim"] == counts["forced_diffim"] == n_science
    assert counts["coadd_template"] >= 1 and counts["associate"] >= 1
    assert {"simulate", "ingest", "skymap", "select_template", "tables", "report", "validate"} <= set(counts)
    assert not (tmp_path / "demo").exists() and not (tmp_path / "results").exists()


def test_all_tables_are_made_and_hold_what_their_schemas_say(tiny_run, tiny):
    made = {name: tables.read(name, tiny_run / f"results/tiny/tables/{name}.parquet") for name in TABLES}
    n_images = tiny["simulate"]["detectors"] * (
        tiny["simulate"]["template_visits"] + tiny["simulate"]["science_visits"]
    )
    assert len(made["visit"]) == n_images
    assert (made["visit"]["calexp_status"] == "ok").all()
    assert len(made["dia_source"]) > 0 and len(made["dia_object"]) > 0
    linked = made["dia_source"]["diaObjectId"]
    assert set(linked[linked > 0]) == set(made["dia_object"]["diaObjectId"])


def test_every_object_is_measured_on_every_image_that_contains_it(tiny_run):
    forced = tables.read("dia_forced_source", tiny_run / "results/tiny/tables/dia_forced_source.parquet")
    objects = tables.read("dia_object", tiny_run / "results/tiny/tables/dia_object.parquet")
    assert set(forced["diaObjectId"]) == set(objects["diaObjectId"])
    pairs = np.stack([forced["diaObjectId"], forced["visit"], forced["detector"]])
    assert np.unique(pairs, axis=1).shape[1] == len(forced)


def test_second_run_does_nothing(tiny_run, snakemake, tiny):
    before = checksums(tiny_run)
    done = snakemake(tiny_run, tiny)
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr
    assert checksums(tiny_run) == before


@pytest.mark.parametrize(
    ("section", "change", "expected"),
    [
        ("associate", {"radius": 0.6}, {"associate", "forced_diffim", "tables", "validate", "report"}),
        (
            "detect",
            {"threshold": 6.0},
            {"diffim", "associate", "forced_diffim", "tables", "validate", "report"},
        ),
    ],
)
def test_changing_a_key_reruns_only_what_depends_on_it(tiny_run, snakemake, tiny, section, change, expected):
    done = snakemake(tiny_run, tiny | {section: change}, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert set(job_counts(done.stdout)) - {"all", "total"} == expected


def test_a_single_product_is_made_by_its_path(tmp_path, snakemake, tiny):
    done = snakemake(tmp_path, tiny, "--dry-run", "results/tiny/skymap.json")
    assert done.returncode == 0, done.stderr
    assert set(job_counts(done.stdout)) - {"total"} == {"simulate", "ingest", "skymap"}


def test_killed_run_started_again_gives_identical_tables(tmp_path, tiny_run, snakemake, tiny, root):
    process = subprocess.Popen(
        command(root, tmp_path, tiny),
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.time() + 300
    while not list(tmp_path.glob("results/tiny/warp/*/*")) and time.time() < deadline:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "results/tiny/tables").exists(), "the run ended before it was killed"
    unlocked = snakemake(tmp_path, tiny, "--unlock")
    assert unlocked.returncode == 0, unlocked.stderr
    done = snakemake(tmp_path, tiny)
    assert done.returncode == 0, done.stderr[-5000:]
    assert checksums(tmp_path) == checksums(tiny_run)
