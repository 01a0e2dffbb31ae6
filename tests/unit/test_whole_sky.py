"""Sky maps of the whole sky: numbers, centres and pixels of lsst/skymap, and exactly one owner for every position."""

import time

import numpy as np
import pytest
from builders import exposure_table, tan_header
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.errors import InputError
from diaflow.run import config
from diaflow.sky import healpix as pixelisation
from diaflow.sky import overlaps, sphere
from diaflow.sky.skymap import healpix, maps, rings
from diaflow.sky.wcs import header_wcs

KINDS = {"rings": rings, "healpix": healpix}
# The maps of DC2 and HSC.
DC2 = {"type": "rings", "pixel_scale": 0.2, "patch_size": 4000}
HSC = DC2 | {"pixel_scale": 0.168}


def section(**changes):
    return config.validated({"images": "x", "skymap": changes})["skymap"]


@pytest.fixture(scope="module")
def dc2():
    return maps.whole_sky(section(**DC2))


def everywhere(n, seed=12345):
    rng = np.random.default_rng(seed)
    return rng.uniform(0, 360, n), np.degrees(np.arcsin(rng.uniform(-1, 1, n)))


@pytest.mark.parametrize(
    ("num_rings", "total"),
    [(1, 5), (2, 16), (3, 26), (4, 42), (5, 56), (10, 180), (20, 611), (60, 4888), (120, 18938), (240, 74544)],
)
def test_number_of_tracts_is_that_of_lsst(num_rings, total):
    assert rings.n_tracts(num_rings) == total


def test_rings_of_dc2_have_as_many_tracts_as_in_lsst(dc2):
    south = [
        10, 16, 22, 29, 35, 41, 47, 53, 60, 66, 72, 78, 84, 89, 95, 101, 107, 112, 118, 123, 129, 134, 139, 144, 149,
        154, 159, 164, 168, 173, 177, 181, 185, 189, 193, 197, 201, 204, 207, 211, 214, 217, 219, 222, 224, 227, 229,
        231, 233, 234, 236, 237, 239, 240, 240, 241, 242, 242, 242, 243,
    ]  # fmt: skip
    assert rings.tracts_of_rings(120).tolist() == south + south[::-1]
    assert len(dc2.tracts) == 18938 and max(dc2.tracts) == 18937


@pytest.mark.parametrize(
    ("scale", "identity"),
    [
        (0.168, "4p/p8QCONZ82o2d+fWnMQ5N20eY="),
        (0.2, "Hl+oX+JCYGQmUo9fe42/Acuq/54="),
        (0.262, "mlZonTr4qsce4Jlj2uPC5h2OrOc="),
    ],
)
def test_identity_is_that_of_the_public_maps(scale, identity):
    """hsc_rings_v1, DC2 and decam_rings_v1."""
    assert rings.identity(section(**DC2 | {"pixel_scale": scale})) == identity
    assert rings.identity(section(**DC2 | {"pixel_scale": scale, "num_rings": 119})) != identity


@pytest.mark.parametrize(
    ("ra", "dec", "tract", "x", "y", "patch"),
    [
        (0, 0, 9469, 13999.0, 609.818, "3_0"),
        (10.675, 41.2667, 15528, 1209.16, 20505.637, "0_5"),
        (36.2074, -4.5833, 8524, 4938.723, 25215.861, "1_6"),
        (53.1, -28.1333, 5063, 13801.486, 2971.07, "3_0"),
        (52.9896, -27.3818, 5063, 15564.692, 16497.890, "3_4"),
        (150.0, 2.2, 9813, 18458.549, 13434.081, "4_3"),
        (150.1, 2.2, 9813, 16659.854, 13433.843, "4_3"),
        (185.0, 47.1167, 16325, 5249.442, 18668.52, "1_4"),
        (334.1875, 0.2833, 9695, 25291.345, 5710.097, "6_1"),
        (270, 66.56, 18115, 20379.364, 20554.361, "5_5"),
        (83.6331, 22.0145, 12851, 21004.155, 22005.316, "5_5"),
        (61.863, -35.79, 3831, 17926.640, 25807.183, "4_6"),
        (62, -37, 3831, None, None, None),
        (359.9, 10, 10919, None, None, None),
        (180, 45, 16153, None, None, None),
        (0.1, -89.5, 0, None, None, None),
        (12, 88, 18927, None, None, None),
    ],
)
def test_look_ups_are_those_of_dc2(dc2, ra, dec, tract, x, y, patch):
    """Positions to the last digit that is printed there."""
    assert dc2.find_tract(ra, dec).tolist() == [tract]
    if patch:
        assert dc2.tracts[tract].pixels(ra, dec) == pytest.approx(
            (x, y), abs=6e-3 if tract in (15528, 5063, 16325) else 6e-4
        )
        assert [each.tolist() for each in dc2.owner(ra, dec)] == [[tract], [patch]]


