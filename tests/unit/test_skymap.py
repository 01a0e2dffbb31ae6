"""Sky maps: the pixel grid of lsst/skymap, round trips, and points that must fall where they do."""

import json

import numpy as np
import pytest
from builders import exposure_table, tan_header

from diaflow.errors import InputError
from diaflow.run import config
from diaflow.sky import sphere
from diaflow.sky.skymap import discrete, maps
from diaflow.sky.skymap.maps import SkyMap, load_skymap
from diaflow.sky.skymap.tract import Tract, patch_grid

# Rings map of 120 rings: half a ring and an overlap of 1 arcmin with the neighbours [deg].
RINGS_RADIUS = 180 / 121 / 2 + 1 / 60


def section(**changes):
    return config.validated({"images": "x", "skymap": changes})["skymap"]


def make_skymap(section, table):
    return maps.make_skymap(section, table, discrete)


@pytest.fixture(scope="module")
def table():
    """Four images around RA 0, Dec 40, one of them failed."""
    rows = exposure_table(
        [tan_header(ra % 360, 40.0 + 0.05 * k, angle=11 * k) for k, ra in enumerate((359.8, 0.0, 0.3, 90))]
    )
    rows["status"][3] = "failed"
    return rows


@pytest.mark.parametrize(
    ("scale", "needed", "n", "full", "centre"),
    [
        (0.2, 27379, 7, 28000, 13999),
        (0.168, 32595, 9, 36000, 17999),
        (0.185, 29599, 8, 32000, 15999),
        (0.262, 20901, 6, 24000, 11999),
        (0.333, 16445, 5, 20000, 9999),
        (1.0, 5477, 2, 8000, 3999),
    ],
)
def test_grid_is_that_of_the_lsst_rings_sky_map(scale, needed, n, full, centre):
    """Sizes of the public rings maps (0.2 DC2, 0.168 HSC, 0.262 DECam) with patches of 4000 pixels."""
    assert patch_grid(RINGS_RADIUS, scale, 4000) == (needed, n, centre)
    tract = Tract(9813, 150.2479338842975, 2.2314049586776834, RINGS_RADIUS, scale, 4000, 100)
    assert tract.shape == (full, full)
    assert tract.wcs.wcs.crpix.tolist() == [centre + 1, centre + 1]


@pytest.mark.parametrize(
    ("tract_id", "centre", "position", "pixel", "patch"),
    [
        (9813, (150.2479338842975, 2.2314049586776834), (150.0, 2.2), (18458.549, 13434.081), "4_3"),
        (9813, (150.2479338842975, 2.2314049586776834), (150.1, 2.2), (16659.854, 13433.843), "4_3"),
        (9469, (0.0, 0.7438016528925696), (0.0, 0.0), (13999.0, 609.818), "3_0"),
    ],
)
def test_pixels_and_patches_are_those_of_the_dc2_sky_map(tract_id, centre, position, pixel, patch):
    """Positions that lsst/skymap gives in DC2's map (0.2 arcsec), to its last printed digit."""
    tract = Tract(tract_id, *centre, RINGS_RADIUS, 0.2, 4000, 100)
    assert np.array(tract.pixels(*position)) == pytest.approx(pixel, abs=6e-4)
    assert tract.find_patch(*position).tolist() == [patch]


def test_patches_tile_the_tract_and_share_borders():
    tract = Tract(0, 10.0, -30.0, 0.3, 0.5, 1000, 100)
    nx, ny = tract.n_patches
    count = np.zeros(tract.shape, int)
    for patch in tract.patches():
        x0, y0, x1, y1 = tract.inner_box(patch)
        count[y0 : y1 + 1, x0 : x1 + 1] += 1
    assert np.all(count == 1)
    assert tract.patches()[:2] == ["0_0", "1_0"]
    assert tract.outer_box("0_0") == (0, 0, 1099, 1099)
    assert tract.outer_box("1_1") == (900, 900, 2099, 2099)
    assert tract.outer_box(f"{nx - 1}_{ny - 1}")[2:] == (tract.shape[1] - 1, tract.shape[0] - 1)


def test_tract_holds_its_circle():
    tract = Tract(0, 10.0, -30.0, 0.3, 0.5, 1000, 100)
    bearing = np.radians(np.arange(0, 360, 5))
    centre = sphere.unit_vectors(10.0, -30.0)
    north = sphere.unit_vectors(10.0, 60.0)
    east = np.cross(north, centre)
    radius = np.radians(0.3)
    ring = np.cos(radius) * centre + np.sin(radius) * (
        np.outer(np.cos(bearing), north) + np.outer(np.sin(bearing), east)
    )
    ra, dec = np.array([sphere.sky_position(v) for v in ring]).T
    assert np.all(tract.contains(ra, dec))


