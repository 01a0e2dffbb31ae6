"""Lines on difference images: covered within their width, and nothing where there is none."""

import numpy as np
import pytest
from scipy.stats import poisson
from triplets import stars

from diaflow.detect import binned, streaks

SHAPE = (1024, 1000)


def line(angle, offset, sigma, shape=SHAPE, start=-np.inf, end=np.inf):
    """Gaussian ridge of unit height through the middle of the image, and the distance of each pixel from it."""
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    dx, dy = xx - shape[1] / 2, yy - shape[0] / 2
    off = dx * np.cos(angle) + dy * np.sin(angle) - offset
    along = dy * np.cos(angle) - dx * np.sin(angle)
    on = (along > start) & (along < end)
    return np.exp(-0.5 * (off / sigma) ** 2) * on, np.abs(off), along


def painted(image, bad=None):
    bins = binned.Bins.of(
        image.astype(np.float32), np.ones(image.shape, np.float32), bad if bad is not None else image > 1e9
    )
    found = streaks.find(streaks.contrasts(bins))
    mask = np.zeros(image.shape, np.int32)
    streaks.paint(mask, found, 4)
    return mask == 4, found


@pytest.mark.slow
@pytest.mark.parametrize("angle", [0.0, 0.3, np.pi / 2, 2.2])
@pytest.mark.parametrize("height", [0.4, 2.0, -2.0, 50.0])
def test_a_trail_across_the_image_is_covered_within_its_width_and_little_else(height, angle):
    ridge, off, _ = line(angle, 90.0, 2.0)
    mask, found = painted(height * ridge + np.random.default_rng(1).normal(size=SHAPE))
    assert len(found) == 1
    # Pixels where the trail is brighter than 0.14 of its ridge.
    assert mask[off < 4].mean() > 0.97
    # A bin beside the trail, its half, and the wings of the brightest above the noise.
    assert not mask[off > 16].any()


def test_a_spike_of_70_pixels_is_found_and_ends_where_it_ends():
    ridge, off, along = line(0.7, -50.0, 2.0, start=-35, end=35)
    mask, found = painted(4 * ridge + np.random.default_rng(2).normal(size=SHAPE))
    assert len(found) == 1
    assert mask[(off < 4) & (np.abs(along) < 30)].mean() > 0.97
    assert not mask[(off > 16) | (np.abs(along) > 35 + 24)].any()


def test_a_masked_gap_does_not_end_a_trail():
    ridge, off, along = line(0.5, 0.0, 2.0)
    image = 2 * ridge + np.random.default_rng(3).normal(size=SHAPE)
    gap = np.abs(along) < 60
    image[gap] = 1e6
    mask, found = painted(image, bad=gap)
    assert mask[(off < 4) & ~gap].mean() > 0.97


def test_a_trail_is_covered_up_to_the_border_between_bad_columns_there():
    """A piece between two columns looks like a star; the trail has no other end."""
    ridge, off, along = line(-2.4, 300.0, 2.0)
    image = 10 * ridge + np.random.default_rng(4).normal(size=SHAPE)
    columns = np.arange(SHAPE[1])
    right = columns[np.nonzero(ridge > 0.5)[1]].max()
    bad = np.zeros(SHAPE, bool)
    bad[:, (np.abs(columns - right + 14) < 3) | (np.abs(columns - right + 42) < 3)] = True
    mask, found = painted(image, bad)
    assert len(found) == 1
    assert mask[(off < 4) & ~bad].mean() > 0.99
    assert not mask[off > 16].any()


def test_noise_has_no_streaks():
    rng = np.random.default_rng(4)
    for _ in range(4):
        assert not painted(rng.normal(size=SHAPE))[1]


@pytest.mark.parametrize("flux", [1000.0, 10000.0])
def test_stars_of_either_sign_are_no_streaks(flux):
    """A hundred residuals in a million pixels; S/N 118 and 1180."""
    for seed in range(2):
        rng = np.random.default_rng(seed)
        x, y = rng.uniform(40, 950, (2, 100))
        image = stars(SHAPE, x, y, flux * rng.choice([-1, 1], 100)) + rng.normal(size=SHAPE)
        assert painted(image)[0].mean() < 0.002


def test_least_votes_are_those_that_noise_rarely_reaches():
    least = streaks.least_votes(0.0228, 90.0, 142, 256.0)
    chance = streaks.CHANCE / (142 * 90.0 * 256)
    mean = 2 * 0.0228 * 90
    assert poisson.sf(least - 1, mean) <= chance < poisson.sf(least - 2, mean)


def test_bins_hold_the_sums_of_usable_pixels():
    rng = np.random.default_rng(5)
    image, bad = rng.normal(size=(10, 14)).astype(np.float32), rng.uniform(size=(10, 14)) < 0.2
    bins = binned.Bins.of(image, np.full_like(image, 2), bad)
    assert bins.total.shape == (3, 4)
    np.testing.assert_allclose(bins.total[1, 2], image[4:8, 8:12][~bad[4:8, 8:12]].sum(), rtol=1e-5)
    np.testing.assert_allclose(bins.variance[2, 3], 2 * (~bad[8:, 12:]).sum())
    np.testing.assert_allclose(bins.count[0, 0], (~bad[:4, :4]).sum())


def test_the_sky_is_found_where_it_stands_out_and_left_alone_where_it_does_not():
    rng = np.random.default_rng(6)
    noise, ones, bad = rng.normal(size=SHAPE).astype(np.float32), np.ones(SHAPE, np.float32), np.zeros(SHAPE, bool)
    left = binned.background(binned.Bins.of(noise, ones, bad))
    # 650 cells: their scatter is known to 4 % of the noise; only the mean level remains, below its error of 1e-3.
    assert left.scatter == 0 and np.ptp(left.cells) == 0 and abs(left.cells.flat[0]) < 4e-3
    np.testing.assert_allclose(left.noise, 1 / 40, rtol=0.1)
    yy, xx = np.mgrid[: SHAPE[0], : SHAPE[1]]
    sky = 0.3 * np.sin(xx / 80) * np.sin(yy / 90) + 0.5
    sources = stars(SHAPE, *rng.uniform(40, 950, (2, 100)), 1000.0)
    left = binned.background(binned.Bins.of((noise + sky + sources).astype(np.float32), ones, bad))
    found = binned.expanded(left.cells, SHAPE, 40)
    # A mean of 1600 pixels has 0.025 of noise, interpolation of the waves about as much; unmasked wings add to it.
    assert (found - sky)[40:-40, 40:-40].std() < 0.04 and abs((found - sky).mean()) < 0.01
    np.testing.assert_allclose(left.scatter, sky.std(), rtol=0.1)
