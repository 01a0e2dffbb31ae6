"""Astrometry: distortion fitted to the last milliarcsecond, wrong matches clipped, a real frame calibrated."""

import numpy as np
import pytest
from astropy.io import fits
from pointings import COARSE, SCALE, SHAPE, SMALL, mispointed, separation, sky_wcs

from diaflow.calibrate import astrometry, photocal
from diaflow.calibrate.match import match
from diaflow.errors import BadData
from diaflow.refcat import store
from diaflow.refcat.convert import convert
from diaflow.run.config import validated
from diaflow.sky.localplane import from_plane, to_plane
from diaflow.sky.wcs import central_pixel_scale, image_centre, read_wcs


def test_plane_and_sky_are_inverse_everywhere():
    rng = np.random.default_rng(0)
    for crval in [(0.0, 0.0), (359.99, 45.0), (120.0, 90.0), (10.0, -89.9)]:
        plane = rng.uniform(-2, 2, (100, 2))
        np.testing.assert_allclose(to_plane(*from_plane(plane, crval), crval), plane, rtol=0, atol=1e-12)


def about(wcs, shape):
    """What `fit_wcs` begins with: centre, pixel scale and shape of a detector."""
    return image_centre(wcs, shape), central_pixel_scale(wcs, shape), shape


def pixels(rng, shape, n):
    return rng.uniform(0, shape[1] - 1, n), rng.uniform(0, shape[0] - 1, n)


@pytest.mark.parametrize("centre", [(0.0, 0.0), (150.0, 30.0), (10.0, 89.9)])
def test_exact_distorted_positions_are_fitted_exactly(centre):
    wcs = sky_wcs(SHAPE, SCALE, centre, corner=5.0)
    x, y = pixels(np.random.default_rng(1), SHAPE, 100)
    start = mispointed(wcs, (100, -50), 0.5)
    fitted, used, scatter = astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), *about(start, SHAPE), 3)
    assert used.all()
    assert list(fitted.wcs.ctype) == ["RA---TAN-SIP", "DEC--TAN-SIP"]
    np.testing.assert_array_equal(fitted.wcs.crpix, [2048.5, 2048.5])
    # A cubic is in the span of the fit: only rounding remains, far below 1 mas.
    assert separation(wcs, fitted, SHAPE) < 1e-6
    assert scatter < 1e-6


def test_centroid_noise_is_reported_and_averaged_down():
    wcs = sky_wcs(SHAPE, SCALE, corner=5.0)
    rng = np.random.default_rng(5)
    x, y = pixels(rng, SHAPE, 600)
    noise = rng.normal(0, 0.015 / SCALE, (2, 600))
    fitted, used, scatter = astrometry.fit_wcs(
        x + noise[0], y + noise[1], *wcs.all_pix2world(x, y, 0), *about(wcs, SHAPE), 3
    )
    # The median deviation of 1200 numbers errs by 1.17 / sqrt(1200) = 3.4 %.
    assert scatter == pytest.approx(0.015, rel=0.1)
    assert used.sum() >= 595
    # Ten terms: rms error 15 sqrt(10 / 600) = 2 mas per coordinate, several times that in the corners.
    gx, gy = (grid.ravel() for grid in np.meshgrid(np.linspace(0, 4095, 20), np.linspace(0, 4095, 20)))
    difference = to_plane(*fitted.all_pix2world(gx, gy, 0), wcs.wcs.crval)
    difference -= to_plane(*wcs.all_pix2world(gx, gy, 0), wcs.wcs.crval)
    assert np.sqrt(np.mean(difference**2)) * 3600 < 0.004


def test_pixel_to_sky_and_back_is_exact_and_the_inverse_polynomial_is_close():
    wcs = sky_wcs((2000, 4096), SCALE, corner=5.0)
    x, y = pixels(np.random.default_rng(1), (2000, 4096), 300)
    fitted = astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), *about(wcs, (2000, 4096)), 3)[0]
    back = fitted.all_world2pix(*fitted.all_pix2world(x, y, 0), 0)
    np.testing.assert_allclose(back, [x, y], rtol=0, atol=1e-6)
    flat = np.array(fitted.wcs_world2pix(*fitted.all_pix2world(x, y, 0), 0))
    u, v = flat + 1 - fitted.wcs.crpix[:, None]
    inverse = [np.polynomial.polynomial.polyval2d(u, v, terms) for terms in (fitted.sip.ap, fitted.sip.bp)]
    # The inverse series of a 5 pixel cubic leaves terms of fifth order: 5 * 3 * 5 / 2300 = 0.03 pixel, most of it
    # absorbed by the lower orders.
    np.testing.assert_allclose(flat + inverse, [x, y], rtol=0, atol=0.01)


def test_header_keeps_the_fit():
    wcs = sky_wcs(SHAPE, SCALE, corner=5.0)
    x, y = pixels(np.random.default_rng(1), SHAPE, 300)
    fitted = astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), *about(wcs, SHAPE), 3)[0]
    again = read_wcs(fitted.to_header(relax=True))
    np.testing.assert_allclose(again.all_pix2world(x, y, 0), fitted.all_pix2world(x, y, 0), rtol=0, atol=1e-10)


