"""Stars subtracted at the wrong place: fluxes, positions and errors of their dipoles (DMTN-007, LSST's recipe)."""

import numpy as np
import pytest
from triplets import stars, with_noise

from diaflow.diasource import dipole
from diaflow.image.planes import bits

SIGMA, NOISE = 2.0, 2.0  # PSF [pixel] and noise of the difference, as in LSST's test_dipoleFitter


def dipoles(separation, flux, template_flux=None, n=64, noise=NOISE, seed=0, angle=None):
    """Planes with n dipoles on a grid, on a sloping background; positions of the stars and peaks of the lobes."""
    rng = np.random.default_rng(seed)
    side = int(np.sqrt(n))
    shape = (side * 40 + 60,) * 2
    x, y = (g.ravel() * 40 + 50 + rng.uniform(-0.5, 0.5, n) for g in np.mgrid[:side, :side][::-1])
    angle = rng.uniform(0, 2 * np.pi, n) if angle is None else np.full(n, angle)
    half = separation / 2 * np.array([np.cos(angle), np.sin(angle)])
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    static = 10 + 3 * xx / 100 + 5 * yy / 100
    level = noise / np.sqrt(2)
    template_flux = flux if template_flux is None else template_flux
    science = static + stars(shape, x + half[0], y + half[1], flux, SIGMA) + level * rng.normal(size=shape)
    template = static + stars(shape, x - half[0], y - half[1], template_flux, SIGMA) + level * rng.normal(size=shape)
    planes = (
        with_noise(science - template, noise, SIGMA),
        with_noise(science, level, SIGMA),
        with_noise(template, level, SIGMA),
    )
    # peaks of the filtered lobes are 2 sqrt(2) sigma apart where the lobes nearly coincide
    reach = max(np.sqrt(2) * SIGMA, separation / 2)
    peaks = [np.rint([x + s * reach * np.cos(angle), y + s * reach * np.sin(angle)]) for s in (1, -1)]
    return planes, np.array([x, y]), half, peaks


def fitted(*args, **kwargs):
    planes, centre, half, peaks = dipoles(*args, **kwargs)
    return dipole.fit(*planes, *peaks, SIGMA), centre, half


@pytest.mark.parametrize("separation", [0.3, 1.0, 4 * np.sqrt(2)])
@pytest.mark.parametrize("flux", [2500.0, 2345.0])
def test_fluxes_and_places_of_both_lobes_are_recovered(flux, separation):
    fit, centre, half = fitted(separation, flux)
    assert not fit.failed.any() and fit.is_dipole.all()
    mean = fit.flux.mean(axis=0)
    # The errors are 7 to 9, the noise of the mean of 64 an eighth of that; a pixel of flux outside the stamp is 1e-3.
    np.testing.assert_allclose(mean.mean(), flux, rtol=2e-3)
    np.testing.assert_allclose(mean, flux, atol=4.5 * 9.5)
    np.testing.assert_allclose(np.median(np.abs(mean / flux - 1)), 0, atol=0.01)
    # A position error is 1/sqrt(2) of sqrt(8 pi) sigma**2 noise / flux = 0.016 / 0.7 pixel on science and template.
    offset = np.array([fit.x - centre[0], fit.y - centre[1]])
    np.testing.assert_allclose(offset[:, 0], half, atol=5 * 0.016)
    np.testing.assert_allclose(offset[:, 1], -half, atol=5 * 0.016)
    reduced = fit.chi2 / fit.n_data
    # 441 pixels, 12 parameters that are shared with the other planes
    assert abs(reduced.mean() - 1) < 4 * np.sqrt(2 / 441 / 64) + 12 / 441


def test_errors_of_dipole_fluxes_are_honest():
    pulls = {"mean": [], "difference": [], "lobe": []}
    for seed in range(4):
        fit, *_ = fitted(1.0, 5000.0, template_flux=4500.0, n=100, seed=seed)
        pulls["mean"].append((fit.flux.mean(0) - 4750) / fit.mean_err)
        pulls["difference"].append((fit.flux[0] - fit.flux[1] - 500) / fit.diff_err)
        pulls["lobe"].append((fit.flux - [[5000], [4500]]).ravel() / fit.err.ravel())
    for name, values in pulls.items():
        values = np.concatenate(values)
        # 400 values (800 in pairs that are correlated): 4 sigma of mean and width
        assert abs(values.mean()) < 4 / np.sqrt(400), name
        assert abs(values.std() - 1) < 4 / np.sqrt(2 * 400), name


def test_orientation_is_that_from_the_negative_to_the_positive_lobe():
    fit, *_ = fitted(1.0, 2500.0, angle=np.radians(130))
    angle = np.degrees(np.arctan2(fit.y[0] - fit.y[1], fit.x[0] - fit.x[1]))
    # 0.016 pixel across a separation of 1 is 0.9 degrees
    np.testing.assert_allclose(angle, 130, atol=5)


def test_a_star_that_doubled_is_no_dipole():
    fit, *_ = fitted(0.1, 5000.0, template_flux=2000.0)
    assert not fit.is_dipole.any()


def test_masked_pixels_do_not_matter():
    planes, centre, half, peaks = dipoles(2.0, 2500.0)
    for plane in planes:
        plane.image[np.rint(centre[1]).astype(int), np.rint(centre[0]).astype(int) + 1] = 1e6
    planes[0].mask[np.rint(centre[1]).astype(int), np.rint(centre[0]).astype(int) + 1] = bits("CR")
    fit = dipole.fit(*planes, *peaks, SIGMA)
    assert not fit.failed.any()
    np.testing.assert_allclose(fit.flux.mean(0), 2500, atol=4.5 * 10)


def test_nothing_to_fit_fails_quietly():
    planes, _, _, peaks = dipoles(2.0, 2500.0)
    planes[0].mask[:] = bits("SAT")
    fit = dipole.fit(*planes, *peaks, SIGMA)
    assert fit.failed.all() and np.isnan(fit.flux).all() and not fit.is_dipole.any()
    assert len(dipole.fit(*planes, peaks[0][:, :0], peaks[1][:, :0], SIGMA).failed) == 0