@pytest.mark.parametrize(
    ("ra", "dec", "x", "y", "patch"),
    [
        (0, 0, 17999.0, 2059.498, "4_0"),
        (36.2074, -4.5833, 7212.956, 31352.405, "1_7"),
        (53.1, -28.1333, 17763.864, 4870.512, "4_1"),
        (150.0, 2.2, 23307.987, 17326.477, "5_4"),
    ],
)
def test_patches_are_those_of_the_map_of_hsc(ra, dec, x, y, patch):
    sky = maps.whole_sky(section(**HSC))
    tract, found = sky.owner(ra, dec)
    assert found.tolist() == [patch]
    assert sky.tracts[tract[0]].pixels(ra, dec) == pytest.approx((x, y), abs=6e-4)


@pytest.mark.parametrize(
    ("version", "tract", "centre"),
    [
        (0, 9712, (0, 0.7438016528925696)),
        (1, 9712, (0, 2.2314049586776834)),
        (0, 9813, (150.2479338842975, 2.2314049586776834)),
        (1, 9813, (150.2479338842975, 2.2314049586776834)),
        (1, 3828, (56.649746192893396, -36.446280991735534)),
        (1, 4849, (53.83177570093458, -29.008264462809912)),
        (1, 9697, (337.7777777777778, 0.7438016528925696)),
    ],
)
def test_centres_are_those_of_lsst(version, tract, centre):
    every = rings.every_tract(section(**DC2, version=version))
    assert (every.ra[tract], every.dec[tract]) == pytest.approx(centre, abs=1e-12)


def test_version_0_lacks_one_tract_and_owns_positions_by_its_own_numbers():
    """18,937 different centres; around RA 0 a tract has the number after the last one of its ring."""
    options = section(**DC2, version=0)
    every = rings.every_tract(options)
    assert len(every.id) == 18938 and len(set(zip(every.ra.tolist(), every.dec.tolist()))) == 18937
    assert (every.ra[11], every.dec[11]) == (every.ra[1], every.dec[1])
    assert rings.find_tract(options, np.array([10, -10]) / 3600 % 360, every.dec[9712]).tolist() == [9712, 9712]
    # all but the double of tract 1 and the missing one, whose number is that of the north pole
    found = rings.find_tract(options, every.ra, every.dec)
    assert np.flatnonzero(found != every.id).tolist() == [11]