def test_wcs_of_tract_and_patch_agree_with_its_pixels():
    tract = Tract(0, 359.99, 60.0, 0.3, 0.5, 1000, 100)
    patch = tract.patches()[-1]
    x0, y0, x1, y1 = tract.outer_box(patch)
    wcs, shape = tract.patch_wcs(patch)
    assert shape == (y1 - y0 + 1, x1 - x0 + 1)
    x, y = np.array([0.0, 10.25, shape[1] - 1]), np.array([0.0, 700.5, shape[0] - 1])
    ra, dec = wcs.all_pix2world(x, y, 0)
    # Double precision on 1e4 pixels: 1e-6 pixel is three digits above rounding.
    assert np.array(tract.pixels(ra, dec)) == pytest.approx(np.array([x + x0, y + y0]), abs=1e-6)
    assert np.array(tract.wcs.all_world2pix(ra, dec, 0)) == pytest.approx(np.array([x + x0, y + y0]), abs=1e-6)


@pytest.mark.parametrize("rotation", [0.0, 45.0, 200.0])
def test_positions_pixels_and_wcs_of_a_turned_tract_agree(rotation):
    tract = Tract(0, 359.99, -89.9, 0.3, 0.5, 1000, 100, rotation)
    x, y = np.array([0.0, 1000.25, 2400.0]), np.array([2300.0, 700.5, 10.0])
    ra, dec = tract.positions(x, y)
    # As above.
    assert np.array(tract.pixels(ra, dec)) == pytest.approx(np.array([x, y]), abs=1e-6)
    assert np.array(tract.wcs.all_world2pix(ra, dec, 0)) == pytest.approx(np.array([x, y]), abs=1e-6)
    # The rotation is the position angle of the y axis.
    above = tract.positions(*(np.array(tract.pixels(359.99, -89.9)) + [0, 9]))
    up = np.degrees(np.arctan2(*sphere.gnomonic(*above, 359.99, -89.9)))
    assert up % 360 == pytest.approx(rotation, abs=1e-6)


def test_north_is_up_and_east_is_left():
    tract = Tract(0, 100.0, 20.0, 0.3, 0.5, 1000, 100)
    x, y = tract.pixels(np.array([100.0, 100.01, 100.0]), np.array([20.0, 20.0, 20.01]))
    assert x[1] < x[0]
    assert y[2] > y[0]
    # One hundredth of a degree is 72 pixels of half an arcsec.
    assert y[2] - y[0] == pytest.approx(72, abs=1e-3)


def test_find_patch_inverts_patch_wcs_everywhere():
    sky = SkyMap("discrete", {0: Tract(0, 0.02, 89.5, 0.3, 0.5, 1000, 100)})
    tract = sky.tracts[0]
    for patch in tract.patches():
        x0, y0, x1, y1 = tract.inner_box(patch)
        x, y = np.array([x0 - 0.49, x0 - 0.49, x1 + 0.49, x1 + 0.49]), np.array([y0 - 0.49, y1 + 0.49, y0, y1])
        ra, dec = tract.wcs.all_pix2world(x, y, 0)
        assert tract.find_patch(ra, dec).tolist() == [patch] * 4
        assert sky.find_tract(ra, dec).tolist() == [0] * 4


def test_positions_outside_have_no_tract_and_no_patch():
    sky = SkyMap("discrete", {0: Tract(0, 150.0, 2.0, 0.3, 0.5, 1000, 100)})
    ra, dec = np.array([150.0, 151.0, 330.0, 150.0]), np.array([2.0, 2.0, -2.0, 80.0])
    assert sky.find_tract(ra, dec).tolist() == [0, -1, -1, -1]
    assert sky.tracts[0].find_patch(ra, dec).tolist() == [sky.tracts[0].find_patch(150.0, 2.0)[0], "", "", ""]
    assert sky.tracts[0].find_patch(np.array([]), np.array([])).tolist() == []


def test_nearest_tract_wins_where_two_overlap():
    tracts = {3: Tract(3, 10.0, 0.0, 0.3, 0.5, 1000, 100), 7: Tract(7, 10.4, 0.0, 0.3, 0.5, 1000, 100)}
    sky = SkyMap("discrete", tracts)
    assert sky.find_tract(np.array([10.19, 10.21]), np.zeros(2)).tolist() == [3, 7]


@pytest.mark.parametrize("patch", ["9_9", "1", "a_b", "", "-1_0", "0_0_0", "²_0"])
def test_unknown_patch_is_an_input_error(patch):
    tract = Tract(5, 10.0, 0.0, 0.3, 0.5, 1000, 100)
    with pytest.raises(InputError, match="tract 5 has no patch"):
        tract.inner_box(patch)


