"""Corners and overlaps: compared with brute force, wcslib, and points known to be inside."""

import time

import numpy as np
import pytest
from astropy.io import fits
from builders import exposure_table, tan_header, tan_wcs
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.errors import BadData
from diaflow.sky import localplane
from diaflow.sky.overlaps import boxes_touch, common_area, patch_overlaps
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.skymap.tract import Tract
from diaflow.sky.wcs import central_pixel_scale, header_wcs, image_corners
from diaflow.store import tables


def one_tract(ra=150.0, dec=2.0, radius=0.5, scale=0.5, patch_size=1000, border=100):
    return SkyMap("discrete", {0: Tract(0, ra, dec, radius, scale, patch_size, border)})


def pairs(table):
    return set(zip(table["patch"], table["visit"].tolist()))


def test_corners_are_pixel_edges_in_order():
    """At the equator with north up, the corners are half the size away: right ascension decreases with x."""
    ra, dec = image_corners(header_wcs(tan_header(ra=10.0, dec=0.0)), (1000, 800))
    half_x, half_y = 400 * 0.5 / 3600, 500 * 0.5 / 3600
    # TAN departs from a plane by the cube of the size, (0.07 deg)**3 in radians: below 1e-7 deg.
    assert ra == pytest.approx(10 + np.array([half_x, -half_x, -half_x, half_x]), abs=1e-7)
    assert dec == pytest.approx(np.array([-half_y, -half_y, half_y, half_y]), abs=1e-7)


def test_corners_wrap_around_right_ascension_zero():
    ra, _ = image_corners(header_wcs(tan_header(ra=0.0)), (1000, 800))
    assert np.all((ra >= 0) & (ra < 360))
    assert (ra > 359).sum() == 2


@pytest.mark.parametrize(("angle", "parity"), [(0, -1), (33, -1), (200, 1)])
def test_pixel_scale_is_that_of_the_header(angle, parity):
    header = tan_header(dec=-60.0, scale=0.263, angle=angle, parity=parity)
    assert central_pixel_scale(header_wcs(header), (1000, 800)) == pytest.approx(0.263, rel=1e-6)


def test_cd_matrix_wins_over_cdelt_and_crota():
    header = tan_header(angle=20)
    both = header.copy()
    both.update({"CDELT1": 1.0, "CDELT2": 1.0, "CROTA2": 70.0})
    expected = image_corners(header_wcs(header), (1000, 800))
    assert np.array_equal(image_corners(header_wcs(both), (1000, 800)), expected)


