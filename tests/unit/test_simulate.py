"""The built-in survey: what is drawn is what the truth says, and nothing depends on the order of making it."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from hypothesis import given, settings
from hypothesis import strategies as st

from diaflow.image.exposure_file import write_fits
from diaflow.instruments.ingest import ingest_images
from diaflow.run import config
from diaflow.simulate import (
    background,
    camera,
    field,
    flaws,
    lightcurves,
    optics,
    pixels,
    pointing,
    profiles,
    sources,
    truth,
)
from diaflow.simulate.sky import Survey
from diaflow.sky.wcs import read_wcs
from diaflow.store import tables


def settings_of(**changes) -> dict:
    return config.validated({"images": "simulated", "simulate": changes})["simulate"]


@pytest.fixture(scope="module")
def survey():
    return Survey.make(settings_of())


@pytest.fixture(scope="module")
def small():
    """Few visits of one CCD of 256 x 256 pixels."""
    return Survey.make(settings_of(detectors=1, size=256, template_visits=2, science_visits=2, bands=["r"]))


def kinds(survey) -> np.ndarray:
    return survey.objects["type"].astype(str)


def only(survey, kind: str, mag: float = 18.0, **shape):
    """The survey with one object of a kind at the centre of its field."""
    row = survey.objects[kinds(survey) == kind][:1].copy()
    row["ra"], row["dec"] = field.FIELD
    for name, value in shape.items():
        row[name] = value
    return replace(survey, objects=row, flux=np.full((1, len(survey.visits)), 10 ** (-0.4 * (mag - 31.4))))


def moments(image: np.ndarray) -> tuple[float, ...]:
    """x, y, xx, xy, yy."""
    y, x = np.indices(image.shape)
    total = image.sum()
    cx, cy = (image * x).sum() / total, (image * y).sum() / total
    products = ((x - cx) ** 2, (x - cx) * (y - cy), (y - cy) ** 2)
    return cx, cy, *((image * product).sum() / total for product in products)


def test_an_image_does_not_depend_on_what_was_made_before(small):
    first, header = pixels.render(small, 3, 0)
    pixels.render(small, 1, 0)
    again, header_again = pixels.render(Survey.make(small.config), 3, 0)
    assert first.dtype == np.uint16 and first.shape == (256, 256)
    np.testing.assert_array_equal(first, again)
    assert header.tostring() == header_again.tostring()


def test_other_seed_is_another_sky_and_more_of_one_kind_leaves_the_others(small):
    other = Survey.make(small.config | {"seed": 2})
    assert not np.isin(small.objects["ra"], other.objects["ra"]).any()
    fewer = Survey.make(small.config | {"asteroids": 3, "variables": 5})
    for kind in ("star", "galaxy", "supernova"):
        for column in small.objects.dtype.names:
            before, after = (each.objects[kinds(each) == kind][column] for each in (small, fewer))
            np.testing.assert_array_equal(before, after, err_msg=column)


@pytest.mark.parametrize("kind", ["star", "galaxy"])
def test_drawn_flux_and_position_are_true(small, kind):
    one = only(small, kind)
    image = pixels.scene(one, 2, 0)
    zero_point = one.visit(2).zero_point
    # Boxes of 6 sigma hold all but 1e-8 of the flux; 1e-4 leaves room for sampling a core of 1 pixel.
    assert image.sum() == pytest.approx(10 ** (-0.4 * (18.0 - zero_point)), rel=1e-4)
    x, y = optics.true_wcs(one.config, one.visit(2), 0).all_world2pix(*field.FIELD, 0)
    np.testing.assert_allclose(moments(image)[:2], (x, y), atol=1e-3)


def test_star_has_the_seeing_of_its_visit(small):
    # Elliptical Gaussians of equal shape: the mean area inside half of the maximum is that of a circle of the FWHM.
    visit = small.visits[1]
    centre = [a[0] for a in np.atleast_2d(camera.centre(small.config, 0)).T]
    psf = optics.psf(small.config, visit, 0, *np.atleast_2d(centre).T)[0]
    sigma = np.sqrt(np.sqrt(psf[:, 0] * psf[:, 2] - psf[:, 1] ** 2))
    half = visit.seeing / small.config["pixel_scale"] / 2
    profile = [(profiles.PSF_WEIGHT / sigma**2 * np.exp(-(r**2) / (2 * sigma**2))).sum() for r in (0, half)]
    assert profile[1] / profile[0] == pytest.approx(0.5, abs=1e-3)


@settings(max_examples=10, deadline=None)
@given(angle=st.floats(0, 179), ratio=st.floats(0.35, 0.8))
def test_galaxy_is_elongated_along_its_position_angle(angle, ratio):
    survey = Survey.make(settings_of(detectors=1, size=256, template_visits=1, science_visits=1, bands=["r"]))
    shape = {"radius": 1.5, "axisRatio": ratio, "positionAngle": angle}
    galaxy, star = (moments(pixels.scene(only(survey, k, **s), 1, 0)) for k, s in (("galaxy", shape), ("star", {})))
    xx, xy, yy = np.subtract(galaxy[2:], star[2:])
    disc = (sources.DISC_WEIGHT * sources.DISC_SIGMA**2).sum() * (1.5 / 0.5) ** 2
    # The distortion changes shapes by 3 k r**2 < 1e-3 within the image, boxes cut 1e-7 of the second moments.
    np.testing.assert_allclose(np.linalg.eigvalsh([[xx, xy], [xy, yy]]), [disc * ratio**2, disc], rtol=5e-3)
    # A step along the position angle on the sky is a step along the major axis on the image.
    ra, dec = field.FIELD
    step = 1e-3 * np.array([np.sin(np.radians(angle)) / np.cos(np.radians(dec)), np.cos(np.radians(angle))])
    wcs = optics.true_wcs(survey.config, survey.visit(1), 0)
    (x0, x1), (y0, y1) = wcs.all_world2pix([ra, ra + step[0]], [dec, dec + step[1]], 0)
    along = np.array([x1 - x0, y1 - y0]) / np.hypot(x1 - x0, y1 - y0)
    assert along @ np.array([[xx, xy], [xy, yy]]) @ along == pytest.approx(disc, rel=5e-3)


def test_noise_of_the_sky_is_photons_and_read_noise(small):
    empty = replace(small, objects=small.objects[:0], flux=small.flux[:0])
    image, header = pixels.render(empty, 1, 0)
    difference = image - header["BIASLVL"] - background.sky_image(small.config, small.visits[0], 0)
    good = np.abs(difference) < 200  # leaves cosmic rays and bad columns out, at more than 6 sigma
    expected = small.visits[0].sky / header["GAIN"] + (header["RDNOISE"] / header["GAIN"]) ** 2 + 1 / 12
    # 65,000 pixels: relative error of the robust variance 0.9 %, of the mean sqrt(530 / 65000) = 0.09 DN.
    low, median, high = np.percentile(difference[good], [25, 50, 75])
    assert (0.7413 * (high - low)) ** 2 == pytest.approx(expected, rel=0.05)
    assert median == pytest.approx(0, abs=0.7)
    assert (image == 0).all(0).sum() == small.config["flaws"]["columns"][0]


def test_bleeding_conserves_charge_within_the_column():
    electrons = np.full((200, 3), 10.0)
    electrons[100:103, 1] = 5e4
    before = electrons.sum(0)
    flaws.bleed(electrons, 1e4)
    np.testing.assert_allclose(electrons.sum(0), before)
    assert electrons.max() == 1e4
    assert abs((electrons[:100, 1] > 10).sum() - (electrons[103:, 1] > 10).sum()) <= 1
    np.testing.assert_array_equal(electrons[:, [0, 2]], 10.0)


def test_bright_stars_saturate_and_bleed(survey):
    visit = survey.visits[-1]
    x, y = optics.true_wcs(survey.config, survey.visit(visit.visit), 0).all_world2pix(
        survey.objects["ra"], survey.objects["dec"], 0
    )
    inside = (np.minimum(x, y) > 50) & (np.maximum(x, y) < survey.config["size"] - 50)
    bright = np.argmin(np.where(inside, survey.objects["r_mag"], np.inf))
    image, header = pixels.render(survey, visit.visit, 0)
    i, j = round(x[bright]), round(y[bright])
    saturated = image[j - 25 : j + 26, i - 25 : i + 26] >= header["SATURATE"]
    assert saturated[25, 25]
    assert saturated.any(1).sum() > saturated.any(0).sum(), "longer along the column than across"


def test_header_wcs_is_off_by_the_pointing_error_and_the_distortion(survey):
    offsets = []
    for visit in survey.visits:
        header = pixels.fits.Header([(k, *card) for k, card in pointing.header(survey.config, visit, 0).items()])
        assert not read_wcs(header).sip
        x0, y0 = camera.centre(survey.config, 0)
        for wcs in (read_wcs(header), optics.true_wcs(survey.config, survey.visit(visit.visit), 0)):
            offsets.append(wcs.all_pix2world(x0, y0, 0))
    error = 3600 * np.diff(np.reshape(offsets, (-1, 2, 2)), axis=1) * [np.cos(np.radians(-4.5)), 1]
    # 24 offsets in two coordinates: rms known to 1 / sqrt(2 * 48) = 10 %; three of those.
    assert np.sqrt(2 * np.mean(error**2)) == pytest.approx(survey.config["pointing_error"], rel=0.3)


def test_supernovae_are_dark_in_season_one_and_shine_in_season_two(survey):
    flux = survey.flux[kinds(survey) == "supernova"]
    season_one = np.array([visit.mjd < 60400 for visit in survey.visits])
    assert (flux[:, season_one] == 0).all()
    assert ((flux[:, ~season_one] > 0).any(1)).mean() > 0.9


def test_asteroids_belong_to_one_visit(survey):
    flux = survey.flux[kinds(survey) == "asteroid"]
    assert ((flux > 0).sum(1) == 1).all()
    assert len(flux) == survey.config["asteroids"] * len(survey.visits)


def test_supernova_rises_from_zero_to_one_and_declines():
    days = np.linspace(-40, 200, 2401)
    flux = lightcurves.supernova(days, 50.0)
    assert (flux[days <= -20] == 0).all()
    assert flux.max() == pytest.approx(1) and abs(days[flux.argmax()]) < 0.2
    assert (np.diff(flux[days > 0]) < 0).all()
    late = flux[days > 100]
    assert np.log(late[0] / late[-1]) == pytest.approx((200 - 100) / 50.0, rel=0.02)


def test_rr_lyrae_keeps_its_amplitude_and_period():
    phase = np.linspace(0, 3, 3001)
    offset = lightcurves.rr_lyrae(phase, 0.8)
    assert np.ptp(offset) == pytest.approx(0.8)
    np.testing.assert_allclose(offset[:1000], offset[1000:2000], atol=1e-9)


def test_depth_is_about_23_and_true_sources_are_several_hundred(survey):
    fluxes = truth.fluxes(survey)
    visits = [survey.visit(int(number)) for number in fluxes["visit"]]
    sky = np.array([visit.sky / pointing.GAIN + (pointing.READ_NOISE / pointing.GAIN) ** 2 for visit in visits])
    area = 4 * np.pi * np.array([visit.seeing / survey.config["pixel_scale"] / 2.355 for visit in visits]) ** 2
    scale = 10 ** (0.4 * (31.4 - np.array([visit.zero_point for visit in visits])))
    error = np.sqrt(sky * area) * scale
    assert np.median(31.4 - 2.5 * np.log10(5 * error)) == pytest.approx(23.0, abs=0.2)
    passing = np.isin(fluxes["objectId"], survey.objects["objectId"][kinds(survey) != "variable"])
    bright = (fluxes["flux"] > 6 * np.sqrt(1.25) * error) & passing & (fluxes["visit"] > 8)
    assert 300 < bright.sum() < 1000


def test_plan_is_what_ingest_finds_in_the_written_headers(tmp_path, monkeypatch):
    settings = settings_of(size=200, template_visits=1, science_visits=1)
    monkeypatch.chdir(tmp_path)
    planned = pointing.plan(settings)
    survey = Survey.make(settings)
    for row in planned:
        write_fits([fits.PrimaryHDU(*pixels.render(survey, int(row["visit"]), int(row["detector"])))], row["path"])
    found = ingest_images(["demo/images/*.fits"], "generic", {}, [], [])
    found = found[np.lexsort((found["detector"], found["visit"]))]
    for name in planned.dtype.names:
        if planned[name].dtype.kind != "f":
            assert planned[name].tolist() == found[name].tolist(), name
    # Positions and times (float64) differ by the rounding of header cards, 1e-11; the rest is float32.
    for name in (name for name in planned.dtype.names if planned[name].dtype.kind == "f"):
        tolerance = (
            {"atol": 1e-9, "rtol": 0} if name in ("mjd", "ra", "dec") or name[:3] in ("ra_", "dec") else {"rtol": 1e-5}
        )
        np.testing.assert_allclose(planned[name], found[name], **tolerance, err_msg=name)


def test_planning_needs_neither_pixels_nor_astropy():
    code = f"import sys; from diaflow.simulate import pointing; pointing.plan({settings_of()}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"astropy", "numba", "scipy"} & set(done.stdout.split())


def test_truth_tables_say_what_is_on_the_images(small, tmp_path):
    truth.write_truth(small, tmp_path)
    objects = tables.read("truth_object", tmp_path / "truth_object.parquet")
    fluxes = tables.read("truth_flux", tmp_path / "truth_flux.parquet")
    assert len(np.unique(objects["objectId"])) == len(objects)
    assert set(objects["type"]) == {"star", "galaxy", "supernova", "variable", "asteroid"}
    row = fluxes[(fluxes["visit"] == 4) & (np.minimum(fluxes["x"], fluxes["y"]) > 40)]
    row = row[np.argmax(row["flux"] * (np.maximum(row["x"], row["y"]) < 215))]
    without = small.flux.copy()
    without[small.objects["objectId"] == row["objectId"]] = 0
    image = pixels.scene(small, 4, 0) - pixels.scene(replace(small, flux=without), 4, 0)
    scale = 10 ** (0.4 * (31.4 - small.visit(4).zero_point))
    assert image.sum() * scale == pytest.approx(row["flux"], rel=1e-4)
    np.testing.assert_allclose(moments(image)[:2], (row["x"], row["y"]), atol=1e-3)


def test_truth_images_have_the_true_zero_point_and_every_digit_of_the_wcs(survey, tmp_path):
    truth.write_truth(survey, tmp_path)
    images = tables.read("truth_image", tmp_path / "truth_image.parquet")
    assert len(images) == len(survey.visits) * survey.config["detectors"]
    x, y = np.random.default_rng(1).uniform(0, survey.config["size"], (2, 20))
    for image in images:
        visit = survey.visit(image["visit"])
        assert (image["band"], image["zero_point"]) == (visit.band, visit.zero_point)
        assert image["nx"] == image["ny"] == survey.config["size"]
        true, read = optics.true_wcs(survey.config, visit, image["detector"]), WCS(fits.Header.fromstring(image["wcs"]))
        np.testing.assert_array_equal(read.all_pix2world(x, y, 0), true.all_pix2world(x, y, 0))


def test_reference_catalogue_has_the_stars_with_its_errors(survey, tmp_path):
    truth.write_refcat(survey, tmp_path / "refcat.parquet")
    table = pq.read_table(tmp_path / "refcat.parquet")
    assert set(table.column_names) == {"id", "ra", "dec", "g_mag", "r_mag", "star"}
    order = {object_id: i for i, object_id in enumerate(survey.objects["objectId"])}
    true = survey.objects[[order[i] for i in table["id"].to_pylist()]]
    star = table["star"].to_numpy()
    assert set(true["type"][star]) == {"star"} and set(true["type"][~star]) == {"variable"}
    north = 3.6e6 * (table["dec"].to_numpy() - true["dec"])
    # More than 200 stars: the rms is known to 5 %; three of those.
    assert len(true) > 200
    assert north.std() == pytest.approx(15, rel=0.15)
    assert (table["g_mag"].to_numpy() - true["g_mag"]).std() == pytest.approx(0.01, rel=0.15)
