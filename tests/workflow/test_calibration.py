"""A simulated survey of one 2k x 2k CCD: pointing errors of 1.5 arcsec, clouds, distortion; single-frame calibration.

300 stars in each image tell a zero point to 10 mmag / sqrt(300) = 0.6 mmag and, with the distortion known, a position
to 15 mas * sqrt(3 / 300) = 1.5 mas; the rest of each bar is for what images have in common and for their own noise.
"""

from pathlib import Path

import numpy as np
import pytest

from diaflow.run.config import validated
from diaflow.simulate import truth
from diaflow.simulate.sky import Survey
from diaflow.store import tables
from diaflow.validate import calibration

CONFIG = {
    "run": "calibration",
    "images": "simulated",
    "refcat": {"path": "demo/refcat.parquet", "bands": {"r": "r_mag"}},
    "template": {"mjd": [60000, 60400]},
    "science": {"mjd": [60400, 61000]},
    "visits_per_job": 5,
    "simulate": {
        "bands": ["r"],
        "template_visits": 3,
        "science_visits": 2,
        "detectors": 1,
        "size": 2048,
        "supernovae": 0,
        "variables": 0,
        "asteroids": 0,
    },
}


@pytest.fixture(scope="module")
def survey():
    return Survey.make(validated(CONFIG)["simulate"])


@pytest.fixture(scope="module")
def images(survey):
    return truth.images(survey)


@pytest.fixture(scope="module")
def products(tmp_path_factory, snakemake) -> Path:
    folder = tmp_path_factory.mktemp("calibration")
    done = snakemake(folder, CONFIG, "results/calibration/visit_summary.parquet")
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "results/calibration"


@pytest.fixture(scope="module")
def summary(products) -> np.ndarray:
    rows = tables.read("visit_summary", products / "visit_summary.parquet")
    assert len(rows) == 5 and (rows["status"] == "ok").all()
    return rows


def test_positions_are_right_to_5_mas_with_a_catalogue_of_15(products, survey, images):
    errors = calibration.astrometric_errors(images, survey.objects, sorted(products.glob("calexp/*/*.fits")))
    assert errors["astrometry_rms_max"] < 5


def test_zero_points_are_right_to_3_mmag(images, summary):
    assert calibration.zero_point_errors(images, summary)["zero_point_error_max"] < 0.003


def test_bright_stars_repeat_to_5_mmag(products, survey):
    sources = tables.concatenate("source", [tables.read("source", path) for path in products.glob("src/*.parquet")])
    errors = calibration.photometric_errors(survey.objects, sources)
    assert errors["repeatability"] < 0.005 and errors["photometry_offset_max"] < 0.003


def test_psf_agrees_with_stars_that_it_has_not_seen(summary):
    assert (summary["n_reserved_stars"] > 20).all()
    assert np.abs(summary["psf_size_residual"]).max() < 0.01
    assert np.abs(summary["psf_e1_residual"]).max() < 0.005 and np.abs(summary["psf_e2_residual"]).max() < 0.005