def test_discrete_tract_holds_every_corner(table):
    sky = make_skymap(section(patch_size=500), table)
    tract = sky.tracts[0]
    good = table[table["status"] == "ok"]
    for k in (1, 2, 3, 4):
        assert np.all(tract.contains(good[f"ra_{k}"], good[f"dec_{k}"]))
    assert list(sky.tracts) == [0]
    assert tract.pixel_scale == pytest.approx(0.5, rel=1e-6)
    # Images reach from RA 359.8 to 0.3: the centre is between, across the wrap.
    assert tract.ra % 360 < 0.3 or tract.ra > 359.8


def test_discrete_circle_is_the_bounding_circle_of_the_hull():
    """Sixteen points on a circle, more inside: its centre and radius come back (weights follow the hull alone)."""
    bearing = 2 * np.pi * np.arange(16) / 16
    centre, radius = sphere.unit_vectors(200.0, -85.0), np.radians(1.3)
    east = sphere.unit_vectors(290.0, 0.0)
    north = np.cross(centre, east)
    points = np.cos(radius) * centre + np.sin(radius) * (
        np.outer(np.sin(bearing), east) + np.outer(np.cos(bearing), north)
    )
    inside = sphere.unit_vectors(np.array([199.0, 200.0, 201.0]), np.array([-85.5, -85.9, -84.9]))
    vertices = discrete.convex_hull(np.concatenate([inside, points]))
    assert len(vertices) == 16
    # The hull's centroid is exact by symmetry; rounding only.
    assert sphere.separation(discrete.centroid(vertices), centre) < 1e-12


def test_centroid_of_a_small_triangle_is_that_of_the_plane():
    ra, dec = np.array([10.0, 10.01, 10.0]), np.array([0.0, 0.0, 0.01])
    found = sphere.sky_position(discrete.centroid(discrete.convex_hull(sphere.unit_vectors(ra, dec))))
    # The sphere departs from the plane by (0.01 deg in rad)**2 = 3e-8 of the size; rounding by 1e-16 / 2e-4**2 of it.
    assert found == pytest.approx((10 + 0.01 / 3, 0.01 / 3), abs=1e-8)


def test_configured_centre_and_radius_are_kept(table):
    sky = make_skymap(
        section(center=[-10.0, 30.0], radius=0.4, pixel_scale=0.25, patch_size=2500, patch_border=50), table
    )
    assert sky.tracts[0] == Tract(0, 350.0, 30.0, 0.4, 0.25, 2500, 50)


def test_configured_centre_alone_reaches_the_farthest_corner(table):
    sky = make_skymap(section(center=[0.0, 40.0]), table)
    good = table[table["status"] == "ok"]
    ra, dec = (np.concatenate([good[f"{name}_{k}"] for k in (1, 2, 3, 4)]) for name in ("ra", "dec"))
    away = sphere.separation(sphere.unit_vectors(ra, dec), sphere.unit_vectors(0.0, 40.0))
    assert sky.tracts[0].radius == pytest.approx(np.degrees(away.max()), abs=1e-8)


def test_no_images_is_an_input_error(table):
    for rows in (table[:0], table[table["status"] == "failed"]):
        with pytest.raises(InputError, match="no images found: .*convex hull"):
            make_skymap(section(), rows)


def test_fields_far_apart_are_refused():
    for positions in (((0.0, 0.0), (60.0, 0.0)), ((0.0, 0.0), (180.0, 1.0), (90.0, 5.0))):
        with pytest.raises(InputError, match="far apart"):
            make_skymap(section(), exposure_table([tan_header(*position) for position in positions]))


def test_json_round_trip_is_exact(table, tmp_path):
    sky = make_skymap(section(), table)
    path = tmp_path / "new folder" / "skymap.json"
    sky.write(path)
    again = load_skymap(path)
    assert again == sky
    assert again.tracts[0].wcs.to_header() == sky.tracts[0].wcs.to_header()
    assert [p.name for p in path.parent.iterdir()] == ["skymap.json"]
    assert make_skymap(section(patch_border=60), table) != sky


@pytest.mark.parametrize("damage", ["cut", "key", "missing", "list", "type"])
def test_unreadable_sky_map_is_an_input_error_with_its_name(table, tmp_path, damage):
    path = tmp_path / "skymap.json"
    if damage != "missing":
        make_skymap(section(), table).write(path)
        content = json.loads(path.read_text())
        if damage == "key":
            del content["tracts"][0]["radius"]
        if damage == "type":
            content["tracts"][0]["ra"] = "east"
        text = json.dumps([content] if damage == "list" else content)
        path.write_text(text[:50] if damage == "cut" else text)
    with pytest.raises(InputError, match="skymap.json"):
        load_skymap(path)
