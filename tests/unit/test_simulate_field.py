"""Fields anywhere on the sphere, and objects that move on it."""

import numpy as np
import pyarrow.parquet as pq
import pytest

from diaflow.run import config
from diaflow.simulate import camera, field, movers, optics, pixels, pointing, sources, truth
from diaflow.simulate.sky import Survey
from diaflow.sky import sphere

FIELDS = {
    "equator": ([150.0, 2.0], [0, 0]),
    "zero": ([0.0, 20.0], [0, 0]),
    "south": ([80.0, -60.0], [2.3, -0.9]),
    "north": ([200.0, 75.0], [-1.5, 2.0]),
    "pole": ([120.0, 90.0], [0, 0]),
}


def settings_of(**changes) -> dict:
    changes = {"detectors": 2, "size": 300, "template_visits": 3, "science_visits": 2, "bands": ["r"]} | changes
    return config.validated({"images": "simulated", "simulate": changes})["simulate"]


@pytest.fixture(params=FIELDS)
def anywhere(request) -> dict:
    at, offset = FIELDS[request.param]
    return settings_of(field=at, reference_offset=offset, distortion=0.0)


def separation(ra, dec, ra_0, dec_0):
    """[arcsec]"""
    return 3600 * np.degrees(sphere.separation(sphere.unit_vectors(ra, dec), sphere.unit_vectors(ra_0, dec_0)))


def test_all_visits_see_the_field_the_same_way_up(anywhere):
    middle = field.centre(anywhere)
    east = field.moved(anywhere, *middle, 0.02, 0.0)
    for visit in pointing.visits(anywhere):
        wcs = optics.true_wcs(anywhere, visit, 0)
        (x0, x1), (y0, y1) = wcs.all_world2pix([middle[0], east[0]], [middle[1], east[1]], 0)
        centre = wcs.all_pix2world(*camera.centre(anywhere, 0), 0)
        assert separation(*centre, *middle) <= np.sqrt(2) * field.DITHER + 0.01
        # East is towards -x, but for the rotation of the visit.
        assert abs(np.degrees(np.arctan2(y1 - y0, x0 - x1))) <= pointing.ROTATION + 0.01
        assert np.hypot(x1 - x0, y1 - y0) == pytest.approx(0.02 * 3600 / 0.5, rel=3e-3)


def test_header_is_off_by_the_pointing_error_only(anywhere):
    exposures = pointing.plan(anywhere)
    half = (anywhere["size"] - 1) / 2
    for row in exposures:
        wcs = optics.true_wcs(anywhere, pointing.visits(anywhere)[row["visit"] - 1], row["detector"])
        # Four times 1.5"; three times the rotation of 0.01 deg, over the 2.5 deg to the reference point.
        assert separation(*wcs.all_pix2world(half, half, 0), row["ra"], row["dec"]) < 4 * 1.5 + 3 * 0.01 / 57.3 * 9000


def test_reference_point_is_as_far_from_the_camera_as_asked(anywhere):
    x, y = anywhere["reference_offset"]
    for visit in pointing.visits(anywhere):
        distance = np.degrees(np.arctan(np.radians(np.hypot(x, y)))) * 3600
        assert separation(visit.true.ra, visit.true.dec, *field.centre(anywhere)) == pytest.approx(distance, abs=30)


def test_sources_are_drawn_where_the_wcs_has_them(anywhere):
    survey = Survey.make(anywhere)
    star = survey.objects["type"] == "star"
    x, y = optics.true_wcs(anywhere, survey.visits[0], 0).all_world2pix(survey.objects["ra"], survey.objects["dec"], 0)
    seen = star & (np.minimum(x, y) > 15) & (np.maximum(x, y) < 284)
    assert seen.sum() > 5, "12,000 per square degree are 17 here"
    image = pixels.scene(survey, 1, 0)
    brightest = np.flatnonzero(seen)[np.argmax(survey.flux[seen, 0])]
    i, j = round(x[brightest]), round(y[brightest])
    assert image[j, i] == image[j - 3 : j + 4, i - 3 : i + 4].max()


