"""The sphere: round trips at poles and across RA 0, and comparison with wcslib, ERFA and brute force."""

import erfa
import numpy as np
import pytest
from builders import tan_wcs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diaflow.sky import sphere
from diaflow.sky.skymap.tract import Tract
from diaflow.sky.wcs import image_circle, image_corners, sky_to_pixel
from diaflow.units import ARCSEC

PROPERTY = settings(max_examples=100, deadline=None, derandomize=True)
RA = st.floats(0, 360, exclude_max=True)
DEC = st.floats(-90, 90)
TANGENT = st.tuples(
    st.one_of(st.sampled_from([0.0, 359.9999]), RA), st.one_of(st.sampled_from([-90.0, -89.999, 0.0, 90.0]), DEC)
)
OFFSET = st.floats(-1, 1)  # tangent of up to 45 deg
SHAPE = (400, 300)


def distorted(ra=10.0, dec=-45.0, k=0.0):
    """TAN-SIP of 1 arcsec pixels about the middle of `SHAPE`, displaced by k x**2 and k y**2 [pixel]."""
    terms = np.zeros((2, 3, 3))
    terms[0, 2, 0] = terms[1, 0, 2] = k
    return tan_wcs(SHAPE, 1.0, centre=(ra, dec), sip=tuple(terms))


@PROPERTY
@given(RA, DEC)
@example(0.0, 90.0)
@example(359.99999999999994, -90.0)
def test_positions_come_back_from_unit_vectors(ra, dec):
    """Also of vectors of another length; at a pole the right ascension is whatever it is, the place is the same."""
    vector = sphere.unit_vectors(ra, dec)
    # the arcsine of the length is known to 1e-16
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-15)
    back = sphere.sky_position(3.7 * vector)
    assert 0 <= back[0] <= 360
    assert sphere.separation(sphere.unit_vectors(*back), vector) < 1e-15
    assert back[1] == pytest.approx(dec, abs=1e-13)


def test_unit_vectors_point_to_the_pole_and_along_the_equator():
    vectors = sphere.unit_vectors([0.0, 90.0, 123.0], [0.0, 0.0, 90.0])
    np.testing.assert_allclose(vectors, np.eye(3), atol=1e-16)


def test_separation_is_exact_for_small_and_large_angles():
    v = sphere.unit_vectors(np.array([0.0, 0.0, 0.0]), np.array([0.0, 0.0, -90.0]))
    w = sphere.unit_vectors(np.array([0.0, 1e-6, 0.0]), np.array([1e-7, 0.0, 90.0]))
    assert np.degrees(sphere.separation(v, w)) == pytest.approx([1e-7, 1e-6, 180.0], rel=1e-6)


@PROPERTY
@given(TANGENT, OFFSET, OFFSET)
@example((0.0, 90.0), 1e-9, 0.0)
@example((0.0, -90.0), 0.0, 0.0)
@example((359.9999, 0.0), -1e-3, 1e-3)
def test_the_gnomonic_plane_there_and_back(tangent, xi, eta):
    ra, dec = sphere.from_gnomonic(xi, eta, *tangent)
    assert 0 <= ra <= 360 and -90 <= dec <= 90
    # at 54 deg from the tangent point angles are stretched threefold, and rounded at 1e-16
    assert np.array(sphere.gnomonic(ra, dec, *tangent)) == pytest.approx([xi, eta], abs=3e-15)


def test_gnomonic_matches_wcslib():
    tract = Tract(0, 359.9, -70.0, 1.0, 1.0, 4000, 0)
    rng = np.random.default_rng(3)
    ra, dec = rng.uniform(340, 380, 200) % 360, rng.uniform(-80, -55, 200)
    xi, eta = sphere.gnomonic(ra, dec, 359.9, -70.0)
    x, y = tract.wcs.all_world2pix(ra, dec, 1)
    # One arcsec per pixel; both in double precision, so 1e-6 pixel is far above rounding.
    assert (tract.wcs.wcs.crpix[0] - xi / ARCSEC) == pytest.approx(x, abs=1e-6)
    assert (tract.wcs.wcs.crpix[1] + eta / ARCSEC) == pytest.approx(y, abs=1e-6)


