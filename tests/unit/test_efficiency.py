"""The theory of detection against figures computed elsewhere and against pixels; the fit against known samples."""

import numpy as np
import pytest
from builders import gaussian
from noisepeaks import peak_density

from diaflow.validate import efficiency

THRESHOLD = 5.0


# Of peaks within two pixels of the source, threshold 5 sigma; the profile was another, hence the tolerance.
@pytest.mark.parametrize(
    ("fwhm", "half"), [(1.3, 5.30), (1.6, 5.22), (2.0, 5.06), (2.5, 5.00), (3.5, 4.87), (5.0, 4.79), (10.0, 4.77)]
)
def test_half_of_the_sources_are_found_at_this_signal_to_noise(fwhm, half):
    assert efficiency.expected_half(np.array([fwhm]), THRESHOLD) == pytest.approx(half, abs=0.08)


def test_theory_rises_from_none_to_all():
    snr = np.linspace(0, 12, 50)
    p = efficiency.probability(snr, np.full(50, 4.0), THRESHOLD)
    assert (np.diff(p) >= 0).all()
    assert p[0] < 1e-3 and p[-1] > 0.9999
    assert np.isnan(efficiency.probability(snr[:1], np.array([np.nan]), THRESHOLD)).all()


def test_a_mixed_sample_is_between_its_parts():
    sharp, broad, mixed = (
        efficiency.expected_half(np.array(fwhm), THRESHOLD) for fwhm in ([1.3], [5.0], [1.3, 5.0, np.nan])
    )
    assert broad < mixed < sharp


# Kaiser's formula is of a continuous field, and holds pixels that are above the threshold but no peak for peaks.
@pytest.mark.parametrize(("sigma", "tolerance"), [(2.0, 0.15), (4.0, 0.07)])
def test_peaks_of_noise_are_those_of_a_gaussian_field(sigma, tolerance):
    stamp = gaussian(sigma, 41)
    expected = peak_density(THRESHOLD, stamp)
    assert efficiency.noise_peaks(stamp, THRESHOLD) == pytest.approx(expected, rel=tolerance)


def test_peaks_of_noise_are_pixels_above_the_threshold_where_neighbours_are_independent():
    stamp = np.zeros((11, 11))
    stamp[5, 5] = 1
    assert efficiency.noise_peaks(stamp, 3.0) == pytest.approx(2 * 0.00135, rel=0.01)


def test_peaks_of_noise_are_counted_on_pixels():
    rng = np.random.default_rng(1)
    stamp, threshold = gaussian(1.0, 15), 3.0
    size = 1500
    padded = np.zeros((size, size))
    padded[:15, :15] = stamp / np.sqrt((stamp**2).sum())
    field = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * np.fft.rfft2(padded), (size, size))
    around = [np.roll(field, (dy, dx), (0, 1)) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
    n = int(((field > threshold) & np.all([field > each for each in around], axis=0)).sum())
    expected = size**2 * efficiency.noise_peaks(stamp, threshold) / 2
    assert n == pytest.approx(expected, abs=4 * np.sqrt(expected))


def test_a_fit_finds_the_curve_of_a_sample():
    truth = efficiency.Curve(0.95, 5.1, 1.0, np.zeros((3, 3)))
    off = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        snr = rng.uniform(3, 10, 1000)
        curve = efficiency.fit(snr, rng.uniform(size=1000) < truth(snr))
        half, error = curve.half()
        off.append((half - truth.half()[0]) / error)
    assert np.abs(off).max() < 3.5
    assert 0.5 < np.std(off) < 1.6  # 12 standard normal deviates, 3 standard errors


@pytest.mark.parametrize("found", [np.zeros(100, bool), np.ones(100, bool), np.ones(5, bool)])
def test_nothing_is_fitted_where_nothing_is_learnt(found):
    assert efficiency.fit(np.linspace(3, 10, len(found)), found) is None


def test_a_plateau_below_one_half_has_no_half():
    assert np.isnan(efficiency.Curve(0.4, 5.0, 1.0, np.eye(3)).half()).all()
