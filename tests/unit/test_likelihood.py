"""Likelihood coadds: golden spectra, PSF and errors of stars, missing pixels."""

import numpy as np
import pytest
from builders import constant_psf, exposure, gaussian, star_image, tan_wcs
from scipy import fft

from diaflow.coadd import combine, likelihood, spectra, stack, template
from diaflow.errors import BadData, InputError
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.psf.grid import StampGrid
from diaflow.psf.stampfield import fit_stamps
from diaflow.run import methods

# Six visits of the golden numbers: Gaussian PSFs [pixel] and white variances.
SIGMAS = np.array([1.5, 1.8, 2.0, 2.3, 2.6, 3.0])
VARIANCES = np.array([1, 1, 1.5, 1.5, 2, 2])
WEIGHTS = 1 / VARIANCES
TOTAL = WEIGHTS.sum()
GOLDEN = (256, 256)


def combine_warps(paths, matched_paths, method):
    return combine.combine_warps(paths, matched_paths, methods.load("coadd", method).combine)


def gaussian_transform(sigma, shape=GOLDEN):
    """Transform of a Gaussian that is not cut anywhere."""
    ky, kx = 2 * np.pi * fft.fftfreq(shape[0])[:, None], 2 * np.pi * fft.rfftfreq(shape[1])
    return np.exp(-0.5 * sigma**2 * (kx**2 + ky**2))


PSFS = np.array([gaussian_transform(sigma) for sigma in SIGMAS])
PHI = spectra.information(PSFS, WEIGHTS)


def weighted_snr(noise, psf):
    """S/N of the PSF flux of a source of unit flux."""
    return np.sqrt(spectra.mean(psf**2, GOLDEN) / spectra.psf_weighted(noise, psf, GOLDEN))


def optimal_snr(noise, psf):
    return np.sqrt(spectra.mean(psf**2 / np.maximum(noise, 1e-300), GOLDEN))


def test_golden_numbers_of_the_decorrelated_coadd():
    psf = spectra.kaiser(PHI / TOTAL, GOLDEN)
    noise = spectra.noise_power(psf, PHI)
    np.testing.assert_allclose(noise, 0.2307692, rtol=1e-6)
    assert weighted_snr(noise, psf) == pytest.approx(0.3058221, rel=1e-5)
    assert 1 / spectra.mean(psf**2, GOLDEN) == pytest.approx(46.332, rel=1e-4)
    profile = fft.irfft2(psf, GOLDEN)[0, :10]
    edge = np.argmax(profile < profile[0] / 2)
    fwhm = 2 * np.interp(-profile[0] / 2, -profile[edge - 1 : edge + 1], [edge - 1, edge])
    assert fwhm == pytest.approx(3.946, rel=1e-3)


def test_golden_numbers_of_the_direct_coadd():
    relative = WEIGHTS / TOTAL
    psf = spectra.information(np.sqrt(PSFS), relative)
    noise = np.full_like(PHI, (relative**2 * VARIANCES).sum())
    assert weighted_snr(noise, psf) == pytest.approx(0.29226, rel=1e-4)
    assert weighted_snr(noise, psf) / 0.3058221 == pytest.approx(0.956, abs=5e-4)


@pytest.mark.parametrize(
    ("sigma", "variance", "largest", "snr"),
    [(1.8, 0.046199, 1.260, 0.30424), (2.0, 0.021285, 1.032, 0.29975), (2.5, 0.0070088, 1.000, 0.27246)],
)
def test_golden_numbers_of_the_constant_psf_coadd(sigma, variance, largest, snr):
    psf = gaussian_transform(sigma)
    noise = spectra.noise_power(psf, PHI)
    assert spectra.mean(noise, GOLDEN) == pytest.approx(variance, rel=1e-4)
    assert noise.max() / noise[0, 0] == pytest.approx(largest, rel=1e-3)
    assert weighted_snr(noise, psf) == pytest.approx(snr, rel=1e-4)
    assert optimal_snr(noise, psf) == pytest.approx(0.305822, rel=1e-4)


@pytest.mark.parametrize(("sigma", "snr"), [(3.0, 0.23595), (3.2, 0.22674)])
def test_golden_numbers_of_the_matched_coadd(sigma, snr):
    psf = gaussian_transform(sigma)
    kernels = np.array([gaussian_transform(np.sqrt(sigma**2 - own**2)) for own in SIGMAS])
    noise = np.tensordot((WEIGHTS / TOTAL) ** 2 * VARIANCES, kernels**2, 1)
    assert weighted_snr(noise, psf) == pytest.approx(snr, rel=1e-4)
    assert optimal_snr(noise, psf) == pytest.approx(0.25307, rel=1e-4)
    if sigma == 3.0:
        assert spectra.mean(noise, GOLDEN) == pytest.approx(0.030263, rel=1e-4)
        assert np.sqrt(spectra.mean(psf**2, GOLDEN) / spectra.mean(noise, GOLDEN)) == pytest.approx(0.5405, rel=1e-3)


