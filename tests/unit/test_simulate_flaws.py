"""Every flaw does what its key says, to what it says, and nothing where it is off."""

from dataclasses import replace

import numpy as np
import pytest

from diaflow.run import config
from diaflow.simulate import background, camera, field, flaws, pixels, pointing
from diaflow.simulate.sky import Survey

OFF = {
    "sky": {"gradient": 0.0},
    "flaws": {"columns": [0, 0]},
}


def settings_of(**changes) -> dict:
    changes = {"detectors": 2, "size": 400, "template_visits": 1, "science_visits": 1, "bands": ["r"]} | changes
    return config.validated({"images": "simulated", "simulate": changes})["simulate"]


def render(detector: int = 0, **changes) -> np.ndarray:
    """An image of the first visit."""
    return pixels.render(Survey.make(settings_of(**changes)), 1, detector)[0].astype(int)


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return render(**OFF)


def changed(clean: np.ndarray, section: str, **keys) -> np.ndarray:
    """What keys of a section add to the clean image."""
    return render(**OFF | {section: OFF[section] | keys}) - clean


def test_an_even_sky_is_even(clean):
    visit = pointing.visits(settings_of(**OFF))[0]
    level = background.sky_image(settings_of(**OFF), visit, 0)
    assert np.ptp(level) == 0 and level[0, 0] == visit.sky


def test_noise_of_the_truth_is_that_of_the_middle_of_an_image():
    settings = settings_of(sky={"gradient": 0.4})
    visit = pointing.visits(settings)[1]
    variances = [background.sky_sigma(settings, visit, detector) ** 2 for detector in (0, 1)]
    levels = [np.median(background.sky_image(settings, visit, detector)) for detector in (0, 1)]
    # The median of a plane is its level in the middle.
    assert variances[1] - variances[0] == pytest.approx((levels[1] - levels[0]) / pointing.GAIN, rel=1e-6)
    survey = Survey.make(settings)
    empty = replace(survey, objects=survey.objects[:0], flux=survey.flux[:0])
    images = [pixels.render(empty, 2, detector)[0].astype(float) for detector in (0, 1)]
    for variance, image in zip(variances, images):
        steps = (image[150:250, 151:250] - image[150:250, 150:249]) / np.sqrt(2)
        low, high = np.percentile(steps, [25, 75])
        # 10,000 steps: the robust width is known to 1.5 %; three of those.
        assert 0.7413 * (high - low) == pytest.approx(np.sqrt(variance), rel=0.05)


def test_clean_images_have_neither_dead_nor_hot_pixels(clean):
    assert (clean > 0).all() and (clean < flaws.ADC_MAX).all()


def test_gradient_is_at_most_what_is_asked_for():
    settings = settings_of(template_visits=20, sky={"gradient": 0.15})
    gradients = np.array([visit.sky_gradient for visit in pointing.visits(settings)])
    assert 0.1 < np.abs(gradients).max() <= 0.15


def test_amplifiers_shift_strips_of_columns(clean):
    extra = changed(clean, "sky", amplifiers=4, amplifier_step=8)
    strips = extra.reshape(400, 4, 100)
    for strip in strips.transpose(1, 0, 2):
        low, high = strip.min(), strip.max()
        assert high - low <= 1 and low >= -9 and high <= 9
    assert len({round(strips[:, i].mean(), 3) for i in range(4)}) == 4


def test_blotches_have_the_widths_and_levels_of_their_keys():
    rng = np.random.default_rng(1)
    image = background.blotches((400, 400), 1, (30, 30), 0.02, rng)
    height = np.abs(image).max()
    assert 0 < height <= 0.02
    area = (np.abs(image) > height / 2).sum()
    assert 2 * np.sqrt(area / np.pi) == pytest.approx(30, rel=0.05)
    settings = settings_of(sky={"gradient": 0, "blotches": 30})
    visit = pointing.visits(settings)[0]
    level = background.sky_image(settings, visit, 0) / visit.sky
    assert level.std() > 0.001 and abs(level.mean() - 1) < 0.02
    assert not np.array_equal(level, background.sky_image(settings, visit, 1) / visit.sky)


def test_columns_are_the_same_in_every_visit():
    survey = Survey.make(settings_of(flaws={"columns": [3, 2]}))
    images = [pixels.render(survey, visit, 0)[0] for visit in (1, 2)]
    for value, number in ((0, 3), (flaws.ADC_MAX, 2)):
        columns = [np.flatnonzero((image == value).all(axis=0)).tolist() for image in images]
        assert columns[0] == columns[1] and len(columns[0]) == number


def test_corners_are_triangles_of_zeros(clean):
    extra = changed(clean, "flaws", corners=50)
    blank = extra + clean == 0
    assert blank.sum() == 4 * 50 * 51 / 2
    assert blank[0, :50].all() and blank[:50, -1].all() and not blank[0, 50]
    np.testing.assert_array_equal(extra[~blank], 0)