def test_gnomonic_is_nan_behind_the_plane():
    xi, eta = sphere.gnomonic(np.array([10.0, 190.0, 100.0]), np.zeros(3), 10.0, 0.0)
    assert np.isfinite(xi).tolist() == np.isfinite(eta).tolist() == [True, False, False]


@PROPERTY
@given(TANGENT, RA, DEC)
def test_distance_and_position_angle_are_those_of_erfa(start, ra, dec):
    distance, angle = sphere.towards(*start, ra, dec)
    from_to = *np.radians(start), *np.radians([ra, dec])
    # ERFA's angle of points in the same place, or at a pole, is 0 by convention
    assert distance == pytest.approx(np.degrees(erfa.seps(*from_to)), abs=1e-11)
    if 1e-3 < distance < 179.999 and abs(start[1]) < 89.9:
        turn = (angle - np.degrees(erfa.pas(*from_to)) + 180) % 360 - 180
        assert turn == pytest.approx(0, abs=1e-9)


@PROPERTY
@given(RA, st.floats(-89, 89), st.floats(-1e-3, 1e-3), st.floats(-1e-3, 1e-3))
@example(0.0, 60.0, -5e-4, 0.0)
@example(359.9999, 60.0, 5e-4, 0.0)
def test_small_offsets_are_right_to_their_square_across_ra_zero(ra_0, dec_0, east, north):
    ra, dec = (ra_0 + east / np.cos(np.radians(dec_0))) % 360, dec_0 + north
    found = sphere.offsets(ra, dec, ra_0, dec_0)
    # right ascensions of up to 360 deg are rounded at 6e-14
    assert np.array(found) == pytest.approx([east, north], abs=2e-13)
    angle = np.degrees(sphere.separation(sphere.unit_vectors(ra, dec), sphere.unit_vectors(ra_0, dec_0)))
    size = np.hypot(east, north)
    # of the meridians, which converge: size^2 tan(dec), and 1e-13 of the vectors
    assert angle == pytest.approx(size, abs=np.radians(size) * size * np.tan(np.radians(89)) + 1e-13)


@PROPERTY
@given(TANGENT, st.floats(0.01, 40), st.integers(0, 2**32 - 1))
def test_within_a_circle_are_those_that_brute_force_finds(centre, radius, seed):
    """Around poles and RA 0 too; half of the positions are near the circle."""
    rng = np.random.default_rng(seed)
    near = sphere.from_gnomonic(*np.tan(np.radians(radius)) * rng.uniform(-1.5, 1.5, (2, 100)), *centre)
    far = sphere.sky_position(rng.normal(size=(100, 3)))
    ra, dec = (np.concatenate(part) for part in zip(near, far))
    cosine = sphere.unit_vectors(ra, dec) @ sphere.unit_vectors(*centre)
    distance = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    clear = np.abs(distance - radius) > 1e-5  # the arc cosine of a small angle is known no better
    found = sphere.within(ra, dec, *centre, radius)
    assert found.dtype == bool
    np.testing.assert_array_equal(found[clear], (distance < radius)[clear])


@pytest.mark.parametrize("pole", [-90.0, 90.0])
def test_a_circle_around_a_pole_holds_all_right_ascensions(pole):
    ra = np.linspace(0, 350, 36)
    assert sphere.within(ra, np.full(36, pole * 0.999), 77.0, pole, 0.1).all()
    assert not sphere.within(ra, np.full(36, pole * 0.998), 77.0, pole, 0.1).any()


