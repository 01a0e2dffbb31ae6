"""Objects on small coadds of known truth: every flux unbiased with the error that it says, stars told from galaxies."""

from dataclasses import replace

import numpy as np
import pytest
from builders import constant_psf, gaussian, tan_wcs
from coaddscene import SIGMA, blends, coadd, exposure_of, gaussians, painted
from scipy.ndimage import convolve

from diaflow.catalogue.measure import apertures, coadd_inputs, gaap, kron, pixel_flags, shapes
from diaflow.catalogue.measure.measurement import measure
from diaflow.catalogue.measure.merge_measurements import merge_measurements, reference
from diaflow.catalogue.measure.positions import refined, with_neighbours
from diaflow.catalogue.measure.psf_flux import PsfFluxes
from diaflow.catalogue.measure.scene import Scene
from diaflow.image.noise import Noise, resampling_power
from diaflow.image.planes import bits
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.psf.stampfield import FWHM_PER_SIGMA
from diaflow.units import magnitude

FWHM = FWHM_PER_SIGMA * SIGMA
CELL = 60  # distance of sources that do not see each other [pixel]
SIDE = 12
POWER = 1 / (4 * np.pi * SIGMA**2)  # sum P**2
BRIGHT = 100 / np.sqrt(POWER)  # flux of S/N 100 in noise of 1


def lattice(side=SIDE, cell=CELL, seed=3):
    """Positions with random phases within pixels, and the shape of the image."""
    x, y = (g.ravel() * cell + cell / 2 for g in np.meshgrid(np.arange(side), np.arange(side)))
    dx, dy = np.random.default_rng(seed).uniform(-0.5, 0.5, (2, side**2))
    return x + dx, y + dy, (side * cell, side * cell)


def scene_of(flux, sigma=SIGMA, side=SIDE, cell=CELL, **options):
    """A lattice of Gaussians of total size `sigma`."""
    x, y, shape = lattice(side, cell)
    exposure = coadd(painted(shape, *gaussians(shape, x, y, flux, sigma)), **options)
    return Scene(exposure, blends(exposure, x, y))


def assert_normal(pulls, sigma=3.5):
    """Mean 0 and width 1 within what as many pulls scatter."""
    n = len(pulls)
    assert abs(pulls.mean()) < sigma / np.sqrt(n)
    assert abs(pulls.std() - 1) < sigma / np.sqrt(2 * n)


@pytest.fixture(scope="module")
def stars():
    x, y, shape = lattice()
    exposure = coadd(painted(shape, *gaussians(shape, x, y, BRIGHT)))
    return measure(exposure, blends(exposure, x, y))


@pytest.mark.parametrize("name", ["psfFlux", "free_psfFlux", "gaap0p7Flux", "gaap1p0Flux", "gaap1p5Flux", "ap12Flux"])
def test_stars_have_their_flux_within_errors(stars, name):
    assert_normal((stars[name] - BRIGHT) / stars[f"{name}Err"])
    assert not stars[f"{name}_flag"].any()


def test_positions_of_their_own_are_those_of_the_stars(stars):
    x, y, _ = lattice()
    assert_normal(
        np.concatenate([(stars[f"centroid_{a}"] - t) / stars[f"centroid_{a}Err"] for a, t in zip("xy", (x, y))])
    )


def test_stars_are_stars_twice(stars):
    # One in 370 is beyond three errors on either side.
    assert np.mean(stars["extendedness"] == 0) > 0.98 and np.mean(stars["sizeExtendedness"] == 0) > 0.98
    assert not stars["blendedness"].any()


