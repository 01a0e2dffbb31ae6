"""The flux ratio of two images: told by most of their stars, whatever single stars and the template's PSF do."""

from dataclasses import replace

import numpy as np
import pytest
from builders import constant_psf, gaussian, tan_wcs
from scenes import add_stars, make_image

from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.subtract import photometric


@pytest.mark.parametrize("slope, order", [(0.0, 0), (0.05, 1)])
def test_the_flux_ratio_follows_the_field_and_not_the_variable_stars(slope, order):
    """40 stars of S/N 130 on both images, of which 12 gained 3 to 20 %; it changes by 5 % over half of the field."""
    rng = np.random.default_rng(3)
    x, y = rng.uniform(30, 570, (2, 40))
    pair = [make_image(sigma, 0.5, k, n_stars=0, size=600)[0] for k, sigma in enumerate((2.5, 2.0))]
    gain = np.where(np.arange(40) < 12, rng.uniform(1.03, 1.2, 40), 1.0) * (1 + slope * (2 * x / 599 - 1))
    for image, sigma, change in zip(pair, (2.5, 2.0), (gain, 1.0)):
        add_stars(image.image, x, y, 500 * change * np.ones(40), sigma)
    found = photometric.match(*pair, x, y, np.zeros((600, 600), bool), None)
    assert found.order == order
    # 28 stars that know it to 1.1 % each: 0.2 %, and what gained least is taken for constant
    assert found.scale == pytest.approx(1.0, abs=0.01)


def test_a_step_of_the_psf_of_the_template_is_none_of_the_flux_ratio():
    """An input of 2.4 pixels radius ends in the middle, beside one of 1.6: beyond, the PSF is sharper."""
    wcs = tan_wcs((400, 400))
    inputs = [
        PsfInput(visit, 0, 1.0, constant_psf(gaussian(sigma), (400, 400)), wcs, (0, 0, end, 399))
        for visit, sigma, end in ((1, 1.6, 399), (2, 2.4, 200))
    ]
    x, y = (g.ravel() for g in np.meshgrid(*[np.linspace(40.5, 360.5, 9)] * 2))
    science, template = (make_image(2.0, 0.1, k, n_stars=0, size=400)[0] for k in range(2))
    add_stars(science.image, x, y, np.full(81, 1e3), 2.0)
    add_stars(template.image, x, y, np.where(x < 200, 500, 1e3), 1.6)
    add_stars(template.image, x, y, np.where(x < 200, 500, 0), 2.4)
    template.psf = CoaddPsf(inputs, wcs)
    found = photometric.match(science, template, x, y, np.zeros((400, 400), bool), None)
    assert found.order == 0
    assert found.scale == pytest.approx(1.0, abs=0.002)


@pytest.mark.parametrize("shift", [0.0, 0.3])
def test_what_a_difference_has_of_constant_stars_is_told_at_their_places_in_the_template(shift):
    """60 stars of S/N 140, of which 2 % are left and 15 are brighter by 5 to 30 %; where the science image has them 0.3
    pixel away, they lose d**2 / (4 sigma**2) = 0.6 % in forced photometry at the places of the template."""
    rng = np.random.default_rng(5)
    x, y = rng.uniform(30, 570, (2, 60))
    science, template = (make_image(2.0, 0.5, k, n_stars=0, size=600)[0] for k in range(2))
    gain = np.where(np.arange(60) < 15, rng.uniform(1.05, 1.3, 60), 1.0)
    add_stars(science.image, x + shift, y, 510 * gain, 2.0)
    add_stars(template.image, x, y, np.full(60, 500.0), 2.0)
    difference = replace(science, image=science.image - template.image)
    found = photometric.left_over(difference, template, x + shift, y)
    # 45 stars that know it to sqrt(2) / 140 each, 0.15 %, four times; the brighter ones to a fifth of an error
    assert found == pytest.approx(1.02 * np.exp(-(shift**2) / 16) - 1, abs=0.006)


def test_too_few_stars_leave_nothing():
    image, template = (make_image(2.0, 0.5, k, n_stars=0, size=100)[0] for k in range(2))
    assert photometric.left_over(image, template, np.array([50.0]), np.array([50.0])) == 0
    assert photometric.left_over(image, template, np.empty(0), np.empty(0)) == 0
