"""Forced photometry at given sky positions: fluxes, errors, and which positions give a row."""

import numpy as np
from builders import constant_psf, cubic, exposure, pixel_gaussian, tan_wcs
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.forced.diffim import forced_photometry
from diaflow.forced.positions import Positions
from diaflow.image.planes import bits
from diaflow.store import ids

SIGMA = 1.8


def with_noise(image, noise=1.0):
    """An image on a grid that is distorted by a few pixels in the corners."""
    psf = constant_psf(pixel_gaussian(SIGMA, 31), image.shape)
    identity = {"visit": 42, "detector": 7, "band": "r", "mjd": 60000.5, "exptime": 30.0}
    return exposure(image, noise**2, psf, tan_wcs(image.shape, sip=cubic(2e-8)), **identity)


def grid(shape, rng, step=32):
    y, x = np.meshgrid(np.arange(20, shape[0] - 20, step), np.arange(20, shape[1] - 20, step))
    x, y = x.ravel().astype(float), y.ravel().astype(float)
    return x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, y.size)


def photometry(difference, science, x, y):
    return at_positions(difference, science, *difference.wcs.all_pix2world(x, y, 0), np.arange(1000, 1000 + len(x)))


def at_positions(difference, science, ra, dec, objects):
    positions = Positions(np.asarray(ra, float), np.asarray(dec, float), {"diaObjectId": np.asarray(objects, np.int64)})
    return forced_photometry(difference, science, 0.1 * difference.variance, positions, 1.0, 1.0)


def test_nothing_measures_nothing_within_its_errors():
    rng = np.random.default_rng(0)
    shape = (1600, 1600)
    difference, science = with_noise(3 * rng.normal(size=shape), 3.0), with_noise(2 * rng.normal(size=shape), 2.0)
    x, y = grid(shape, rng)
    table = photometry(difference, science, x, y)
    n = len(x)
    assert len(table) == n > 2000
    for column in ("psfFlux", "scienceFlux"):
        pull = table[column] / table[f"{column}Err"]
        # n independent unit Gaussians; the median has error sqrt(pi / 2 n).
        assert abs(np.median(pull)) < 4 * np.sqrt(np.pi / 2 / n)
        assert abs(pull.std() - 1) < 4 / np.sqrt(2 * n)


@settings(max_examples=15, deadline=None)
@given(flux=st.floats(-1e6, 1e6), dx=st.floats(-0.5, 0.499), dy=st.floats(-0.5, 0.499))
def test_flux_at_an_exact_position_is_recovered(flux, dx, dy):
    image = np.zeros((100, 90))
    image[40 - 20 : 40 + 21, 50 - 20 : 50 + 21] = flux * pixel_gaussian(SIGMA, 41, dx, dy)
    table = photometry(with_noise(image), with_noise(2 * image), np.array([50 + dx]), np.array([40 + dy]))
    np.testing.assert_allclose(table["psfFlux"], flux, rtol=3e-4, atol=1e-6)
    np.testing.assert_allclose(table["scienceFlux"], 2 * flux, rtol=3e-4, atol=1e-6)
    np.testing.assert_allclose([table["x"][0], table["y"][0]], [50 + dx, 40 + dy], atol=1e-4)


def test_positions_on_the_pixels_give_rows_in_the_given_order():
    shape = (200, 300)
    image = with_noise(np.zeros(shape))
    x = np.array([299.49, 299.51, -0.49, -0.51, 150.0, 150.0, 150.0, 5000.0])
    y = np.array([100.0, 100.0, 100.0, 100.0, -0.49, 199.51, 100.0, 100.0])
    inside = np.array([True, False, True, False, True, False, True, False])
    table = photometry(image, image, x, y)
    np.testing.assert_array_equal(table["diaObjectId"], 1000 + np.flatnonzero(inside))
    np.testing.assert_allclose(table["x"], x[inside], atol=1e-4)
    np.testing.assert_array_equal(table["diaForcedSourceId"], ids.source_ids(42, 7, inside.sum()))
    assert set(table["band"]) == {"r"} and set(table["midpointMjdTai"]) == {60000.5}
    assert not table["visitInTemplate"].any()


def test_the_other_side_of_the_sky_gives_no_row():
    image = with_noise(np.zeros((200, 200)))
    ra, dec = np.array([179.999, 0.0, 90.0, np.nan]), np.array([30.0, 90.0, 0.0, 0.0])
    assert len(at_positions(image, image, ra, dec, np.arange(4))) == 0
    assert len(at_positions(image, image, [], [], [])) == 0


def test_masked_places_are_nan_and_flagged_never_zero():
    image = with_noise(np.zeros((200, 200)))
    image.mask[:, :60] = bits("NO_DATA")
    image.mask[150, 150] = bits("CR")
    image.mask[100, 152] = bits("SAT")
    image.mask[50, 150] = bits("DETECTED")
    x, y = np.array([20.0, 151.0, 150.0, 150.0]), np.array([100.0, 151.0, 100.0, 50.0])
    table = photometry(image, with_noise(np.zeros((200, 200))), x, y)
    np.testing.assert_array_equal(np.isnan(table["psfFlux"]), [True, False, False, False])
    np.testing.assert_array_equal(np.isnan(table["psfFluxErr"]), [True, False, False, False])
    np.testing.assert_array_equal(table["psfFlux_flag"], [True, False, False, False])
    np.testing.assert_array_equal(table["pixelFlags"], [True, True, False, False])
    assert np.isfinite(table["scienceFlux"]).all()


def test_a_visit_in_the_template_says_so():
    image = with_noise(np.zeros((100, 100)))
    image.metadata["visit_in_template"] = True
    assert photometry(image, image, np.array([50.0]), np.array([50.0]))["visitInTemplate"].all()
