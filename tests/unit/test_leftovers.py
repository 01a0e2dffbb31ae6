"""What matching leaves of one bright star is one source at most; what varies beside it stays."""

import numpy as np
from builders import IDENTITY, constant_psf, exposure, source_table
from scenes import CONFIG
from starfield import moffat, painted
from triplets import CONFIG as DETECTION
from triplets import stars, triplet

from diaflow.detect import streaks
from diaflow.diasource import detection
from diaflow.subtract import zogy
from diaflow.subtract.result import Difference
from diaflow.subtract.subtraction import subtract

STAR, FLUX = (150.0, 150.0), 2e4


def detected(pattern):
    """DIASources near a star of the template, whose difference has point sources of (dx, dy, flux) about it."""
    dx, dy, flux = np.transpose(pattern)
    static = stars((300, 300), [STAR[0]], [STAR[1]], FLUX)
    difference, science, template = triplet(stars((300, 300), STAR[0] + dx, STAR[1] + dy, flux), static=static, seed=1)
    result = Difference(difference, template, np.zeros((2, 0)), {"science_variance_factor": 1.0})
    table = detection.dia_sources(result, science, DETECTION)
    return [(round(x - STAR[0]), round(y - STAR[1])) for x, y in zip(table["x"], table["y"])]


def test_of_a_ring_about_a_star_one_source_is_left():
    # 11 pixels are 4.6 sigma, beyond the reach of lobes
    assert detected([(0, 0, 200), (11, 0, -100), (-11, 1, -120), (0, -11, -110)]) == [(0, 0)]
    assert detected([(11, 0, -100), (-11, 0, 130)]) == [(-11, 0)]


def test_what_is_farther_from_the_star_or_brighter_than_an_error_of_matching_stays():
    assert detected([(0, 0, 200), (20, 0, -100)]) == [(0, 0), (20, 0)]
    assert len(detected([(0, 0, 200), (11, 0, -2500)])) == 2


def test_two_sources_of_one_sign_beside_a_star_stay():
    assert detected([(-6, 0, 400), (6, 0, 400)]) == [(-6, 0), (6, 0)]


def test_stars_whose_psf_is_not_that_of_the_template_leave_one_source_each():
    """PSF of 3.1 pixels on a template of 5, elongated by 0.15 in a quarter of the field: patterns of four lobes."""
    shape, rng = (500, 500), np.random.default_rng(0)
    grid = np.arange(45, 460, 58)
    x, y = (g.ravel() + rng.uniform(-8, 8, len(grid) ** 2) for g in np.meshgrid(grid, grid))
    snr, pair, flux = 10 ** rng.uniform(1.5, 3.5, len(x)), [], None
    for fwhm, variance, wrong in ((3.1, 100.0, False), (5.0, 25.0, True)):
        psf = constant_psf(moffat(0.0, 0.0, fwhm)[0], shape)
        flux = snr * np.sqrt(variance / (psf.centre() ** 2).sum()) if flux is None else flux
        odd = wrong * (x < 130)
        image = painted(shape, x, y, flux, fwhm * (1 + 0.05 * odd), 0.15 * odd)
        noise = variance * (1 + image / (4 * variance))
        pair.append(exposure(image + rng.normal(size=shape) * np.sqrt(noise), noise, psf, **IDENTITY))
    table = source_table(x, y, flux, flux / snr)
    result = subtract(*pair, table, zogy.subtract, CONFIG | {"kernel_order": 0})
    streaks.mark(result.exposure)
    found = detection.dia_sources(result, pair[0], DETECTION)
    star = np.hypot(found["x"][:, None] - x, found["y"][:, None] - y).argmin(1)
    assert len(star) > 5 and len(set(star)) == len(star)
