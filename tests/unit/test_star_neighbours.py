"""Light of catalogued neighbours in the PSF fluxes of the stars that calibrate an image."""

import builders
import numpy as np
import pytest

from diaflow.calibrate import stars
from diaflow.store import tables

SIGMA, FLUX, NOISE = 2.0, 1e5, 100.0
SHAPE = (200, 200)
WCS = builders.tan_wcs(SHAPE)


def catalogue(x, y, mag):
    ra, dec = WCS.all_pix2world(x, y, 0)
    return tables.from_columns("refcat", id=np.arange(len(x)), ra=ra, dec=dec, mag=mag, star=True)


def light_of(*neighbours) -> float:
    """Share of a star of 18 mag that its error has for neighbours of distance [pixel] and magnitude."""
    x = 100 + np.array([0.0, *(distance for distance, _ in neighbours)])
    known = catalogue(x, np.full(len(x), 90.0), np.array([18.0, *(mag for _, mag in neighbours)]))
    exposure = builders.exposure(
        np.zeros(SHAPE, np.float32), psf=builders.constant_psf(builders.gaussian(SIGMA), SHAPE), wcs=WCS
    )
    table = builders.source_table([100.0], [90.0], [FLUX], [NOISE])
    (error,) = stars.flux_errors(table, known[:1], known, exposure)
    return float(np.sqrt(error**2 - NOISE**2) / FLUX)


@pytest.mark.parametrize("distance", [3.0, 5.0, 8.0])
def test_a_neighbour_is_an_error_of_its_light_in_the_psf_flux(distance):
    # Of a Gaussian PSF; between rings of one pixel the share is interpolated.
    expected = 0.1 * np.exp(-(distance**2) / (4 * SIGMA**2))
    assert light_of((distance, 20.5)) == pytest.approx(expected, rel=0.05, abs=1e-5)


def test_the_light_of_several_adds_up():
    assert light_of((4.0, 20.0), (-6.0, 19.0)) == pytest.approx(
        light_of((4.0, 20.0)) + light_of((-6.0, 19.0)), rel=1e-6
    )


def test_no_light_of_what_is_the_star_again_or_has_no_magnitude_or_is_far():
    assert light_of((0.5, 18.0), (5.0, np.nan), (60.0, 10.0)) == pytest.approx(0, abs=1e-6)
    assert light_of() == pytest.approx(0, abs=1e-6)