def test_density_of_stars_does_not_depend_on_the_field(anywhere):
    stars = (Survey.make(anywhere | {"stars": 1e5}).objects["type"] == "star").sum()
    # 600 x 300 pixels and margins: 8000 arcsec**2 ... 1e5 / deg**2; Poisson, four sigma.
    expected = 1e5 * np.prod(2 * field.half_size(anywhere, 2 * field.DITHER)) / 3600
    assert abs(stars - expected) < 4 * np.sqrt(expected) + 10


def test_galaxy_keeps_its_position_angle_on_the_sky(anywhere):
    survey = Survey.make(anywhere)
    galaxy = survey.objects[survey.objects["type"] == "galaxy"][:1].copy()
    galaxy["ra"], galaxy["dec"] = field.moved(anywhere, *field.centre(anywhere), 0.005, 0.004)
    galaxy["radius"], galaxy["axisRatio"], galaxy["positionAngle"] = 1.5, 0.3, 30.0
    visit = survey.visits[0]
    wcs = optics.true_wcs(anywhere, visit, 0)
    true = visit.true
    rotation = true.rotation + field.convergence(anywhere, true.ra, true.dec, galaxy["ra"], galaxy["dec"])
    xx, xy, yy = sources.galaxy_moments(galaxy, rotation, 0.5, sources.DISC_SIGMA)[0, 0]
    # A step of 1 arcsec along the position angle: on the sphere, by way of unit vectors.
    north = sphere.unit_vectors(galaxy["ra"], galaxy["dec"] + 90)
    east = np.cross(north, sphere.unit_vectors(galaxy["ra"], galaxy["dec"]))
    ahead = np.cos(np.radians(30)) * north + np.sin(np.radians(30)) * east
    ra, dec = sphere.sky_position(sphere.unit_vectors(galaxy["ra"], galaxy["dec"]) + np.radians(1 / 3600) * ahead)
    x, y = wcs.all_world2pix([galaxy["ra"][0], ra[0]], [galaxy["dec"][0], dec[0]], 0)
    step = np.array([np.diff(x)[0], np.diff(y)[0]])
    major = np.linalg.eigh([[xx, xy], [xy, yy]])[1][:, 1]
    assert abs(major @ step) / np.hypot(*step) == pytest.approx(1, abs=1e-4)


def test_reference_catalogue_is_as_far_off_as_elsewhere(anywhere, tmp_path):
    survey = Survey.make(anywhere | {"stars": 50000})
    truth.write_refcat(survey, tmp_path / "refcat.parquet")
    table = pq.read_table(tmp_path / "refcat.parquet")
    order = {object_id: i for i, object_id in enumerate(survey.objects["objectId"])}
    true = survey.objects[[order[i] for i in table["id"].to_pylist()]]
    off = separation(table["ra"].to_numpy(), table["dec"].to_numpy(), true["ra"], true["dec"])
    # Rayleigh of 15 mas: rms 21 mas, known to 1 / sqrt(4 n).
    assert np.sqrt(np.mean(off**2)) == pytest.approx(0.0212, rel=3 / np.sqrt(4 * len(off)))


@pytest.fixture(scope="module", params=["zero", "pole"])
def moving(request):
    settings = settings_of(
        field=FIELDS[request.param][0],
        template_visits=3,
        science_visits=6,
        visits_per_night=3,
        movers={"number": 10, "rate": [5, 60], "edge": 0.4},
    )
    return Survey.make(settings)