@pytest.mark.parametrize(("ra", "dec"), [(0.0, 0.0), (359.99, -60.0), (120.0, 90.0), (10.0, -90.0)])
def test_the_circle_around_an_image_holds_its_corners(ra, dec):
    wcs = distorted(ra, dec, 1e-5)
    centre, radius = image_circle(wcs, SHAPE)
    distances = np.linalg.norm(sphere.unit_vectors(*image_corners(wcs, SHAPE)) - centre, axis=1)
    # the farthest corner is on it
    assert distances.max() == pytest.approx(radius, rel=1e-12) and (distances <= radius * (1 + 1e-12)).all()
    # half the diagonal of 500 arcsec, which the distortion changes by less than 1 %
    assert radius == pytest.approx(250 * ARCSEC, rel=0.01)


def test_positions_in_and_near_a_distorted_image_are_exact():
    wcs = distorted(k=2e-5)
    rng = np.random.default_rng(1)
    x, y = rng.uniform(-50, SHAPE[1] + 50, 200), rng.uniform(-50, SHAPE[0] + 50, 200)
    ra, dec = wcs.all_pix2world(x, y, 0)
    found = sky_to_pixel(wcs, ra, dec, (0, 0, SHAPE[1] - 1, SHAPE[0] - 1))
    # the tolerance of the inversion is 1e-5 pixel
    np.testing.assert_allclose(found, [x, y], atol=1e-4)
    assert np.abs(np.array(wcs.wcs_world2pix(ra, dec, 0)) - (x, y)).max() > 0.5


def test_positions_far_from_a_distorted_image_are_never_inside():
    """A distortion that folds the plane 1000 pixels from the middle: its plain inverse puts some of the sky inside."""
    wcs = distorted(k=5e-4)
    box = (0, 0, SHAPE[1] - 1, SHAPE[0] - 1)
    rng = np.random.default_rng(2)
    angle, distance = rng.uniform(0, 2 * np.pi, 2000), rng.uniform(600, 1e5, 2000) * ARCSEC
    ra, dec = sphere.from_gnomonic(distance * np.cos(angle), distance * np.sin(angle), 10.0, -45.0)
    x, y = sky_to_pixel(wcs, ra, dec, box)
    assert not ((x > -0.5) & (x < SHAPE[1] - 0.5) & (y > -0.5) & (y < SHAPE[0] - 0.5)).any()
    # nor anything behind the tangent plane
    x, y = sky_to_pixel(wcs, np.array([190.0, 10.0]), np.array([45.0, 60.0]), box)
    assert not (np.isfinite(x) & (np.abs(x) < 1000)).any()


def test_positions_keep_their_shape():
    x, y = sky_to_pixel(distorted(), np.full((2, 3), 10.0), np.full((2, 3), -45.0), (0, 0, 299, 399))
    assert x.shape == y.shape == (2, 3)
    np.testing.assert_allclose(x, 149.5, atol=1e-9)


@pytest.mark.parametrize("centre", [(0.0, 0.0), (66.0, -84.0), (350.0, 90.0)])
def test_equal_area_projection_keeps_areas_and_shows_all_but_the_opposite_point(centre):
    rng = np.random.default_rng(2)
    ra, dec = rng.uniform(0, 360, 20_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 20_000)))
    x, y = sphere.equal_area(ra, dec, *centre)
    # Uniform on the sphere is uniform in the circle of radius 2: so is the square of the radius.
    parts = np.bincount((5 * (x**2 + y**2) / 4).astype(int), minlength=5)
    assert abs(parts - 4000).max() < 5 * np.sqrt(4000)
    # Small offsets are those of the gnomonic plane, up to the cube of them: 1e-6 rad here.
    near = sphere.from_gnomonic(np.array([0.01, 0.0]), np.array([0.0, 0.01]), *centre)
    np.testing.assert_allclose(sphere.equal_area(*near, *centre), [[0.01, 0], [0, 0.01]], atol=1e-6)
    assert np.isnan(sphere.equal_area(180.0, 0.0, 0.0, 0.0)).all()
