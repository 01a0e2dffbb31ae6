"""Raw frame to detrended image: the sky comes back, and the variance is that of its noise in every amplifier."""

from dataclasses import replace

import numpy as np
import pytest
import rawframes
import starfield
from rawframes import GAIN, SHAPE
from test_isr_masters import REJECT, bias_frames, flat_frames, frame

from diaflow.errors import BadData, InputError, Kind
from diaflow.image.planes import bits
from diaflow.instruments.images import Pixels
from diaflow.isr import image_files, masters, signature
from diaflow.isr.detrend import detrend

SKY = 1000.0  # electrons


def calibrations(n):
    """Bias, dark and flat of n frames each."""
    bias = masters.make("bias", bias_frames(n, seed=1000), REJECT)
    noise = masters.known_read_noise(bias)
    dark = masters.make("dark", [frame(0, 60.0, 1100 + k, noise) for k in range(n)], REJECT, bias)
    return bias, dark, masters.make("flat", flat_frames(n, noise, seed=1200), REJECT, bias, dark)


@pytest.fixture(scope="module")
def many():
    return calibrations(8)


@pytest.fixture(scope="module")
def stars():
    """Stars over the sky [electron], up to 45,000 in a pixel."""
    rng = np.random.default_rng(21)
    x, y = rng.uniform(8, SHAPE[1] - 8, (2, 30))
    return starfield.painted(SHAPE, x, y, 10 ** rng.uniform(3, 6, 30), 3.5)


def detrended(sky, made, exptime=30.0, seed=77):
    """A science frame of `sky` electrons behind the flat, and what is left of it."""
    bias, dark, flat = made
    science = frame(sky * rawframes.flat_field(), exptime, seed, masters.known_read_noise(bias))
    return signature.remove(science, bias, dark, flat)


def pull_of(exposure, truth):
    """(measured - true) / error; sky may be estimated together with noise, so the mean is taken off."""
    return (exposure.image - truth / GAIN) / np.sqrt(exposure.variance)


@pytest.mark.parametrize("n", [1, 2, 8])
def test_sky_comes_back_with_pulls_of_width_one_in_every_amplifier(n, many):
    made = many if n == 8 else calibrations(n)
    pulls = pull_of(detrended(SKY, made), SKY)
    for place in ((slice(y, y + 128), slice(x, x + 128)) for y in (0, 128) for x in (0, 128)):
        amplifier = pulls[place]
        # 128 levels of rows are common to 128 pixels each: 0.02 sigma of a mean; four sigma, and 2 % for a single bias
        # frame, whose read noise is that of the overscan.
        assert abs(np.mean(amplifier)) < 0.08
        assert np.std(amplifier) == pytest.approx(1, abs=4 / np.sqrt(2 * amplifier.size) + 0.01)


def test_variance_of_stars_is_that_of_their_photons(many, stars):
    realisations = [detrended(SKY + stars, many, seed=s) for s in range(800, 824)]
    scatter = np.var([one.image for one in realisations], axis=0, ddof=1)
    mean = np.mean([one.variance for one in realisations], axis=0)
    flat = many[2].variance / many[2].image ** 2 * ((SKY + stars) / GAIN) ** 2
    for low, high in ((0, 1), (300, 3000), (3000, 50000)):
        level = (stars >= low) & (stars < high)
        # The masters are the same in all: their part of the variance does not scatter.
        ratio = np.mean(scatter[level] / (mean - flat - np.median(many[0].variance))[level])
        assert ratio == pytest.approx(1, abs=0.02 + 4 * np.sqrt(2 / 23 / level.sum()))


def test_flat_of_one_frame_leaves_its_noise_and_the_variance_knows():
    bias, dark, flat = calibrations(1)
    bright = detrended(20000.0, (bias, dark, flat))
    photons = 20000 / GAIN**2
    assert np.median(bright.variance) > 1.9 * photons  # the flat has 20,000 electrons too
    assert np.std(pull_of(bright, 20000.0)) == pytest.approx(1, abs=0.02)


def test_fluxes_are_those_above_the_atmosphere(many, stars):
    found = detrended(SKY + stars, many)
    bright = np.argwhere(stars > 20000)
    assert len(bright) > 5
    for y, x in bright:
        box = slice(y - 3, y + 4), slice(x - 3, x + 4)
        expected = (SKY + stars[box]) / GAIN
        assert abs(np.sum(found.image[box] - expected)) < 4 * np.sqrt(np.sum(found.variance[box]))


def test_without_masters_only_the_overscan_goes():
    found = signature.remove(frame(SKY, 0.0, 5), None, None, None)
    assert np.median(found.image) == pytest.approx(SKY / GAIN, rel=0.01)
    assert found.metadata["noise_model"] == "predicted"


