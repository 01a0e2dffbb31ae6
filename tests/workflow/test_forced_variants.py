"""Forced photometry beyond the differences: what a variant, a position or a visit more makes, and nothing else."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from plans import planned

from diaflow.store import tables
from diaflow.units import nanojansky

RUN = Path("results/tiny")
VARIANTS = ["diffim", "calexp", "dia_source_on_template", "dia_object_on_template"]
# What is made anew where visits of the second season are warped, too: the PSF that all are matched to may be theirs.
AFTER_MATCHED = {"coadd_template", "diffim", "associate", "forced_diffim", "tables", "validate", "report"}
STATIC = {"coadd_deep", "object", "template_object", "forced_template_on_diffim", "forced_calexp", "extra_table"}


@pytest.fixture(scope="module")
def finished(tiny_run, tmp_path_factory) -> Path:
    """A copy of the tiny survey's run that more is made in."""
    return shutil.copytree(tiny_run, tmp_path_factory.mktemp("forced") / "run")


@pytest.fixture(scope="module")
def config(tiny, finished) -> dict:
    """The tiny survey with all variants at 300 places of the user's, in a table with text for identifiers."""
    visits = tables.read("visit", finished / RUN / "tables/visit.parquet")
    rng = np.random.default_rng(0)
    ra, dec = visits["ra"].mean() + rng.uniform(-0.07, 0.07, 300), visits["dec"].mean() + rng.uniform(-0.03, 0.03, 300)
    lines = ["name,ra,dec", *(f"place {k},{a:.7f},{d:.7f}" for k, (a, d) in enumerate(zip(ra, dec)))]
    (finished / "places.csv").write_text("\n".join(lines) + "\n")
    return tiny | {"forced": {"variants": VARIANTS, "positions": {"path": "places.csv", "id": "name"}}}


def jobs(root, folder, config) -> Counter:
    """Jobs that would run, by rule."""
    return Counter(job.rule for job in planned(root, folder, config))


def test_a_variant_more_runs_that_alone(root, tiny, finished):
    for variant in ("dia_source_on_template", "dia_object_on_template"):
        more = tiny | {"forced": {"variants": ["diffim", variant]}}
        assert set(jobs(root, finished, more)) - {"all"} == {f"forced_{variant}", "extra_table"}


def test_only_who_asks_for_objects_gets_them(root, tiny, finished):
    """A run of transients has not one job of the static sky; one with objects makes nothing else anew."""
    assert not jobs(root, finished, tiny | {"deep": {"method": "psf_matched", "seeing": [0.5, 2.0]}})
    static = tiny | {"objects": True, "forced": {"variants": ["diffim", "calexp", "template_on_diffim"]}}
    planned_jobs = jobs(root, finished, static)
    of_new_visits = {"warp", "warp_matched"}  # those of the second season are in no template
    assert STATIC <= set(planned_jobs) <= STATIC | of_new_visits | AFTER_MATCHED | {"all"}
    assert planned_jobs["object"] == planned_jobs["template_object"] == 2


def test_positions_are_measured_again_and_what_rests_on_them(root, finished, config):
    of_differences = {"forced_diffim", "tables", "validate", "report"}
    others = {f"forced_{variant}" for variant in VARIANTS[1:]}
    assert set(jobs(root, finished, config)) - {"all"} == {"positions", "extra_table"} | of_differences | others
    one = config | {"forced": config["forced"] | {"visits": [5], "variants": ["diffim", "calexp"]}}
    number = jobs(root, finished, one)
    assert number["forced_calexp"] == number["forced_diffim"] == 1


def test_every_variant_gives_its_table(snakemake, finished, config):
    calexp, diffim, sources = (f"{RUN}/forced/{v}/5.parquet" for v in ("calexp", "diffim", "dia_source_on_template"))
    template = f"{RUN}/forced/dia_object_on_template/0/1_0/g.parquet"
    done = snakemake(finished, config, calexp, diffim, sources, template)
    assert done.returncode == 0, done.stderr[-5000:]
    positions = tables.read("position", finished / RUN / "positions.parquet")
    assert set(positions["name"]) == {f"place {k}" for k in range(300)}
    on_difference, on_calexp = (
        tables.read(name, finished / path) for name, path in (("dia_forced_source", diffim), ("forced_source", calexp))
    )
    chosen = on_difference[on_difference["positionId"] != 0]
    assert set(chosen["positionId"]) == set(on_calexp["positionId"]) < set(positions["positionId"])
    assert len(chosen) > 100 and not chosen["diaObjectId"].any()
    objects = on_difference[on_difference["positionId"] == 0]
    known = tables.read("dia_forced_source", finished / RUN / "tables/dia_forced_source.parquet")
    np.testing.assert_array_equal(objects["psfFlux"], known["psfFlux"][known["visit"] == 5])
    good = ~on_difference["psfFlux_flag"]
    part = (on_difference["psfFluxErrTemplate"] / on_difference["psfFluxErr"])[good]
    assert 0.2 < np.median(part) < 0.8 and part.max() < 1  # the template has 3 visits
    primary = tables.read("dia_source_on_template", finished / sources)
    primary = primary[primary["detect_isPrimary"]]
    known = tables.read("dia_source", finished / RUN / "dia_source/5.parquet")
    np.testing.assert_array_equal(primary["diaSourceId"], known["diaSourceId"])
    of_patch = tables.read("dia_object_on_template", finished / template)
    known = tables.read("dia_object", finished / RUN / "dia_object/0/1_0.parquet")
    assert set(of_patch["diaObjectId"]) - {0} == set(known["diaObjectId"])
    assert 0 < (of_patch["positionId"] != 0).sum() < 300