@pytest.mark.parametrize("kind", ["SIP", "TPV", "SCAMP"])
def test_distortions_move_the_corners(kind):
    """SIP by 400**2 x 1e-5 pixels, TPV (or TAN with PV, as SCAMP writes it) by a constant, in right ascension."""
    header, shift = tan_header(), 0.001
    if kind == "SIP":
        header.update({"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP"})
        header.update({"A_ORDER": 2, "B_ORDER": 2, "A_2_0": 1e-5, "B_0_2": 0.0})
        shift = 1e-5 * 400**2 * 0.5 / 3600
    else:
        header.update({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV"} if kind == "TPV" else {})
        header.update({"PV1_0": 0.001, "PV1_1": 1.0, "PV1_2": 0.0, "PV2_0": 0.0, "PV2_1": 1.0, "PV2_2": 0.0})
        # Terms of the third order tell SCAMP's TAN from the standard's, whose PV mean something else.
        header.update({"PV1_7": 1e-12, "PV2_7": 1e-12})
    plain = np.array(image_corners(header_wcs(tan_header()), (1000, 800)))
    moved = np.array(image_corners(header_wcs(header), (1000, 800)))
    # The coordinate changes by 1 / cos(2 deg) = 1.0006 times the angle.
    assert np.abs(moved - plain)[0] == pytest.approx(np.full(4, shift), rel=2e-3)


def test_cdelt_and_crota_alone_are_a_rotation():
    header, old = tan_header(angle=20), tan_header()
    for key in ("CD1_1", "CD1_2", "CD2_1", "CD2_2"):
        del old[key]
    # CROTA2 turns from the y axis towards east, the angle of tan_header towards west.
    old.update({"CDELT1": -0.5 / 3600, "CDELT2": 0.5 / 3600, "CROTA2": -20.0})
    expected = np.array(image_corners(header_wcs(header), (1000, 800)))
    assert np.array(image_corners(header_wcs(old), (1000, 800))) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"CTYPE1": "PIXEL", "CTYPE2": "PIXEL"}, "no celestial WCS"),
        ({"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}, "RA and DEC"),
        ({"CTYPE1": "DEC--TAN", "CTYPE2": "RA---TAN", "CRVAL1": 2.0, "CRVAL2": 150.0}, "RA and DEC"),
        ({"RADESYS": "FK4", "EQUINOX": 1950.0}, "equinox 2000"),
        ({"EQUINOX": 1950.0}, "equinox 2000"),
        ({"CD1_1": 0.0, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": 0.0}, "WCS"),
        ({"CTYPE1": "RA---XYZ", "CTYPE2": "DEC--XYZ"}, "WCS"),
    ],
)
def test_unusable_wcs_is_refused_in_one_line(change, words):
    header = tan_header()
    header.update(change)
    with pytest.raises(BadData, match=words) as refused:
        central_pixel_scale(header_wcs(header), (1000, 800))
    assert "\n" not in str(refused.value)


def test_a_refused_wcs_is_named():
    header = tan_header()
    header.update({"CTYPE1": "RA---ZPX", "CTYPE2": "DEC--ZPX"})
    with pytest.raises(BadData, match="unusable WCS of type RA---ZPX"):
        header_wcs(header)
    header = tan_header(ra=0.0, dec=0.0, scale=3600 * 0.4)
    header.update({"CTYPE1": "RA---AIT", "CTYPE2": "DEC--AIT"})
    with pytest.raises(BadData, match="RA---AIT"):
        image_corners(header_wcs(header), (1000, 800))


def test_terms_that_a_tpv_leaves_out_are_those_of_its_convention():
    header = tan_header()
    plain = header_wcs(header)
    header.update({"CTYPE1": "RA---TPV", "CTYPE2": "DEC--TPV", "PV1_4": 0.0})
    given, expected = (np.array(wcs.all_pix2world(0, 0, 0)) for wcs in (header_wcs(header), plain))
    assert given == pytest.approx(expected, abs=1e-9)
    assert "PV1_1" not in header


def test_a_distortion_that_is_not_read_cannot_be_trusted():
    header = tan_header()
    header.update({"CTYPE1": "RA---TNX", "CTYPE2": "DEC--TNX"})
    header_wcs(header)
    with pytest.raises(BadData, match="RA---TNX cannot be read, so it cannot be trusted"):
        header_wcs(header, exact=True)


@pytest.mark.parametrize("dec", [0.0, 60.0, 89.999, -90.0])
def test_steps_of_a_pixel_are_right_at_a_pole(dec):
    wcs = tan_wcs((400, 400), 0.5, centre=(10.0, dec))
    x, y = np.array([199.5, 190.0, 0.0]), np.array([199.5, 210.0, 0.0])
    side = localplane.pixel_side(localplane.steps(wcs, x, y))
    # On the plane a pixel is larger by the square of its distance from the centre, 141 arcsec: 2e-7.
    assert side == pytest.approx(0.5, rel=1e-5)


def test_header_without_wcs_is_refused():
    with pytest.raises(BadData, match="no celestial WCS"):
        header_wcs(fits.Header({"NAXIS": 2, "NAXIS1": 10, "NAXIS2": 10}))


def test_parts_of_the_image_off_the_sky_are_refused():
    """A TAN image 120 deg wide: the all-sky Aitoff ellipse does not fill its rectangle either."""
    header = tan_header(ra=0.0, dec=0.0, scale=3600 * 0.4)
    header.update({"CTYPE1": "RA---AIT", "CTYPE2": "DEC--AIT"})
    with pytest.raises(BadData, match="no position on the sky|unusable WCS"):
        image_corners(header_wcs(header), (1000, 800))


def test_boxes_touch_agrees_with_points():
    """Brute force: sample both shapes densely; shared samples mean contact, contact means samples nearby."""
    rng = np.random.default_rng(11)
    n = 300
    angle, size = rng.uniform(0, 2 * np.pi, (n, 1)), rng.uniform(0.5, 3, (n, 1))
    corner = angle + np.radians([45, 135, 225, 315]) * rng.choice([-1, 1], (n, 1))
    x, y = rng.uniform(-4, 4, (n, 1)) + size * np.cos(corner), rng.uniform(-4, 4, (n, 1)) + size * np.sin(corner)
    low, high = np.full((n, 2), -1.0), np.full((n, 2), 1.0)
    u = np.linspace(0, 1, 101)
    s, t = (grid.ravel() for grid in np.meshgrid(u, u))
    touch = boxes_touch(x, y, low, high)
    for k in range(n):
        px = x[k, 0] + s * (x[k, 1] - x[k, 0]) + t * (x[k, 3] - x[k, 0])
        py = y[k, 0] + s * (y[k, 1] - y[k, 0]) + t * (y[k, 3] - y[k, 0])
        distance = np.maximum(np.abs(px), np.abs(py)).min() - 1
        # Samples are at most 4.3 / 100 apart.
        assert touch[k] if distance < 0 else (distance < 0.05 or not touch[k])
    assert 50 < touch.sum() < n - 50


def test_a_corner_close_to_but_beside_a_patch_does_not_count():
    """A square turned by 45 deg whose bounding box, but not itself, meets the patch."""
    x, y = np.array([[1.0, 2.0, 1.0, 0.0]]) + 0.6, np.array([[0.0, 1.0, 2.0, 1.0]]) + 0.6
    assert not boxes_touch(x, y, np.array([[0.0, 0.0]]), np.array([[1.0, 1.0]]))[0]


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    centre=st.tuples(st.floats(-3, 3), st.floats(-3, 3)),
    half=st.tuples(st.floats(0.1, 2), st.floats(0.1, 2)),
    angle=st.one_of(st.sampled_from([0.0, 45.0, 90.0]), st.floats(0, 360)),
    parity=st.sampled_from([-1, 1]),
)
def test_areas_on_tiles_add_up_to_that_of_the_image(centre, half, angle, parity):
    """Tiles of 1 x 2; where the image holds a tile, it is all of the tile."""
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    u, v = np.array([-1, 1, 1, -1]) * half[0], np.array([-1, -1, 1, 1])[::parity] * half[1]
    x, y = centre[0] + c * u - s * v, centre[1] + s * u + c * v
    low = np.stack(np.meshgrid(np.arange(-7, 7), np.arange(-8, 8, 2)), axis=-1).reshape(-1, 2).astype(float)
    area = common_area(np.tile(x, (len(low), 1)), np.tile(y, (len(low), 1)), low, low + (1, 2))
    assert area.sum() == pytest.approx(4 * half[0] * half[1], rel=1e-9)
    assert area.max() < 2 * (1 + 1e-12)
    for corner in ((0, 0), (0, 2), (1, 0), (1, 2)):
        east, north = (low + corner - centre).T
        held = (np.abs(c * east + s * north) < half[0]) & (np.abs(c * north - s * east) < half[1])
        low, area = low[held], area[held]
    assert area == pytest.approx(np.full(len(area), 2.0), rel=1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    dec=st.sampled_from([-89.9, -45.0, 0.0, 2.0, 80.0]),
    ra=st.sampled_from([0.0, 0.05, 150.0, 359.99]),
    position=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    angle=st.floats(0, 360),
    shift=st.tuples(st.floats(-400, 400), st.floats(-300, 300)),
    parity=st.sampled_from([-1.0, 1.0]),
)
def test_an_image_that_holds_a_point_of_a_patch_overlaps_it(dec, ra, position, angle, shift, parity):
    """Put a random point of a random patch (a corner at the extremes) on a random pixel of an image."""
    skymap = one_tract(ra, dec)
    tract = skymap.tracts[0]
    patch = tract.patches()[int(position[0] * 7919) % len(tract.patches())]
    x0, y0, x1, y1 = tract.outer_box(patch)
    point = tract.wcs.all_pix2world(x0 + position[0] * (x1 - x0), y0 + position[1] * (y1 - y0), 0)
    header = tan_header(float(point[0]), float(point[1]), 0.5, angle, parity)
    header["CRPIX1"], header["CRPIX2"] = header["CRPIX1"] + shift[0], header["CRPIX2"] + shift[1]
    assert (patch, 1) in pairs(patch_overlaps(exposure_table([header]), skymap, 1.0))


def test_overlaps_are_those_of_every_pixel():
    """On one tract, compare with the patches that the image's own pixels fall into."""
    skymap = one_tract(border=0)
    tract = skymap.tracts[0]
    header = tan_header(150.1, 1.9, 0.5, 30.0)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(-0.5, 800, 4.0), np.arange(-0.5, 1000, 4.0)))
    hit = set(tract.find_patch(*header_wcs(header).all_pix2world(x, y, 0)))
    assert {patch for patch, _ in pairs(patch_overlaps(exposure_table([header]), skymap, 0.0))} == hit