def test_asteroids_move_on_great_circles_at_constant_rates(moving):
    objects = moving.objects[moving.objects["rate"] > 0]
    assert len(objects) == 10 * 3
    times = objects["mjd"][:1] + np.array([-0.1, 0.0, 0.1, 0.25])
    places = np.array([sphere.unit_vectors(*movers.positions(objects[:10], mjd)) for mjd in times])
    steps = np.degrees(sphere.separation(places[1:], places[:-1])) / np.diff(times)[:, None]
    np.testing.assert_allclose(steps, np.tile(objects["rate"][:10], (3, 1)), rtol=1e-6)
    pole = np.cross(places[0], places[3])
    pole /= np.linalg.norm(pole, axis=-1)[:, None]
    np.testing.assert_allclose((places * pole).sum(axis=-1), 0, atol=1e-10)
    at_rest = ~(moving.objects["rate"] > 0)
    ra, dec = movers.positions(moving.objects, times[0])
    np.testing.assert_array_equal(ra[at_rest], moving.objects["ra"][at_rest])


def test_asteroids_are_in_all_visits_of_their_night_and_in_no_other(moving):
    mover = moving.objects["rate"] > 0
    shining = moving.flux[mover] > 0
    assert (shining.sum(axis=1) == 3).all()
    night = np.array([int(visit.mjd_start) for visit in moving.visits])
    assert all(len(set(night[row])) == 1 for row in shining)
    fluxes = truth.fluxes(moving)
    rows = fluxes[np.isin(fluxes["objectId"], moving.objects["objectId"][mover])]
    object_id = max(rows["objectId"], key=lambda number: (rows["objectId"] == number).sum())
    one = rows[rows["objectId"] == object_id]
    assert len(np.unique(one["ra"])) == len(one) > 1
    rate = moving.objects["rate"][moving.objects["objectId"] == object_id][0]
    mjd = np.array([moving.visit(int(visit)).mjd for visit in one["visit"]])
    moved = separation(one["ra"][0], one["dec"][0], one["ra"][1], one["dec"][1])
    assert moved == pytest.approx(3600 * rate * abs(mjd[1] - mjd[0]), rel=1e-5)


def test_some_asteroids_are_near_the_edge_of_the_field(moving):
    mover = moving.objects[moving.objects["rate"] > 0]
    x, y = np.degrees(sphere.gnomonic(mover["ra"], mover["dec"], *field.centre(moving.config)))
    half = field.half_size(moving.config, 0) / 60
    beyond = np.maximum(np.abs(x) - half[0], np.abs(y) - half[1]) * 3600
    assert (np.abs(beyond) <= field.DITHER).sum() >= 0.4 * len(mover)


def test_night_of_three_visits_and_bands_with_numbers_of_their_own():
    settings = settings_of(
        bands=["g", "r"], template_visits={"g": 3, "r": 6}, science_visits={"g": 2, "r": 4}, visits_per_night=3
    )
    visits = pointing.visits(settings)
    assert [sum(v.band == band and v.mjd < 60400 for v in visits) for band in ("g", "r")] == [3, 6]
    assert [sum(v.band == band and v.mjd > 60400 for v in visits) for band in ("g", "r")] == [2, 4]
    times = [visit.mjd for visit in visits]
    assert times == sorted(times) and [visit.visit for visit in visits] == list(range(1, 16))
    first = [visit for visit in visits if int(visit.mjd_start) == 60200]
    assert [visit.band for visit in first] == ["g", "r"] * 3
    assert pointing.length(settings, "science") == 12


def test_clouds_dim_a_visit_that_the_header_takes_for_clear():
    clear, cloudy = (pointing.visits(settings_of(clouds=clouds)) for clouds in ([], [[2, 2.0]]))
    for before, after in zip(clear, cloudy):
        assert after.zero_point == before.zero_point - (2.0 if before.visit == 2 else 0.0)
        assert after.header_zero_point == before.header_zero_point and after.sky == before.sky


def test_a_survey_with_a_name_has_a_folder_of_its_own():
    assert pointing.plan(settings_of())["path"][0] == "demo/images/1_0.fits"
    assert pointing.plan(settings_of(name="dirty"))["path"][0] == "simulated/dirty/images/1_0.fits"