@pytest.fixture(scope="module")
def with_objects(snakemake, tiny, finished) -> Path:
    """The run with objects of one patch, and what is forced on one visit."""
    config = tiny | {"objects": True, "forced": {"variants": ["diffim", "calexp", "template_on_diffim"]}}
    targets = ("tables/object.parquet", "forced/calexp/5.parquet", "forced/template_on_diffim/5.parquet")
    done = snakemake(finished, config, *(str(RUN / target) for target in targets))
    assert done.returncode == 0, done.stderr[-5000:]
    return finished / RUN


def test_objects_are_on_the_sky_where_the_stars_are_each_once(with_objects):
    objects = tables.read("object", with_objects / "tables/object.parquet")
    primary = objects[objects["detect_isPrimary"]]
    assert len(np.unique(objects["objectId"])) == len(objects) > len(primary) > 100
    assert not (primary["deblend_nChild"] > 0).any()
    parents = np.isin(objects["parentObjectId"][objects["detect_fromBlend"]], objects["objectId"])
    assert parents.all() and (objects["deblend_nChild"] > 0).any()
    of_catalogue = primary[primary["refcatId"] > 0]
    assert len(of_catalogue) > 50 and len(np.unique(of_catalogue["refcatId"])) > 0.98 * len(of_catalogue)
    star = pd.read_parquet(with_objects.parents[1] / "demo/refcat.parquet").set_index("id")
    flux = nanojansky(star["g_mag"].reindex(of_catalogue["refcatId"]).to_numpy())
    bright = np.isfinite(flux) & (flux > 100 * of_catalogue["g_psfFluxErr"]) & ~of_catalogue["g_pixelFlags_saturated"]
    assert bright.sum() > 20
    # the catalogue has errors of its own, and neighbours light
    assert np.median(of_catalogue["g_psfFlux"][bright] / flux[bright]) == pytest.approx(1, abs=0.01)


def test_objects_are_measured_on_calexps_and_what_is_on_templates_on_differences(with_objects):
    objects = tables.read("object", with_objects / "tables/object.parquet")
    primary = objects[objects["detect_isPrimary"]]
    forced = tables.read("forced_source", with_objects / "forced/calexp/5.parquet")
    assert set(forced["objectId"]) <= set(primary["objectId"]) and len(np.unique(forced["objectId"])) == len(forced)
    of_object = primary[np.searchsorted(primary["objectId"], forced["objectId"])]
    stars = (of_object["g_psfFlux"] > 200 * of_object["g_psfFluxErr"]) & of_object["detect_isIsolated"]
    stars &= ~(forced["pixelFlags"] | forced["psfFlux_flag"]) & (of_object["g_extendedness"] == 0)
    assert stars.sum() > 5
    assert np.median((forced["psfFlux"] / of_object["g_psfFlux"])[stars]) == pytest.approx(1, abs=0.02)
    on_difference = tables.read("template_on_diffim", with_objects / "forced/template_on_diffim/5.parquet")
    primary = on_difference[on_difference["detect_isPrimary"]]
    assert len(on_difference) > len(primary) > 50
    has_parent = on_difference["parentObjectId"] > 0
    assert np.isin(on_difference["parentObjectId"][has_parent], on_difference["objectId"]).all()
    good = ~(primary["psfFlux_flag"] | primary["pixelFlags"])
    assert abs(np.median((primary["psfFlux"] / primary["psfFluxErr"])[good])) < 0.3  # most do not vary


@pytest.mark.parametrize(
    "forced, words",
    [
        ({"variants": ["calexp"]}, "forced.variants"),
        ({"variants": ["diffim", "calexp"]}, "calexp measures objects and forced.positions, which is missing"),
        ({"positions": {"path": "nowhere.csv"}}, "nowhere.csv"),
    ],
)
def test_what_cannot_work_is_one_line(snakemake, tiny, finished, forced, words):
    done = snakemake(finished, tiny | {"forced": forced}, "--dry-run")
    assert done.returncode != 0 and words in done.stdout + done.stderr and "Traceback" not in done.stderr