def test_the_margin_counts_in_arcsec():
    """An image 20 arcsec west of the tract touches it with a margin of 25, not of 15."""
    skymap = one_tract()
    edge = skymap.tracts[0].shape[1] - 0.5
    ra, dec = skymap.tracts[0].wcs.all_pix2world(edge + 400 + 20 / 0.5, 1200.0, 0)
    table = exposure_table([tan_header(float(ra), float(dec))])
    assert len(patch_overlaps(table, skymap, 15.0)) == 0
    assert len(patch_overlaps(table, skymap, 25.0)) > 0


def test_the_margin_is_an_angle_far_from_the_centre_too():
    """15 deg away a TAN plane is stretched by 1/cos(15 deg)**2 = 1.072: 210 pixels of 10 arcsec are 1959 arcsec."""
    skymap = one_tract(radius=15.0, scale=10.0)
    tract = skymap.tracts[0]
    edge = tract.shape[1] - 0.5
    ra, dec = tract.wcs.all_pix2world(edge + 210 + 10.72, tract.shape[0] / 2, 0)
    table = exposure_table([tan_header(float(ra), float(dec), scale=10.0, shape=(20, 20))])
    assert len(patch_overlaps(table, skymap, 2000.0)) > 0
    assert len(patch_overlaps(table, skymap, 1500.0)) == 0