@pytest.mark.parametrize("n_stars, order", [(6, 1), (17, 1), (18, 2), (29, 2), (30, 3), (44, 3), (45, 4)])
def test_order_follows_the_number_of_stars(n_stars, order):
    wcs = sky_wcs()
    x, y = pixels(np.random.default_rng(1), SMALL, n_stars)
    fitted = astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), *about(wcs, SMALL), 4)[0]
    assert list(fitted.wcs.ctype) == (["RA---TAN", "DEC--TAN"] if order == 1 else ["RA---TAN-SIP", "DEC--TAN-SIP"])
    assert (fitted.sip.a_order if fitted.sip else 1) == order


def test_too_few_stars_for_a_wcs_are_bad_data():
    wcs = sky_wcs()
    x, y = pixels(np.random.default_rng(1), SMALL, 5)
    with pytest.raises(BadData, match="only 5 matched stars"):
        astrometry.fit_wcs(x, y, *wcs.all_pix2world(x, y, 0), *about(wcs, SMALL), 3)


def test_wrong_matches_are_clipped_from_the_fit():
    wcs = sky_wcs()
    rng = np.random.default_rng(3)
    x, y = pixels(rng, SMALL, 100)
    ra, dec = wcs.all_pix2world(x, y, 0)
    wrong = np.arange(0, 100, 8)
    measured = x + rng.normal(0, 0.02, 100)
    measured[wrong] += 1.0
    fitted, used, scatter = astrometry.fit_wcs(measured, y + rng.normal(0, 0.02, 100), ra, dec, *about(wcs, SMALL), 2)
    assert not used[wrong].any()
    assert used.sum() >= 85
    assert separation(wcs, fitted, SMALL) < 0.05 * COARSE
    assert scatter == pytest.approx(0.02 * COARSE, rel=0.25)


def test_errors_make_the_fit_follow_the_good_stars():
    wcs = sky_wcs()
    rng = np.random.default_rng(3)
    x, y = pixels(rng, SMALL, 400)
    ra, dec = wcs.all_pix2world(x, y, 0)
    error = np.where(np.arange(400) < 100, 0.01, 0.3)
    measured = x + rng.normal(0, error), y + rng.normal(0, error)
    weighted, used, _ = astrometry.fit_wcs(*measured, ra, dec, *about(wcs, SMALL), 2, error)
    equal = astrometry.fit_wcs(*measured, ra, dec, *about(wcs, SMALL), 2)[0]
    # Clipping in units of each star's own error keeps the uncertain stars: 1 - exp(-8) of them are within 4 sigma.
    assert used.sum() >= 396
    assert separation(wcs, weighted, SMALL) < 0.01 * COARSE < separation(wcs, equal, SMALL)


def sdss_frame(shared, name):
    with fits.open(shared / "sdss_stripe82_r" / name) as hdus:
        return hdus[0].data.astype(np.float32) - 1000, read_wcs(hdus[0].header)


def test_real_sdss_frame_is_calibrated_through_an_error_of_two_arcminutes(shared, tmp_path):
    sep = pytest.importorskip("sep")
    image, wcs = sdss_frame(shared, "fpC-006377-r4-0399.fit.gz")
    noise = np.sqrt(np.maximum(image, 1) / 4.76 + 1.32)
    image = image - sep.Background(image, bw=128, bh=128).back()
    found = sep.extract(image, 5, err=noise)
    x, y, _ = sep.winpos(image, found["x"], found["y"], np.full(len(found), 1.6))
    stars = shared / "sdss_stripe82_r" / "refcat_stars.fits"
    columns = {"path": str(stars), "bands": {"r": "r"}, "errors": {"r": "r_err"}}
    convert([stars], validated({"images": "", "refcat": columns})["refcat"], tmp_path / "refcat.parquet")
    reference = store.read(tmp_path / "refcat.parquet", "r", *wcs.wcs.crval, 0.2, 53998.0)
    header = mispointed(wcs, (95, -70), 0.8)
    i, j, centre = match(x, y, found["flux"], header, image.shape, reference, 120.0, 1.0)
    assert len(i) > 80
    star = reference[j]
    start = centre, central_pixel_scale(header, image.shape), image.shape
    fitted, _, scatter = astrometry.fit_wcs(x[i], y[i], star["ra"], star["dec"], *start, 3)
    assert scatter < 0.03  # catalogue and centroids together
    assert separation(wcs, fitted, image.shape) < 0.3  # what is known of the header: about 0.1 arcsec
    flux, error, _ = sep.sum_circle(image, x[i], y[i], 8.0, err=noise)
    fit = photocal.zero_point(flux, error, star["mag"], star["mag_err"])
    assert fit.scatter < 0.015
    assert fit.n_stars > 60
