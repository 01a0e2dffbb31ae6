"""Artefacts in warps of known truth: what moves, what varies, where inputs end; several PSFs and depths of coverage."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from builders import constant_psf, exposure, gaussian, star_image, tan_wcs

from diaflow.coadd import artefacts, combine, direct
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.psf.stampfield import FWHM_PER_SIGMA
from diaflow.psfmatch.homogeneous import homogenise, model_psf

SHAPE = (150, 160)
WCS = tan_wcs(SHAPE)
STAMP = 31
MODEL_SIGMA = 2.3
# PSFs of six visits [pixel]: all alike, of ordinary nights, and one that is much sharper than the others.
PSFS = {
    "alike": [1.8] * 6,
    "ordinary": [1.5, 2.0, 1.7, 2.1, 1.6, 1.9],
    "unequal": [1.2, 2.1, 2.1, 2.1, 2.1, 2.1],
}
NIGHTS = np.array([0, 0.06, 0.12, 6, 6.06, 6.12])  # two of three visits each [d]
STARS = [(30, 25, 3e4), (120, 30, 3e3), (75, 120, 1e4)]


@dataclass
class Visit:
    """What a visit sees.

    Attributes
    ----------
    sigma : float
        Of its PSF [pixel].
    mjd : float
    sources : list of (x, y, flux)
    covers : (ny, nx) bool array
        Where it has data.
    """

    sigma: float
    mjd: float
    sources: list = field(default_factory=list)
    covers: np.ndarray = field(default_factory=lambda: np.ones(SHAPE, bool))

    def warp(self, number):
        """The warp, of unit noise that depends on the number alone."""
        noise = np.random.default_rng(number).normal(0, 1, SHAPE)
        image = noise + sum(star_image(SHAPE, x, y, self.sigma, flux) for x, y, flux in self.sources)
        box = (0, 0, SHAPE[1] - 1, SHAPE[0] - 1)
        psf = CoaddPsf([PsfInput(number, 1, 1.0, constant_psf(gaussian(self.sigma, STAMP), SHAPE), WCS, box)], WCS)
        made = exposure(image, 1.0, psf, wcs=WCS, noise=Noise(1.0), visit=number, band="r", mjd=self.mjd)
        made.metadata["mean_variance"] = 1.0
        made.image[~self.covers], made.variance[~self.covers] = np.nan, np.inf
        made.mask[~self.covers] = bits("NO_DATA")
        return made


def write(folder, warps):
    """Paths of warps and of their matched versions."""
    model = model_psf(FWHM_PER_SIGMA * MODEL_SIGMA, STAMP)
    paths = [], []
    for k, warp in enumerate(warps):
        for kind, made in enumerate((warp, homogenise(warp, model))):
            paths[kind].append(str(folder / f"{kind}_{k}.fits"))
            made.write(paths[kind][-1])
    return paths


def coadd(folder, visits, change=None) -> Exposure:
    warps = [visit.warp(number) for number, visit in enumerate(visits)]
    if change:
        change(warps)
    return combine.combine_warps(*write(folder, warps), direct.combine)


def mean(visits, use) -> np.ndarray:
    """The mean of some of the warps."""
    return np.mean([visits[k].warp(k).image for k in use], axis=0)


def static_visits(sigmas, mjds=NIGHTS):
    return [Visit(sigma, 60000 + mjd, list(STARS)) for sigma, mjd in zip(sigmas, mjds)]


def psf_snr(image, variance, x, y, sigma):
    """PSF flux over its error at whole pixels."""
    stamp = gaussian(sigma, 2 * 7 + 1)
    parts = [np.s_[row - 7 : row + 8, column - 7 : column + 8] for column, row in zip(x, y)]
    flux = np.array([(stamp * image[part]).sum() for part in parts])
    return flux / np.sqrt([(stamp**2 * variance[part]).sum() for part in parts])


@pytest.mark.parametrize("name", PSFS)
@pytest.mark.parametrize("flux", [150, 600, 5000])
def test_nothing_of_a_mover_is_left_where_inputs_end(tmp_path, name, flux):
    """A mover at each of many places, in three visits a night, and inputs that end 15 pixels from each other."""
    visits = static_visits(PSFS[name])
    for k, visit in enumerate(visits):
        visit.covers[:, 75 + 15 * k :] = False
    (tmp_path / "without").mkdir()
    clean = coadd(tmp_path / "without", visits)
    x, y = (grid.ravel() for grid in np.meshgrid(np.arange(12, 136, 31), [48, 72, 96]))
    x += (y - 48) // 24 * 10
    rng = np.random.default_rng(5)
    for column, row in zip(x, y):
        seen = [visit for visit in visits if visit.covers[row, column]]
        if seen:
            seen[rng.integers(len(seen))].sources.append((column, row, flux))
    result = coadd(tmp_path, visits)
    unknown = result.flagged("SUSPECT", "NO_DATA")[y, x]
    np.testing.assert_array_equal(unknown, x >= 135, "two inputs reach to column 135")
    left = np.nan_to_num(result.image - clean.image)
    snr = psf_snr(left, np.where(np.isfinite(clean.variance), clean.variance, 1), x, y, 2.0)
    # but for the noise of the missing input: where there are three, (1 / 2 - 1 / 3) / (1 / 3) of the variance
    assert np.abs(snr[~unknown]).max() < 3


BRIGHT_EPOCHS = {
    "ten-fold in one": [1, 1, 1, 1, 1, 10],
    "ten-fold in two of two nights": [10, 1, 1, 1, 10, 1],
    "ten-fold in one night": [1, 1, 1, 10, 9, 8],
    "three-fold in one": [1, 1.1, 0.9, 3, 1, 1.05],
    "faint in one": [1, 1, 0.1, 1, 1, 1],
    "all different": [1, 2, 4, 6, 8, 10],
}


@pytest.mark.parametrize("name", ["ordinary", "unequal"])
@pytest.mark.parametrize("epochs", BRIGHT_EPOCHS)
def test_a_star_that_varies_is_the_mean_of_its_epochs(tmp_path, name, epochs):
    """Stars of S/N 10 to 700 in one visit, when they are faint: what is not clipped is the mean to the bit."""
    visits = static_visits(PSFS[name])
    places = [(40, 80, 70), (80, 60, 300), (120, 90, 1000), (110, 125, 5000)]
    for visit, factor in zip(visits, BRIGHT_EPOCHS[epochs]):
        visit.sources += [(x, y, factor * flux) for x, y, flux in places]
    result, truth = coadd(tmp_path, visits), mean(visits, range(6))
    for x, y, _ in places:
        part = np.s_[y - 8 : y + 9, x - 8 : x + 9]
        np.testing.assert_allclose(result.image[part], truth[part], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", PSFS)
@pytest.mark.parametrize("epochs", [[2], [1, 4], [3, 4, 5]])
def test_a_transient_of_few_epochs_is_left_out_whole(tmp_path, name, epochs):
    """In nine visits of three nights: one visit, two, and a whole night in which it hardly moves."""
    sigmas, mjds = PSFS[name] + PSFS[name][:3], np.append(NIGHTS, 12 + NIGHTS[:3] / 20)
    visits = static_visits(sigmas, mjds)
    places = [(45, 75, 200), (110, 75, 2000), (100, 120, 20000)]
    for k in epochs:
        visits[k].sources += [(x + 0.4 * k, y, flux) for x, y, flux in places]
    result = coadd(tmp_path, visits)
    truth = mean(visits, [k for k in range(9) if k not in epochs])
    for x, y, _ in places:
        part = np.s_[y - 2 : y + 3, x : x + 5]
        assert result.flagged("CLIPPED")[part].all() and result.flagged("INEXACT_PSF")[part].all()
        np.testing.assert_allclose(result.image[part], truth[part], rtol=1e-5, atol=1e-4)
    x, y, _ = np.array(places).T
    left = result.image - mean(static_visits(sigmas, mjds), range(9))
    # the missing epochs take their noise with them: (1 / 6 - 1 / 9) / (1 / 9) of the variance of the mean
    assert np.abs(psf_snr(left, np.full(SHAPE, 1 / 9), x + 1, y, 1.8)).max() < 3


def test_what_hits_a_star_is_no_variation_of_it(tmp_path):
    """A cosmic ray and an asteroid beside the core of a star, of several times its flux."""
    visits = static_visits(PSFS["ordinary"])
    for visit in visits:
        visit.sources += [(40, 80, 300), (110, 80, 300)]
    truth = mean(visits, range(6))
    visits[1].sources.append((43.5, 80, 1200))

    def hit(warps):
        warps[4].image[79:82, 111] += 400

    result = coadd(tmp_path, visits, hit)
    for x in (43, 111):
        assert result.flagged("CLIPPED")[80, x]
        # one of six is missing where PSFs of 300 nJy differ: 2 % of it are 6 nJy over the 20 pixels of a PSF
        assert np.abs(result.image - truth)[72:89, x - 8 : x + 9].max() < 5 * np.sqrt(1 / 5 - 1 / 6) + 1.5


@pytest.mark.parametrize("name", PSFS)
def test_a_star_where_an_input_ends_is_not_clipped_and_is_flagged(tmp_path, name):
    """The sharpest input ends in the middle of a star; next to it another one has a bad column, and a third a gap."""
    visits = static_visits(PSFS[name])
    for visit in visits:
        visit.sources += [(50, 75, 8000), (100, 75, 8000), (125, 105, 8000)]
    visits[0].covers[:, :51] = False
    visits[3].covers[100:112, 118:132] = False

    def damage(warps):
        warps[4].mask[:, 100] |= bits("BAD")
        warps[4].image[:, 100] = (warps[4].image[:, 99] + warps[4].image[:, 101]) / 2

    result = coadd(tmp_path, visits, damage)
    planes = result.mask & bits("SENSOR_EDGE", "INEXACT_PSF")
    assert (planes[70:80, 48:54] == bits("SENSOR_EDGE", "INEXACT_PSF")).all()
    assert (planes[70:80, 97:104] == bits("INEXACT_PSF")).all()
    assert (planes[98:114, 117] == bits("SENSOR_EDGE", "INEXACT_PSF")).all()
    assert not planes[70:80, 60:94].any() and not planes[60:95, 110:].any()
    assert not result.flagged("CLIPPED")[:, :90].any()


def test_nights_are_visits_that_follow_each_other(tmp_path):
    visits = static_visits([1.8] * 4, [6.3, 0, 0.3, 6.0])
    paths = write(tmp_path, [visit.warp(number) for number, visit in enumerate(visits)])[0]
    files = [ExposureFile(path) for path in paths]
    assert artefacts.nights(files).tolist() == [1, 0, 0, 1]
    for file in files[:2]:
        del file.metadata["mjd"]
    assert len(set(artefacts.nights(files).tolist())) == 4
