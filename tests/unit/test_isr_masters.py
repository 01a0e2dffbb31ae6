"""Master bias, dark and flat: the truth within the errors they state, from one frame or many, bad ones among them."""

from dataclasses import replace

import numpy as np
import pytest
import rawframes
from rawframes import GAIN, GAINS, READ_NOISE, SHAPE

from diaflow.errors import BadData
from diaflow.isr import masters
from diaflow.isr.assemble import Frame, assemble

REJECT = 5.0


def frame(electrons=0.0, exptime=0.0, seed=1, read_noise=()) -> Frame:
    return assemble(rawframes.expose(electrons, exptime, seed), rawframes.row(exptime), read_noise=read_noise)


def bias_frames(n, seed=100):
    """Frames without dark current."""
    return [frame(seed=seed + k) for k in range(n)]


@pytest.fixture(scope="module")
def bias():
    return masters.make("bias", bias_frames(10), REJECT)


@pytest.fixture(scope="module")
def dark(bias):
    noise = masters.known_read_noise(bias)
    return masters.make("dark", (frame(0, 60.0, 200 + k, noise) for k in range(5)), REJECT, bias)


def flat_frames(n, noise, level=20000.0, seed=300):
    return [frame(level * rawframes.flat_field(), 10.0, seed + k, noise) for k in range(n)]


def structure() -> np.ndarray:
    """The bias in the unit of the assembled image [DN]."""
    gains = np.empty(SHAPE)
    for (y, x), gain in zip(rawframes.TARGETS, GAINS):
        gains[y.slice, x.slice] = gain
    return rawframes.bias_structure() * gains / GAIN


def pulls(master, truth):
    return ((master.image - truth) / np.sqrt(master.variance))[master.mask == 0]


def assert_normal(pull, extra=0.0):
    """Mean 0 and width 1 within four sigma of their own scatter; `extra` for what else the width may be off."""
    assert abs(np.mean(pull)) < 4 / np.sqrt(pull.size) + extra
    assert np.std(pull) == pytest.approx(1, abs=4 / np.sqrt(2 * pull.size) + extra)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_bias_is_the_truth_within_its_errors(n):
    master = masters.make("bias", iter(bias_frames(n)), REJECT)
    assert master.metadata["n_frames"] == n and not master.mask.any()
    # The level of a row is common to its pixels: the mean of the pulls has the error of few hundred levels.
    assert_normal(pulls(master, structure()), extra=0.02)


def test_read_noise_is_that_of_the_differences_and_not_of_the_header(bias):
    found = masters.known_read_noise(bias)
    # The frames are rounded to integers; nine differences of 16384 pixels each.
    expected = [np.hypot(noise, gain / np.sqrt(12)) for noise, gain in zip(READ_NOISE, GAINS)]
    np.testing.assert_allclose(found, expected, rtol=4 / np.sqrt(2 * 9 * 128**2))


def test_a_single_bias_frame_has_the_noise_that_is_known():
    master = masters.make("bias", bias_frames(1), REJECT)
    assert masters.known_read_noise(master) == []
    assert_normal(pulls(master, structure()), extra=0.03)


def test_cosmic_rays_and_wrong_frames_do_not_reach_the_mean(bias):
    frames = bias_frames(10)
    for k, hit in enumerate(frames):
        hit.image[10 * k : 10 * k + 5, 50:60] += 500
    frames[3].image += 200
    master = masters.make("bias", frames, REJECT)
    assert master.metadata["n_frames"] == 10
    # Nine frames are left, eight where another one was hit.
    ratio = master.variance / bias.variance
    np.testing.assert_allclose(np.median(ratio), 10 / 9, rtol=0.01)
    np.testing.assert_allclose(np.median(ratio[10:15, 50:60]), 10 / 8, rtol=0.01)
    assert np.abs(pulls(master, structure())).max() < 6


def test_of_two_frames_the_one_without_a_cosmic_ray_counts():
    frames = bias_frames(2)
    frames[1].image[40, 40] += 1000
    master = masters.make("bias", frames, REJECT)
    assert abs(master.image[40, 40] - structure()[40, 40]) < 5 * np.sqrt(master.variance[40, 40])
    assert master.variance[40, 40] == pytest.approx(2 * master.variance[40, 41], rel=1e-5)