def test_solution_of_noise_has_the_golden_variance_and_is_white():
    """Real images through `solve`, in float32: 4 x 65536 pixels tell a variance to sqrt(2 / 262144) = 0.3 %."""
    rng = np.random.default_rng(1)
    floored = ((1 - spectra.FLOOR) * PSFS + spectra.FLOOR).astype(np.complex64)
    response = spectra.kaiser(spectra.information(floored, WEIGHTS / TOTAL), GOLDEN)
    found = []
    for _ in range(4):
        noise = (np.sqrt(VARIANCES)[:, None, None] * rng.normal(size=(6, *GOLDEN))).astype(np.float32)
        sky = likelihood.solve(noise, np.ones(noise.shape, bool), floored, VARIANCES)
        found.append(fft.irfft2(response * sky, GOLDEN))
    found = np.array(found)
    assert np.var(found) == pytest.approx(0.2307692, rel=0.01)
    for shift in ((0, 1), (1, 0), (1, 1), (0, 3)):
        correlation = (found * np.roll(found, shift, (1, 2))).mean() / np.var(found)
        assert abs(correlation) < 5 / np.sqrt(found.size)


def test_missing_pixels_of_an_input_leave_no_trace_without_noise():
    """A star of which the sharpest of three inputs misses the core is what it is without the hole."""
    shape, sigmas = (96, 96), (1.5, 1.9, 2.2)
    transforms = np.array([gaussian_transform(s, shape) for s in sigmas], np.complex64)
    transforms = (1 - spectra.FLOOR) * transforms + np.complex64(spectra.FLOOR)
    images = np.array([star_image(shape, 47.3, 48.6, s, 1e4) for s in sigmas], np.float32)
    used = np.ones(images.shape, bool)
    used[0, 44:50, 44:52] = False
    mean = images[1:].mean(0)
    response = gaussian_transform(2.0, shape)
    target = star_image(shape, 47.3, 48.6, 2.0, 1e4)

    def error(images, used):
        coadd = fft.irfft2(response * likelihood.solve(images, used, transforms, np.ones(3)), shape)
        return np.abs(coadd - target).max() / target.max()

    filled = np.where(used, images, mean)
    # FLOOR, 1e-4 of the flux in one pixel, is 3e-3 of the peak of these PSFs, before they are smoothed to the response
    assert error(images, np.ones_like(used)) < 1e-3
    assert error(filled, used) < error(filled, np.ones_like(used)) / 10, "filling alone is not enough"


def test_bounded_psf_is_the_sharpest_that_keeps_the_bound():
    grid = (spectra.GRID,) * 2
    powers = [gaussian_transform(s, grid) ** 2 + spectra.FLOOR**2 for s in (1.6, 2.0)]
    for bound in (1.05, 1.5):
        psf = spectra.bounded(powers, bound, 31)
        noise = [np.abs(spectra.transform(psf, grid)) ** 2 / power for power in powers]
        assert np.max(noise) <= bound
        sharper = spectra.transform(psf, grid) / gaussian_transform(6 * spectra.WIDTH_STEP, grid)
        assert np.max(np.abs(sharper) ** 2 / powers[1]) > bound
    with pytest.raises(BadData, match="bounded"):
        spectra.bounded([gaussian_transform(8.0, grid) ** 2 + 1e-30], 1.1, 11)


SHAPE = (300, 320)
WCS = tan_wcs(SHAPE)
STAMP, VISITS = 31, {0, 1, 3, 4}
SLOPE = 0.04
STARS = [(x, y, 2e4) for x in range(40, 300, 48) for y in range(40, 280, 48)]


def width(sigma, visit, x):
    """PSF width that changes over the patch, another way in every visit."""
    return sigma * (1 + SLOPE * (-1) ** visit * (2 * x / (SHAPE[1] - 1) - 1))


def psf_field(sigma, visit):
    gx, gy = (g.ravel() for g in np.meshgrid(np.linspace(0, SHAPE[1] - 1, 4), np.linspace(0, SHAPE[0] - 1, 4)))
    return fit_stamps(np.array([gaussian(width(sigma, visit, x), STAMP) for x in gx]), gx, gy, 2, SHAPE)


