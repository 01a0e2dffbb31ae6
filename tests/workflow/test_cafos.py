"""Raw frames of a night, CAFOS at Calar Alto: master bias and flats, detrended images, visits registered, objects."""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from scipy.spatial import cKDTree

from diaflow.image.exposure import Exposure
from diaflow.sky import sphere
from diaflow.store import tables
from diaflow.units import ARCSEC

DEEP = {"B": (26, 27, 28), "V": (31, 32, 33)}  # visits of 60 s
SHORT = (23, 24, 25, 29, 30)  # of 2 and 3 s
PIXEL_SCALE = 0.5253  # arcsec
BLOCK = 64  # pixels


def configuration(root) -> dict:
    return yaml.safe_load((root / "config/cafos_ngc2420.yaml").read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shared) -> Path:
    folder = tmp_path_factory.mktemp("cafos")
    (folder / "cafos").symlink_to(shared / "cafos_ngc2420_raw")
    return folder


@pytest.fixture(scope="module")
def run(folder, root, snakemake) -> Path:
    """Folder of the products of a run up to the calibrated exposures and the static sky, in jobs of six visits."""
    config = configuration(root) | {"objects": True, "skymap": {"patch_size": 1600}, "visits_per_job": 6}
    tables_made = ("exposures", "visit_summary", "tables/object")
    done = snakemake(folder, config, *(f"results/cafos/{name}.parquet" for name in tables_made))
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "results/cafos"


@pytest.fixture(scope="module")
def unflattened(folder, root, snakemake) -> Path:
    """The same without flat frames, up to the detrended images of the last visit of each band."""
    images = ["cafos/calib/bias/*.fits.gz", "cafos/science/**/*.fits.gz"]
    targets = [f"results/plain/post_isr/{visits[-1]}" for visits in DEEP.values()]
    done = snakemake(folder, configuration(root) | {"run": "plain", "images": images}, *targets)
    assert done.returncode == 0, done.stderr[-5000:]
    assert "no flat frame in band B" in done.stderr and "no flat frame in band V" in done.stderr
    return folder / "results/plain"


def jobs(listing: str) -> dict[str, int]:
    """Jobs of each rule in the output of a dry run."""
    return {rule: int(number) for rule, number in re.findall(r"^(\w+) +(\d+)$", listing, re.MULTILINE)}


def test_the_headers_tell_the_whole_graph(tmp_path, shared, root, snakemake):
    (tmp_path / "cafos").symlink_to(shared / "cafos_ngc2420_raw")
    counts = jobs(snakemake(tmp_path, configuration(root), "--dry-run").stdout)
    expected = {"master_bias": 1, "master_flat": 2, "isr": 11, "calexp": 11, "diffim": 2}
    assert expected.items() <= counts.items() and "master_dark" not in counts


def test_read_noise_is_what_the_bias_frames_say_and_not_the_header(run):
    bias = Exposure.read(run / "calib/bias/0.fits")
    exposures = tables.read("exposure", run / "exposures.parquet")
    assert (exposures["read_noise"] == np.float32(7.4)).all()
    # The clipped scatter of the difference of both frames over sqrt(2) is 9.95 DN of 1.43 electrons.
    assert bias.metadata["read_noise_1"] == pytest.approx(1.43 * 9.95, rel=0.01)
    assert sorted(exposures["imagetype"][exposures["status"] == "calibration"]) == ["bias", "bias", "flat", "flat"]


@pytest.mark.parametrize("band", DEEP)
def test_noise_of_the_sky_is_what_gain_bias_and_flat_predict(run, band):
    for visit in DEEP[band]:
        metadata = Exposure.read(run / f"post_isr/{visit}/0.fits").metadata
        # Unresolved stars of the cluster add a few per cent, the most where the sky is brightest.
        assert metadata["noise_model"] == "predicted" and 0.97 < metadata["noise_excess"] < 1.15


def test_bad_rows_and_column_are_bad(run):
    mask = Exposure.read(run / "calexp/28/0.fits")
    bad = mask.flagged("BAD")
    assert bad[:2].all() and bad[:, 0].all() and bad[2:, 1:].mean() < 1e-3
    assert not mask.flagged("SAT")[:2].any()


def flatness(path: Path) -> float:
    """Robust scatter of the sky from place to place, as a fraction of the sky."""
    image = Exposure.read(path).image
    n = len(image) // BLOCK
    sky = np.median(image.reshape(n, BLOCK, n, BLOCK), axis=(1, 3)).ravel()
    return 1.4826 * float(np.median(np.abs(sky / np.median(sky) - 1)))


