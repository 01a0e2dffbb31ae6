"""DIASources of difference images with known transients, dipoles, masks or nothing but noise."""

import numpy as np
import pytest
from builders import constant_psf, pixel_gaussian
from scipy.special import erf
from scipy.stats import poisson
from triplets import CONFIG, SCIENCE_NOISE, SIGMA, TEMPLATE_NOISE, scattered, stars, triplet, wcs_at, with_noise

from diaflow.detect import binned, footprints, streaks
from diaflow.diasource import detection, dipole
from diaflow.errors import BadData
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.measure import photometry
from diaflow.measure.matchedfilter import smooth_snr
from diaflow.store import ids
from diaflow.subtract.result import Difference


def result_of(difference, template, x=(), y=()):
    """What a subtraction gives that found the variances right and used the stars at x, y."""
    return Difference(difference, template, np.array([x, y], float), {"science_variance_factor": 1.0})


def dia_sources(difference, science, template, config):
    """Take the sky from a difference, mark its streaks and detect what is on it."""
    binned.remove_sky(difference)
    streaks.mark(difference)
    return detection.dia_sources(result_of(difference, template), science, config)


def ten_transients(sign=1, seed=0, wcs=None, shape=(300, 320)):
    rng = np.random.default_rng(seed + 100)
    x, y = scattered(rng, shape, 10)
    return *triplet(stars(shape, x, y, sign * 1000.0), seed, wcs), x, y


def matched(table, x, y):
    """Row of the nearest source for each truth, and its distance."""
    distance = np.hypot(table["x"][:, None] - x, table["y"][:, None] - y)
    return distance.argmin(axis=0), distance.min(axis=0)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("seed", [0, 1])
def test_all_transients_of_either_sign_are_found_with_their_flux(sign, seed):
    difference, science, template, x, y = ten_transients(sign, seed)
    table = dia_sources(difference, science, template, CONFIG)
    rows, distance = matched(table, x, y)
    assert len(table) == 10 and len(set(rows)) == 10
    # Position error: sqrt(8 pi) sigma**2 noise / flux = 0.03 pixel for each axis.
    assert distance.max() < 5 * 0.03
    # Flux error: sqrt(4 pi) sigma noise = 8.8, so 0.9 %; the tolerance of LSST's own test is 2.8 of it.
    np.testing.assert_allclose(table["psfFlux"][rows], sign * 1000, atol=4 * 8.8)
    np.testing.assert_allclose(table["psfFluxErr"], 8.8, rtol=0.02)
    np.testing.assert_allclose(table["snr"], table["psfFlux"] / table["psfFluxErr"], rtol=1e-6)
    np.testing.assert_array_equal(table["isNegative"], sign < 0)
    assert not (table["isDipole"] | table["pixelFlags"] | table["centroid_flag"] | table["psfFlux_flag"]).any()
    # The aperture of 12 pixels has a noise of sqrt(pi) 12 x 1.03.
    np.testing.assert_allclose(table["apFlux"][rows], sign * 1000, atol=4 * 22)
    np.testing.assert_allclose(table["scienceFlux"][rows], sign * 1000, atol=4 * 8.6)
    np.testing.assert_allclose(table["templateFlux"][rows], 0, atol=4 * 2.2)
    # A pixel adds 1/12 to the variance; the noise of a moment at S/N 114 is about 2 sigma**2 / 114 without the weight.
    np.testing.assert_allclose(np.median(table["ixx"] + table["iyy"]) / 2, (0.2 * SIGMA) ** 2, rtol=0.1)
    np.testing.assert_allclose(table["ixxPSF"], 0.04 * (SIGMA**2 + 1 / 12), rtol=0.01)


