"""Detrending: variance, masks, cosmic rays, repair."""

import numpy as np
import pytest
import starfield

from diaflow.errors import BadData
from diaflow.instruments.images import Pixels
from diaflow.isr import noise as noise_of
from diaflow.isr import repair
from diaflow.isr.detrend import detrend
from diaflow.pixels import cosmicrays


@pytest.fixture(scope="module")
def field():
    return starfield.make(size=512)


def test_bias_is_subtracted_and_metadata_kept(field):
    exposure = detrend(Pixels(field.image), field.row)
    untouched = exposure.mask == 0
    np.testing.assert_allclose(exposure.image[untouched], field.image[untouched] - starfield.BIAS, atol=1e-3)
    expected = {"visit": 7, "detector": 3, "band": "r", "gain": 2.0, "noise_model": "header"}
    assert {name: exposure.metadata[name] for name in expected} == expected
    assert exposure.image.dtype == exposure.variance.dtype == np.float32 and exposure.mask.dtype == np.int32


def test_variance_is_that_of_the_noise_in_sky_and_stars(field):
    exposure = detrend(Pixels(field.image), field.row)
    noise = exposure.image - field.noiseless - starfield.SKY
    for level in (field.noiseless < 1, field.noiseless > 300):
        pixels = level & (exposure.mask == 0)
        # The scatter of a mean of n squares is sqrt(2 / n); the sky model adds a per cent.
        assert np.mean(noise[pixels] ** 2 / exposure.variance[pixels]) == pytest.approx(
            1, abs=0.02 + 4 * np.sqrt(2 / pixels.sum())
        )


def test_variance_of_blank_sky_does_not_follow_its_noise():
    image = starfield.observed(np.full((512, 512), starfield.SKY), 3)
    exposure = detrend(Pixels(image), starfield.row(512), cosmic_rays=False)
    correlation = np.corrcoef(exposure.image.ravel(), exposure.variance.ravel())[0, 1]
    # Counts as variance would correlate fully; a few significant noise peaks remain.
    assert abs(correlation) < 0.1


@pytest.mark.parametrize("values, source", [({"gain": np.nan}, "estimated"), ({"read_noise": np.nan}, "sky")])
def test_unknown_gain_or_read_noise_is_taken_from_the_sky(field, values, source):
    exposure = detrend(Pixels(field.image), starfield.row(512, **values))
    true = starfield.SKY / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2
    assert exposure.metadata["noise_model"] == source
    assert np.median(exposure.variance) == pytest.approx(true, rel=0.05)


def test_noise_of_an_image_without_its_sky_is_measured():
    noise = np.random.default_rng(1).normal(0, 5, (256, 256)).astype(np.float32)
    exposure = detrend(Pixels(noise), starfield.row(256, gain=np.nan, read_noise=np.nan, bias=0.0))
    assert np.median(exposure.variance) == pytest.approx(25, rel=0.03)
    assert np.isinf(exposure.metadata["gain"])


def test_wrong_read_noise_is_not_believed():
    noise = noise_of.noise_model(sky=400.0, sky_variance=300.0, gain=2.0, read_noise=6.0)
    assert noise.source == "sky" and 400 / noise.gain + noise.floor == pytest.approx(300)


def test_flaws_are_masked_grown_and_repaired(field):
    image = field.image.copy()
    image[100, 100] = np.nan
    image[200:203, 300:303] = starfield.SATURATION + 1
    image[:, 400] = 0
    image[:, 420] = 65.0
    exposure = detrend(Pixels(image), field.row)
    assert exposure.flagged("BAD")[100, 100] and exposure.flagged("BAD")[:, [400, 420]].all()
    assert exposure.flagged("SAT")[199:204, 299:304].all() and exposure.flagged("SAT").sum() == 25
    assert (exposure.flagged("INTRP") == exposure.flagged("BAD", "SAT", "CR")).all()
    assert np.isfinite(exposure.image).all() and (exposure.variance > 0).all()
    sky = exposure.image[:, 400][field.noiseless[:, 400] < 1]
    assert np.median(sky) == pytest.approx(starfield.SKY, abs=3)


