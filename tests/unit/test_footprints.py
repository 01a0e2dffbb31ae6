"""What is one source: peaks that the PSF cannot tell apart, sources across unusable pixels, of either sign."""

import numpy as np
import pytest
from builders import gaussian, pixel_gaussian
from scipy.spatial import cKDTree
from triplets import CONFIG, stars, triplet

from diaflow.detect import footprints
from diaflow.diasource import detection
from diaflow.image.planes import bits
from diaflow.measure.matchedfilter import smooth_snr
from diaflow.subtract.result import Difference

# Unusable pixels around a source: rows and columns of them from its pixel.
HOLES = {
    "column": (slice(-40, 41), slice(0, 1)),
    "column beside the centre": (slice(-40, 41), slice(-2, -1)),
    "three columns": (slice(-40, 41), slice(-1, 2)),
    "five columns": (slice(-40, 41), slice(-2, 3)),
    "row": (slice(0, 1), slice(-40, 41)),
    "blob": (slice(-2, 3), slice(-1, 4)),
    "pixel": (slice(0, 1), slice(0, 1)),
}


def sources_across(hole, sign, flux, plane="BAD"):
    """DIASources of four stars with a hole at each, and where the stars are."""
    x, y = np.array([60.3, 160.5, 60.0, 159.6]), np.array([60.2, 60.0, 159.5, 160.4])
    difference, science, template = triplet(stars((220, 220), x, y, sign * flux), seed=3)
    for column, row in np.rint([x, y]).astype(int).T:
        rows, columns = (slice(s.start + at, s.stop + at) for s, at in zip(HOLES[hole], (row, column)))
        difference.image[rows, columns] = 1e4  # whatever it is
        difference.mask[rows, columns] |= bits(plane)
    result = Difference(difference, template, np.zeros((2, 0)), {"science_variance_factor": 1.0})
    return detection.dia_sources(result, science, CONFIG), x, y


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("hole", HOLES)
def test_a_source_across_unusable_pixels_is_one_source_at_its_place(hole, sign):
    table, x, y = sources_across(hole, sign, 1000.0)
    assert len(table) == 4
    distance, row = cKDTree(np.column_stack([table["x"], table["y"]])).query(np.column_stack([x, y]))
    assert sorted(row) == [0, 1, 2, 3]
    assert (distance < 4 * np.hypot(table["xErr"], table["yErr"])[row]).all()
    # the flux at a fitted position scatters by up to half more than tabulated where half of the weight is lost
    pulls = (np.abs(table["psfFlux"][row]) - 1000) / table["psfFluxErr"][row]
    assert (np.abs(pulls) < 6).all()
    in_centre = hole != "column beside the centre"
    assert (table["pixelFlags"] == in_centre).all() and table["pixelFlags_bad"].all()


@pytest.mark.parametrize("peak", [8.0, 12.0, 20.0, 50.0])
def test_a_column_without_values_makes_no_two_sources_of_one(peak):
    y, x = np.mgrid[:64, :64]
    snr = peak * np.exp(-((x - 30.6) ** 2 + (y - 32) ** 2) / (4 * 1.9**2))
    snr[:, 29] = 0.0
    found = footprints.find(snr, 5.0, 1.9, np.zeros((64, 64), np.int32))
    assert len(found) == 1 and (found.x[0], found.y[0]) == (31, 32)


def test_the_signal_of_a_source_is_highest_at_its_place_whatever_is_masked():
    rng = np.random.default_rng(1)
    image = np.zeros((101, 101), np.float32)
    image[30:71, 30:71] = 100 * pixel_gaussian(1.7, 41)
    for _ in range(20):
        bad = rng.uniform(size=image.shape) < 0.4
        bad[50, 50] = True
        snr = smooth_snr(image, np.ones_like(image), bad, gaussian(1.7, 31))
        assert np.unravel_index(snr.argmax(), snr.shape) == (50, 50)


def test_of_sources_that_are_not_resolved_the_best_stays():
    x, y, height = np.array([10.0, 12.0, 30.0, 30.0, 50.0]), np.array([5.0, 5.0, 8.0, 8.0, 9.0]), [7, 9, 6, 6, 5]
    stays = footprints.resolved(x, y, np.array(height, float), 1.0)
    assert stays.tolist() == [False, True, True, False, True]
    assert footprints.resolved(x, y, np.array(height, float), 0.5).tolist() == [True, True, True, False, True]
    assert len(footprints.resolved(np.zeros(0), np.zeros(0), np.zeros(0), 1.0)) == 0


def test_peaks_of_one_sign_are_one_source_up_to_the_limit_of_resolution():
    for distance, number in ((5, 1), (6, 2)):  # 2 sqrt(2) 2.0 = 5.7
        snr = np.zeros((40, 40), np.float32)
        snr[20, 15], snr[20, 15 + distance] = 30.0, 20.0
        found = footprints.find(snr, 5.0, 2.0, np.zeros(snr.shape, np.int32))
        assert len(found) == number and found.x[0] == 15 and found.height[0] == 30


def test_some_of_the_footprints_are_those_sources():
    snr = np.zeros((60, 60), np.float32)
    snr[10, 10], snr[30, 30], snr[30, 33], snr[50, 40] = 8.0, 40.0, -20.0, -7.0
    found = footprints.find(snr, 5.0, 1.8, np.zeros(snr.shape, np.int32))
    some = found[np.array([False, True, True])]
    assert len(found) == 3 and len(some) == 2 and some.threshold == 5.0
    assert some.x.tolist() == [30, 40] and some.negative_peak.tolist() == [[33, 40], [30, 50]]
    assert some.height.tolist() == [40, 7] and some.is_negative.tolist() == [False, True]


@pytest.mark.parametrize(("distance", "reliable"), [(5, True), (3, True), (0, False), (-2, False)])
def test_a_source_at_an_edge_is_reliable_while_its_core_is_inside(distance, reliable):
    """The last lost column is `distance` pixels from that of the source; 3 pixels cut off 0.07 of the weight."""
    difference, science, template = triplet(stars((200, 200), [100.0], [100.0], 300.0), seed=5)
    difference.mask[:, : 101 - distance] |= bits("EDGE")
    difference.image[:, : 101 - distance] = 0
    result = Difference(difference, template, np.zeros((2, 0)), {"science_variance_factor": 1.0})
    table = detection.dia_sources(result, science, CONFIG)
    assert len(table) == 1 and table["pixelFlags_edge"][0] and table["pixelFlags"][0] != reliable