def make_warp(rng, visit, stars=STARS, box=None):
    sigma, variance = SIGMAS[visit], float(VARIANCES[visit])
    image = rng.normal(0, np.sqrt(variance), SHAPE)
    for x, y, flux in stars:
        image += star_image(SHAPE, x + 0.3, y - 0.2, width(sigma, visit, x), flux)
    source = PsfInput(visit, 1, 1.0, psf_field(sigma, visit), WCS, box or (0, 0, SHAPE[1] - 1, SHAPE[0] - 1))
    made = exposure(image, variance, CoaddPsf([source], WCS), wcs=WCS, visit=visit, band="r", tract=1, patch="0_0")
    made.metadata["mean_variance"] = variance
    return made


def write(folder, warps):
    """Paths of the warps and of matched ones that show no artefact."""
    model = constant_psf(gaussian(3.6, STAMP), SHAPE)
    paths = [], []
    for warp in warps:
        flat = exposure(np.zeros(SHAPE), 1.0, model, wcs=WCS, visit=warp.metadata["visit"])
        for kind, item in enumerate((warp, flat)):
            paths[kind].append(str(folder / f"{kind}_{warp.metadata['visit']}.fits"))
            item.write(paths[kind][-1])
    return paths


@pytest.fixture(scope="module")
def gappy(tmp_path_factory):
    """Four visits with masked pixels; the sharpest one ends in the patch, another has a gap."""
    rng = np.random.default_rng(3)
    warps = [make_warp(rng, 0, box=(0, 0, 199, SHAPE[0] - 1)), *(make_warp(rng, visit) for visit in (1, 3, 4))]
    empty = np.zeros((4, *SHAPE), bool)
    empty[0, :, 200:] = True
    empty[2, 130:142] = True
    for warp, gone in zip(warps, empty):
        warp.image[gone], warp.variance[gone], warp.mask[gone] = np.nan, np.inf, bits("NO_DATA")
        hit = rng.integers(0, SHAPE[0], 300), rng.integers(0, SHAPE[1], 300)
        warp.image[hit] += 5000
        warp.mask[hit] |= bits("CR")
    return write(tmp_path_factory.mktemp("gappy"), warps)


@pytest.fixture(scope="module", params=["decorrelated", "constant_psf", "inference"])
def made(request, gappy, tmp_path_factory):
    """A coadd by each method, written and read."""
    path = tmp_path_factory.mktemp("coadd") / "coadd.fits"
    combine_warps(*gappy, request.param).write(path)
    return request.param, path, Exposure.read(path)