def test_noise_that_the_model_does_not_predict_is_that_of_the_sky(many):
    bias, dark, flat = many
    science = replace(frame(SKY * rawframes.flat_field(), 30.0, 6), gain=3 * GAIN)
    found = signature.remove(science, bias, dark, flat)
    assert found.metadata["noise_model"] == "sky"
    # Measured by the median absolute deviation of every ninth pixel.
    assert np.std(pull_of(found, SKY)) == pytest.approx(1, abs=4 * 1.17 / np.sqrt(found.image.size / 9))
    assert found.metadata["gain"] == pytest.approx(3 * GAIN / found.metadata["noise_excess"])


def test_flaws_are_masked_and_hold_the_sky(many):
    bias, dark, flat = many
    science = frame(SKY * rawframes.flat_field(), 30.0, 7)
    science.mask[10:12, 10] |= bits("SAT")
    science.mask[100, 100], science.image[100, 100] = bits("BAD"), np.nan
    science.image[200, 200] = -500.0
    found = signature.remove(science, bias, dark, flat)
    assert found.flagged("SAT").sum() == 2 and found.flagged("BAD")[100, 100] and found.flagged("BAD")[200, 200]
    assert np.allclose(found.image[found.mask != 0], SKY / GAIN, rtol=0.05)
    assert np.isfinite(found.image).all() and (found.variance > 0).all()


def test_frames_without_light_or_with_masters_of_another_size_are_bad_data(many):
    saturated = frame(SKY, 1.0, 8)
    saturated.mask[:] = bits("SAT")
    with pytest.raises(BadData, match="saturated"):
        signature.remove(saturated, None, None, None)
    bias = replace(many[0], image=many[0].image[:10])
    with pytest.raises(BadData, match="master bias"):
        signature.remove(frame(SKY, 1.0, 9), bias, None, None)


def test_the_exposure_keeps_what_the_detrended_image_says(many, stars):
    made = detrended(SKY + stars, many)
    made.mask[5, 5], made.image[5, 5] = bits("BAD"), np.nan
    exposure = detrend(Pixels(made.image, variance=made.variance, mask=made.mask), rawframes.row(), edge=3)
    untouched = exposure.mask == 0
    assert untouched.mean() > 0.9
    assert np.array_equal(exposure.image[untouched], made.image[untouched])
    assert np.array_equal(exposure.variance[untouched], made.variance[untouched])
    assert exposure.metadata["noise_model"] == "delivered" and exposure.metadata["gain"] == pytest.approx(GAIN)
    assert exposure.flagged("INTRP")[5, 5] and np.isfinite(exposure.image).all() and (exposure.variance > 0).all()


def test_pixels_without_a_positive_variance_are_bad():
    image = np.random.default_rng(3).normal(100, 5, (200, 200)).astype(np.float32)
    variance = np.full(image.shape, 25, np.float32)
    variance[10, 10], variance[20, 20], variance[30, 30] = 0, np.nan, np.inf
    exposure = detrend(Pixels(image, variance=variance), starfield.row(200, bias=50.0), edge=0)
    assert set(map(tuple, np.argwhere(exposure.flagged("BAD")))) == {(10, 10), (20, 20), (30, 30)}
    assert np.allclose(exposure.variance, 25)
    assert np.median(exposure.image) == pytest.approx(100, abs=0.5)


def test_detrended_files_are_read_by_data_id_or_say_why_there_is_none(tmp_path, many):
    made = detrended(SKY, many)
    made.wcs, made.metadata["saturation"] = starfield.wcs(SHAPE[0]), 31000.0
    made.write(tmp_path / "7/3.fits")
    pixels = image_files.read_pixels(rawframes.row(), "ccd_raw", str(tmp_path))
    assert np.array_equal(pixels.image, made.image) and np.array_equal(pixels.variance, made.variance)
    assert np.array_equal(pixels.mask, made.mask) and pixels.header["CTYPE1"] == "RA---TAN"
    assert detrend(pixels, rawframes.row()).metadata["saturation"] == 31000
    image_files.write_failed(BadData("master bias: no usable bias frame", Kind.CALIBRATION), tmp_path / "8/3.fits")
    with pytest.raises(BadData, match="master bias: no usable bias frame"):
        image_files.read_pixels(rawframes.row(visit=8), "ccd_raw", str(tmp_path))
    with pytest.raises(InputError, match="9/3.fits"):
        image_files.read_pixels(rawframes.row(visit=9), "ccd_raw", str(tmp_path))
