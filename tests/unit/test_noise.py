"""Noise of exposures: its spectrum against resampled noise, its algebra, and that nobody forgets it."""

import numpy as np
import pytest
from astropy.io import fits
from builders import exposure

from diaflow.errors import InputError
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.lanczos import kernel_table
from diaflow.image.noise import WHITE, Noise


def lanczos_shift(image, dx, dy):
    """Lanczos-3 resampling by a shift, along both axes."""
    table = kernel_table().astype(float)
    for axis, shift in ((0, dy), (1, dx)):
        taps = table[int(shift * len(table))]
        image = sum(w * np.roll(image, -k, axis) for k, w in zip(range(-2, 4), taps))
    return image


def test_white_noise_has_no_kernel_but_one_pixel():
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
    assert WHITE.excess_variance(factor) == pytest.approx(1, abs=1e-6)


def test_spectrum_is_that_of_the_kernel():
    """What the kernel loses beyond 25 pixels is 1 % of the power."""
    for factor in (1.2, 1.8, 4.0):
        stamp = np.zeros((64, 64))
        stamp[:25, :25] = Noise(factor).kernel((50, 50)).centre()
        power = Noise(factor).power(64)
        assert power.shape == (64, 33) and power[0, 0] == pytest.approx(1, abs=1e-12)
        # the cut leaves ripples: 0.022 at the edge of the spectrum of 1.8, less for the others
        np.testing.assert_allclose(np.abs(np.fft.rfft2(stamp)) ** 2, power, atol=0.03)
        assert np.mean(np.abs(np.fft.rfft2(stamp)) ** 2 - power) == pytest.approx(0, abs=0.01)


def test_variance_at_low_frequencies_is_the_plane_times_the_factor():
    plane = np.array([[1.0, 2.0], [np.inf, 0.0]], np.float32)
    assert WHITE.low_frequency_variance(plane) is plane
    scaled = Noise(1.5).low_frequency_variance(plane)
    assert scaled.dtype == np.float32
    np.testing.assert_array_equal(scaled, [[1.5, 3.0], [np.inf, 0.0]])


def test_error_of_a_psf_flux_takes_its_own_factor_where_there_is_one():
    assert Noise(4.0).psf_flux_error(3.0) == 6.0
    assert Noise(16.0, 4.0).psf_flux_error(3.0) == 6.0


def test_noise_is_scaled_resampled_and_averaged():
    assert Noise(2.0).scaled(1.5) == Noise(3.0)
    assert Noise(2.0, 1.5).scaled(2.0) == Noise(4.0, 3.0)
    assert Noise(2.0, 1.5).resampled(1.2) == Noise(2.4)
    assert Noise.mean([Noise(1.0), Noise(2.0)], [3, 1]) == Noise(1.25)
    assert Noise.mean([Noise(1.0, 2.0), Noise(2.0, 4.0)], [1, 1]) == Noise(1.5, 3.0)
    # A factor that one image does not know is not known of the mean.
    assert Noise.mean([Noise(1.0, 2.0), Noise(2.0)], [1, 1]) == Noise(1.5)


@pytest.mark.parametrize("noise", [WHITE, Noise(0.53), Noise(49.0, 30.0)])
def test_noise_survives_the_metadata_and_takes_its_keys_out_of_them(noise):
    metadata = {"visit": 7} | noise.to_metadata()
    assert Noise.from_metadata(metadata) == noise
    assert metadata == {"visit": 7}


def test_noise_that_is_not_told_is_not_white():
    with pytest.raises(KeyError):
        Noise.from_metadata({"visit": 7, "psf_covariance_factor": 2.0})


def test_an_exposure_says_what_its_noise_is():
    made = exposure(np.ones((4, 5)), noise=Noise(2.0))
    with pytest.raises(TypeError, match="noise"):
        Exposure(made.image, made.variance, made.mask, made.wcs)
    at_low_frequencies = made.with_low_frequency_variance()
    assert (at_low_frequencies.variance == 2).all() and at_low_frequencies.noise == Noise(2.0)
    assert Exposure.empty(made.wcs, (4, 5)).noise == WHITE


def test_a_file_has_the_noise_of_its_exposure_and_one_without_is_refused_by_name(tmp_path):
    path = tmp_path / "warp.fits"
    exposure(np.ones((4, 5)), noise=Noise(1.7, 1.3), visit=7).write(path)
    back = Exposure.read(path)
    assert back.noise == ExposureFile(path).noise == Noise(1.7, 1.3)
    assert back.metadata == ExposureFile(path).metadata == {"visit": 7}
    with fits.open(path, mode="update") as hdus:
        del hdus[0].header["COVARIANCE_FACTOR"]
    for read in (Exposure.read, ExposureFile):
        with pytest.raises(InputError, match=r"warp\.fits.*covariance_factor"):
            read(path)
