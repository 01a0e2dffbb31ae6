"""Shapes of a star's image: light is conserved, widths are what the truth says, pixels are integrated."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import erf

from diaflow.run import config
from diaflow.simulate import gaussians, optics, pointing, profiles, sources
from diaflow.store import tables

SIZE = 301
STAR = tables.from_columns("truth_object", radius=0.0)
SHAPES = {
    "default": {},
    "moffat 2.5": {"beta": [2.5, 2.5]},
    "moffat 5": {"beta": [5, 5]},
    "double": {"double": 1},
    "trailed": {"trailed": [[1, 12]]},
    "defocused": {"defocused": [[1, 0, 9]]},
}


def settings_of(**changes) -> dict:
    changes = {"detectors": 1, "size": SIZE, "template_visits": 2, "science_visits": 1, "bands": ["r"]} | changes
    return config.validated({"images": "simulated", "simulate": changes})["simulate"]


def star(settings: dict, fwhm: float, x: float, y: float, number: int = 1) -> np.ndarray:
    """An image of a star of unit flux in a visit of that seeing [pixel]."""
    visit = replace(pointing.visits(settings)[number - 1], seeing=fwhm * settings["pixel_scale"])
    image = np.zeros((SIZE, SIZE))
    sources.draw(image, settings, visit, 0, STAR, np.ones(1), np.array([x]), np.array([y]))
    return image


def width(settings: dict, fwhm: float) -> float:
    """Diameter of the circle with the area above half of the maximum, of images shifted by parts of a pixel."""
    n = 8 if fwhm < 5 else 4
    fine = np.empty((n * SIZE, n * SIZE))
    middle = (SIZE - 1) / 2
    for i, j in np.ndindex(n, n):
        fine[i::n, j::n] = star(settings, fwhm, middle - j / n, middle - i / n)
    half = fine.max() / 2
    # Fractions of pixels of the rim count: along a row, between two values, the profile is straight enough.
    area = 0.0
    for row in fine[(fine >= half).any(axis=1)]:
        above = np.flatnonzero(row >= half)
        left, right = above[0], above[-1]
        area += right - left
        area += (row[left] - half) / (row[left] - row[left - 1]) + (row[right] - half) / (row[right] - row[right + 1])
    return 2 * np.sqrt(area / np.pi) / n


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("fwhm", [1.3, 3.0, 11.0])
def test_light_is_conserved(shape, fwhm):
    # Of a Moffat profile of beta = 2.5 at 11 pixels, the widest Gaussian has a sigma of 51 pixels: 0.1 % is outside.
    image = star(settings_of(psf=SHAPES[shape]), fwhm, 150.3, 149.6)
    assert image.sum() == pytest.approx(1, rel=2e-3 if shape == "moffat 2.5" else 2e-5)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if shape != "defocused"])
@pytest.mark.parametrize("fwhm", [1.3, 2.0, 4.0, 11.0])
def test_width_of_the_truth_is_that_of_a_drawn_star(shape, fwhm):
    settings = settings_of(psf=SHAPES[shape])
    visit = replace(pointing.visits(settings)[0], seeing=fwhm * settings["pixel_scale"])
    assert optics.fwhm(settings, visit, 0) == pytest.approx(width(settings, fwhm), rel=0.01)


@pytest.mark.parametrize("fwhm", [4.0, 11.0])
@pytest.mark.parametrize("shape", ["default", "moffat 2.5", "moffat 5", "double"])
def test_width_before_the_pixel_is_the_seeing(shape, fwhm):
    # The pixel adds in quadrature: 8 ln 2 / 12 pixel**2, which is right to second order; the size varies by 0.3 %.
    settings = settings_of(psf=SHAPES[shape])
    visit = replace(pointing.visits(settings)[0], seeing=fwhm * settings["pixel_scale"])
    assert optics.fwhm(settings, visit, 0) == pytest.approx(np.sqrt(fwhm**2 + 8 * np.log(2) / 12), rel=0.01)


@pytest.mark.parametrize("beta", [2.5, 3.5, 5.0])
def test_moffat_profile_is_one_out_to_four_widths(beta):
    weight, sigma = profiles.moffat(beta)
    r = np.linspace(0, 4, 81)
    ours = (weight / (2 * np.pi * sigma**2) * np.exp(-0.5 * (r[:, None] / sigma) ** 2)).sum(axis=1)
    alpha = 0.5 / np.sqrt(2 ** (1 / beta) - 1)
    moffat = (beta - 1) / (np.pi * alpha**2) * (1 + (r / alpha) ** 2) ** -beta
    # What is left out is in the wings: 0.3 % of the light of beta = 2.5, as seen in the core.
    np.testing.assert_allclose(ours[r <= 1], moffat[r <= 1], rtol=0.01)
    np.testing.assert_allclose(ours, moffat, rtol=0.15)


def test_double_gaussian_has_the_halo_that_was_asked_for():
    weight, sigma = profiles.double_gaussian(0.1, 3.0)
    assert weight.tolist() == [0.9, 0.1] and sigma[1] / sigma[0] == pytest.approx(3)


@pytest.mark.parametrize("sigma", [0.31, 0.5, 0.85, 2.0])
def test_gaussians_are_integrated_over_the_pixels(sigma):
    image = np.zeros((41, 41))
    x, y = 20.3, 19.6
    gaussians.add(image, np.array([x]), np.array([y]), np.ones(1), np.array([[sigma**2, 0, sigma**2]]))
    edges = (np.arange(42) - 0.5)[:, None] - [x, y]
    along_x, along_y = np.diff(0.5 * erf(edges / sigma / np.sqrt(2)), axis=0).T
    np.testing.assert_allclose(image, np.outer(along_y, along_x), atol=2e-4 * image.max())


def test_a_trail_is_as_long_as_it_says_and_its_angle_belongs_to_the_visit():
    settings = settings_of(psf={"trailed": [[1, 12]]})
    copies = optics.profile(settings, pointing.visits(settings)[0], 0).copies
    minor, major = np.linalg.eigvalsh(np.cov(copies.T, bias=True))
    assert major == pytest.approx(12**2 / 12, rel=0.02) and minor == pytest.approx(0, abs=1e-9)
    assert len(optics.profile(settings, pointing.visits(settings)[1], 0).copies) == 1


def test_a_defocused_image_is_a_ring_on_one_detector_of_one_visit():
    settings = settings_of(detectors=2, psf={"defocused": [[1, 1, 9]]})
    visits = pointing.visits(settings)
    focused = [len(optics.profile(settings, visit, d).copies) == 1 for visit in visits for d in (0, 1)]
    assert focused == [True, False, True, True, True, True]
    image = star(settings_of(psf={"defocused": [[1, 0, 9]]}), 3.0, 150, 150)
    assert image[150, 150] < 0.3 * image[150, 156]


def test_profiles_differ_between_visits_and_stay_within_what_is_asked_for():
    settings = settings_of(template_visits=12, psf={"beta": [2.5, 5], "double": 0.3})
    shapes = [optics.profile(settings, visit, 0) for visit in pointing.visits(settings)]
    doubles = sum(len(shape.weight) == 2 for shape in shapes)
    assert 0 < doubles < len(shapes)
    assert len({shape.sigma.tobytes() for shape in shapes}) == len(shapes) - doubles + 1


def test_seeing_with_a_median_has_it():
    settings = settings_of(template_visits=400, seeing=[1.5, 2.2, 5.5])
    seeing = [visit.seeing for visit in pointing.visits(settings)]
    assert min(seeing) >= 1.5 and max(seeing) <= 5.5
    # The density at the median is 0.5 / 0.7 per arcsec or less: 0.5 / sqrt(400) / 0.7 = 0.035, three of those.
    assert np.median(seeing) == pytest.approx(2.2, abs=0.15)