def test_sky_positions_and_errors_follow_an_origin_far_from_zero():
    wcs = wcs_at(12345, 67890)
    difference, science, template, x, y = ten_transients(wcs=wcs)
    table = dia_sources(difference, science, template, CONFIG)
    rows, _ = matched(table, x, y)
    ra, dec = wcs_at().all_pix2world(table["x"] + 12345, table["y"] + 67890, 0)
    np.testing.assert_allclose(table["ra"], ra, rtol=0, atol=1e-9)
    np.testing.assert_allclose(table["dec"], dec, rtol=0, atol=1e-9)
    # The scale of a tangent plane 3.8 degrees off its centre is 0.4 % finer.
    np.testing.assert_allclose(table["raErr"], table["xErr"] * 0.2 / 3600, rtol=0.01)
    np.testing.assert_allclose(table["decErr"], table["yErr"] * 0.2 / 3600, rtol=0.01)
    assert matched(table, x, y)[1].max() < 0.2


def test_identity_and_time_come_from_the_metadata():
    difference, science, template, *_ = ten_transients()
    difference.metadata["visit_in_template"] = True
    table = dia_sources(difference, science, template, CONFIG)
    np.testing.assert_array_equal(table["diaSourceId"], ids.source_ids(42, 7, 10))
    assert set(table["visit"]) == {42} and set(table["detector"]) == {7} and set(table["band"]) == {"r"}
    assert set(table["midpointMjdTai"]) == {60000.5} and set(table["exposureTime"]) == {30.0}
    assert table["visitInTemplate"].all() and (table["diaObjectId"] == 0).all()


def test_sources_are_in_the_order_of_their_rows_and_the_same_every_time():
    tables = []
    for _ in range(2):
        difference, science, template, *_ = ten_transients()
        tables.append(dia_sources(difference, science, template, CONFIG))
    for column in tables[0].dtype.names:
        np.testing.assert_array_equal(tables[0][column], tables[1][column])
    assert (np.diff(np.round(tables[0]["y"])) >= 0).all()


def test_a_transient_on_a_star_has_the_fluxes_of_both():
    shape = (300, 320)
    x, y = scattered(np.random.default_rng(5), shape, 10)
    difference, science, template = triplet(stars(shape, x, y, 1000.0), static=stars(shape, x, y, 3000.0))
    table = dia_sources(difference, science, template, CONFIG)
    rows, _ = matched(table, x, y)
    # 0.03 pixel of position error costs 1e-4 of a star's flux.
    np.testing.assert_allclose(table["scienceFlux"][rows], 4000, atol=4 * 8.6)
    np.testing.assert_allclose(table["templateFlux"][rows], 3000, atol=4 * 2.2 + 2)


def test_stars_subtracted_one_pixel_off_are_one_dipole_each():
    shape = (300, 320)
    rng = np.random.default_rng(6)
    x, y = scattered(rng, shape, 10)
    sky = stars(shape, x, y, rng.uniform(1000, 1500, 10))
    difference, science, template = triplet(np.zeros(shape), static=sky)
    template.image = np.roll(template.image, 1, axis=0)
    difference.image = science.image - template.image
    table = dia_sources(difference, science, template, CONFIG)
    rows, distance = matched(table, x, y)
    assert len(table) == 10 and len(set(rows)) == 10
    assert table["isDipole"].all() and not table["isNegative"].any()
    # Each lobe peaks within sqrt(2) sigma of the star, moved by the noise.
    assert distance.max() < 2 * SIGMA
    np.testing.assert_allclose(table["apFlux"], 0, atol=4 * 22)


def test_a_bright_transient_with_a_faint_ring_is_no_dipole():
    snr = np.zeros((60, 60), np.float32)
    snr[30, 30], snr[30, 35] = 40.0, -6.0
    found = footprints.find(snr, 5.0, 1.8, np.zeros(snr.shape, np.int32))
    assert len(found) == 1 and not dipole.is_balanced(found)[0] and not found.is_negative[0]
    assert (found.x[0], found.y[0]) == (30, 30)
    snr[30, 35] = -39.0
    assert dipole.is_balanced(footprints.find(snr, 5.0, 1.8, np.zeros(snr.shape, np.int32)))[0]


