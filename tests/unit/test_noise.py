import numpy as np
import pytest

from diaflow.image.lanczos import kernel_table
from diaflow.image.noise import Noise


def lanczos_shift(image, dx, dy):
    """Lanczos-3 resampling by a shift, along both axes."""
    table = kernel_table().astype(float)
    for axis, shift in ((0, dy), (1, dx)):
        taps = table[int(shift * len(table))]
        image = sum(w * np.roll(image, -k, axis) for k, w in zip(range(-2, 4), taps))
    return image


def test_white_noise_has_no_colour():
    for factor in (0.9, 1.0):
        np.testing.assert_array_equal(Noise(factor).kernel((50, 50)).centre(), [[1.0]])


@pytest.mark.parametrize("factor", [1.1, 1.6, 3.0, 8.0])
def test_stamp_has_unit_sum_and_the_pixel_variance_that_the_factor_says(factor):
    """What is cut off at 25 pixels is 1 % of the power of the widest, which has the sharpest edge in frequency."""
    stamp = Noise(factor).kernel((50, 50)).centre()
    assert stamp.sum() == pytest.approx(1, abs=1e-9)
    assert 1 / (stamp**2).sum() == pytest.approx(factor, rel=0.01)


def test_power_after_one_resampling_is_that_of_resampled_noise():
    """64 shifts of 128**2 pixels: mean power in a quarter of the frequencies known to 0.2 %; 6 % for the overshoot."""
    rng = np.random.default_rng(1)
    phases = (np.arange(8) + 0.5) / 8
    power = np.mean(
        [
            np.abs(np.fft.fft2(lanczos_shift(rng.normal(size=(128, 128)), dx, dy))) ** 2 / 128**2
            for dx in phases
            for dy in phases
        ],
        axis=0,
    )
    stamp = Noise(1 / power.mean()).kernel((50, 50)).centre()
    model = np.abs(np.fft.fft2(stamp, (128, 128))) ** 2
    k = np.abs(np.fft.fftfreq(128))
    for low, high in ((0, 0.125), (0.125, 0.25), (0.25, 0.375), (0.375, 0.51)):
        part = np.ix_((k >= low) & (k < high), (k >= low) & (k < high))
        assert model[part].mean() == pytest.approx(power[part].mean(), rel=0.06, abs=0.03)


def test_excess_variance_is_that_of_noise_resampled_twice():
    """Variance over the product of those of single resamplings, over all phases: noise of 1e6 pixels known to 0.3 %."""
    rng = np.random.default_rng(2)
    phases = (np.arange(4) + 0.5) / 4
    single, double = [], []
    for phase in phases:
        once = lanczos_shift(rng.normal(size=(256, 256)), phase, phases[::-1][int(phase * 4)])
        single.append(once.var())
        double += [lanczos_shift(once, dx, dy).var() for dx in phases for dy in phases]
    factor = 1 / np.mean(single)
    assert np.mean(double) * factor**2 == pytest.approx(Noise(factor).excess_variance(factor), rel=0.02)
    assert Noise(1.0).excess_variance(factor) == pytest.approx(1, abs=1e-6)
