"""The judge is judged on products made from the truth itself, with known faults put in."""

import numpy as np
import pytest
from builders import constant_psf, exposure, gaussian

from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.run import config
from diaflow.simulate import gaussians, optics
from diaflow.simulate.sky import Survey
from diaflow.simulate.truth import write_truth
from diaflow.store import tables
from diaflow.validate import scores
from diaflow.validate.comparison import Comparison

SIZE, SIGMA, NOISE = 256, 2.0, 50.0  # pixel, pixel, nJy
FLUX_ERROR = NOISE * np.sqrt(4 * np.pi) * SIGMA  # of a Gaussian PSF in white noise
WEIGHTS = {1: 1.0, 2: 3.0}  # template visits
SCIENCE = (3, 4, 5)
THRESHOLD = 5.0  # of the detection [sigma]
SHIFT = 0.040  # error of the WCS in both coordinates [arcsec]
PSF = constant_psf(gaussian(SIGMA, 25), (SIZE, SIZE))


def repeated_sources(objects: np.ndarray) -> np.ndarray:
    """Eight stars in three visits, off by 0, 10 and -20 mmag; a faint one far off; a flagged one."""
    stars = objects[objects["type"] == "star"][:8]
    parts = []
    for visit, offset in ((1, 0.0), (2, 0.010), (3, -0.020)):
        flux = 10 ** (-0.4 * (stars["r_mag"] + offset - 31.4))
        names = {"visit": visit, "band": "r", "ra": stars["ra"], "dec": stars["dec"]}
        table = tables.from_columns("source", **names, psfFlux=flux, psfFluxErr=flux / 1000)
        table["psfFlux"][:2] *= 3
        table["psfFluxErr"][0] = table["psfFlux"][0] / 100
        table["pixelFlags_cr"][1] = True
        parts.append(table)
    return np.concatenate(parts)