def test_the_fainter_lobe_may_be_below_the_threshold_but_not_below_half_of_it():
    snr = np.zeros((60, 60), np.float32)
    snr[30, 30], snr[26, 33], snr[30, 40] = -6.0, 3.6, 4.9
    found = footprints.find(snr, 5.0, 1.8, np.zeros(snr.shape, np.int32))
    assert len(found) == 1 and found.is_negative[0] and dipole.is_balanced(found)[0]
    assert found.positive[0] == np.float32(3.6) and found.positive_peak[:, 0].tolist() == [33, 26]
    assert found.negative_peak[:, 0].tolist() == [30, 30]
    snr[26, 33] = 2.4  # and the other is 10 pixels away
    assert not footprints.find(snr, 5.0, 1.8, np.zeros(snr.shape, np.int32)).has_both_signs[0]


def test_detection_planes_mark_the_footprints_of_each_sign():
    difference, science, template, x, y = ten_transients()
    difference.mask[:] = bits("DETECTED", "DETECTED_NEGATIVE", "SUSPECT")  # left over from the calexp
    dia_sources(difference, science, template, CONFIG)
    detected = difference.flagged("DETECTED")
    assert detected[np.round(y).astype(int), np.round(x).astype(int)].all()
    assert 0.01 < detected.mean() < 0.1 and not difference.flagged("DETECTED_NEGATIVE").any()
    assert difference.flagged("SUSPECT").all()
    difference, science, template, x, y = ten_transients(-1)
    dia_sources(difference, science, template, CONFIG)
    assert difference.flagged("DETECTED_NEGATIVE").any() and not difference.flagged("DETECTED").any()


@pytest.mark.parametrize("plane", ["BAD", "SAT", "EDGE", "NO_DATA", "SAT_TEMPLATE"])
def test_sources_covered_by_unusable_pixels_are_dropped(plane):
    difference, science, template, x, y = ten_transients()
    for xi, yi in np.round([x[:3], y[:3]]).astype(int).T:
        difference.mask[yi - 14 : yi + 15, xi - 14 : xi + 15] |= bits(plane)
    table = dia_sources(difference, science, template, CONFIG)
    assert len(table) == 7
    assert matched(table, x[3:], y[3:])[1].max() < 0.5
    assert not table["pixelFlags"].any()


def test_a_saturated_star_flags_its_own_residual_and_not_a_transient_20_pixels_away():
    shape = (300, 320)
    residual = stars(shape, [150.0], [150.0], 1e5) + stars(shape, [174.0], [150.0], 1000.0)
    difference, science, template = triplet(residual)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    difference.mask[np.hypot(xx - 150, yy - 150) < 6] |= bits("SAT")
    table = dia_sources(difference, science, template, CONFIG)
    wing = np.hypot(table["x"] - 150, table["y"] - 150) < 18
    assert wing.any() and table["pixelFlags"][wing].all() and table["pixelFlags_saturated"][wing].all()
    transient, distance = matched(table, np.array([174.0]), np.array([150.0]))
    assert distance[0] < 0.5 and not table["pixelFlags"][transient[0]]


