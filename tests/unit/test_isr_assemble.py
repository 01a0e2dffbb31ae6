"""Amplifiers to one image: overscan, linearity, gain, crosstalk, flips, saturation and defects."""

from dataclasses import replace

import numpy as np
import pytest
import rawframes
import starfield
from rawframes import GAIN, GAINS, READ_NOISE

from diaflow.errors import BadData
from diaflow.instruments.raw import Amplifier, Raw, Span
from diaflow.isr import assemble as assembly
from diaflow.isr.assemble import assemble


@pytest.fixture(scope="module")
def scene():
    y, x = np.mgrid[: rawframes.SHAPE[0], : rawframes.SHAPE[1]]
    return 1000 + 45000 * np.exp(-((x - 60) ** 2 + (y - 70) ** 2) / 8) + 3 * x + 5 * y


def one(counts, overscan=None, **values) -> Raw:
    """A frame of one amplifier."""
    counts = np.asarray(counts)
    overscan = counts[:, :0] if overscan is None else overscan
    target = tuple(Span(0, n) for n in counts.shape)
    levels = {"gain": 1.0, "read_noise": 5.0, "saturation": 65000.0} | values
    return Raw([Amplifier(counts, overscan, target, **levels)], np.zeros(counts.shape, bool))


def test_without_noise_the_electrons_of_every_pixel_come_back(scene):
    frame = assemble(rawframes.expose(scene, 30.0, seed=None), rawframes.row())
    left = rawframes.bias_structure()
    for place, gain in zip(frame.places, GAINS):
        # The structure of the bias goes through linearity and gain as the counts do; its crosstalk is 1e-3 DN.
        expected = (scene[place] + rawframes.DARK * 30) / GAIN + left[place] * gain / GAIN
        slope = 2 * rawframes.LINEARITY[0] * scene[place].max() / gain
        np.testing.assert_allclose(frame.image[place], expected, rtol=2e-6, atol=8 * slope + 5e-3)
    assert not frame.mask.any()


def test_bias_free_frame_is_recovered_to_float_precision(scene, monkeypatch):
    monkeypatch.setattr(rawframes, "bias_structure", lambda: np.zeros(rawframes.SHAPE))
    frame = assemble(rawframes.expose(scene, 30.0, seed=None), rawframes.row())
    # float32 resolves 65536 DN to 0.004 DN.
    np.testing.assert_allclose(frame.image, (scene + rawframes.DARK * 30) / GAIN, rtol=1e-6, atol=0.01)


@pytest.mark.parametrize("order", [None, 5])
def test_overscan_follows_the_drift_of_the_level(order):
    rows, n, noise = 4000, 64, 4.0
    rng = np.random.default_rng(1)
    drift = 300 + 10 * np.sin(np.arange(rows) / 900)
    overscan = drift[:, None] + rng.normal(0, noise, (rows, n))
    overscan[rng.integers(0, rows, 400), rng.integers(0, n, 400)] += 5000
    level, spread, share = assembly.overscan_level(overscan, order)
    error = noise * np.sqrt(share)
    assert np.std(level[:, 0] - drift) < (1.05 * error if order is None else 3 * error + 0.05)
    assert share == pytest.approx(1 / n if order is None else 6 / (n * rows))
    assert spread == pytest.approx(noise, rel=3 / np.sqrt(2 * overscan.size))


@pytest.mark.parametrize("level", [2.0, 4.5, 6.5])
def test_constant_overscan_is_subtracted_exactly(level):
    counts = np.full((50, 60), 100 + level, np.float32) + np.arange(60, dtype=np.float32)
    frame = assemble(one(counts, np.full((50, 20), level, np.float32)), rawframes.row(gain=1.0))
    np.testing.assert_allclose(frame.image, counts - level, atol=1e-3)


@pytest.mark.parametrize("noise", [0.7, 3.0, 10.0])
def test_read_noise_of_integer_overscan_is_measured(noise):
    overscan = np.rint(np.random.default_rng(2).normal(500, noise, (4000, 100))).astype(np.uint16)
    frame = assemble(one(np.full((4000, 2), 500, np.uint16), overscan, gain=2.0), rawframes.row(gain=2.0))
    # Rounding to integers adds a variance of 1/12.
    assert frame.read_noise[0] == pytest.approx(2 * np.hypot(noise, np.sqrt(1 / 12)), rel=3e-3)


def test_floor_is_the_read_noise_of_each_amplifier_with_the_noise_of_its_level():
    frame = assemble(rawframes.expose(1000.0, 30.0, seed=3), rawframes.row())
    n = rawframes.NY * rawframes.N_OVERSCAN
    for place, noise in zip(frame.places, READ_NOISE):
        expected = (noise / GAIN) ** 2 * (1 + 1 / rawframes.N_OVERSCAN)
        # Rounding adds 1/12 DN**2; four sigma of the measurement.
        rounding = (noise**2 + GAINS[READ_NOISE.index(noise)] ** 2 / 12) / noise**2
        assert frame.floor()[place] == pytest.approx(expected * rounding, rel=8 / np.sqrt(2 * n))
    measured = assemble(rawframes.expose(1000.0, 30.0, seed=3), rawframes.row(), read_noise=[4.0] * 4)
    assert np.allclose(measured.floor(), (4 / GAIN) ** 2 * (1 + 1 / rawframes.N_OVERSCAN))


