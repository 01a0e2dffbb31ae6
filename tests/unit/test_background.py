"""Background: unbiased under stars and galaxies, follows gradients, bridges gaps."""

import numpy as np
import pytest
import starfield
from builders import exposure

from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.pixels import background

VARIANCE = starfield.SKY / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2


def exposure_of(counts, seed):
    image = starfield.observed(counts, seed) - np.float32(starfield.BIAS)
    return exposure(image, VARIANCE)


def gradient(size):
    t = np.linspace(-1, 1, size)
    return starfield.SKY * (1 + 0.1 * t + 0.05 * t[:, None] ** 2)


def test_blank_poisson_sky_is_removed_to_a_hundredth_of_its_noise():
    exposure = exposure_of(np.full((700, 600), starfield.SKY), 1)
    sky = background.subtract(exposure, 128)
    assert sky.shape == (700, 600) and sky.dtype == np.float32
    # The median, or SExtractor's mode, of these Poisson counts would be off by 0.08 or 0.2 DN.
    assert np.mean(sky) == pytest.approx(starfield.SKY, abs=0.05)
    # A cell of 128**2 pixels knows its mean to 0.11 DN; edge cells are extrapolated.
    assert np.abs(sky - starfield.SKY).max() < 1.0


def test_empty_apertures_among_stars_and_galaxies_measure_zero():
    size = 768
    rng = np.random.default_rng(4)
    x, y = rng.uniform(20, size - 20, (2, 120))
    objects = starfield.painted((size, size), x, y, 10 ** rng.uniform(3, 5, 120), 3.5)
    objects += starfield.painted((size, size), y, x, 10 ** rng.uniform(3, 4.7, 120), 9.0)
    exposure = exposure_of(gradient(size) + objects, 5)
    background.subtract(exposure, 128)
    ax, ay = rng.uniform(15, size - 15, (2, 4000))
    inside = photometry.aperture_flux(objects, exposure.variance, ax, ay, 5)[0]
    empty = inside < 5  # DN in the aperture
    flux, err, _ = photometry.aperture_flux(exposure.image, exposure.variance, ax[empty], ay[empty], 5)
    assert empty.sum() > 500
    # The apertures overlap: about size**2 / area of them are independent, fewer where objects are.
    error_of_mean = np.median(err) / np.sqrt(min(empty.sum(), size**2 / 80 / 2))
    assert np.mean(flux - inside[empty]) == pytest.approx(0, abs=4 * error_of_mean)
    # 0.01 of the noise of a pixel would bias the flux in 79 pixels by 11 DN.
    assert abs(np.mean(flux - inside[empty])) < 12


def test_known_sky_is_found_under_galaxies_and_bright_stars():
    """Forced apertures minus the light of the objects in them measure zero, on the objects as well as beside them."""
    size, area = 1024, np.pi * 5**2
    rng = np.random.default_rng(3)
    x, y = rng.uniform(20, size - 20, (2, 353))
    flux = np.concatenate([10 ** rng.uniform(3.0, 5.3, 200), 10 ** rng.uniform(3.5, 5.0, 150), np.full(3, 2e6)])
    fwhm = np.concatenate([np.full(200, 3.5), rng.uniform(5, 12, 150), np.full(3, 3.5)])
    objects = starfield.painted((size, size), x, y, flux, fwhm)
    exposure = exposure_of(gradient(size) + objects, 5)
    sky = background.subtract(exposure, 128)

    ax, ay = rng.uniform(15, size - 15, (2, 6000))
    residual = (exposure.image - objects).astype(np.float32)
    measured = photometry.aperture_flux(residual, exposure.variance, ax, ay, 5)[0]
    truth = photometry.aperture_flux(objects, exposure.variance, ax, ay, 5)[0]
    for where, pixels in ((truth < 5, objects < 0.1), (truth > 500, objects > 10)):
        # The error of the mean is that of the apertures that do not overlap; the noise of the objects is in it.
        error = np.std(measured[where]) / np.sqrt(min(where.sum(), pixels.sum() / area))
        assert where.sum() > 500 and abs(np.mean(measured[where])) < 3 * error
        # The same without the noise in the apertures: 700,000 pixels know the sky to 0.0012 sigma; four of these.
        assert abs(np.mean((sky - gradient(size))[pixels])) < 4 * 0.0012 * np.sqrt(VARIANCE)


def test_gradient_is_followed_and_the_sum_is_kept():
    exposure = exposure_of(gradient(512), 6)
    before = exposure.image.copy()
    sky = background.subtract(exposure, 64)
    np.testing.assert_allclose(sky + exposure.image, before, rtol=1e-5, atol=1e-2)
    # The error of a cell's mean is 14.5 / 64 = 0.23 DN; splines and extrapolation enlarge it.
    assert np.std(sky - gradient(512)) < 0.35


def test_masked_regions_larger_than_a_cell_are_bridged():
    exposure = exposure_of(np.full((512, 512), starfield.SKY), 7)
    exposure.image[:, 128:320] = 5e4
    exposure.mask[:, 128:320] |= bits("SAT")
    sky = background.subtract(exposure, 64)
    np.testing.assert_allclose(sky, starfield.SKY, atol=2)


def test_image_smaller_than_a_cell_gets_one_value():
    exposure = exposure_of(np.full((60, 50), starfield.SKY), 8)
    # 14.5 / sqrt(3000) = 0.26 DN.
    assert background.subtract(exposure, 128) == pytest.approx(starfield.SKY, abs=1.1)