@pytest.mark.parametrize(
    ("plane", "column", "centre_column", "reliable_nearby"),
    [
        ("CR", "pixelFlags_cr", "pixelFlags_crCenter", True),
        ("INTRP", "pixelFlags_interpolated", "pixelFlags_interpolatedCenter", True),
        ("BAD", "pixelFlags_bad", None, True),
        ("SAT", "pixelFlags_saturated", "pixelFlags_saturatedCenter", False),
        ("SAT_TEMPLATE", "pixelFlags_saturatedTemplate", "pixelFlags_saturatedTemplateCenter", False),
        ("NO_DATA", "pixelFlags_nodata", "pixelFlags_nodataCenter", True),
        ("EDGE", "pixelFlags_edge", None, True),
    ],
)
def test_a_masked_pixel_in_the_centre_or_the_footprint_sets_its_flags(plane, column, centre_column, reliable_nearby):
    difference, science, template, x, y = ten_transients()
    ix, iy = np.round([x[:2], y[:2]]).astype(int)
    difference.mask[iy[0] + 1, ix[0] + 1] |= bits(plane)
    difference.mask[iy[1] + 4, ix[1]] |= bits(plane)
    table = dia_sources(difference, science, template, CONFIG)
    rows, _ = matched(table, x, y)
    np.testing.assert_array_equal(table[column][rows], [True, True] + [False] * 8)
    np.testing.assert_array_equal(table["pixelFlags"][rows], [True, not reliable_nearby] + [False] * 8)
    if centre_column:
        np.testing.assert_array_equal(table[centre_column][rows], [True] + [False] * 9)
    np.testing.assert_allclose(table["psfFlux"][rows], 1000, atol=4 * 8.8 * 1.1)


def test_a_suspect_template_is_a_flaw_of_negative_sources_and_a_suspect_image_of_all():
    for sign in (1, -1):
        difference, science, template, x, y = ten_transients(sign)
        ix, iy = np.round([x[:2], y[:2]]).astype(int)
        difference.mask[iy, ix] |= bits("SUSPECT")
        science.mask[iy[1], ix[1]] |= bits("SUSPECT")
        table = dia_sources(difference, science, template, CONFIG)
        rows, _ = matched(table, x, y)
        np.testing.assert_array_equal(table["pixelFlags"][rows], [sign < 0, True] + [False] * 8)
        np.testing.assert_array_equal(table["pixelFlags_suspectCenter"][rows], [True, True] + [False] * 8)


@pytest.mark.parametrize("name", ["sensor_edge", "inexact_psf"])
def test_planes_of_the_template_that_leave_a_source_reliable_have_columns(name):
    difference, science, template, x, y = ten_transients()
    ix, iy = np.round([x[:2], y[:2]]).astype(int)
    difference.mask[iy[0] + 1, ix[0] + 1] |= bits(name.upper())
    difference.mask[iy[1] + 4, ix[1]] |= bits(name.upper())
    table = dia_sources(difference, science, template, CONFIG)
    rows, _ = matched(table, x, y)
    np.testing.assert_array_equal(table[f"pixelFlags_{name}"][rows], [True, True] + [False] * 8)
    np.testing.assert_array_equal(table[f"pixelFlags_{name}Center"][rows], [True] + [False] * 9)
    assert not table["pixelFlags"].any()


def test_snr_of_noise_has_unit_width_whatever_the_variance_and_the_mask():
    rng = np.random.default_rng(7)
    shape = (1024, 1024)
    variance = np.exp(rng.normal(size=(8, 8))).repeat(128, 0).repeat(128, 1).astype(np.float32)
    image = (rng.normal(size=shape) * np.sqrt(variance)).astype(np.float32)
    bad = rng.uniform(size=shape) < 0.1
    image[bad] = np.nan
    bad[400:500, 300:500] = True
    snr = smooth_snr(image, variance, bad, pixel_gaussian(1.8, 31))
    assert (snr[410:490, 310:490] == 0).all() and (snr != 0).mean() > 0.97
    # The filter joins 8 pi sigma**2 = 81 pixels for the square of S/N: 1.3e4 independent values, 0.6 % of error.
    for there in (~bad, bad & (snr != 0)):
        assert abs(snr[there].std() - 1) < 4 / np.sqrt(2 * shape[0] * shape[1] / 81)


def test_snr_is_the_psf_flux_over_its_error():
    difference, science, template, *_ = ten_transients()
    snr = smooth_snr(difference.image, difference.variance, difference.mask != 0, difference.psf.centre())
    yy, xx = np.mgrid[60:240:7, 60:240:7]
    fit = photometry.psf_flux(
        difference.image, difference.variance, difference.mask == 0, difference.psf, xx.ravel(), yy.ravel()
    )
    np.testing.assert_allclose(snr[yy, xx].ravel(), fit.flux / fit.err, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [4.0, 4.5, 5.0])
