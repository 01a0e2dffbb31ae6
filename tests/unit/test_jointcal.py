"""Joint calibration: the same stars and camera anywhere on the sky, to a pole and beyond."""

import numpy as np
import pytest
from builders import cubic, tan_wcs

from diaflow.calibrate import jointcal
from diaflow.sky import sphere
from diaflow.store import tables

SHAPE, SCALE = (1000, 1000), 0.5  # pixels, arcsec
CATALOGUE_ERROR, CENTROID_ERROR = 20e-3, 2e-3  # of stars in one coordinate [arcsec]
N_STARS, N_IMAGES = 400, 8
DITHER = 60.0  # largest, along each axis [arcsec]
CORNER = 1.0  # distortion there [pixel]


def survey(dec, seed=1):
    """Images of a dithered field about a declination, its catalogue, and the true places of the stars."""
    rng = np.random.default_rng(seed)
    span = np.radians((SHAPE[0] * SCALE / 2 + 2 * DITHER) / 3600)
    ra, dec_of = sphere.from_gnomonic(*rng.uniform(-span, span, (2, N_STARS)), 150.0, dec)
    error = np.radians(rng.normal(0, CATALOGUE_ERROR / 3600, (2, N_STARS)))
    listed = sphere.from_gnomonic(*error, ra, dec_of)
    catalogue = tables.from_columns(
        "refcat",
        id=np.arange(N_STARS),
        ra=listed[0],
        dec=listed[1],
        mag=20.0,
        pos_err=CATALOGUE_ERROR / 3600,
        star=True,
    )
    sip = cubic(CORNER / (np.hypot(*SHAPE) / 2) ** 3)
    images = []
    for _ in range(N_IMAGES):
        dither = np.radians(rng.uniform(-DITHER, DITHER, 2) / 3600)
        centre = tuple(float(value) for value in sphere.from_gnomonic(*dither, 150.0, dec))
        wcs = tan_wcs(SHAPE, SCALE, rotation=rng.uniform(-180, 180), centre=centre, sip=sip)
        x, y = wcs.all_world2pix(ra, dec_of, 0, quiet=True)
        seen = np.flatnonzero((x > 0) & (x < SHAPE[1] - 1) & (y > 0) & (y < SHAPE[0] - 1))
        x, y = (v[seen] + rng.normal(0, CENTROID_ERROR / SCALE, len(seen)) for v in (x, y))
        observations = tables.from_columns(
            "joint_source", id=seen, x=x, y=y, err=CENTROID_ERROR / SCALE, flux=1e4, flux_err=10.0
        )
        images.append(jointcal.Image(0, "r", SHAPE, centre, SCALE / 3600, observations, catalogue[seen]))
    return images, catalogue, (ra, dec_of)


def errors(found, true):
    """Distances in one coordinate (2, n) [arcsec]."""
    return np.degrees(np.array(sphere.gnomonic(*found, *true))) * 3600


@pytest.mark.parametrize("dec", [0.0, -60.0, 89.95, -90.0])
def test_stars_are_refined_at_a_pole_as_at_the_equator(dec):
    images, catalogue, true = survey(dec)
    camera, stars = jointcal.solve(images, 3)
    refined = jointcal.refined(catalogue, stars, "r")
    seen = np.isin(catalogue["id"], stars["id"])
    off = errors((refined["ra"], refined["dec"]), true)[:, seen]
    # The images leave what an affine map and a shared cubic can take up: with 250 stars on each and fields turned at
    # random, 20 mas sqrt(3 / 400) = 1.7 mas of the catalogue; centroids add 2 mas / sqrt(5).
    assert np.sqrt(np.mean(off**2)) < 3.5e-3
    distortion = jointcal.distortion_of(camera, 0)
    # In the corners the position is sqrt(2) of half a side: u**3 has CORNER / sqrt(8) pixels.
    assert distortion[6, 0] * SHAPE[0] / 2 == pytest.approx(CORNER / np.sqrt(8), abs=0.02)


def test_right_ascension_stays_in_a_turn():
    catalogue = tables.from_columns("refcat", id=[4], ra=[359.9999], dec=[89.0], mag=20.0, pos_err=1e-5, star=True)
    stars = tables.from_columns(
        "joint_star", id=[4], band="r", east=1e-4, north=-1e-5, pos_err=1e-6, mag=20.0, mag_err=0.01
    )
    refined = jointcal.refined(catalogue, stars, "r")
    assert errors((refined["ra"], refined["dec"]), (catalogue["ra"], catalogue["dec"])) == pytest.approx(
        3600 * np.array([[1e-4], [-1e-5]]), abs=1e-9
    )
    assert 0 <= refined["ra"][0] < 1
