"""Objects of a coadd: what is one peak and what two, one list of several bands, and pixels shared out to children."""

from dataclasses import replace

import numpy as np
import pytest
from builders import tan_wcs
from scipy.spatial import cKDTree

from diaflow.catalogue import deblend, detection, merge, symmetry
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.image.planes import bits
from diaflow.psf.stampfield import StampField

SIZE, FWHM, BETA, GAIN = 400, 4.0, 3.5, 100.0
STAMP = 41
PITCH = 44  # of the sources [pixel]


def moffat(dx, dy):
    """Stamps (n, 41, 41) of unit sum about positions (n,) off the centre."""
    t = np.arange(STAMP) - STAMP // 2
    r2 = (t - np.asarray(dx)[:, None, None]) ** 2 + (t[:, None] - np.asarray(dy)[:, None, None]) ** 2
    profile = (1 + r2 * 4 * (2 ** (1 / BETA) - 1) / FWHM**2) ** -BETA
    return profile / profile.sum((1, 2), keepdims=True)


PSF = moffat([0.0], [0.0])[0]
UNIT = 1 / np.sqrt((PSF**2).sum())  # flux of S/N 1 where the noise of a pixel is 1


def coadd(x, y, snr, seed=0, image=0.0):
    """A coadd of stars and an image, with the noise of sky and photons."""
    padded = np.zeros((SIZE + 2 * STAMP, SIZE + 2 * STAMP))
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    for stamp, flux, i, j in zip(moffat(x - ix, y - iy), snr * UNIT, ix + STAMP // 2 + 1, iy + STAMP // 2 + 1):
        padded[j : j + STAMP, i : i + STAMP] += flux * stamp
    noiseless = padded[STAMP:-STAMP, STAMP:-STAMP] + image
    variance = 1 + noiseless / GAIN
    pixels = noiseless + np.random.default_rng(seed).normal(size=noiseless.shape) * np.sqrt(variance)
    shape = (SIZE, SIZE)
    return Exposure(
        pixels.astype(np.float32),
        variance.astype(np.float32),
        np.zeros(shape, np.int32),
        tan_wcs(shape, scale=0.2),
        StampField(PSF[None], 0, shape),
        noise=WHITE,
    )


def lattice(seed=1):
    """Isolated places at random phases."""
    node = np.arange(30, SIZE - 30, PITCH)
    rng = np.random.default_rng(seed)
    return (grid.ravel() + rng.uniform(-3, 3, grid.size) for grid in np.meshgrid(node, node))


def pairs(snr, ratio, separation):
    """Places and S/N of stars with companions of a flux ratio, so many FWHM away in random directions."""
    x, y = lattice()
    angle = np.random.default_rng(2).uniform(0, 2 * np.pi, len(x))
    x2, y2 = x + separation * FWHM * np.cos(angle), y + separation * FWHM * np.sin(angle)
    return np.concatenate([x, x2]), np.concatenate([y, y2]), np.repeat([snr, snr * ratio], len(x))


def deblended(exposure, *others):
    """Peaks, tree, deblender and blends in the first band of some coadds."""
    coadds = [exposure, *others]
    found = [detection.detect(each, PSF) for each in coadds]
    peaks = merge.merge(found, 0.2)
    tree = deblend.tree(peaks, exposure.flagged("NO_DATA"))
    deblender = deblend.Deblender(peaks, tree, coadds.__getitem__, [each.sigma for each in found])
    return peaks, tree, deblender, deblender.blends(exposure)


def total(blends, rows):
    """Sum of the pixels of some objects."""
    return np.array([blends.pixels[blends.offsets[n] : blends.offsets[n + 1]].sum() for n in rows])


@pytest.mark.parametrize(
    ("snr", "ratio", "separation"), [(100, 1, 1.25), (1000, 1, 1.25), (100, 1 / 3, 2), (1000, 0.1, 2.5)]
)
def test_pairs_are_found_where_they_are_and_have_their_flux(snr, ratio, separation):
    x, y, truth = pairs(snr, ratio, separation)
    _, tree, deblender, blends = deblended(coadd(x, y, truth))
    leaves = np.flatnonzero(tree.peak >= 0)
    assert len(leaves) == len(x), "no peak too many, none too few"
    distance, nearest = cKDTree(np.column_stack([blends.x, blends.y])[leaves]).query(np.column_stack([x, y]))
    assert np.unique(nearest).size == len(x) and np.median(distance) < 0.2
    for which in np.split(nearest, 2):
        flux = total(blends, leaves[which]) / (truth[np.flatnonzero(np.isin(nearest, which))] * UNIT)
        # of single pairs the noise of a few hundred pixels is in it
        assert np.median(flux) == pytest.approx(1, abs=0.02 + 3 * 15 / snr / ratio / 8)


@pytest.mark.parametrize("separation", [3.0, 3.5, 4.5])
def test_a_star_on_the_wing_of_a_bright_one_is_where_it_is(separation):
    x, y, truth = pairs(5000, 0.006, separation)
    found = detection.detect(coadd(x, y, truth), PSF)
    faint = np.column_stack([x, y])[len(x) // 2 :]
    distance, nearest = cKDTree(np.column_stack([found.x, found.y])).query(faint)
    seen = distance < FWHM / 2
    assert seen.mean() > 0.5 and np.unique(nearest).size == len(faint)
    assert len(cKDTree(np.column_stack([found.x, found.y])).query_pairs(FWHM / 2)) == 0, "none is another's double"


@pytest.mark.parametrize("snr", [8, 100, 5000])
def test_a_single_star_stays_one(snr):
    x, y = lattice()
    exposure = coadd(x, y, np.full(len(x), float(snr)))
    found = detection.detect(exposure, PSF)
    distance, nearest = cKDTree(np.column_stack([x, y])).query(np.column_stack([found.x, found.y]))
    assert np.unique(nearest).size == len(found.x)
    assert len(found.x) >= (0.95 if snr == 8 else 1) * len(x)
    assert distance.max() < FWHM / 2


def test_stars_at_the_borders_are_where_they_are():
    # What is beyond the border does not tell a place, nor does the column or row on the other side.
    along = np.arange(30, SIZE - 30, PITCH).astype(float)
    near, far = np.full(len(along), 2.0), np.full(len(along), SIZE - 3.0)
    x, y = np.concatenate([near, far, along, along]), np.concatenate([along, along, near, far])
    found = detection.detect(coadd(x, y, np.full(len(x), 100.0)), PSF)
    distance, nearest = cKDTree(np.column_stack([found.x, found.y])).query(np.column_stack([x, y]))
    assert np.unique(nearest).size == len(x) == len(found.x)
    assert distance.max() < FWHM / 2
    assert np.min([found.x, found.y]) >= 0 and np.max([found.x, found.y]) <= SIZE - 1


def test_half_of_the_stars_at_the_threshold_are_found_and_nothing_in_pure_noise():
    x, y = lattice()
    found = sum(len(detection.detect(coadd(x, y, np.full(len(x), 5.0), seed), PSF).x) for seed in range(3))
    n = 3 * len(x)
    # noise lifts the highest of several pixels: a few more than half
    assert 0.5 - 3 * 0.5 / np.sqrt(n) < found / n < 0.7 + 3 * 0.5 / np.sqrt(n)
    assert len(detection.detect(coadd(x[:0], y[:0], np.empty(0)), PSF).x) == 0


def test_saturated_cores_have_one_peak():
    x, y = lattice()
    exposure = coadd(x, y, np.full(len(x), 2000.0))
    level = np.quantile(exposure.image, 0.995)
    saturated = exposure.image > level
    exposure.image[saturated] = level + np.random.default_rng(5).normal(0, 50, saturated.sum())
    exposure.mask[saturated] |= bits("SAT")
    assert len(detection.detect(exposure, PSF).x) == len(x)


def test_the_noise_of_the_sky_counts_not_what_the_plane_says():
    x, y = lattice()
    exposure = coadd(x[:20], y[:20], np.full(20, 50.0))
    exposure.variance *= np.float32(0.25)
    checked, _ = detection.checked(exposure, PSF)
    assert checked.noise.covariance_factor == pytest.approx(4, rel=0.15)
    assert exposure.noise is WHITE


def found_in(*bands):
    """Detections of bands with peaks (x, y, S/N), on footprints of 11 x 11 pixels."""
    out = []
    for peaks in bands:
        snr = np.zeros((100, 100), np.float32)
        for x, y, height in peaks:
            box = snr[round(y) - 5 : round(y) + 6, round(x) - 5 : round(x) + 6]
            np.maximum(box, 6, out=box)
            snr[round(y), round(x)] = height
        x, y = (np.array([peak[k] for peak in peaks], float) for k in (0, 1))
        out.append(detection.Detections(snr, snr > 5, x, y, np.zeros(len(x), bool), 1.0))
    return out


def test_peaks_of_two_bands_are_one_new_or_nothing_by_their_distance():
    first = [(20, 20, 50), (50, 20, 50), (80, 20, 50)]
    second = [(21, 20, 40), (53, 20, 40), (86, 20, 40)]  # 0.2, 0.6 and 1.2 arcsec away
    peaks = merge.merge(found_in(first, second), 0.2)
    order = np.argsort(peaks.x)
    np.testing.assert_array_equal(peaks.x[order], [20, 50, 80, 86])
    np.testing.assert_array_equal(peaks.seen[order], [[1, 1], [1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(peaks.reference[order], [0, 0, 0, 1])
    assert peaks.family[order[2]] == peaks.family[order[3]] and len(set(peaks.family)) == 3


def test_a_saturated_core_leaves_its_place_to_another_band():
    first, second = found_in([(20, 20, 50), (60, 20, 50)], [(23, 20, 40), (22, 20, 30), (63, 20, 40)])
    first.saturated[0] = True
    peaks = merge.merge([first, second], 0.2)
    order = np.argsort(peaks.x)
    np.testing.assert_array_equal(peaks.x[order], [22, 60])
    np.testing.assert_array_equal(peaks.reference[order], [1, 0])
    np.testing.assert_array_equal(peaks.seen[order], [[1, 1], [1, 0]])


def test_a_faint_first_band_gives_way_to_one_that_shows_far_more():
    places = [(20, 20), (50, 20), (80, 20)]
    bands = [[(*place, snr) for place, snr in zip(places, heights)] for heights in ((9, 9, 11), (13, 11, 90))]
    peaks = merge.merge(found_in(*bands), 0.2)
    np.testing.assert_array_equal(peaks.reference[np.argsort(peaks.x)], [1, 0, 0])


def test_stars_of_one_band_stay_in_a_crowd():
    places = [(x, y, 100 - x / 10 - y) for y in range(8, 96, 10) for x in range(8, 96, 10)]
    peaks = merge.merge(found_in(places[::2], places[1::2]), 0.2)
    assert np.unique(peaks.family).size == 1, "footprints touch"
    assert len(peaks) == len(places) and (peaks.seen.sum(axis=1) == 1).all()


@pytest.fixture(scope="module")
def scene():
    """A disc with stars on and beside it and pairs, in two bands of different colours."""
    x, y, snr = pairs(80, 0.5, 1.6)
    row, column = np.mgrid[:SIZE, :SIZE]
    disc = 60 * np.exp(-np.hypot(column - 205, 1.6 * (row - 195)) / 6)
    blue = snr * np.where(np.arange(len(snr)) % 2, 0.3, 2.0)
    return coadd(x, y, snr, image=disc), coadd(x, y, blue, seed=9, image=0.5 * disc), (x, y, snr, blue)


def test_children_add_up_to_their_parent_in_every_band(scene):
    _, tree, deblender, _ = deblended(*scene[:2])
    assert (tree.n_child > 1).sum() > 20
    for exposure in scene[:2]:
        blends = deblender.blends(exposure)
        for parent in np.flatnonzero(blends.n_child > 0):
            x0, y0, x1, y1 = blends.boxes[parent]
            added = np.zeros((y1 - y0 + 1, x1 - x0 + 1))
            for n in np.flatnonzero(blends.parent == parent):
                u0, v0, u1, v1 = blends.boxes[n]
                pixels = blends.pixels[blends.offsets[n] : blends.offsets[n + 1]].reshape(v1 - v0 + 1, u1 - u0 + 1)
                added[v0 - y0 : v1 - y0 + 1, u0 - x0 : u1 - x0 + 1] += pixels
            whole = blends.pixels[blends.offsets[parent] : blends.offsets[parent + 1]].reshape(added.shape)
            np.testing.assert_allclose(added, whole, atol=1e-5 * np.abs(whole).max())


def test_each_band_has_the_colour_of_each_child(scene):
    x, y, snr, blue = scene[2]
    peaks, tree, deblender, red = deblended(*scene[:2])
    leaves = np.flatnonzero((tree.peak >= 0) & (np.hypot(red.x - 205, red.y - 195) > 60))
    distance, nearest = cKDTree(np.column_stack([x, y])).query(np.column_stack([red.x, red.y])[leaves])
    ratio = total(deblender.blends(scene[1]), leaves) / total(red, leaves) / (blue / snr)[nearest]
    for stars in (nearest % 2 == 0, nearest % 2 == 1):
        assert np.median(ratio[stars & (distance < 1)]) == pytest.approx(1, abs=0.05)


def test_blends_that_are_too_large_keep_their_children_and_all_pixels(scene, monkeypatch):
    monkeypatch.setattr(deblend, "MAX_PEAKS", 1)
    _, tree, _, blends = deblended(*scene[:2])
    assert tree.skipped[tree.parent >= 0].all() and not tree.skipped[(tree.n_child == 0) & (tree.parent < 0)].any()
    for parent in np.flatnonzero(tree.n_child > 0):
        children = np.flatnonzero(tree.parent == parent)
        counts = [blends.footprint[blends.offsets[n] : blends.offsets[n + 1]].sum() for n in (parent, *children)]
        assert counts[0] == sum(counts[1:])
        assert total(blends, children).sum() == pytest.approx(total(blends, [parent])[0], rel=1e-4)


@pytest.mark.parametrize("most", [1, 500])
def test_a_peak_on_another_or_outside_of_its_footprint_has_a_row(scene, monkeypatch, most):
    """It is nearest to no pixel; fits of PSFs may put peaks anywhere."""
    monkeypatch.setattr(deblend, "MAX_PEAKS", most)
    peaks, tree, _, _ = deblended(*scene[:2])
    twin, outside = tree.peak[np.flatnonzero(tree.n_child > 1)[[0, -1]] + 2]
    x, y = peaks.x.copy(), peaks.y.copy()
    x[twin], y[twin] = x[twin - 1], y[twin - 1]
    x[outside] -= 150
    moved = replace(peaks, x=x, y=y)
    sigma = [detection.detect(each, PSF).sigma for each in scene[:2]]
    blends = deblend.Deblender(moved, tree, scene[:2].__getitem__, sigma).blends(scene[0])
    assert len(blends) == len(tree) and (np.diff(blends.offsets) > 0).all()


def test_a_patch_without_sources_or_blends_is_no_trouble():
    nothing = np.empty(0)
    for x, y in ((nothing, nothing), (np.array([100.0]), np.array([200.0]))):
        peaks, tree, _, blends = deblended(coadd(x, y, np.full(len(x), 50.0)))
        assert len(blends) == len(tree) == len(peaks) == len(x)


def test_a_template_is_symmetric_and_falls_off_from_its_peak():
    rng = np.random.default_rng(3)
    image = np.maximum(rng.normal(1, 0.5, (41, 42)), 0).astype(np.float32)
    work = np.zeros_like(image)
    x0, y0, x1, y1 = symmetry.fill_symmetric(image, 41, 40, work)  # peak at 20.5, 20
    part = work[y0 : y1 + 1, x0 : x1 + 1]
    np.testing.assert_array_equal(part, part[::-1, ::-1])
    assert (part <= image[y0 : y1 + 1, x0 : x1 + 1]).all() and (part >= 0).all() and (part > 0).mean() > 0.1
    assert (np.diff(work[20, 21:]) <= 0).all()


def test_a_star_far_above_its_sky_has_one_peak_in_its_middle(monkeypatch):
    """Its own photons are most of the noise, so that its S/N is no higher in the core than beside it."""
    monkeypatch.setitem(globals(), "GAIN", 1.0)
    at = PITCH * (0.5 + np.arange(SIZE // PITCH))
    x, y = (axis.ravel() for axis in np.meshgrid(at, at))
    x, y = np.stack([x, y]) + np.random.default_rng(5).uniform(-0.5, 0.5, (2, len(x)))
    found = detection.detect(coadd(x, y, np.full(len(x), 1000.0)), PSF)
    assert len(found.x) == len(x)
    assert cKDTree(np.column_stack([found.x, found.y])).query(np.column_stack([x, y]))[0].max() < 0.2