def test_false_positives_of_either_sign_are_those_of_gaussian_noise(threshold):
    rng = np.random.default_rng(8)
    shape, sigma, n_images = (2048, 2048), 1.8, 2
    counts = np.zeros(2)
    for _ in range(n_images):
        noise = rng.normal(size=shape).astype(np.float32)
        snr = smooth_snr(noise, np.ones_like(noise), np.zeros(shape, bool), pixel_gaussian(sigma, 31))
        negative = footprints.find(snr, threshold, sigma, np.zeros(shape, np.int32)).is_negative
        counts += (~negative).sum(), negative.sum()
    # Peaks per area of smoothed white noise (Slosar & Lupton, DMTN-006), for the PSF after pixel integration.
    area = sigma**2 + 1 / 12
    peaks = threshold * np.exp(-(threshold**2) / 2) / (2**2.5 * np.pi**1.5) * shape[0] * shape[1] * n_images / area
    # The peak pixel is off the peak: nu (1 - d**2 / (4 area)) averaged over d in one pixel, in the exponential.
    a = threshold / (2 * np.sqrt(area))
    expected = peaks * (np.sqrt(np.pi) / a * erf(a / 2)) ** 2
    low, high = poisson.interval(0.999, expected)
    assert (low <= counts).all() and (counts <= high).all()


def test_nothing_but_noise_gives_an_empty_table():
    difference, science, template = triplet(np.zeros((200, 200)))
    table = dia_sources(difference, science, template, {"threshold": 8.0, "aperture": 12.0})
    assert len(table) == 0 and table.dtype.names[0] == "diaSourceId"


def test_errors_on_the_template_count_its_correlated_noise():
    difference, science, template, *_ = ten_transients()
    template.noise = Noise(4.0)
    table = dia_sources(difference, science, template, CONFIG)
    np.testing.assert_allclose(table["templateFluxErr"], 2 * 0.25 * 2 * np.sqrt(np.pi) * SIGMA, rtol=0.02)


def test_two_transients_whose_wings_touch_are_two_sources():
    x, y = np.array([140.0, 156.0]), np.array([150.0, 152.0])
    for fluxes in ([2000.0, 1000.0], [2000.0, -1000.0]):
        difference, science, template = triplet(stars((300, 320), x, y, fluxes))
        table = dia_sources(difference, science, template, CONFIG)
        assert len(table) == 2 and not table["isDipole"].any()
        assert matched(table, x, y)[1].max() < 0.2
        np.testing.assert_array_equal(table["isNegative"], np.array(fluxes)[matched(table, x, y)[0]] < 0)


def test_noise_on_a_plateau_as_large_as_the_image_makes_one_source():
    difference, *_ = triplet(np.full((400, 400), 10.0))
    snr = smooth_snr(difference.image, difference.variance, difference.mask != 0, difference.psf.centre())
    found = footprints.find(snr, 5.0, SIGMA, difference.mask)
    assert len(found) == 1 and found.bbox_size[0] == 400


def test_a_psf_that_is_not_finite_is_bad_data():
    difference, science, template, *_ = ten_transients()
    difference.psf = constant_psf(np.full((31, 31), np.nan), difference.shape)
    with pytest.raises(BadData, match="PSF"):
        dia_sources(difference, science, template, CONFIG)