def psf_fluxes(image, stars=STARS):
    """PSF flux of each star and the error that variance plane and covariance factor give it."""
    fluxes, errors = [], []
    x, y = np.array([(x, y) for x, y, _ in stars], float).T + [[0.3], [-0.2]]
    for stamp, (col, row, _) in zip(image.psf(x, y), stars):
        half = STAMP // 2
        size = len(stamp)
        shift = np.exp(-2j * np.pi * (fft.fftfreq(size)[:, None] * -0.2 + fft.fftfreq(size) * 0.3))
        stamp = fft.ifft2(fft.fft2(stamp) * shift).real
        stamp = stamp[size // 2 - half : size // 2 + half + 1, size // 2 - half : size // 2 + half + 1]
        part = np.s_[row - half : row + half + 1, col - half : col + half + 1]
        variance = np.median(image.variance[part])
        norm = (stamp**2).sum()
        fluxes.append((stamp * image.image[part]).sum() / norm)
        errors.append(image.noise.psf_flux_error(np.sqrt(variance / norm)))
    return np.array(fluxes), np.array(errors)


@pytest.mark.slow
def test_star_fluxes_do_not_feel_gaps_masks_or_varying_psfs(made):
    _, _, result = made
    assert not result.flagged("NO_DATA", "INEXACT_PSF").any()
    flux, _ = psf_fluxes(result)
    ratio = flux / 2e4
    # noise of one flux: 4 / 2e4 = 0.02 %; the PSFs change by 4 % from node to node, bilinear leaves a square of that
    assert abs(np.median(ratio) - 1) < 2e-3
    assert np.abs(ratio - 1).max() < 2e-2


@pytest.mark.slow
def test_errors_of_fluxes_are_those_of_noise(made, gappy, tmp_path):
    """Fluxes of nothing, at 400 places: the width of the pulls has an error of 1 / sqrt(800) = 3.5 %."""
    method, _, result = made
    rng = np.random.default_rng(11)
    warps = [Exposure.read(path) for path in gappy[0]]
    for warp in warps:
        has_data = ~warp.flagged("NO_DATA")
        noise = rng.normal(0, np.sqrt(warp.metadata["mean_variance"]), SHAPE)
        warp.image[has_data] = noise[has_data]
    empty = combine_warps(*write(tmp_path, warps), method)
    places = [(x, y, 0.0) for x in range(20, 300, 14) for y in range(20, 280, 13)]
    flux, error = psf_fluxes(empty, places)
    assert np.std(flux / error) == pytest.approx(1, abs=0.12)
    assert abs(np.mean(flux / error)) < 4 / np.sqrt(len(places) / 4)
    # pixels of cells that all inputs cover; noise is correlated over up to 6 pixels
    assert np.var((empty.image / np.sqrt(empty.variance))[:, :40]) == pytest.approx(1, abs=0.12)


def test_inputs_weights_and_psf_are_in_the_file(made):
    method, path, result = made
    assert {source.visit for source in result.psf.inputs} == VISITS
    assert result.metadata["status"] == "ok" and result.metadata["n_inputs"] == 4
    assert sorted(source.weight for source in result.psf.inputs) == pytest.approx(sorted(WEIGHTS[[0, 1, 3, 4]]))
    # the template of a science image on the same grid has the same PSF, and knows the visits
    static = template.assemble([str(path)], WCS, SHAPE)
    # a resampled grid interpolates between resampled stamps
    np.testing.assert_allclose(static.psf([150.0], [140.0]), result.psf([150.0], [140.0]), atol=1e-5)
    assert {
        row.visit for tract in static.psf.inputs for patch in tract.psf.inputs for row in patch.psf.inputs
    } == VISITS
    stamps = result.psf([60.0, 160, 280], [150.0, 150, 150])
    np.testing.assert_allclose(stamps.sum((1, 2)), 1, rtol=1e-5)
    if method != "decorrelated":
        # FLOOR and, for inference, what the prior damps differ from cell to cell
        np.testing.assert_allclose(stamps[0], stamps[2], atol=0.01 * stamps.max())
    else:
        assert stamps[0].max() > 1.05 * stamps[2].max(), "the sharpest input is missing on the right"


def test_inference_is_the_sharpest_and_decorrelated_the_whitest(tmp_path):
    rng = np.random.default_rng(8)
    paths = write(tmp_path, [make_warp(rng, visit, []) for visit in range(3)])
    results = {method: combine_warps(*paths, method) for method in ("inference", "decorrelated", "constant_psf")}
    peaks = [result.psf([100.0], [150.0]).max() for result in results.values()]
    assert peaks[0] > peaks[1] > peaks[2]
    white = results["decorrelated"]
    assert white.noise.covariance_factor == pytest.approx(1, abs=1e-3)
    np.testing.assert_allclose(white.variance, 1 / WEIGHTS[:3].sum(), rtol=1e-3)
    assert results["constant_psf"].noise.covariance_factor > 2
    # blue noise: the PSF flux feels more than there is at low frequencies
    blue = results["inference"].noise
    assert blue.psf_covariance_factor > 1.05 * blue.covariance_factor


def test_grid_of_stamps_is_bilinear_and_skips_unknown_nodes():
    stamps = np.arange(4.0).reshape(2, 2, 1, 1) * np.ones((3, 3))
    grid = StampGrid(stamps, (10.0, 20.0), (100.0, 50.0))
    assert grid([35.0], [30.0])[0, 1, 1] == pytest.approx(0.25 + 2 * 0.2)
    assert grid([-50.0, 500], [0.0, 500])[:, 0, 0].tolist() == [0, 3]
    stamps[0, 1] = np.nan
    assert grid([60.0], [20.0])[0, 0, 0] == 0
    assert np.isnan(grid([110.0], [20.0])).all()
    back = StampGrid.from_hdu(grid.to_hdu())
    np.testing.assert_array_equal(back([60.0, 110], [45.0, 70]), grid([60.0, 110], [45.0, 70]))


def test_patch_without_psf_is_bad_data(tmp_path):
    warp = make_warp(np.random.default_rng(1), 1)
    warp.psf = CoaddPsf([], WCS)
    with pytest.raises(BadData, match="PSF"):
        combine_warps(*write(tmp_path, [warp]), "decorrelated")


def test_model_sharper_than_an_input_is_refused_with_the_reason(tmp_path):
    warps = [make_warp(np.random.default_rng(1), visit) for visit in (1, 5)]
    for warp in warps:
        warp.metadata["psf_sigma"] = SIGMAS[warp.metadata["visit"]]
    paths = write(tmp_path, warps)
    files = stack.open_all(paths[1])
    for sigma, refused in ((3.6, False), (2.9, True)):
        for path in paths[1]:
            matched = Exposure.read(path)
            matched.metadata |= {"psf_sigma": sigma, "mean_variance": 1.0}
            matched.write(path)
        if refused:
            with pytest.raises(InputError, match=r"model_fwhm.*visit 5 \(3.00 pixel\)"):
                combine_warps(*paths, "psf_matched")
        else:
            assert combine_warps(*paths, "psf_matched").shape == files[0].shape
