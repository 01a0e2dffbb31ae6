"""Forced photometry beyond the differences: what a variant, a position or a visit more makes, and nothing else."""

import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from plans import planned

from diaflow.store import tables

RUN = Path("results/tiny")
VARIANTS = ["diffim", "calexp", "dia_source_on_template", "dia_object_on_template"]


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


def test_positions_are_measured_again_and_what_rests_on_them(root, finished, config):
    of_differences = {"forced_diffim", "tables", "validate", "report"}
    others = {f"forced_{variant}" for variant in VARIANTS[1:]}
    assert set(jobs(root, finished, config)) - {"all"} == {"positions", "extra_table"} | of_differences | others
    one = config | {"forced": config["forced"] | {"visits": [5], "variants": ["diffim", "calexp"]}}
    number = jobs(root, finished, one)
    assert number["forced_calexp"] == number["forced_diffim"] == 1


def test_every_variant_gives_its_table(snakemake, finished, config):
    calexp, diffim, sources = (f"{RUN}/forced/{v}/5.parquet" for v in ("calexp", "diffim", "dia_source_on_template"))
    template = f"{RUN}/forced/dia_object_on_template/0/1_1/g.parquet"
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
    known = tables.read("dia_object", finished / RUN / "dia_object/0/1_1.parquet")
    assert set(of_patch["diaObjectId"]) - {0} == set(known["diaObjectId"])
    assert 0 < (of_patch["positionId"] != 0).sum() < 300


@pytest.mark.parametrize(
    "forced, words",
    [
        ({"variants": ["calexp"]}, "forced.variants"),
        ({"variants": ["diffim", "calexp"]}, "forced.positions, which is missing"),
        ({"positions": {"path": "nowhere.csv"}}, "nowhere.csv"),
    ],
)
def test_what_cannot_work_is_one_line(snakemake, tiny, finished, forced, words):
    done = snakemake(finished, tiny | {"forced": forced}, "--dry-run")
    assert done.returncode != 0 and words in done.stdout + done.stderr and "Traceback" not in done.stderr