def test_slow_tracks_add_little_charge_along_winding_lines():
    electrons = np.zeros((400, 400))
    flaws.add_slow_tracks(electrons, 30, np.random.default_rng(1))
    hit = electrons > 0
    # 30 tracks of 40 steps, a third of which fall into the pixel of the one before, and some leave the image.
    assert 500 < hit.sum() < 1500
    assert 100 < np.median(electrons[hit]) < 400
    untouched = np.zeros((400, 400))
    flaws.add_slow_tracks(untouched, 0, np.random.default_rng(1))
    assert not untouched.any()


def test_ghosts_are_opposite_to_their_stars():
    image = np.zeros((400, 400))
    axis = camera.centre(settings_of(), 0)
    flaws.add_ghosts(image, np.array([500.0]), np.array([150.0]), np.array([1000.0]), axis)
    y, x = np.nonzero(image)
    assert x.mean() == pytest.approx(2 * axis[0] - 500, abs=0.1) and y.mean() == pytest.approx(
        2 * axis[1] - 150, abs=0.1
    )
    assert image.sum() == pytest.approx(1000, rel=0.01)
    radius = np.hypot(x - (2 * axis[0] - 500), y - (2 * axis[1] - 150))
    assert radius.min() >= flaws.GHOST_RADII[0] and radius.max() < flaws.GHOST_RADII[1]


def test_spikes_have_four_arms_and_the_light_of_their_key():
    image = np.zeros((400, 400))
    flaws.add_spikes(image, np.array([200.0]), np.array([200.0]), np.array([1000.0]))
    assert image.sum() == pytest.approx(1000, rel=1e-3)
    y, x = np.indices(image.shape) - 200
    circle = np.abs(np.hypot(x, y) - 50) < 1
    angle = np.degrees(np.arctan2(y, x))[circle & (image > 0.3 * image[circle].max())]
    assert np.unique(np.rint((angle - flaws.SPIKE_ANGLE) / 90) % 4).size == 4
    assert (np.abs((angle - flaws.SPIKE_ANGLE + 45) % 90 - 45) < 5).all()
    assert image[circle].max() == pytest.approx(2 / 5 * image[np.abs(np.hypot(x, y) - 20) < 1].max(), rel=0.1)


def test_a_satellite_crosses_both_detectors_along_one_line():
    settings = settings_of(flaws={"columns": [0, 0], "satellites": 1.0})
    # The visit is chosen such that one satellite passes: their number is random.
    for number in range(1, 200):
        visit = pointing.Visit(number, "r", 6e4, *[pointing.Pointing(35, -4.5, 0)] * 2, 2.0, 2.0, 30, 30, 800, (0, 0))
        images = [np.zeros((400, 400)) for _ in (0, 1)]
        for detector, image in enumerate(images):
            flaws.add_satellites(image, settings, visit, detector)
        points = []
        for detector, image in enumerate(images):
            rows, columns = np.nonzero(image > 0.9 * image.max()) if image.max() > 1 else ([], [])
            x0, y0 = camera.centre(settings, detector)
            points += [(x - x0, y - y0) for x, y in zip(columns, rows)]
        if len(points) > 400 and all(image.max() > 1 for image in images):
            minor, _ = np.linalg.eigvalsh(np.cov(np.transpose(points)))
            if minor < 4:
                return
    raise AssertionError("no line across both detectors")


def test_stray_light_is_off_by_default_and_on_where_asked_for(clean):
    assert not changed(clean, "flaws").any()
    survey = Survey.make(settings_of(**OFF, stars=50000))
    bright = np.flatnonzero(survey.objects["type"] == "star")[:1]  # one that saturates, on the first detector
    survey.objects["r_mag"][bright], survey.flux[bright] = 13.5, 10 ** (-0.4 * (13.5 - 31.4))
    header = pixels.render(survey, 1, 0)[1]
    survey.objects["ra"][bright], survey.objects["dec"][bright] = header["CRVAL1"], header["CRVAL2"]
    plain = pixels.render(survey, 1, 0)[0].astype(int)
    for key in ("spikes", "ghosts"):
        asked = replace(survey, config=survey.config | {"flaws": survey.config["flaws"] | {key: 0.1}})
        extra = pixels.render(asked, 1, 0)[0].astype(int) - plain
        assert extra.any(), key


def test_pixels_overflow_where_the_key_says():
    survey = Survey.make(settings_of(**OFF, detectors=1))
    star = survey.objects[survey.objects["type"] == "star"][:1].copy()
    star["ra"], star["dec"] = field.FIELD
    survey = replace(survey, objects=star, flux=np.full((1, 2), 10 ** (-0.4 * (13 - 31.4))))
    brightest = {}
    for full_well in (0.85, 1.02):
        asked = replace(survey, config=survey.config | {"flaws": survey.config["flaws"] | {"full_well": full_well}})
        image, header = pixels.render(asked, 1, 0)
        brightest[full_well] = image.max() / header["SATURATE"]
    assert brightest[0.85] == pytest.approx(0.85, abs=0.01)
    assert brightest[1.02] == pytest.approx(1.02, abs=0.01)
