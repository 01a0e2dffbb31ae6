"""What stands on something larger is a source only as far as it stands out of that."""

import numpy as np
import pytest
from triplets import CONFIG, SIGMA, scattered, stars, with_noise

from diaflow.diasource import detection, surroundings
from diaflow.subtract.result import Difference

SHAPE = (400, 400)
ERROR = np.sqrt(4 * np.pi) * SIGMA  # of a PSF flux in noise of 1


def found_on(image):
    """DIASources of an image that is a difference without a template."""
    science, blank = with_noise(image, 1.0), with_noise(np.zeros(image.shape), 1.0)
    result = Difference(science, blank, np.zeros((2, 0)), {"science_variance_factor": 1.0})
    return detection.dia_sources(result, science, CONFIG), science


def ghost(level):
    """A disc with a hole, as a reflection in the camera is."""
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    distance = np.hypot(xx - 200, yy - 200)
    return level * ((distance > 25) & (distance < 70))


def test_parts_of_a_ghost_are_no_sources_and_a_transient_on_it_is():
    noise = np.random.default_rng(1).normal(size=SHAPE)
    image = noise + ghost(0.4) + stars(SHAPE, [250.0], [200.0], 12 * ERROR)
    table, exposure = found_on(image)
    assert len(table) <= 2
    assert np.hypot(table["x"] - 250, table["y"] - 200).min() < 1
    faint = table[:0].copy()
    faint.resize(8)
    angle = (np.arange(8) + 0.5) * np.pi / 4
    faint["x"], faint["y"] = 200 + 47 * np.cos(angle), 200 + 47 * np.sin(angle)
    faint["psfFlux"], faint["psfFluxErr"] = 5.5 * ERROR, ERROR  # of which the ghost alone is 3.4
    assert not surroundings.stand_out(exposure, faint, CONFIG["threshold"], SIGMA).any()
    faint["psfFlux"] *= -1
    assert surroundings.stand_out(exposure, faint, CONFIG["threshold"], SIGMA).all()


@pytest.mark.parametrize("sign", [-1, 1])
def test_on_an_even_sky_nothing_is_lost(sign):
    rng = np.random.default_rng(2)
    x, y = scattered(rng, SHAPE, 40, distance=30)
    image = rng.normal(size=SHAPE) + sign * stars(SHAPE, x, y, np.full(len(x), 5.5 * ERROR))
    exposure = with_noise(image, 1.0)
    table = np.zeros(len(x), found_on(np.zeros(SHAPE))[0].dtype)
    table["x"], table["y"], table["psfFlux"], table["psfFluxErr"] = x, y, 5.01 * sign * ERROR, ERROR
    assert surroundings.stand_out(exposure, table, CONFIG["threshold"], SIGMA).mean() > 0.97