def test_far_and_failed_images_overlap_nothing():
    headers = [tan_header(150.0, 2.0), tan_header(330.0, -2.0), tan_header(150.0, 60.0), tan_header(150.0, 2.0)]
    table = exposure_table(headers)
    table["status"][3] = "failed"
    found = patch_overlaps(table, one_tract(), 30.0)
    assert set(found["visit"].tolist()) == {1}
    assert len(patch_overlaps(table[:0], one_tract(), 30.0)) == 0


def test_failed_rows_without_corners_do_not_matter():
    table = tables.from_columns("exposure", path="x.fits", status="failed", visit=-1, detector=-1)
    assert len(patch_overlaps(table, one_tract(), 30.0)) == 0


def test_overlaps_are_sorted_and_typed():
    table = exposure_table([tan_header(150.0 + 0.1 * k, 2.0, angle=7.0 * k) for k in (3, 0, 2, 1)])
    table["visit"], table["detector"] = [9, 9, 4, 4], [1, 0, 1, 0]
    skymap = one_tract()
    found = patch_overlaps(table, skymap, 10.0)
    order = {patch: k for k, patch in enumerate(skymap.tracts[0].patches())}
    keys = [(row["tract"], order[row["patch"]], row["visit"], row["detector"]) for row in found]
    assert keys == sorted(keys)
    assert len(keys) == len(set(keys)) > 10
    assert found.dtype == tables.empty("overlap").dtype
    assert set(found["band"]) == {"r"}


def test_thousands_of_images_on_a_hundred_patches_take_less_than_a_second():
    table = np.repeat(exposure_table([tan_header()]), 5000)
    table["visit"] = np.arange(5000)
    for k in (1, 2, 3, 4):
        table[f"ra_{k}"] += 0.3 * np.linspace(-1, 1, 5000)
        table[f"dec_{k}"] += 0.3 * np.sin(np.arange(5000))
    skymap = one_tract(radius=0.65)
    assert len(skymap.tracts[0].patches()) == 100
    start = time.process_time()
    found = patch_overlaps(table, skymap, 30.0)
    assert time.process_time() - start < 1.0
    assert len(found) > 5000