def test_dipoles_are_at_the_middle_of_their_lobes_and_have_their_separation_and_direction():
    shape = (300, 320)
    rng = np.random.default_rng(6)
    x, y = scattered(rng, shape, 10)
    flux = rng.uniform(1000, 1500, 10)
    difference, science, template = triplet(np.zeros(shape), static=stars(shape, x, y, flux))
    template.image = np.roll(template.image, 1, axis=0)
    difference.image = science.image - template.image
    table = dia_sources(difference, science, template, CONFIG)
    rows, distance = matched(table, x, y + 0.5)
    assert table["isDipole"].all() and table["dipoleFitAttempted"].all() and not table["pixelFlags"].any()
    # The centroid of a star on the science image is good to sqrt(8 pi) sigma**2 / 1000 = 0.03 pixel.
    assert distance.max() < 5 * 0.03
    np.testing.assert_allclose(table["dipoleLength"], 0.2, atol=5 * 0.03 * 0.2)
    # The positive lobe is at lower y, south; 0.03 pixel across one pixel is 1.7 degrees.
    np.testing.assert_allclose(table["dipoleAngle"], 180, atol=5 * 1.7)
    np.testing.assert_allclose(table["dipoleMeanFlux"][rows], flux, atol=4 * 8)
    pull = table["dipoleFluxDiff"] / table["dipoleFluxDiffErr"]
    assert np.abs(pull).max() < 4 and abs(pull.std() - 1) < 4 / np.sqrt(20)


def test_a_variable_star_that_leaves_a_faint_ring_is_no_dipole():
    """Its fluxes on science image and template are nearly equal, but not the lobes of the difference."""
    shape = (300, 320)
    x, y = scattered(np.random.default_rng(5), shape, 10)
    static = stars(shape, x, y, 4000.0)
    ring = stars(shape, x + 6, y, -120.0)
    difference, science, template = triplet(stars(shape, x, y, 1000.0) + ring, static=static)
    table = dia_sources(difference, science, template, CONFIG)
    rows, distance = matched(table, x, y)
    assert table["dipoleFitAttempted"][rows].any()
    assert not table["isDipole"].any() and distance.max() < 0.5


def test_trails_are_measured_on_the_sky():
    shape = (300, 320)
    x, y = scattered(np.random.default_rng(9), shape, 10)
    trails = np.zeros(shape)
    for t in 5 * ((np.arange(40) + 0.5) / 20 - 1):
        trails += stars(shape, x + t * np.cos(0.5), y + t * np.sin(0.5), 2000.0 / 40)
    difference, science, template = triplet(trails)
    table = dia_sources(difference, science, template, CONFIG)
    rows, _ = matched(table, x, y)
    assert len(table) == 10 and not (table["trail_flag"] | table["pixelFlags"] | table["isDipole"]).any()
    for column, truth in (("trailFlux", 2000.0), ("trailLength", 10 * 0.2)):
        assert np.abs((table[column] - truth) / table[f"{column}Err"]).max() < 4
    # x grows to the west: a line that rises with x leans west of north
    assert np.abs((table["trailAngle"] - (90 + np.degrees(0.5))) / table["trailAngleErr"]).max() < 4
    ra, dec = wcs_at().all_pix2world(x, y, 0)
    np.testing.assert_allclose([table["trailRa"][rows], table["trailDec"][rows]], [ra, dec], rtol=0, atol=0.05 / 3600)
    assert (table["extendedness"] == 1).all()
    _, science, template, *_ = ten_transients()
    points = dia_sources(ten_transients()[0], science, template, CONFIG)
    assert (points["extendedness"] == 0).all() and points["trail_flag"].all()
    np.testing.assert_array_equal(np.isnan(points["trailLength"]), True)


def test_a_trail_across_the_image_flags_what_is_on_it():
    shape = (400, 420)
    x, y = np.array([100.0, 210.0, 300.0]), np.array([180.0, 200.0, 80.0])
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    off = (xx - 210) * np.sin(0.8) - (yy - 200) * np.cos(0.8)
    difference, science, template = triplet(stars(shape, x, y, 1000.0) + 3 * np.exp(-0.5 * (off / SIGMA) ** 2))
    table = dia_sources(difference, science, template, CONFIG)
    rows, distance = matched(table, x, y)
    on_trail = np.abs((x - 210) * np.sin(0.8) - (y - 200) * np.cos(0.8)) < 3
    assert on_trail.tolist() == [False, True, False]
    np.testing.assert_array_equal(table["pixelFlags_streakCenter"][rows][~on_trail], False)
    along_it = np.abs((table["x"] - 210) * np.sin(0.8) - (table["y"] - 200) * np.cos(0.8)) < 5
    assert along_it.any() and table["pixelFlags"][along_it].all() and table["pixelFlags_streak"][along_it].all()