@pytest.mark.parametrize(
    ("ratio", "distance"), [(1, 1), (1, 1.25), (1, 1.5), (1, 2), (1, 3), (0.3, 1.5), (0.3, 2), (0.1, 1.25), (0.1, 3)]
)
def test_joint_fit_of_two_stars_gives_both_their_flux(ratio, distance):
    """The table of blends of two Gaussian stars: 1.00 +- 0.01 of the brighter one, whatever the ratio and distance."""
    x, y, shape = lattice()
    angle = np.random.default_rng(5).uniform(0, 2 * np.pi, len(x))
    x = np.r_[x, x + distance * FWHM * np.cos(angle)]
    y = np.r_[y, y + distance * FWHM * np.sin(angle)]
    flux = np.repeat([BRIGHT, ratio * BRIGHT], len(angle))
    exposure = coadd(painted(shape, *gaussians(shape, x, y, flux)))
    scene = Scene(exposure, blends(exposure, x, y))
    found = PsfFluxes(scene).columns(np.ones(len(x), bool))
    first = slice(len(angle))
    relative = found["psfFlux"][first] / BRIGHT
    assert abs(relative.mean() - 1) < 0.003 and relative.std() < 0.0135  # errors of 1 % for one, more for near pairs
    for name in ("psfFlux", "free_psfFlux"):
        pulls = (found[name] - flux) / found[f"{name}Err"]
        assert abs(np.mean(pulls)) < 0.3 and 0.85 < np.std(pulls) < 1.15
    # What each would have by itself, with the light of the other.
    alone = (gaussian(SIGMA, 61) * gaussian(SIGMA, 61, dx=distance * FWHM)).sum() / (gaussian(SIGMA, 61) ** 2).sum()
    assert abs(alone - np.exp(-((distance * FWHM) ** 2) / (4 * SIGMA**2))) < 1e-6


