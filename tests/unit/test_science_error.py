"""The error of scienceFlux is that of the calexp's noise as the subtraction measured it, in both tables."""

import numpy as np
import pytest
from scenes import CONFIG, add_stars, make_image
from triplets import wcs_at

from diaflow.detect import streaks
from diaflow.diasource import detection, quality
from diaflow.forced.diffim import forced_photometry
from diaflow.forced.positions import Positions
from diaflow.subtract import alard_lupton
from diaflow.subtract.subtraction import subtract

SIZE, SIGMA = 1000, 2.0
WRONG = 1.5  # factor of the variance plane


@pytest.fixture(scope="module")
def measured():
    """DIASources at places where only the template has something, and forced photometry where nothing is.

    The science image has nothing at either, and a variance plane that is too large.
    """
    rng = np.random.default_rng(1)
    science, stars = make_image(SIGMA, 1.0, 6, 40, SIZE)
    template, _ = make_image(1.8, 0.3, 7, 40, SIZE)
    science.variance *= np.float32(WRONG)
    science.wcs = template.wcs = wcs_at()
    grid = np.arange(60.0, SIZE - 60, 25)
    x, y = (g.ravel() for g in np.meshgrid(grid, grid))
    far = np.hypot(stars["x"] - x[:, None], stars["y"] - y[:, None]).min(1) > 30
    x, y = (c[far] + rng.uniform(-0.5, 0.5, far.sum()) for c in (x, y))
    gone = np.arange(len(x)) % 2 == 0
    add_stars(template.image, x[gone], y[gone], np.full(gone.sum(), 1500.0), 1.8)
    difference = subtract(science, template, stars, alard_lupton.subtract, CONFIG)
    streaks.mark(difference.exposure)
    dia_sources = detection.dia_sources(difference, science, {"threshold": 5.0, "aperture": 12.0})
    row = quality.summary_row(difference, science, stars, dia_sources)[0]
    near = np.hypot(dia_sources["x"][:, None] - x[gone], dia_sources["y"][:, None] - y[gone]).min(1) < 1
    assert row["science_variance_factor"] == pytest.approx(1 / WRONG, rel=0.05)
    positions = Positions(*science.wcs.all_pix2world(x[~gone], y[~gone], 0), {"diaObjectId": np.arange((~gone).sum())})
    factors = row["science_variance_factor"], row["template_noise"]
    template_variance = difference.matched_template.variance
    forced = forced_photometry(difference.exposure, science, template_variance, positions, *factors)
    return {"dia_source": dia_sources[near & dia_sources["isNegative"]], "dia_forced_source": forced}


@pytest.mark.parametrize("table", ["dia_source", "dia_forced_source"])
def test_pulls_of_the_science_flux_where_there_is_nothing_are_of_unit_width(measured, table):
    rows = measured[table]
    pulls = rows["scienceFlux"] / rows["scienceFluxErr"]
    n = len(pulls)
    # Without the correction the width would be 0.82.  Neighbours are 25 pixels apart, and the PSF has 50 pixels.
    assert n > 500
    assert abs(np.mean(pulls)) < 4 / np.sqrt(n)
    assert abs(np.std(pulls) - 1) < 4 / np.sqrt(2 * n)