def test_hot_column_is_a_defect_and_no_saturated_source(field):
    image = field.image.copy()
    image[:, 420] = 2 * starfield.SATURATION
    # A bleeding star may saturate a good part of a column.
    image[:300, 100] = 2 * starfield.SATURATION
    exposure = detrend(Pixels(image), field.row)
    assert exposure.flagged("BAD")[:, 420].all() and not exposure.flagged("SAT")[:, 418:423].any()
    assert exposure.flagged("SAT")[:301, 99:102].all() and not exposure.flagged("BAD")[:, 100].any()


def vignetted(size, radius, width=20):
    """Light that reaches the pixels: all within `radius` of the centre, none `width` pixels further out."""
    t = np.arange(size) - (size - 1) / 2
    return np.clip(1 - (np.hypot(t, t[:, None]) - radius) / width, 0, 1)


def test_vignetted_corners_are_bad_and_lit_pixels_are_not(field):
    light = vignetted(512, 300)
    image = starfield.observed((field.noiseless + starfield.SKY) * light, 4)
    exposure = detrend(Pixels(image), field.row)
    bad = exposure.flagged("BAD")
    assert (light < 0.15).mean() > 0.02 and bad[light < 0.15].all()
    # Blocks of four pixels with one more around them: up to eight pixels, 0.4 of the light, above a fifth.
    assert not bad[light > 0.65].any()
    assert exposure.flagged("INTRP")[bad].all() and np.isfinite(exposure.image).all()
    # Noise of the sky where it is lit, not that of the edge of the light.
    true = starfield.SKY / starfield.GAIN + (starfield.READ_NOISE / starfield.GAIN) ** 2
    assert np.median(exposure.variance[light == 1]) == pytest.approx(true, rel=0.02)


def test_an_amplifier_without_light_is_bad(field):
    image = field.image.copy()
    image[:, 384:] = starfield.observed(np.zeros((512, 128)), 5)
    bad = detrend(Pixels(image), field.row).flagged("BAD")
    assert bad[:, 384:].all() and not bad[:, :376].any()


def test_an_image_without_its_sky_has_no_unlit_pixels(field):
    image = field.image - np.float32(starfield.SKY + starfield.BIAS)
    row = starfield.row(512, bias=0.0, gain=np.nan, read_noise=np.nan)
    assert not detrend(Pixels(image), row, edge=0, cosmic_rays=False).flagged("BAD").any()


def test_edge_is_a_border_of_the_width_asked_for(field):
    edge = detrend(Pixels(field.image), field.row, edge=7).flagged("EDGE")
    assert edge.sum() == 512**2 - 498**2 and not edge[7:-7, 7:-7].any()
    assert not detrend(Pixels(field.image), field.row, edge=0).flagged("EDGE").any()


@pytest.mark.parametrize("level, reason", [(70000.0, "100% are saturated"), (np.nan, "usable")])
def test_image_without_usable_pixels_is_bad_data(level, reason):
    with pytest.raises(BadData, match=reason):
        detrend(Pixels(np.full((100, 100), level, np.float32)), starfield.row(100))