def test_corners_of_tracts_are_those_of_the_butler(dc2):
    """Tract 9697 of HSC's map and 3828 of DC2's, to the last digit that its exports print."""
    hsc = maps.whole_sky(section(**HSC))
    for sky, tract, x, ra, dec in (
        (hsc, 9697, (1, 0), (336.937904, 338.617925), (-0.096105, 1.583595)),
        (dc2, 3828, (0, 1), (57.626295, 55.692511), (-37.219974, -35.664736)),
    ):
        edges = np.array([-0.5, sky.tracts[tract].shape[0] - 0.5])
        found = sky.tracts[tract].wcs.all_pix2world(edges[list(x)], edges, 0)
        np.testing.assert_allclose(found, [ra, dec], atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_rings", [10, 33, 120])
@pytest.mark.parametrize("ra_start", [0, 123, 321, 359.9])
def test_every_centre_of_rings_is_in_its_own_tract(num_rings, ra_start):
    options = section(**DC2 | {"pixel_scale": 5.0}, num_rings=num_rings, ra_start=ra_start)
    every = rings.every_tract(options)
    np.testing.assert_array_equal(rings.find_tract(options, every.ra, every.dec), every.id)


def test_tracts_that_are_too_large_for_a_plane_are_refused():
    for kind, key in (("rings", "num_rings"), ("healpix", "nside")):
        with pytest.raises(InputError, match=f"too large for one plane .*raise skymap.{key}"):
            KINDS[kind].every_tract(section(type=kind, pixel_scale=5.0, **{key: 2}))


@pytest.mark.parametrize("nside", [4, 7, 32])
def test_every_centre_of_healpix_is_in_its_own_tract(nside):
    options = section(type="healpix", pixel_scale=5.0, nside=nside)
    every = healpix.every_tract(options)
    np.testing.assert_array_equal(healpix.find_tract(options, every.ra, every.dec), every.id)
    # RING numbers begin at the north pole: the angles are not those that lsst/skymap takes.
    assert every.dec[0] > 75 and every.dec[-1] < -75 and (np.diff(every.dec) < 1e-9).all()


def test_ring_numbers_are_those_of_astropy_healpix():
    """lonlat_to_healpix(ra, dec, 32, order="ring") of astropy_healpix 2.0.1; every number once for other sides too."""
    ra, dec = np.array([0.3, 45.0, 150.0, 359.9, 200.0, 10.0]), np.array([0.1, 41.81, 2.2, -89.0, -41.82, 89.9])
    assert healpix.find_tract({"nside": 32}, ra, dec).tolist() == [6080, 2128, 5877, 12287, 10247, 0]
    for side in (3, 12):
        face, x, y = (steps.ravel() for steps in np.indices((12, side, side)))
        numbers = pixelisation.ring_numbers(face, x, y, side)
        assert np.sort(numbers).tolist() == list(range(12 * side**2))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    pixel=st.integers(0, 12 * 4**12 - 1),
    order=st.integers(0, 12),
    corner=st.tuples(st.sampled_from([-1, 1]), st.sampled_from([-1, 1])),
)
def test_nested_pixels_hold_their_centres_and_are_held_by_larger_ones(pixel, order, corner):
    pixel = np.array([pixel])
    ra, dec = pixelisation.nested_centres(pixel, 12)
    assert pixelisation.nested(ra, dec, 12) == pixel
    assert pixelisation.nested(ra, dec, order) == pixel >> 2 * (12 - order)


PLACES = st.tuples(
    st.one_of(st.floats(0, 360, exclude_max=True), st.sampled_from([0.0, 1e-12, 359.999999999])),
    st.one_of(st.floats(-90, 90), st.sampled_from([-90.0, 90.0, 0.0, 90 - 90 / 121, 90 / 121 - 90])),
)


@pytest.mark.parametrize("kind", ["rings", "healpix", "rings 0"])
def test_every_position_has_one_owner_that_reaches_it(kind):
    """Also at the corners of the tracts beside the poles, which their pixels do not reach: others do."""
    version = {"version": 0} if kind == "rings 0" else {}
    sky = maps.whole_sky(section(**DC2 | {"type": kind.split()[0]}, **version))

    @settings(max_examples=150, deadline=None, derandomize=True)
    @given(places=st.lists(PLACES, min_size=1, max_size=20))
    def owned(places):
        ra, dec = np.array(places).T
        tract, patch = sky.owner(ra, dec)
        scalar = [sky.owner(*place) for place in places]
        assert [(t[0], p[0]) for t, p in scalar] == list(zip(tract, patch))
        for number, name, a, d in zip(tract.tolist(), patch, ra, dec):
            if number < 0:  # the tract that version 0 lacks
                assert kind == "rings 0" and 88.1 < d < 89.3
                continue
            x, y = sky.tracts[number].pixels(a, d)
            x0, y0, x1, y1 = sky.tracts[number].inner_box(name)
            assert x0 - 0.5 <= x < x1 + 0.5 and y0 - 0.5 <= y < y1 + 0.5

    owned()