def test_target_written_backwards_flips():
    counts = np.arange(12.0).reshape(3, 4)
    raw = one(counts)
    flipped = replace(raw.amplifiers[0], target=(Span(0, 3, flipped=True), Span(0, 4, flipped=True)))
    frame = assemble(replace(raw, amplifiers=[flipped]), rawframes.row(gain=1.0))
    assert np.array_equal(frame.image, counts[::-1, ::-1])


def test_crosstalk_coefficients_of_measured_ghosts_are_undone():
    rng = np.random.default_rng(4)
    true = [rng.uniform(0, 50000, (20, 30)).astype(np.float32) for _ in range(2)]
    matrix = np.array([[0, 1e-3], [-2e-3, 0]])
    # The second amplifier is read from its right-hand side.
    mixed = [true[0] + 1e-3 * true[1][:, ::-1], true[1] - 2e-3 * true[0][:, ::-1]]
    for found, expected in zip(assembly.without_crosstalk(mixed, matrix, ["ll", "lr"]), true):
        np.testing.assert_allclose(found, expected, atol=0.02)
    with pytest.raises(BadData, match="different sizes"):
        assembly.without_crosstalk([true[0], true[1][:5]], matrix, ["ll", "ll"])


def test_lost_pixels_have_no_crosstalk_and_stay_lost():
    signals = [np.full((2, 2), 100.0, np.float32) for _ in range(2)]
    signals[1][0, 0] = np.nan
    first, second = assembly.without_crosstalk(signals, np.array([[0, 0.1], [0, 0]]), ["ll", "ll"])
    assert first[0, 0] == 100 and first[1, 1] == pytest.approx(90) and np.isnan(second[0, 0])


@pytest.mark.parametrize(
    ("linearity", "expected"),
    [
        (None, [100.0, 10000.0, 60000.0]),
        ([1e-6], [100.01, 10100.0, 63600.0]),
        ([1e-6, 1e-11], [100.01001, 10110.0, 65760.0]),
        ({"measured": [0, 10000, 50000], "true": [0, 10100, 52000]}, [101.0, 10100.0, 62000.0]),
    ],
)
def test_linearity_is_a_polynomial_or_a_table(linearity, expected):
    counts = np.array([100.0, 10000.0, 60000.0], np.float32)
    np.testing.assert_allclose(assembly.linearized(counts, linearity), expected, rtol=1e-6)


def test_saturation_is_that_of_each_amplifier_and_grows_by_a_pixel():
    counts = np.random.default_rng(5).integers(900, 1100, (40, 50)).astype(np.uint16)
    counts[10, 10], counts[20:25, 30] = 50000, 60000
    frame = assemble(one(counts, saturation=55000.0), rawframes.row(gain=1.0))
    assert (frame.mask == 2).sum() == 7 * 3 and (frame.mask[19:26, 29:32] == 2).all() and not frame.mask[10, 10]


@pytest.mark.parametrize("shown", [True, False])
def test_a_plateau_of_a_raw_frame_takes_the_place_of_its_saturation(shown):
    field = starfield.make(size=256, log_flux=(3.0, 6.2))
    counts = np.minimum(field.image, 20000.0 if shown else 64000.0)
    overscan = np.full((256, 20), starfield.BIAS)
    frame = assemble(one(counts, overscan, saturation=64000.0), rawframes.row(gain=1.0, saturation=64000.0))
    assert frame.saturation == pytest.approx(20000 if shown else 64000, rel=1e-4)
    assert ((frame.mask[counts == counts.max()] & 2) != 0).all()


def test_ends_of_the_integer_range_are_no_measurement():
    counts = np.random.default_rng(6).integers(900, 1100, (40, 50)).astype(np.uint16)
    counts[5, 5], counts[30, 30] = 0, 65535
    frame = assemble(one(counts, saturation=1e6), rawframes.row(gain=1.0))
    assert frame.mask[5, 5] == 1 and (frame.mask[29:32, 29:32] == 2).all() and (frame.mask != 0).sum() == 10
    floats = assemble(one(counts.astype(np.float32), saturation=1e6), rawframes.row(gain=1.0))
    assert not floats.mask.any()


def test_defects_are_bad_and_never_saturated():
    counts = np.random.default_rng(7).integers(900, 1100, (40, 50)).astype(np.uint16)
    counts[0, :20] = 65535
    raw = one(counts)
    raw.defects[0] = True
    frame = assemble(raw, rawframes.row(gain=1.0))
    assert (frame.mask[0] == 1).all() and not frame.mask[1:].any()


def test_pixels_that_no_amplifier_reads_are_bad():
    raw = replace(one(np.arange(100.0).reshape(10, 10)), defects=np.zeros((10, 15), bool))
    frame = assemble(raw, rawframes.row(gain=1.0))
    assert (frame.mask[:, 10:] == 1).all() and not frame.mask[:, :10].any()


def test_bias_column_is_the_level_where_there_is_no_overscan():
    frame = assemble(one(np.arange(100.0).reshape(10, 10)), rawframes.row(gain=1.0, bias=30.0))
    assert frame.image[3, 4] == 4.0


@pytest.mark.parametrize("noise", [0.1, 0.7, 1.0, 20.0])
def test_clipped_scatter_is_that_of_the_core_of_integers(noise):
    rng = np.random.default_rng(8)
    values = np.rint(rng.normal(50, noise, 200000))
    expected = values.std()
    values[:2000] += rng.choice([-1, 1], 2000) * rng.uniform(20, 1000, 2000) * noise + 2
    assert assembly.clipped_std(values) == pytest.approx(expected, rel=0.02)