def difference_image(rows: np.ndarray, flux: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = rng.normal(0, NOISE, (SIZE, SIZE))
    moments = np.full(len(rows), SIGMA**2)
    gaussians.add_gaussians(image, rows["x"], rows["y"], flux, moments, 0 * moments, moments)
    return image


def expected_fluxes(truth: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """The definition, spelled out row by row."""
    kind = dict(zip(objects["objectId"], objects["type"]))
    by_visit = {(row["objectId"], row["visit"]): row["flux"] for row in truth}
    static = {
        object_id: sum(w * by_visit.get((object_id, v), 0.0) for v, w in WEIGHTS.items()) / sum(WEIGHTS.values())
        for object_id in np.unique(truth["objectId"])
    }
    return np.array([r["flux"] - (kind[r["objectId"]] != "asteroid") * static[r["objectId"]] for r in truth])


def faulty_sources(truth: np.ndarray, expected: np.ndarray, survey) -> np.ndarray:
    """DIASources of every true source of S/N > 6 but two; and two false ones without and one with a flag."""
    found = np.flatnonzero((np.abs(expected) > 6 * FLUX_ERROR) & np.isin(truth["visit"], SCIENCE))[2:]
    names = ("visit", "detector", "band", "ra", "dec")
    real = tables.from_columns("dia_source", **{name: truth[name][found] for name in names})
    empty_ra, empty_dec = optics.true_wcs(survey.config, survey.visit(3), 0).all_pix2world(*empty_places(truth, 3), 0)
    false = tables.from_columns("dia_source", visit=[3] * 3, band="r", ra=empty_ra, dec=empty_dec)
    false["pixelFlags"][2] = True
    return np.concatenate([real, false])


def empty_places(truth: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.random.default_rng(5).uniform(20, SIZE - 20, (2, 500))
    near = np.hypot(x[:, None] - truth["x"], y[:, None] - truth["y"]).min(1) < 12
    return x[~near][:n], y[~near][:n]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of truth and products."""
    changes = {"detectors": 1, "size": SIZE, "bands": ["r"], "template_visits": 2, "science_visits": 3}
    changes |= {"supernovae": 12, "variables": 10, "asteroids": 5}
    survey = Survey.make(config.validated({"images": "simulated", "simulate": changes})["simulate"])
    folder = tmp_path_factory.mktemp("run")
    write_truth(survey, folder)
    objects = tables.read("truth_object", folder / "truth_object.parquet")
    truth = tables.read("truth_flux", folder / "truth_flux.parquet")
    expected = expected_fluxes(truth, objects)
    wcs = {visit.visit: optics.true_wcs(survey.config, survey.visit(visit.visit), 0) for visit in survey.visits}
    inputs = [PsfInput(v, 0, w, PSF, wcs[v], (0, 0, SIZE - 1, SIZE - 1)) for v, w in WEIGHTS.items()]
    template = exposure(
        np.zeros((SIZE, SIZE)), NOISE**2, CoaddPsf(inputs, wcs[1]), wcs[1], band="r", tract=0, patch="0_0"
    )
    template.write(folder / "coadd/template/0/0_0/r.fits")
    rng = np.random.default_rng(3)
    for visit in survey.visits:
        number = visit.visit
        rows = truth["visit"] == number
        image = difference_image(truth[rows], expected[rows], rng)
        metadata = {"visit": number, "detector": 0, "band": "r", "mjd": visit.mjd}
        if number in SCIENCE:
            exposure(image, NOISE**2, PSF, wcs[number], **metadata).write(folder / f"diffim/{number}/0.fits")
            exposure(image, NOISE**2, PSF, wcs[number]).write(folder / f"diffim/{number}/0_template.fits")
        shifted = wcs[number].deepcopy()
        shifted.wcs.crval = shifted.wcs.crval + SHIFT / 3600 / np.array([np.cos(np.radians(-4.5)), 1])
        exposure(image, NOISE**2, PSF, shifted, **metadata).write(folder / f"calexp/{number}/0.fits")
    sources = faulty_sources(truth, expected, survey)
    tables.write("dia_source", sources, folder / "tables/dia_source.parquet")
    tables.write("source", repeated_sources(objects), folder / "tables/source.parquet")
    seen = np.isin(objects["objectId"], truth["objectId"][truth["visit"] == 4])
    places = objects[seen & (objects["type"] == "supernova")][:4]
    dia_objects = tables.empty("dia_object", 6, ["r"])
    dia_objects["diaObjectId"] = np.arange(6) + 100
    dia_objects["nDiaSources"] = [2, 3, 2, 1, 2, 1]
    dia_objects["ra"] = [*places["ra"], sources["ra"][-1], sources["ra"][-2]]
    dia_objects["dec"] = [*places["dec"], sources["dec"][-1], sources["dec"][-2]]
    tables.write("dia_object", dia_objects, folder / "tables/dia_object.parquet")
    row = np.flatnonzero((truth["objectId"] == places["objectId"][1]) & (truth["visit"] == 4))[0]
    forced = tables.from_columns("dia_forced_source", diaObjectId=[101, 104], visit=[4, 4], psfFluxErr=10.0)
    forced["psfFlux"] = expected[row] + 30.0
    tables.write("dia_forced_source", forced, folder / "tables/dia_forced_source.parquet")
    zero_points = np.array([visit.zero_point for visit in survey.visits]) + [0.02, 0.02, 0.02, 0.03, -0.05]
    summary = tables.from_columns("visit_summary", visit=[1, 2, 3, 4, 5], zero_point=zero_points, status="ok")
    tables.write("visit_summary", summary, folder / "visit_summary.parquet")
    return folder


def truth_tables(folder):
    return [folder / f"{name}.parquet" for name in ("truth_object", "truth_flux", "truth_image")]


@pytest.fixture(scope="module")
def figures(run) -> dict:
    return scores.validate(Comparison.read(*truth_tables(run), run, THRESHOLD))


def test_every_figure_is_there_and_printed(figures):
    assert list(figures) == list(scores.FIGURES)
    lines = scores.text(figures).splitlines()
    assert len(lines) == len(figures)
    assert all(description in line for line, description in zip(lines, scores.FIGURES.values()))


def test_counts(figures):
    assert figures["n_visits"] == figures["n_images"] == 3
    assert figures["n_dia_sources"] == figures["n_dia_sources_unflagged"] + 1


def test_missed_sources_lower_the_completeness(figures):
    # Errors from the noise differ from the analytic one by the cut of the stamp (1e-4), so the count may by one or two.
    missed = (1 - figures["completeness"]) * figures["n_true_sources"]
    assert figures["n_true_sources"] > 20
    assert 1.5 < missed < 4.5


def test_unflagged_detections_of_nothing_are_false(figures):
    assert figures["n_false"] == 2
    area = 3 * SIZE**2 * (0.5 / 3600) ** 2
    assert figures["false_per_square_degree"] == pytest.approx(2 / area, rel=1e-3)


def test_purity_counts_objects_of_two_sources_or_more(figures):
    assert figures["n_repeated_objects"] == 4
    assert figures["object_purity"] == pytest.approx(3 / 4)


@pytest.mark.parametrize("kind", ["all", "empty"])
def test_pulls_of_perfect_products_are_standard_normal(figures, kind):
    n = figures[f"{kind}_pull_n"]
    assert n >= 40
    # Standard errors of the median and of the robust width of n normal deviates; four of those.
    assert figures[f"{kind}_pull_median"] == pytest.approx(0, abs=4 * 1.25 / np.sqrt(n))
    assert figures[f"{kind}_pull_width"] == pytest.approx(1, abs=4 * 1.17 / np.sqrt(n))


def test_tabulated_forced_flux_is_compared_with_the_object_at_its_place(figures):
    assert figures["object_pull_n"] == 1
    assert figures["object_pull_median"] == pytest.approx(3.0, abs=1e-3)


def test_calibration_errors_are_those_put_in(figures):
    assert figures["zero_point_error_median"] == pytest.approx(0.02, abs=1e-5)
    assert figures["zero_point_error_max"] == pytest.approx(0.05, abs=1e-5)
    assert figures["photometry_offset_rms"] == pytest.approx(np.sqrt((0.01**2 + 0.02**2) / 3), abs=1e-5)
    assert figures["photometry_offset_max"] == pytest.approx(0.020, abs=1e-5)
    assert figures["repeatability"] == pytest.approx(np.std([0, 0.01, -0.02], ddof=1), abs=1e-5)
    assert figures["astrometry_rms_median"] == pytest.approx(1000 * SHIFT, rel=1e-3)


def test_nothing_detected_is_nothing_found(run, tmp_path):
    for name in ("coadd", "calexp", "diffim", "visit_summary.parquet"):
        (tmp_path / name).symlink_to(run / name)
    for name, bands in (("source", ()), ("dia_source", ()), ("dia_object", ["r"]), ("dia_forced_source", ())):
        tables.write(name, tables.empty(name, 0, bands), tmp_path / f"tables/{name}.parquet")
    found = scores.validate(Comparison.read(*truth_tables(run), tmp_path, THRESHOLD))
    assert found["completeness"] == 0 and found["n_false"] == 0
    assert np.isnan(found["object_purity"]) and np.isnan(found["object_pull_median"])