@pytest.mark.parametrize("kind", KINDS)
def test_shares_of_tracts_are_as_large_as_they_must_be(kind):
    """Equal areas of HEALPix; in rings, the part of the sphere between two declinations over the tracts of the ring."""
    options = section(**DC2 | {"type": kind, "pixel_scale": 5.0}, nside=8, num_rings=24)
    every = KINDS[kind].every_tract(options)
    ra, dec = everywhere(400_000)
    counts = np.bincount(KINDS[kind].find_tract(options, ra, dec), minlength=len(every.id))
    expected = np.full(len(every.id), len(ra) / len(every.id))
    if kind == "rings":
        edges = np.sin(np.radians(np.concatenate([[-90], np.arange(25) * 7.2 - 86.4, [90]])))
        numbers = [1, *rings.tracts_of_rings(24), 1]
        expected = np.repeat(np.diff(edges) / 2 / numbers, numbers) * len(ra)
    chi2 = ((counts - expected) ** 2 / expected).sum()
    assert abs(chi2 - len(counts)) < 5 * np.sqrt(2 * len(counts))


@pytest.mark.parametrize("kind", KINDS)
def test_tracts_reach_beyond_their_share(kind):
    """By the overlap, everywhere but beside the poles in rings."""
    sky = maps.whole_sky(section(**DC2 | {"type": kind}, tract_overlap=60))
    ra, dec = everywhere(20_000)
    ra, dec = ra[np.abs(dec) < 85], dec[np.abs(dec) < 85]
    owner = sky.find_tract(ra, dec)
    for east, north in ((59, 0), (-59, 0), (0, 59), (0, -59)):
        a, d = sphere.from_gnomonic(*np.radians(np.array([[east], [north]]) / 3600), ra, dec)
        assert all(sky.tracts[t].contains(*place) for t, *place in zip(owner[:2000].tolist(), a, d))


def test_a_million_look_ups_take_a_second(dc2):
    ra, dec = everywhere(1_000_000)
    start = time.process_time()
    tract, patch = dc2.owner(ra, dec)
    assert time.process_time() - start < 1.5, "0.7 s on an idle core"
    assert (tract >= 0).all() and (patch != "").all()


