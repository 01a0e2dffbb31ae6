import numpy as np
import pytest
from builders import constant_psf, gaussian, tan_wcs
from scenes import add_stars, make_image, psf_flux

from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.subtract import model_error

JUMPS = np.zeros((30, 30))
SIGMA = 2.0


def image_with(flux, x=100, y=100, sigma=SIGMA, size=200):
    """A template of one source, and a difference of unit variance."""
    template, _ = make_image(SIGMA, 1e-6, n_stars=0, size=size)
    add_stars(template.image, [x], [y], [flux], sigma)
    difference, _ = make_image(SIGMA, 1.0, n_stars=0, size=size)
    return difference, template


def test_error_of_the_flux_at_a_star_is_the_fraction_of_its_flux():
    difference, template = image_with(1e6)
    before = psf_flux(difference, [100], [100])[1][0]
    model_error.add(difference, template, 0.01, JUMPS)
    # unweighted sum, as that of detection
    stamp = difference.psf.centre()
    half = stamp.shape[-1] // 2
    variance = difference.variance[100 - half : 101 + half, 100 - half : 101 + half]
    error = np.sqrt((stamp**2 * variance).sum()) / (stamp**2).sum()
    assert np.sqrt(error**2 - before**2) == pytest.approx(1e4, rel=0.02)


def test_wings_within_reach_of_a_kernel_share_the_error():
    """At 5.5 sigma, where a kernel still moves light to, detection must not see a fraction of the star's peak."""
    difference, template = image_with(1e6)
    model_error.add(difference, template, 0.01, JUMPS)
    peak = 1e6 / (2 * np.pi * SIGMA**2)
    assert difference.variance[100, 111] > 1 + (1e-4 * peak) ** 2
    assert difference.variance[100, 130] == 1


def test_sky_and_smooth_galaxies_keep_their_variance():
    """A galaxy of 10 pixels sigma and the flux of the star gets a ten-thousandth of its variance."""
    star, template = image_with(1e6)
    model_error.add(star, template, 0.01, JUMPS)
    galaxy, template = image_with(1e6, sigma=10.0)
    model_error.add(galaxy, template, 0.01, JUMPS)
    assert galaxy.variance[100, 100] - 1 < 1e-3 * (star.variance[100, 100] - 1)
    np.testing.assert_array_equal(star.variance[:60], 1)


def test_where_the_psf_jumps_errors_are_those_of_the_jump():
    jumps = JUMPS.copy()
    jumps[:, 15:] = 0.05
    low, template = image_with(1e6, x=60)
    model_error.add(low, template, 0.0, jumps)
    np.testing.assert_array_equal(low.variance, 1)
    high, template = image_with(1e6, x=140)
    model_error.add(high, template, 0.0, jumps)
    assert high.variance[100, 140] > 100


def coadd_psf(extent):
    """A sharp input everywhere and a broad one for x up to `extent`, in an image of 300 x 300."""
    wcs = tan_wcs((300, 300))
    rows = [
        PsfInput(1, 0, 1.0, constant_psf(gaussian(1.6), (300, 300)), wcs, (0, 0, 299, 299)),
        PsfInput(2, 0, 1.0, constant_psf(gaussian(2.4), (300, 300)), wcs, (0, 0, extent, 299)),
    ]
    return CoaddPsf(rows, wcs)


def test_jumps_are_where_an_input_ends_and_of_the_flux_a_psf_fit_misses():
    jumps = model_error.psf_jumps(coadd_psf(250), (300, 300))
    assert jumps[:, :24].max() < 1e-3
    mixed, sharp = (coadd_psf(299)(150, 150)[0], constant_psf(gaussian(1.6), (300, 300)).centre())
    expected = (mixed * sharp).sum() / (mixed**2).sum() - 1
    assert jumps[:, 26:] == pytest.approx(expected, rel=0.05)
    assert expected > 0.1


def test_a_smooth_psf_has_no_jumps():
    assert model_error.psf_jumps(constant_psf(gaussian(2.0), (300, 300)), (300, 300)).max() == 0
    assert model_error.psf_jumps(coadd_psf(299), (300, 300)).max() < 1e-3
