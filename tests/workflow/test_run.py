"""The whole DAG on a tiny survey: planned before a pixel is read, run, run again, with other choices."""

import hashlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from plans import planned

from diaflow.image.exposure import Exposure
from diaflow.store import provenance, tables

DIFFERENCED = [1, 2, 5]  # of the first two at least one is among the best
BEYOND_BEST = "not among the best 2 in seeing"
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
    assert not {"isr", "master_bias", "master_flat"} & set(counts), "of images that are flat-fielded"
    assert not (tmp_path / "demo").exists() and not (tmp_path / "results").exists()


def test_all_tables_are_made_and_hold_what_their_schemas_say(tiny_run, tiny):
    collected = {name: tables.read(name, tiny_run / f"results/tiny/tables/{name}.parquet") for name in TABLES}
    n_images = tiny["simulate"]["detectors"] * (
        tiny["simulate"]["template_visits"] + tiny["simulate"]["science_visits"]
    )
    assert len(collected["visit"]) == n_images
    assert (collected["visit"]["calexp_status"] == "ok").all()
    assert len(collected["dia_source"]) > 0 and len(collected["dia_object"]) > 0
    linked = collected["dia_source"]["diaObjectId"]
    assert set(linked[linked > 0]) == set(collected["dia_object"]["diaObjectId"])


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


def exporting(tiny: dict, *formats: str, **options: dict) -> dict:
    return tiny | {"lightcurves": {"formats": list(formats)} | options}


def test_every_format_of_light_curves_is_a_job_of_its_own(tmp_path, root, tiny_run, snakemake, tiny):
    folder = shutil.copytree(tiny_run, tmp_path / "run")
    done = snakemake(folder, exporting(tiny, "snana"), "--dry-run")
    assert done.returncode != 0 and "lightcurves.snana.bands: no name for the band 'g'" in done.stdout + done.stderr
    snana = {"bands": {"g": "g"}}
    done = snakemake(folder, exporting(tiny, "snana", "nested_parquet", snana=snana))
    assert done.returncode == 0, done.stderr[-5000:]
    assert job_counts(done.stderr)["total"] == 3
    made = folder / "results/tiny/lightcurves"
    objects = tables.read("dia_object", folder / "results/tiny/tables/dia_object.parquet")
    assert len(list(made.glob("snana/DIAFLOW/*.DAT"))) > 0
    nested = tables.read("dia_object", made / "nested_parquet/light_curves.parquet")
    np.testing.assert_array_equal(nested["diaObjectId"], objects["diaObjectId"])
    assert provenance.read(made / "nested_parquet").inputs == (
        "results/tiny/tables/dia_object.parquet",
        "results/tiny/tables/dia_forced_source.parquet",
    )

    def jobs(*formats: str, **options: dict) -> list[list[str]]:
        return [job.output for job in planned(root, folder, exporting(tiny, *formats, **options))]

    assert jobs("snana", "nested_parquet", snana=snana) == []
    assert jobs("snana", "nested_parquet", "csv", snana=snana) == [["results/tiny/lightcurves/csv"]]
    assert jobs("nested_parquet", "snana", snana=snana | {"zero_point": 31.4}) == [["results/tiny/lightcurves/snana"]]


def test_a_single_product_is_made_by_its_path(tmp_path, snakemake, tiny):
    done = snakemake(tmp_path, tiny, "--dry-run", "results/tiny/skymap.json")
    assert done.returncode == 0, done.stderr
    assert set(job_counts(done.stdout)) - {"total"} == {"simulate", "ingest", "skymap"}


@pytest.fixture(scope="module")
def variant_run(tmp_path_factory, tiny_run, snakemake, tiny) -> Path:
    """The tiny survey with the two best visits in a PSF-matched template; visits of it and another are differenced."""
    folder = tmp_path_factory.mktemp("variant") / "run"
    shutil.copytree(tiny_run, folder)
    template = {"method": "psf_matched", "mjd": [60000, 60400], "best": 2}
    targets = [f"results/tiny/tables/{name}.parquet" for name in TABLES]
    done = snakemake(folder, tiny | {"template": template, "science": {"visits": DIFFERENCED}}, *targets)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "calexp" not in job_counts(done.stderr)
    return folder


def test_selection_by_measured_seeing_takes_the_best_visits(variant_run):
    summary = tables.read("visit_summary", variant_run / "results/tiny/visit_summary.parquet")
    selection = tables.read("selection", variant_run / "results/tiny/selection.parquet")
    for patch in np.unique(selection["patch"].astype(str)):
        rows = selection[(selection["patch"] == patch) & np.isin(selection["reason"], ["", BEYOND_BEST])]
        visits = set(rows["visit"][rows["selected"]].tolist())
        assert visits == set(rows["visit"][np.argsort(rows["fwhm"], kind="stable")][:2].tolist())
        inputs = Exposure.read(variant_run / f"results/tiny/coadd/template/0/{patch}/g.fits").psf.inputs
        assert {source.visit for source in inputs} <= visits
    measured = {v: np.median(summary["psf_fwhm"][summary["visit"] == v]) for v in np.unique(summary["visit"])}
    assert all(np.isclose(row["fwhm"], measured[row["visit"]], rtol=1e-5) for row in selection)


def test_visit_that_is_in_its_own_template_is_flagged(variant_run):
    selection = tables.read("selection", variant_run / "results/tiny/selection.parquet")
    visits = tables.read("visit", variant_run / "results/tiny/tables/visit.parquet")
    forced = tables.read("dia_forced_source", variant_run / "results/tiny/tables/dia_forced_source.parquet")
    sources = tables.read("dia_source", variant_run / "results/tiny/tables/dia_source.parquet")
    chosen = selection["visit"][selection["selected"]]
    for table, column in ((visits, "visit_in_template"), (forced, "visitInTemplate"), (sources, "visitInTemplate")):
        table = table[np.isin(table["visit"], DIFFERENCED)]
        assert set(table[column].tolist()) == {True, False}
        assert (table[column] == np.isin(table["visit"], chosen)).all()


def test_without_a_reference_catalogue_visits_are_calibrated_against_the_first(tmp_path, tiny_run, snakemake, tiny):
    shutil.copytree(tiny_run / "demo", tmp_path / "demo")
    done = snakemake(tmp_path, tiny | {"refcat": None}, "results/tiny/visit_summary.parquet")
    assert done.returncode == 0, done.stderr[-5000:]
    summary = tables.read("visit_summary", tmp_path / "results/tiny/visit_summary.parquet")
    first = summary["visit"] == summary["visit"].min()
    assert (summary["status"] == "ok").all()
    assert (summary["astrometry"] == np.where(first, "header", "relative")).all()
    assert (summary["photometry"] == np.where(first, "header", "relative")).all()
