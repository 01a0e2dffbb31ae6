"""Images out of focus: rings are told from points, and said to be the reason where no PSF is found."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from diaflow.calibrate import focus
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE

SHAPE, NOISE = (600, 600), 10.0


def field(radius, sigma, fluxes, seed=3):
    """Rings of an outer radius with a hole of 40 % of it, or points, blurred by a Gaussian [pixel]."""
    rng = np.random.default_rng(seed)
    image = np.zeros(SHAPE)
    yy, xx = np.indices(SHAPE)
    for flux, x, y in zip(fluxes, *rng.uniform(60, SHAPE[0] - 60, (2, len(fluxes)))):
        distance = np.hypot(xx - x, yy - y)
        pupil = (distance < max(radius, 0.8)) & (distance >= 0.4 * radius)
        image += flux * pupil / pupil.sum()
    image = gaussian_filter(image, sigma) + rng.normal(0, NOISE, SHAPE)
    variance, mask = np.full(SHAPE, NOISE**2, np.float32), np.zeros(SHAPE, np.int32)
    return Exposure(image.astype(np.float32), variance, mask, None, noise=WHITE)


@pytest.mark.parametrize("radius", [9, 14, 20])
def test_rings_are_out_of_focus(radius):
    found = focus.ring_radius(field(radius, 1.2, np.full(30, 3e5)))
    assert 0.4 * radius <= found <= radius
    assert "out of focus" in focus.explained(field(radius, 1.2, np.full(30, 3e5)), "no PSF")


@pytest.mark.parametrize("sigma", [0.8, 2.5, 5.0])
def test_points_of_any_size_are_not(sigma):
    image = field(0, sigma, np.geomspace(1e4, 1e6, 30))
    assert focus.ring_radius(image) == 0
    assert focus.explained(image, "no PSF") == "no PSF"


def test_an_image_without_sources_is_not():
    assert focus.ring_radius(field(0, 2.0, [])) == 0
