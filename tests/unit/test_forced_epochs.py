"""What the epochs of one object have in common: the noise of the template, and the flux when the object is off."""

import numpy as np
import pytest
from builders import IDENTITY, constant_psf, exposure, gaussian, source_table
from scenes import CONFIG, add_stars

from diaflow.forced import epochs, measure
from diaflow.forced.diffim import forced_photometry
from diaflow.forced.positions import Positions
from diaflow.store import tables
from diaflow.subtract import alard_lupton
from diaflow.subtract.subtraction import subtract

N_EPOCHS, DEPTH = 20, 10  # the template is the mean of DEPTH images
SIZE, STEP = 840, 10
SCIENCE_SIGMA, TEMPLATE_SIGMA = 1.9, 1.6


def places():
    """A grid of empty places, and stars on a coarser one between them [pixel]."""
    grid = np.arange(30, SIZE - 30, STEP)
    x, y = (g.ravel().astype(float) for g in np.meshgrid(grid, grid))
    lines = np.arange(75, SIZE - 50, 150)
    star_x, star_y = (g.ravel().astype(float) for g in np.meshgrid(lines, lines))
    far = np.min(np.hypot(x - star_x[:, None], y - star_y[:, None]), axis=0) > 25
    return x[far], y[far], star_x, star_y


@pytest.mark.slow
def test_the_sum_of_epochs_has_the_error_of_their_covariance():
    """Of 20 epochs against a template of 10: with v the variance of an image, a sum of 20 v + 20**2 v / 10.

    The errors of single epochs know 20 (v + v / 10) of that, by 1.65 too small an error, or less where the template is
    smoothed to match.  The width of 6000 pulls is known to 0.9 %.
    """
    x, y, star_x, star_y = places()
    assert len(x) > 5500
    rng, star_flux = np.random.default_rng(1), np.full(len(star_x), 3000.0)
    stars = source_table(star_x, star_y, star_flux, 10.0)

    def image(sigma, variance):
        pixels = rng.normal(scale=np.sqrt(variance), size=(SIZE, SIZE)).astype(np.float32)
        add_stars(pixels, star_x, star_y, star_flux, sigma)
        return exposure(pixels, variance, constant_psf(gaussian(sigma), pixels.shape), **IDENTITY)

    template = image(TEMPLATE_SIGMA, 1 / DEPTH)
    flux, err, err_template = np.zeros((3, N_EPOCHS, len(x)))
    for epoch in range(N_EPOCHS):
        science = image(SCIENCE_SIGMA, 1.0)
        result = subtract(science, template, stars, alard_lupton.subtract, CONFIG | {"kernel_order": 0})
        at = Positions(*science.wcs.all_pix2world(x, y, 0), {"diaObjectId": np.arange(1, len(x) + 1)})
        factors = 1.0, result.figures["template_noise"]
        table = forced_photometry(result.exposure, science, result.matched_template.variance, at, *factors)
        flux[epoch], err[epoch], err_template[epoch] = (table[name] for name in epochs.FLUXES)
    total, naive = flux.sum(0), np.sqrt((err**2).sum(0))
    error = np.sqrt((err**2 - err_template**2).sum(0) + err_template.sum(0) ** 2)
    assert error[7] == pytest.approx(np.sqrt(epochs.covariance(err[:, 7], err_template[:, 7]).sum()))
    assert np.std(total / naive) > 1.5
    assert np.std(total / error) == pytest.approx(1, abs=0.03)


def light_curves(rng, n_objects=4000, n_epochs=12):
    """Fluxes of objects that are off in the first 8 epochs and at 500 afterwards, with a common template; nJy."""
    own, shared = rng.uniform(5, 20, (n_epochs, 1)), rng.uniform(2, 6, (n_epochs, 1))
    flux = rng.normal(size=(n_epochs, n_objects)) * own + rng.normal(size=n_objects) * shared
    flux[8:] += 500
    return flux, np.broadcast_to(np.hypot(own, shared), flux.shape), np.broadcast_to(shared, flux.shape)