def test_a_sky_that_was_left_over_does_no_harm():
    """LSST's differential background, Chebyshev polynomials of order 2."""
    shape = (512, 512)
    rng = np.random.default_rng(100)
    x, y = scattered(rng, shape, 10)
    difference, science, template = triplet(stars(shape, x, y, 1000.0), wcs=wcs_at(123, 456))
    v, u = np.mgrid[-1:1:512j, -1:1:512j]
    sky = 2.2 + 2.1 * u + 2.0 * v + 1.2 * (2 * u**2 - 1) + 1.1 * u * v + 1.0 * (2 * v**2 - 1)
    difference.image += sky.astype(np.float32)
    table = dia_sources(difference, science, template, CONFIG)
    rows, distance = matched(table, x, y)
    assert len(table) == 10 and len(set(rows)) == 10 and distance.max() < 5 * 0.03
    # A cell's mean is known to 0.026; times the PSF's noise-equivalent area of 74 pixels, 1.9 on the flux's 8.9.
    np.testing.assert_allclose(table["psfFlux"][rows], 1000, atol=4 * np.hypot(8.9, 1.9))
    assert not table["pixelFlags"].any()


@pytest.mark.slow
@pytest.mark.parametrize("sky", [0.0, 0.1])
def test_fluxes_of_dia_sources_pass_a_pull_test(sky):
    """16 images of 100 transients; the sky of the second case has waves of 0.1 sigma per pixel."""
    pulls = []
    yy, xx = np.mgrid[:850, :850]
    for seed in range(16):
        rng = np.random.default_rng(seed)
        x, y = (g.ravel() * 80 + 65 + rng.uniform(-20, 20, 100) for g in np.mgrid[:10, :10])
        flux = rng.uniform(150, 400, 100) * rng.choice([-1, 1], 100)
        image = stars(xx.shape, x, y, flux) + rng.normal(size=xx.shape)
        difference = with_noise(image + sky * np.sin(xx / 70) * np.sin(yy / 90), 1.0)
        table = dia_sources(difference, with_noise(image, 1.0), with_noise(0 * image, 1.0), CONFIG)
        rows, distance = matched(table, x, y)
        assert distance.max() < 2
        pulls.append((table["psfFlux"][rows] - flux) / table["psfFluxErr"][rows])
        # a fitted position gains the square of its own error, half a chi-squared of two: 1 / (S/N)
        pulls[-1] -= np.sign(flux) / np.abs(table["snr"][rows])
    pulls = np.concatenate(pulls)
    # The bar is 0.05 for both; 1600 values have errors of 0.03 and 0.018.  The waves alone would add 0.1 to the width.
    assert abs(np.median(pulls)) < 0.05 + 0.03
    assert abs(pulls.std() - 1) < 0.05 + 0.018


def test_flashes_of_a_satellite_are_flagged_and_a_transient_beside_them_is_not():
    shape = (400, 400)
    x = np.append(60 + 50.0 * np.arange(6), 300.0)
    y = np.append(100 + 25.0 * np.arange(6), 80.0)
    image = stars(shape, x, y, 600) + np.random.default_rng(4).normal(0, SCIENCE_NOISE, shape)
    blank = with_noise(np.zeros(shape), TEMPLATE_NOISE)
    table = dia_sources(with_noise(image, SCIENCE_NOISE), with_noise(image, SCIENCE_NOISE), blank, CONFIG)
    flash = np.hypot(table["x"][:, None] - x[:6], table["y"][:, None] - y[:6]).min(1) < 1
    assert flash.sum() == 6 and len(table) >= 7
    assert (table["glint_trail"] == flash).all()