@pytest.mark.parametrize("band", DEEP)
def test_the_flat_makes_the_sky_flat_and_its_noise_that_of_photons(run, unflattened, band):
    name = f"post_isr/{DEEP[band][-1]}/0.fits"
    # 0.053 and 0.011 in B; in V 0.039 and 0.023, where the lamp lights the dome unlike the sky.
    assert flatness(run / name) < (0.3 if band == "B" else 0.7) * flatness(unflattened / name)
    with_flat, without = (Exposure.read(path / name).metadata["noise_excess"] for path in (run, unflattened))
    assert with_flat < 1.11 < without


def test_all_visits_are_calibrated_against_the_longest_exposure(run):
    summary = tables.read("visit_summary", run / "visit_summary.parquet")
    assert (summary["status"] == "ok").all() and len(summary) == len(SHORT) + 6
    of = {int(row["visit"]): row for row in summary}
    assert of[26]["astrometry"] == "header" and of[31]["astrometry"] == "relative"
    assert {of[visit]["photometry"] for visit in of} == {"none", "relative"}
    # 60 s are 3.25 mag deeper than 3 s; the zero point is that of the 60 s exposure.
    for visit in SHORT[1:]:
        assert of[visit]["zero_point"] == pytest.approx(31.4 - 2.5 * np.log10(20), abs=0.35)


def stars(run, visit) -> np.ndarray:
    """Point sources of S/N 30 and more without flaws."""
    table = tables.read("source", run / f"src/{visit}.parquet")
    flaws = table["pixelFlags_saturated"] | table["pixelFlags_bad"] | table["pixelFlags_edge"]
    return table[(table["psfFlux"] > 30 * table["psfFluxErr"]) & (table["extendedness"] == 0) & ~flaws]


@pytest.mark.parametrize(("first", "second"), [(26, 27), (27, 28), (31, 32), (32, 33), (26, 31), (28, 33)])
def test_visits_are_registered_to_a_tenth_of_a_pixel(run, first, second):
    stars_1, stars_2 = stars(run, first), stars(run, second)
    east = np.cos(np.radians(stars_1["dec"].mean()))
    sky_1, sky_2 = (np.column_stack([t["ra"] * east, t["dec"]]) * 3600 / PIXEL_SCALE for t in (stars_1, stars_2))
    distance, match = cKDTree(sky_2).query(sky_1, distance_upper_bound=2.0)
    near = np.isfinite(distance)
    offset = sky_2[match[near]] - sky_1[near]
    errors = np.hypot(stars_1["xErr"][near], stars_2["xErr"][match[near]])
    assert near.sum() > 120
    # The median length of a two-dimensional normal deviate of the stars' errors (0.04 to 0.05 pixels) is 1.18 of them;
    # seeing and PSF differ between the visits too: half as much again.
    assert np.median(np.hypot(*offset.T)) < min(0.1, 2 * 1.18 * np.median(errors))
    x, y = stars_1["x"][near] > 512, stars_1["y"][near] > 512
    for quadrant in (x & y, x & ~y, ~x & y, ~x & ~y):
        # The error of a median of n, with a scatter of 0.07 pixels and four sigma: less than 0.07.
        reach = 4 * 1.25 * 0.07 / np.sqrt(quadrant.sum())
        assert np.abs(np.median(offset[quadrant], axis=0)).max() < reach


@pytest.mark.parametrize("band", DEEP)
def test_objects_have_the_fluxes_that_their_stars_have_in_the_visits(run, band):
    """At any brightness to 1 %: of 25 and more ratios that scatter by 1 to 2 % the median is known to 0.1 to 0.3 %."""
    objects = tables.read("object", run / "tables/object.parquet")
    flaws = np.any([objects[f"{band}_pixelFlags_{flaw}"] for flaw in ("saturated", "bad", "edge")], axis=0)
    alone = objects["detect_isPrimary"] & objects["detect_isIsolated"]
    objects = objects[alone & ~flaws & ~objects[f"{band}_psfFlux_flag"]]
    tree = cKDTree(sphere.unit_vectors(objects["ra"], objects["dec"]))
    of_visits = np.concatenate([stars(run, visit) for visit in DEEP[band]])
    separation, match = tree.query(sphere.unit_vectors(of_visits["ra"], of_visits["dec"]))
    same = separation < PIXEL_SCALE * ARCSEC
    ratio = (of_visits["psfFlux"] / objects[f"{band}_psfFlux"][match])[same]
    snr = (of_visits["psfFlux"] / of_visits["psfFluxErr"])[same]
    for first, last in ((30, 60), (60, 120), (120, np.inf)):
        chosen = (snr >= first) & (snr < last)
        assert chosen.sum() >= 25 and abs(np.median(ratio[chosen]) - 1) < 0.01, (first, np.median(ratio[chosen]))