def test_the_flux_above_the_baseline_has_the_error_of_all_its_epochs():
    """4000 objects know the width of pulls to 1.1 %, epoch by epoch, those of the baseline and the others."""
    flux, err, err_template = light_curves(np.random.default_rng(0))
    ids = np.arange(1, flux.shape[1] + 1)
    band = np.full(len(ids), "r", object)
    baseline = epochs.Baseline(ids, ["g", "r"])
    rows = [(ids, band, np.full(len(ids), k < 8), flux[k], err[k], err_template[k]) for k in range(len(flux))]
    for values in rows:
        baseline.add(*values)
    for k, values in enumerate(rows):
        above, error = baseline.subtracted(*values)
        pull = (above - 500 * (k >= 8)) / error
        assert abs(np.mean(pull)) < 4 / np.sqrt(len(ids))
        assert np.std(pull) == pytest.approx(1, abs=4 * 0.011)
    none = baseline.subtracted(ids, np.full(len(ids), "g", object), *rows[0][2:])
    assert np.isnan(none).all()


def test_baselines_of_tables_are_those_of_dia_objects_and_positions_apart(tmp_path):
    """An object 7 and a position 7; the third visit is part of the template, the fourth after the first detection."""
    paths = []
    for visit, flux in enumerate((10.0, 20.0, 1000.0, 300.0), 1):
        common = {"visit": visit, "band": "r", "midpointMjdTai": 60000.0 + visit, "visitInTemplate": visit == 3}
        errors = {"psfFluxErr": 5.0, "psfFluxErrTemplate": 3.0}
        both = {"diaObjectId": np.array([7, 0]), "positionId": np.array([0, 7]), "psfFlux": flux + np.array([0, 1])}
        paths.append(tmp_path / f"{visit}.parquet")
        tables.write(
            "dia_forced_source", tables.from_columns("dia_forced_source", **common, **errors, **both), paths[-1]
        )
    objects = tables.from_columns("dia_object", ["r"], diaObjectId=np.array([7]))
    objects["firstDiaSourceMjdTai"], objects["lastDiaSourceMjdTai"] = 60004.0, 60005.0
    before = {"mjd": [], "before": 0.5, "after": None}
    columns = epochs.baselines(paths, objects, before)(tables.read("dia_forced_source", paths[3]))
    np.testing.assert_allclose(columns["psfFluxBaseline"], [285.0, np.nan])
    np.testing.assert_allclose(columns["psfFluxBaselineErr"], [np.sqrt(16 + 16 / 2), np.nan])
    dates = {"mjd": [[60000, 60002.5]], "before": None, "after": None}
    columns = epochs.baselines(paths, objects, dates)(tables.read("dia_forced_source", paths[0]))
    np.testing.assert_allclose(columns["psfFluxBaseline"], [-5.0, -5.0])
    np.testing.assert_allclose(columns["psfFluxBaselineErr"], [np.sqrt(16 - 16 / 2)] * 2)


def test_the_limit_is_five_errors_and_the_template_a_part_of_the_error():
    image = exposure(np.zeros((100, 100)), 4.0, constant_psf(gaussian(1.7), (100, 100)), **IDENTITY)
    at = Positions(*image.wcs.all_pix2world([50.0], [50.0], 0), {"positionId": np.array([3])})
    table = forced_photometry(image, image, np.full((100, 100), 1.0, np.float32), at, 1.0, 0.5)
    assert table["psfFluxLimit5"] == pytest.approx(measure.LIMIT * table["psfFluxErr"])
    assert table["psfFluxErrTemplate"] == pytest.approx(table["psfFluxErr"] * np.sqrt(0.5 * 1 / 4))
    assert table["positionId"] == 3 and table["diaObjectId"] == 0
