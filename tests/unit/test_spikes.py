"""Spikes of saturated stars are marked, and what is no spike is not: point sources around the same stars."""

import numpy as np
import pytest
from builders import pixel_gaussian
from triplets import SIGMA, stars, with_noise

from diaflow.detect import spikes, streaks
from diaflow.detect.binned import Bins
from diaflow.image.planes import bits

SHAPE = (600, 600)
X, Y = np.array([110.3, 430.8, 300.2, 120.6, 470.1]), np.array([120.7, 100.4, 310.9, 480.2, 490.5])
CORE, END = 16.0, 70.0  # of the saturated pixels, and of the spikes [pixel from the star]
BRIGHT, DARK = (31.0, 121.0), (76.0, 166.0)  # of the science image and of the template [deg]
PEAK = 1.2  # of a spike at its start, falling as 1 over the distance [sigma of a pixel]
SNR = (6.0, 12.0)  # of point sources: like a spike in a few bins, and recognised as compact


def about(x, y):
    """Distance and angle of each pixel from a star."""
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(columns - x, rows - y), np.arctan2(rows - y, columns - x)


def cores():
    return np.any([about(x, y)[0] < CORE for x, y in zip(X, Y)], axis=0)


def on_arms(angles, width):
    """Height of the arms, 1 at their start, and which pixels are within a width of one."""
    height, near = np.zeros(SHAPE), np.zeros(SHAPE, bool)
    for x, y in zip(X, Y):
        distance, toward = about(x, y)
        for angle in np.radians(angles):
            off = distance * np.abs(np.sin(toward - angle))
            inside = (distance < END) & (np.abs(np.cos(toward - angle)) > 0.5)
            height += np.exp(-0.5 * (off / 1.5) ** 2) * inside * CORE / np.maximum(distance, CORE)
            near |= inside & (off < width)
    return height, near


def marked(image, rng):
    """Pixels with STREAK."""
    difference = with_noise(image + rng.normal(size=SHAPE), 1.0)
    difference.mask[cores()] |= bits("SAT")
    streaks.mark(difference)
    return (difference.mask & bits("STREAK")) != 0


@pytest.fixture(scope="module")
def spiky():
    """Spikes of both signs, and what is within 3 pixels of the middle of one."""
    (bright, near_bright), (dark, near_dark) = on_arms(BRIGHT, 3), on_arms(DARK, 3)
    return PEAK * (bright - dark), (near_bright | near_dark) & ~cores()


def points(rng, distance, angle, snr):
    """Image of a point source of either sign at each star, and their pixels (row, column)."""
    x, y = np.clip([X + distance * np.cos(angle), Y + distance * np.sin(angle)], 30, SHAPE[0] - 30)
    flux = snr / np.sqrt((pixel_gaussian(SIGMA, 41) ** 2).sum())
    return stars(SHAPE, x, y, flux * rng.choice([-1, 1], len(X))), (np.rint(y).astype(int), np.rint(x).astype(int))


def test_arms_of_both_signs_are_marked_that_are_no_lines_of_their_own(spiky):
    image, near = spiky
    rng = np.random.default_rng(1)
    # At their ends, a quarter as bright as at their start, arms are lost in noise.
    assert np.mean([marked(image, rng)[near].mean() for _ in range(3)]) > 0.8
    difference = with_noise(image + rng.normal(size=SHAPE), 1.0)
    snr = streaks.contrasts(Bins.of(difference.image, difference.variance, cores()))
    lines = np.zeros(SHAPE, np.int32)
    streaks.paint(lines, streaks.find(snr), 1)
    assert lines[near].mean() < 0.3


@pytest.mark.parametrize("snr", SNR)
def test_point_sources_between_the_arms_are_not_marked(spiky, snr):
    image, _ = spiky
    rng = np.random.default_rng(2)
    found = []
    for _ in range(6):
        # Arms are 45 degrees apart; the middle between two is 13 to 24 pixels off them at these distances.
        angle = np.radians(BRIGHT[0] + 22.5 + 45 * rng.integers(0, 8, 5))
        sources, at = points(rng, CORE * rng.uniform(2.2, 4, 5), angle, snr)
        found.extend(marked(image + sources, rng)[at])
    assert not any(found)


@pytest.mark.parametrize("snr", SNR)
def test_point_sources_around_stars_without_spikes_are_not_marked(snr):
    rng = np.random.default_rng(4)
    for _ in range(4):
        sources, _ = points(rng, CORE * rng.uniform(1.5, 4, 5), rng.uniform(0, 2 * np.pi, 5), snr)
        assert not marked(sources, rng).any()


def test_a_point_source_beyond_an_arm_does_not_lengthen_it(spiky):
    image = spiky[0]
    rng = np.random.default_rng(3)
    found = []
    for _ in range(8):
        angle = np.radians(rng.choice(BRIGHT + DARK, 5) + rng.choice([0, 180], 5))
        sources, at = points(rng, END + rng.uniform(15, 40, 5), angle, SNR[0])
        found.extend(marked(image + sources, rng)[at])
    # The end of an arm is where noise hides it: one of nine is as long as this without a source.
    assert np.mean(found) < 0.35


def test_an_image_without_saturated_stars_has_no_arms():
    assert spikes.find(np.zeros((10, 10), np.float32), *spikes.stars(np.zeros((40, 40), np.int32))) == []


def test_stars_are_at_the_middle_of_their_pixels():
    x, y = spikes.stars(cores() * np.int32(bits("SAT_TEMPLATE")))
    order = np.argsort(x)
    # a bin has 4 pixels; a core of 800 pixels has its middle within 1 / sqrt(800) of a pixel or so
    np.testing.assert_allclose(4 * x[order] + 1.5, np.sort(X), atol=0.1)
    np.testing.assert_allclose(4 * y[order] + 1.5, Y[np.argsort(X)], atol=0.1)
