"""Forced photometry at given sky positions: fluxes, errors, and which positions give a row."""

import numpy as np
from astropy.wcs import WCS, Sip
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import erf

from diaflow.forced.diffim import forced_photometry
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.psf.stampfield import StampField
from diaflow.store import ids

SIGMA = 1.8


def pixel_gaussian(size, sigma, dx=0.0, dy=0.0):
    t = np.arange(size) - size // 2

    def along(d):
        return (erf((t + 0.5 - d) / (sigma * 2**0.5)) - erf((t - 0.5 - d) / (sigma * 2**0.5))) / 2

    return np.outer(along(dy), along(dx))


def distorted_wcs(shape):
    """TAN-SIP with a few pixels of cubic distortion in the corners."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN-SIP", "DEC--TAN-SIP"]
    wcs.wcs.crpix, wcs.wcs.crval = [shape[1] / 2, shape[0] / 2], [359.999, -30.0]
    wcs.wcs.cdelt = [-0.2 / 3600, 0.2 / 3600]
    a = np.zeros((4, 4))
    a[3, 0] = a[1, 2] = 2e-8
    wcs.sip = Sip(a, a.T, None, None, wcs.wcs.crpix)
    return wcs


def exposure(image, noise=1.0):
    return Exposure(
        image=image.astype(np.float32),
        variance=np.full(image.shape, noise**2, np.float32),
        mask=np.zeros(image.shape, np.int32),
        wcs=distorted_wcs(image.shape),
        psf=StampField(pixel_gaussian(31, SIGMA)[None], 0, image.shape),
        metadata={"visit": 42, "detector": 7, "band": "r", "mjd": 60000.5, "exptime": 30.0},
    )


def grid(shape, rng, step=32):
    y, x = np.meshgrid(np.arange(20, shape[0] - 20, step), np.arange(20, shape[1] - 20, step))
    x, y = x.ravel().astype(float), y.ravel().astype(float)
    return x + rng.uniform(-0.5, 0.5, x.size), y + rng.uniform(-0.5, 0.5, y.size)


def photometry(difference, science, x, y):
    ra, dec = difference.wcs.all_pix2world(x, y, 0)
    return forced_photometry(difference, science, ra, dec, np.arange(1000, 1000 + len(x)))


def test_nothing_measures_nothing_within_its_errors():
    rng = np.random.default_rng(0)
    shape = (1600, 1600)
    difference, science = exposure(3 * rng.normal(size=shape), 3.0), exposure(2 * rng.normal(size=shape), 2.0)
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
    image[40 - 20 : 40 + 21, 50 - 20 : 50 + 21] = flux * pixel_gaussian(41, SIGMA, dx, dy)
    table = photometry(exposure(image), exposure(2 * image), np.array([50 + dx]), np.array([40 + dy]))
    np.testing.assert_allclose(table["psfFlux"], flux, rtol=3e-4, atol=1e-6)
    np.testing.assert_allclose(table["scienceFlux"], 2 * flux, rtol=3e-4, atol=1e-6)
    np.testing.assert_allclose([table["x"][0], table["y"][0]], [50 + dx, 40 + dy], atol=1e-4)


def test_positions_on_the_pixels_give_rows_in_the_given_order():
    shape = (200, 300)
    image = exposure(np.zeros(shape))
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
    image = exposure(np.zeros((200, 200)))
    ra, dec = np.array([179.999, 0.0, 90.0, np.nan]), np.array([30.0, 90.0, 0.0, 0.0])
    assert len(forced_photometry(image, image, ra, dec, np.arange(4))) == 0
    assert len(forced_photometry(image, image, [], [], [])) == 0


def test_masked_places_are_nan_and_flagged_never_zero():
    image = exposure(np.zeros((200, 200)))
    image.mask[:, :60] = bits("NO_DATA")
    image.mask[150, 150] = bits("CR")
    image.mask[100, 152] = bits("SAT")
    image.mask[50, 150] = bits("DETECTED")
    x, y = np.array([20.0, 151.0, 150.0, 150.0]), np.array([100.0, 151.0, 100.0, 50.0])
    table = photometry(image, exposure(np.zeros((200, 200))), x, y)
    np.testing.assert_array_equal(np.isnan(table["psfFlux"]), [True, False, False, False])
    np.testing.assert_array_equal(np.isnan(table["psfFluxErr"]), [True, False, False, False])
    np.testing.assert_array_equal(table["psfFlux_flag"], [True, False, False, False])
    np.testing.assert_array_equal(table["pixelFlags"], [True, True, False, False])
    assert np.isfinite(table["scienceFlux"]).all()


def test_a_visit_in_the_template_says_so():
    image = exposure(np.zeros((100, 100)))
    image.metadata["visit_in_template"] = True
    assert photometry(image, image, np.array([50.0]), np.array([50.0]))["visitInTemplate"].all()