def test_a_sky_that_the_library_cannot_measure_is_bad_data_with_its_traceback(field, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError("internal buffer full")

    monkeypatch.setattr("sep.Background", fail)
    with pytest.raises(BadData, match="mesh of the background failed: internal buffer full"):
        detrend(Pixels(field.image), field.row)
    assert "RuntimeError" in caplog.text


def test_interpolation_reproduces_a_slope_and_falls_back_on_the_sky():
    image = np.add.outer(np.arange(200.0), np.arange(200.0)).astype(np.float32)
    expected, bad = image.copy(), np.zeros(image.shape, bool)
    bad[50, :] = bad[100:103, 100:103] = True
    image[bad] = 1e6
    repair.interpolate(image, bad, np.zeros_like(image))
    # Weighted means are exact in the middle and lag by less than a pixel of the slope at the corners of a hole.
    np.testing.assert_allclose(image[:, 5:-5], expected[:, 5:-5], atol=1)
    np.testing.assert_allclose(image[50, 5:-5], expected[50, 5:-5], atol=1e-3)
    bad[:, :150] = True
    repair.interpolate(image, bad, np.full_like(image, -7))
    assert image[100, 10] == -7


@pytest.mark.parametrize("fwhm", [2.5, 3.5, 5.0])
def test_cosmic_rays_are_found_and_star_cores_are_not(fwhm):
    field = starfield.make(size=512, varying=False, fwhm=fwhm, log_flux=(3, 5.5), seed=3)
    rng = np.random.default_rng(5)
    tracks = np.zeros(field.image.shape, bool)
    image = field.image.copy()
    for _ in range(40):
        x, y, angle = *rng.uniform(20, 470, 2), rng.uniform(0, np.pi)
        t = np.arange(0, rng.uniform(1, 15), 0.5)
        tracks[(y + t * np.sin(angle)).astype(int), (x + t * np.cos(angle)).astype(int)] = True
    image[tracks] += rng.uniform(150, 2000, tracks.sum())  # 10 sigma of the sky and more
    variance = np.maximum(image, 1).astype(np.float32)
    searched = image.copy()
    assert cosmicrays.find(searched, variance, np.zeros(image.shape, bool)).sum() > 40
    np.testing.assert_array_equal(searched, image)  # what was cleaned on the way is back
    found = detrend(Pixels(image), field.row).flagged("CR")
    clear = tracks & (field.noiseless < 20)
    assert found[clear].mean() > 0.97
    without = detrend(Pixels(field.image), field.row).flagged("CR")
    cores = field.noiseless > 200
    assert not without[cores].any() and without.sum() < 40


@pytest.mark.parametrize("fwhm", [1.3, 1.7])
def test_stars_as_sharp_as_cosmic_rays_are_none(fwhm):
    field = starfield.make(size=512, spacing=30, varying=False, fwhm=fwhm, log_flux=(3, 5), seed=3)
    rng = np.random.default_rng(5)
    image = field.image.copy()
    y, x = rng.integers(10, 502, (2, 200))
    image[y, x] += rng.uniform(500, 5000, 200)
    found = detrend(Pixels(image), field.row).flagged("CR")
    clear = field.noiseless[y, x] < 3
    assert clear.sum() > 100 and found[y, x][clear].mean() > 0.97
    assert not detrend(Pixels(field.image), field.row).flagged("CR")[field.noiseless > 200].any()


def test_cosmic_rays_beside_bright_stars_are_found():
    fwhm = 3.5
    field = starfield.make(size=512, varying=False, fwhm=fwhm, log_flux=(4.5, 5.5), seed=3)
    angle = np.random.default_rng(5).uniform(0, 2 * np.pi, len(field.x))
    x = np.rint(field.x + 1.2 * fwhm * np.cos(angle)).astype(int)
    y = np.rint(field.y + 1.2 * fwhm * np.sin(angle)).astype(int)
    inside = (np.minimum(x, y) > 20) & (np.maximum(x, y) < 490)
    y, x = y[inside, None] + np.arange(3), x[inside, None]
    image = field.image.copy()
    image[y, x] += 1000 + 3 * field.noiseless[y, x]
    # Three times as bright as the star's wing: far beyond the contrast of anything that the PSF has smoothed.
    assert detrend(Pixels(image), field.row).flagged("CR")[y, x].mean() > 0.98


def test_laplacian_agrees_with_its_definition():
    rng = np.random.default_rng(2)
    image, variance = rng.normal(0, 10, (2, 20, 20)).astype(np.float32) ** 2
    pixels = np.argwhere(np.ones((18, 18))) + 1
    inner = cosmicrays.laplacians(image, variance, pixels).reshape(18, 18)
    fine = np.repeat(np.repeat(image, 2, 0), 2, 1).astype(float)
    laplacian = 4 * fine
    for axis in (0, 1):
        laplacian -= np.roll(fine, 1, axis) + np.roll(fine, -1, axis)
    expected = np.maximum(laplacian, 0).reshape(20, 2, 20, 2).mean((1, 3)) / (2 * np.sqrt(variance))
    np.testing.assert_allclose(inner, expected[1:-1, 1:-1], rtol=1e-4)