def test_dark_is_per_second_whatever_the_exposure_times(bias, dark):
    rate = rawframes.DARK / GAIN
    assert dark.metadata["inverse_exptime"] == pytest.approx(1 / 60, rel=1e-6)
    # The bias left its own noise in the dark, which is not in the dark's variance.
    variance = dark.variance + bias.variance / 60**2
    assert_normal((dark.image - rate) / np.sqrt(variance), extra=0.02)
    noise = masters.known_read_noise(bias)
    mixed = masters.make("dark", [frame(0, t, 250 + int(t), noise) for t in (30.0, 60.0, 240.0)], REJECT, bias)
    assert np.mean(mixed.image) == pytest.approx(rate, abs=0.002)
    assert mixed.metadata["inverse_exptime"] < 1 / 60


def test_what_bias_and_dark_add_is_the_variance_of_what_they_leave(bias):
    """With few frames of the exposure time of the dark the bias cancels, and the variance knows."""
    noise = masters.known_read_noise(bias)
    few = masters.make("bias", bias_frames(2, seed=400), REJECT)
    dark = masters.make("dark", [frame(0, 60.0, 500 + k, noise) for k in range(2)], REJECT, few)
    for time in (60.0, 240.0):
        science = frame(0, time, 600, noise)
        before = science.floor()
        variance = before + masters.subtract(science, few, dark)
        assert_normal(science.image / np.sqrt(variance), extra=0.02)


@pytest.mark.parametrize("n", [1, 2, 6])
def test_flat_is_the_response_within_its_errors(bias, dark, n):
    master = masters.make("flat", flat_frames(n, masters.known_read_noise(bias)), REJECT, bias, dark)
    assert np.median(master.image) == pytest.approx(1, abs=1e-6) and not master.mask.any()
    assert_normal(pulls(master, rawframes.flat_field()), extra=0.01)


def test_flat_of_noiseless_frames_is_the_response_to_a_few_parts_in_ten_thousand(monkeypatch):
    monkeypatch.setattr(rawframes, "bias_structure", lambda: np.zeros(SHAPE))
    frames = [replace(frame(3e4 * rawframes.flat_field(), 0.0, None), read_noise=list(READ_NOISE)) for _ in range(3)]
    np.testing.assert_allclose(masters.make("flat", frames, REJECT).image, rawframes.flat_field(), rtol=1e-4)


def test_flat_frames_of_different_levels_are_scaled_and_unusable_ones_left_out(bias, caplog):
    noise = masters.known_read_noise(bias)
    levels = [flat_frames(1, noise, level, seed)[0] for level, seed in ((40000.0, 1), (10000.0, 2), (60.0, 3))]
    saturated = flat_frames(1, noise, 1000.0, 4)[0]
    saturated.mask[:200] = 2
    master = masters.make("flat", [*levels, saturated], REJECT, bias)
    assert master.metadata["n_frames"] == 2 and caplog.text.count("left out") == 2
    # The dark current of 10 s is part of these frames: 5 electrons of 10,000.
    assert_normal(pulls(master, rawframes.flat_field()), extra=0.02)


def test_pixels_without_response_are_bad(bias):
    frames = flat_frames(2, masters.known_read_noise(bias))
    for dead in frames:
        dead.image[20:22, 30] = 10.0 + structure()[20:22, 30]
        dead.mask[50, 50] = 1
    master = masters.make("flat", frames, REJECT, bias)
    assert set(map(tuple, np.argwhere(master.mask))) == {(20, 30), (21, 30), (50, 50)}
    assert np.isfinite(master.image).all() and (master.variance > 0).all()


@pytest.mark.parametrize("kind", ["bias", "dark", "flat"])
def test_no_usable_frame_is_bad_data(kind):
    with pytest.raises(BadData, match=f"no usable {kind} frame"):
        masters.make(kind, [], REJECT)
    with pytest.raises(BadData, match="no usable"):
        masters.make("flat", [frame(0.0, 1.0)], REJECT)


def test_the_same_frames_give_the_same_bytes():
    first, again = (masters.make("bias", bias_frames(7), REJECT) for _ in range(2))
    assert first.image.tobytes() == again.image.tobytes() and first.variance.tobytes() == again.variance.tobytes()