def test_positions_that_are_none_have_no_owner(dc2):
    assert dc2.find_tract(np.array([np.nan, 10.0]), np.array([0.0, np.nan])).tolist() == [-1, -1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_has_the_tracts_that_its_images_touch_and_owners_are_those_of_the_whole_sky(kind):
    """Across RA 0, beside the poles, and at a corner where four tracts meet."""
    options = section(**DC2 | {"type": kind}, patch_border=100)
    whole = maps.whole_sky(options)
    for place in ((0.0, 0.0), (10.0, 89.2), (333.0, -89.2), (150.99, 1.49)):
        table = exposure_table([tan_header(*place, scale=6.0, angle=30)])
        sky, found = overlaps.lay_out(options, table, KINDS[kind], 30.0)
        assert 1 < len(sky.tracts) < 20 and set(sky.tracts) == set(found["tract"])
        again = maps.SkyMap.from_dict(sky.to_dict())
        assert again == sky
        ra, dec = around(place, 0.45, 500)
        for mine, theirs in zip(again.owner(ra, dec), whole.owner(ra, dec)):
            np.testing.assert_array_equal(mine, theirs)


def around(place, radius, n):
    """Positions within a radius [deg]."""
    rng = np.random.default_rng(7)
    xi, eta = np.radians(rng.uniform(-radius, radius, (2, n)))
    return sphere.from_gnomonic(xi, eta, *place)


def test_a_map_of_the_whole_sky_needs_a_pixel_scale():
    for kind, module in KINDS.items():
        with pytest.raises(InputError, match=f"skymap.pixel_scale: the tracts of {kind}"):
            module.every_tract(section(type=kind))
    with pytest.raises(InputError, match="discrete does not cover the whole sky"):
        maps.whole_sky(section())


@pytest.fixture(scope="module")
def pointings():
    """200 images anywhere, at RA 0 and over both poles, on the tracts of both kinds."""
    rng = np.random.default_rng(18)
    ra, dec = everywhere(200, seed=18)
    ra[:40], dec[40:60], dec[60:80] = (
        rng.normal(0, 0.2, 40) % 360,
        90 - rng.uniform(0, 1, 20),
        rng.uniform(0, 1, 20) - 90,
    )
    angle, parity = rng.uniform(0, 360, 200), rng.choice([-1.0, 1.0], 200)
    # 0.6 deg x 0.4 deg
    return [tan_header(*each, shape=(1000, 700)) for each in zip(ra, dec, np.full(200, 2.0), angle, parity)]


@pytest.mark.parametrize("kind", KINDS)
def test_overlaps_are_those_of_the_pixels_of_200_pointings(kind, pointings):
    """Against all tracts near and every patch: pixels of the image on it, and the areas that they cover.

    Pixels are sampled in steps of 20, 40 arcsec: what they do not hit are slivers, narrower than a step.
    """
    options = section(**DC2 | {"type": kind, "pixel_scale": 1.0, "patch_size": 1500, "patch_border": 60})
    whole = maps.whole_sky(options)
    sky, found = overlaps.lay_out(options, exposure_table(pointings), KINDS[kind], 0.0)
    centres = sphere.unit_vectors(*np.array([(tract.ra, tract.dec) for tract in whole.tracts.values()]).T)
    reach = np.arctan(max(tract.half_diagonal for tract in whole.tracts.values())) + np.radians(0.4)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(-0.5, 700, 20), np.arange(-0.5, 1000, 20)))
    for visit, header in enumerate(pointings, 1):
        rows = found[found["visit"] == visit]
        areas = {(row["tract"].item(), row["patch"]): row["area"].item() for row in rows}
        ra, dec = header_wcs(header).all_pix2world(x, y, 0)
        away = sphere.separation(centres, sphere.unit_vectors(header["CRVAL1"], header["CRVAL2"]))
        brute = {}
        for number in np.flatnonzero(away < reach).tolist():
            for patch, share in shares(whole.tracts[number], ra, dec).items():
                brute[number, patch] = share * 700 * 1000 * 4 / 3600
        assert brute.keys() <= areas.keys()
        for key, area in areas.items():
            # Edges of a rectangle on an image of 50 x 35 steps hit or miss one step in each direction.
            assert brute.get(key, 0.0) == pytest.approx(area, abs=(1 / 50 + 1 / 35) * 700 * 1000 * 4 / 3600)
            assert key in brute or narrow(sky.tracts[key[0]], key[1], ra, dec)


def shares(tract, ra, dec):
    """The part of some positions that is on each patch of a tract with its border, by its name."""
    px, py = (steps.ravel() for steps in np.indices(tract.n_patches))
    low, high = tract.outer_edges(px, py)
    x, y = tract.pixels(ra, dec)
    on = [(low[:, [k]] <= each) & (each < high[:, [k]]) for k, each in enumerate((x, y))]
    parts = (on[0] & on[1]).mean(axis=1)
    return {f"{px[k]}_{py[k]}": parts[k] for k in np.flatnonzero(parts)}


def narrow(tract, patch, ra, dec):
    """Whether positions come within a step, and its diagonal, of a patch."""
    x0, y0, x1, y1 = tract.outer_box(patch)
    x, y = tract.pixels(ra, dec)
    away = np.maximum(np.maximum(x0 - x, x - x1), np.maximum(y0 - y, y - y1))
    return np.nanmin(away) < 40 * np.sqrt(2) * tract.stretch