def test_positions_of_some_need_only_their_neighbours():
    side = 20
    x, y, shape = lattice(side, 12)
    exposure = coadd(painted(shape, *gaussians(shape, x, y, BRIGHT)))
    middle = np.zeros(len(x), bool)
    middle[side * side // 2 + side // 2] = True
    some = with_neighbours(x, y, middle, SIGMA)
    assert some[middle] and some.sum() < len(x) / 2
    start = np.rint(x), np.rint(y)
    every = refined(exposure, *start, middle)
    fewer = refined(exposure, start[0][some], start[1][some], middle[some])
    # the step at which a fit stops, of which the rest is a tenth
    np.testing.assert_allclose(np.array(fewer)[:, middle[some]], np.array(every)[:, middle], atol=1e-3)


def test_positions_of_blended_peaks_are_found_again():
    """Peaks half a pixel off, those of pairs drawn together: fitted positions have the errors of known fluxes."""
    x, y, shape = lattice()
    n = len(x)
    x, y = np.r_[x, x + 1.5 * FWHM], np.r_[y, y]
    exposure = coadd(painted(shape, *gaussians(shape, x, y, BRIGHT)))
    nudge = np.random.default_rng(9).uniform(-0.5, 0.5, (2, 2 * n))
    found = np.array(refined(exposure, x + nudge[0] + np.repeat([0.3, -0.3], n), y + nudge[1]))
    error = np.sqrt(2) * SIGMA / 100  # of a Gaussian of S/N 100
    deviations = (found - [x, y]) / error
    assert np.abs(deviations.mean(1)).max() < 0.3 and deviations.std(1).max() < 1.4
    nowhere = refined(exposure, np.array([-30.0, 5000.0]), np.array([10.0, 10.0]))
    np.testing.assert_array_equal(nowhere, [[-30, 5000], [10, 10]])


def test_crowded_stars_are_all_there_with_their_flux():
    """One star per 1.6 FWHM squared: a single group of 900."""
    rng = np.random.default_rng(8)
    pitch = 1.6 * FWHM
    x, y = (g.ravel() * pitch + 30 for g in np.meshgrid(np.arange(30), np.arange(30)))
    x, y = x + rng.uniform(-1, 1, x.size), y + rng.uniform(-1, 1, x.size)
    shape, flux = (250, 250), BRIGHT * 10 ** rng.uniform(-1, 1, x.size)
    exposure = coadd(painted(shape, *gaussians(shape, x, y, flux)))
    found = PsfFluxes(Scene(exposure, blends(exposure, x, y))).columns(np.ones(x.size, bool))
    assert not found["psfFlux_flag"].any() and found["free_psfFlux_flag"].mean() < 0.01
    assert_normal((found["psfFlux"] - flux) / found["psfFluxErr"])


def test_a_star_beside_a_galaxy_keeps_its_flux():
    """As a point the galaxy would leave light to the star; its deblended pixels do not."""
    x, y, shape = lattice()
    n = len(x)
    x, y = np.r_[x, x + 2.5 * FWHM], np.r_[y, y]
    flux, sigma = np.repeat([BRIGHT, 3 * BRIGHT], n), np.repeat([SIGMA, 3.0], n)
    images, boxes = gaussians(shape, x, y, flux, sigma)
    exposure = coadd(painted(shape, images, boxes), sigma_noise=0.5)
    half = images.shape[-1] // 2
    own = blends(exposure, x, y, half=half)
    whole = painted(shape, images, boxes)
    shares = [i / whole[b[1] : b[3] + 1, b[0] : b[2] + 1].clip(1e-9) for i, b in zip(images, boxes)]
    inside = (boxes[:, :2] >= 0).all(1) & (boxes[:, 2:] < shape[0]).all(1)
    assert inside.all()
    found = measure(exposure, blends(exposure, x, y, half=half, shares=shares))
    assert len(own.pixels) == len(images) * (2 * half + 1) ** 2
    star, galaxy = found[:n], found[n:]
    assert (star["extendedness"] == 0).mean() > 0.95 and (galaxy["extendedness"] == 1).all()
    assert abs(np.mean(star["psfFlux"] / BRIGHT) - 1) < 0.003
    together = PsfFluxes(Scene(exposure, own)).columns(np.ones(2 * n, bool))
    assert np.mean(together["psfFlux"][:n] / BRIGHT) > 1.02
    assert 0.02 < np.median(star["blendedness"]) < 0.5


@pytest.mark.parametrize("sigma_p", [1.7, 2.5, 4.0, 6.0, 9.0, 11.0])
def test_gaap_flux_does_not_depend_on_the_psf(sigma_p, monkeypatch):
    """A Gaussian galaxy of sigma 5 within an aperture of 12: s**2 / (s**2 + 25) of its light, whatever the seeing."""
    x, y, shape = np.array([150.3, 451.8]), np.array([149.6, 150.2]), (300, 600)
    intrinsic = np.array([5.0, 1e-6])
    image = painted(shape, *gaussians(shape, x, y, 1000.0, np.hypot(intrinsic, sigma_p)))
    psf = constant_psf(gaussian(sigma_p, 2 * int(6 * sigma_p) + 1), shape)
    exposure = exposure_of(image, np.ones(shape), psf)
    scene = Scene(exposure, blends(exposure, x, y))
    shape_of = shapes.shapes(scene)
    monkeypatch.setattr(gaap, "SIGMAS", {"x": 12 * scene.pixel_scale})
    monkeypatch.setattr(gaap, "LEAST_RATIO", 1.05)
    flux = gaap.gaap_fluxes(scene, shape_of)[0]
    # An aperture nearer to the PSF than `LEAST_RATIO` needs frequencies that fade out.
    tolerance = 2e-4 if sigma_p < 12 / 1.15 else 1e-3
    np.testing.assert_allclose(flux["gaapxFlux"] / 1000, 144 / (144 + intrinsic**2), rtol=tolerance)


def test_gaap_gives_no_flux_where_the_psf_is_too_broad():
    x, y, shape = np.array([100.0]), np.array([100.0]), (200, 200)
    exposure = exposure_of(np.zeros(shape), np.ones(shape), constant_psf(gaussian(4.0, 41), shape))
    found = measure(exposure, blends(exposure, x, y))
    # 0.2 arcsec per pixel: 0.7 arcsec are 3.5 pixels, less than 1.15 x 4; 1.0 arcsec are 5.
    assert found["gaap0p7Flux_flag"][0] and np.isnan(found["gaap0p7Flux"][0])
    assert not found["gaap1p0Flux_flag"][0]


def test_circles_have_their_area_whatever_their_centre():
    shape = (200, 200)
    exposure = exposure_of(np.ones(shape), np.full(shape, 4.0), constant_psf(gaussian(SIGMA), shape))
    for x, y in ((100.0, 100.0), (100.37, 99.81), (110.5, 90.5)):
        found = apertures.aperture_fluxes(Scene(exposure, blends(exposure, np.array([x]), np.array([y]))))
        for radius in apertures.RADII:
            name = apertures.column_of(radius)
            np.testing.assert_allclose(found[name], np.pi * radius**2, rtol=1e-6)
            # Pixels that are cut count with the square of their part.
            assert 1.85 * np.sqrt(np.pi) * radius < found[f"{name}Err"][0] < 2 * np.sqrt(np.pi) * radius
    edge = Scene(exposure, blends(exposure, np.array([-0.5, 300.0]), np.array([60.0, 60.0]), half=0))
    cut = apertures.aperture_fluxes(edge)
    np.testing.assert_allclose(cut["ap50Flux"][0], np.pi * 50**2 / 2, rtol=1e-6)
    assert cut["ap50Flux_flag"].all() and np.isnan(cut["ap50Flux"][1])


def correlated(shape, seed):
    """Noise as a resampling leaves it, of unit variance, and what is to be said of it."""
    power = resampling_power()
    factor = 1 / np.r_[power, power[-2:0:-1]].mean() ** 2
    kernel = Noise(factor).kernel(shape).terms[0]
    noise = convolve(np.random.default_rng(seed).normal(0, 1, shape), kernel, mode="wrap")
    return noise / np.sqrt((kernel**2).sum()), Noise(factor)


def test_fluxes_of_sky_in_correlated_noise_have_pulls_of_unit_width():
    """1,000 places: the width of their pulls is known to 2.2 %."""
    shape = (1450, 1450)
    pixels, noise = correlated(shape, 4)
    x, y, _ = lattice(side=32, cell=45)
    exposure = exposure_of(pixels, np.ones(shape), constant_psf(gaussian(SIGMA, 31), shape), noise)
    scene = Scene(exposure, blends(exposure, x, y, half=0))
    shape_of = shapes.shapes(scene)
    alone, in_circles = PsfFluxes(scene), apertures.aperture_fluxes(scene)
    before_psf = gaap.gaap_fluxes(scene, shape_of)[0]
    pulls = {"psfFlux": alone.flux / alone.err}
    pulls |= {n: in_circles[n] / in_circles[f"{n}Err"] for n in ("ap03Flux", "ap06Flux", "ap12Flux", "ap17Flux")}
    pulls |= {n: before_psf[n] / before_psf[f"{n}Err"] for n in ("gaap0p7Flux", "gaap1p0Flux", "gaap1p5Flux")}
    widths = {name: np.std(values) for name, values in pulls.items()}
    assert all(0.93 < width < 1.07 for width in widths.values()), widths


def test_galaxies_have_the_same_colour_in_bands_of_any_seeing():
    """Gaussian galaxies as large as the sharper PSF, in seeing of 1 : 1.5."""
    x, y, shape = lattice(side=6, cell=90)
    ratio = []
    for sigma_p in (SIGMA, 1.5 * SIGMA):
        image = painted(shape, *gaussians(shape, x, y, 1000.0, np.hypot(SIGMA, sigma_p)))
        exposure = exposure_of(image, np.ones(shape), constant_psf(gaussian(sigma_p, 41), shape))
        ratio.append(measure(exposure, blends(exposure, x, y, half=25)))
    for name in ("gaap0p7Flux", "gaap1p0Flux", "gaap1p5Flux", "gaap2p5Flux", "kronFlux"):
        colour = 2500 * np.log10(ratio[0][name] / ratio[1][name])
        assert np.abs(colour).max() < 3, name  # [mmag]
    assert (ratio[0]["extendedness"] == 1).all() and (ratio[1]["sizeExtendedness"] == 1).all()


def test_kron_radius_is_that_of_a_gaussian_and_no_neighbour_blows_it_up():
    x, y, shape = lattice(side=6, cell=90)
    n = len(x)
    apart = 1.5 * FWHM
    x, y = np.r_[x, x + apart], np.r_[y, y]
    images, boxes = gaussians(shape, x, y, 1000.0)
    exposure = exposure_of(painted(shape, images, boxes), np.ones(shape), constant_psf(gaussian(SIGMA), shape))
    whole = painted(shape, images, boxes)
    shares = [i / whole[b[1] : b[3] + 1, b[0] : b[2] + 1].clip(1e-12) for i, b in zip(images, boxes)]
    scene = Scene(exposure, blends(exposure, x, y, half=images.shape[-1] // 2, shares=shares))
    found = kron.kron_fluxes(scene, shapes.shapes(scene))
    np.testing.assert_allclose(found["kronRad"], np.sqrt(np.pi / 2) * SIGMA, rtol=0.01)
    inside = 1 - np.exp(-0.5 * (2.5 * np.sqrt(np.pi / 2)) ** 2)
    np.testing.assert_allclose(found["kronFlux"] / 1000, inside, atol=0.003)
    assert not found["kronFlux_flag"].any() and len(found["kronRad"]) == 2 * n


def test_moments_are_those_of_the_source_with_its_direction():
    shape, sx2, sy2, sxy = (101, 101), 9.0, 5.0, 1.5
    j, i = np.mgrid[:101, :101]
    dx, dy = i - 50.3, j - 49.8
    det = sx2 * sy2 - sxy**2
    image = 1000 * np.exp(-0.5 * (sy2 * dx**2 + sx2 * dy**2 - 2 * sxy * dx * dy) / det)
    exposure = exposure_of(image, np.ones(shape), constant_psf(gaussian(SIGMA), shape))
    found = shapes.shapes(Scene(exposure, blends(exposure, np.array([50.3]), np.array([49.8]), half=30)))
    np.testing.assert_allclose([found[f"i{a}"][0] for a in ("xx", "yy", "xy")], [sx2, sy2, sxy], rtol=0.01)
    np.testing.assert_allclose(found["ixxPSF"], SIGMA**2, rtol=1e-3)


def test_a_parent_is_measured_with_all_its_light():
    x, y, shape = np.array([60.0, 57.0, 63.0]), np.array([60.0, 60.0, 60.0]), (120, 120)
    images, boxes = gaussians(shape, x[1:], y[1:], [3000.0, 1000.0])
    exposure = exposure_of(painted(shape, images, boxes), np.ones(shape), constant_psf(gaussian(SIGMA), shape))
    whole = painted(shape, images, boxes)
    half = images.shape[-1] // 2
    parts = [i / whole[b[1] : b[3] + 1, b[0] : b[2] + 1].clip(1e-12) for i, b in zip(images, boxes)]
    shares = [np.ones_like(parts[0]), *parts]
    family = blends(exposure, x, y, half=half, shares=shares, parent=[-1, 0, 0], n_child=[2, 0, 0])
    found = measure(exposure, family)
    np.testing.assert_allclose(found["ap12Flux"], [4000, 3000, 1000], rtol=0.02)
    np.testing.assert_allclose(found["psfFlux"][1:], [3000, 1000], rtol=1e-3)


def test_flags_come_from_the_footprint_and_the_centre():
    x, y, shape = np.array([40.0, 120.0, 300.0]), np.array([40.0, 40.0, 40.0]), (80, 160)
    exposure = exposure_of(np.zeros(shape), np.ones(shape), constant_psf(gaussian(SIGMA), shape))
    exposure.mask[44, 44] |= bits("CLIPPED")
    exposure.mask[40, 121] |= bits("INEXACT_PSF", "SENSOR_EDGE")
    own = blends(exposure, x[:2], y[:2], half=5)
    flags = pixel_flags.pixel_flags(Scene(exposure, own))
    assert flags["pixelFlags_clipped"].tolist() == [True, False]
    assert flags["pixelFlags_clippedCenter"].tolist() == [False, False]
    assert flags["pixelFlags_inexact_psfCenter"].tolist() == flags["pixelFlags_sensor_edge"].tolist() == [False, True]
    hidden = replace(own, footprint=np.zeros_like(own.footprint))
    assert not pixel_flags.pixel_flags(Scene(exposure, hidden))["pixelFlags_clipped"].any()
    off = pixel_flags.pixel_flags(Scene(exposure, replace(own, x=x[1:], y=y[1:])))
    assert off["pixelFlags_offimage"].tolist() == [False, True]


def test_inputs_are_counted_where_they_are_and_lend_their_aperture_correction():
    shape = (100, 200)
    wcs, psf = tan_wcs(shape), constant_psf(gaussian(SIGMA), shape)
    exposure = exposure_of(np.zeros(shape), np.full(shape, 4.0), psf)
    everywhere, left = (0, 0, 199, 99), (0, 0, 99, 99)
    inputs = [(1, 0, 3.0, everywhere, 0.96), (2, 0, 1.0, left, 1.0), (2, 1, 1.0, (100, 0, 199, 99), np.nan)]
    inputs.append((3, 0, 1.0, left, np.nan))
    inputs = [PsfInput(v, d, weight, psf, wcs, box, correction) for v, d, weight, box, correction in inputs]
    exposure.psf = CoaddPsf(inputs, exposure.wcs)
    own = blends(exposure, np.array([50.0, 150.0]), np.array([50.0, 50.0]))
    found = coadd_inputs.coadd_inputs(Scene(exposure, own))
    assert found["inputCount"].tolist() == [3, 2]
    np.testing.assert_allclose(found["apCorr"], [0.97, 0.96])
    np.testing.assert_allclose(found["apCorrScatter"], [np.sqrt(3 / 16) * 0.04, 0], atol=1e-7)
    np.testing.assert_allclose(found["psfDepth"], magnitude(5 * 2 / np.sqrt(POWER)), atol=0.001)


def test_a_patch_without_sources_and_a_place_without_data_are_no_trouble():
    shape = (100, 100)
    exposure = exposure_of(np.zeros(shape), np.ones(shape), constant_psf(gaussian(SIGMA), shape))
    nothing = measure(exposure, blends(exposure, np.empty(0), np.empty(0)))
    assert len(nothing) == 0 and "psfFlux" in nothing.dtype.names
    exposure.image[:] = np.nan
    exposure.variance[:] = np.inf
    exposure.mask[:] = bits("NO_DATA")
    found = measure(exposure, blends(exposure, np.array([50.0]), np.array([50.0])))
    for name in found.dtype.names:
        if name.endswith("Flux"):
            assert np.isnan(found[name][0]) and found[f"{name}_flag"][0], name
    assert found["pixelFlags_edge"][0]


def test_reference_band_is_the_first_that_sees_the_source_unless_another_does_far_better():
    snr = np.array([[20.0, 8.0, 8.0, 2.0, np.nan], [50.0, 12.0, 10.5, 6.0, 4.0], [10.0, 11.0, 9.0, 7.0, 3.0]])
    assert reference(snr).tolist() == [0, 1, 0, 1, 1]


def test_bands_are_merged_in_order_with_the_kind_of_the_reference(stars):
    fainter = stars.copy()
    fainter["psfFlux"] /= 50
    fainter["extendedness"] = 1
    x, y, _ = lattice()
    exposure = coadd(np.zeros((720, 720)))
    merged = merge_measurements({"g": stars, "i": fainter}, blends(exposure, x, y), ["i", "r", "g"])
    assert (merged["refBand"] == "g").all() and (merged["refExtendedness"] == stars["extendedness"]).all()
    np.testing.assert_array_equal(merged["i_psfFlux"], fainter["psfFlux"])
    order = [name for name in merged.dtype.names if name.endswith("_psfFlux") and "free" not in name]
    assert order == ["i_psfFlux", "g_psfFlux"]
    with pytest.raises(ValueError, match="no priority"):
        merge_measurements({"z": stars}, blends(exposure, x, y), ["i"])
