"""Three of the skies, shrunk, from simulation to scores; the second algorithm finds all that comes before it made."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from optionalfigures import POSITIONS, STATIC, TRACKLETS

from diaflow.validate.bars import DESCRIPTIONS

SHRUNK = {
    "detectors": 1,
    "size": 448,
    "template_visits": 3,
    "science_visits": 2,
    "supernovae": 5,
    "variables": 8,
}
SKIES = ["dirty", "movers", "undersampled"]
AFTER_COADDS = {"diffim", "associate", "forced_diffim", "tables", "validate"}


def shrunk(root: Path, name: str) -> dict:
    config = yaml.safe_load((root / f"config/skies/{name}.yaml").read_text())
    # a tracklet has three sources in a night
    visits = {"science_visits": 3} if name == "movers" else {}
    return config | {"simulate": config["simulate"] | SHRUNK | visits}


@pytest.fixture(scope="module", params=SKIES)
def finished(request, root, snakemake, tmp_path_factory) -> tuple[Path, dict]:
    """Folder and configuration of a sky whose scores are made."""
    folder, config = tmp_path_factory.mktemp(request.param), shrunk(root, request.param)
    done = snakemake(folder, config, target(config))
    assert done.returncode == 0, done.stderr[-5000:]
    return folder, config


def target(config: dict) -> str:
    return f"results/{config['run']}/scores.json"


def test_every_figure_has_a_value_or_is_not_met(finished):
    folder, config = finished
    scores = json.loads((folder / target(config)).read_text())
    absent = STATIC | POSITIONS | (TRACKLETS if config["run"] != "movers" else set())
    assert {row["name"] for row in scores["figures"]} == set(DESCRIPTIONS) - absent
    assert all(row["met"] is not True for row in scores["figures"] if np.isnan(row["value"]))
    assert {"probe on sky", "variable", "constant star", "empty place"} <= {row["of"] for row in scores["figures"]}


def test_scores_follow_the_figures_in_short(finished):
    folder, config = finished
    text = (folder / target(config)).with_name("validation.txt").read_text()
    assert "visits differenced" in text and "bar" in text


def test_another_algorithm_starts_from_the_coadds(finished, snakemake):
    folder, config = finished
    done = snakemake(
        folder, config | {"subtract": {"algorithm": "zogy"}}, target(config), "--dry-run", "--quiet", "host"
    )
    assert done.returncode == 0, done.stderr[-5000:]
    jobs = set(re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE))
    of_night = {"tracklet"} if config["run"] == "movers" else set()
    assert {re.sub(r"_\d+$", "", job) for job in jobs} == AFTER_COADDS | of_night
