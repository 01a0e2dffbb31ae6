"""Two real nights of SDSS Stripe 82, each subtracted from the other: calibration, noise, what moved and what stays."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from astropy.io import fits

from diaflow.image.exposure import Exposure
from diaflow.store import tables
from diaflow.subtract import noise
from diaflow.units import magnitude

NIGHTS = {2003: 41920300, 2006: 63770399}
IN_G = 10**9  # visits in g have the number of those in r and this
CAMCOL = 4
# Minor planets brighter than S/N 8: ra, dec [deg] and the night they were there; by eye on both frames.
MOVING = [(351.70379, 0.19755, 2003), (351.68445, 0.15175, 2006), (351.58438, -0.00461, 2006)]
TOLERANCE = 0.3  # arcsec; at S/N 13 the centroid error is 1.05 pixel / 13 = 0.03 arcsec, and they move 0.3 in 54 s
TABLES = [f"results/sdss/tables/{name}.parquet" for name in ("visit", "dia_source")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shared) -> Path:
    """The frames of both bands."""
    folder = tmp_path_factory.mktemp("sdss")
    (folder / "sdss").mkdir()
    # tsField is of all bands
    frames = {path.name: path for band in "gr" for path in (shared / f"sdss_stripe82_{band}").iterdir()}
    for name, path in frames.items():
        (folder / "sdss" / name).symlink_to(path)
    return folder


@pytest.fixture(scope="module")
def config(root) -> dict:
    """The worked example in both bands, with the static sky, in one patch and jobs of two visits."""
    config = yaml.safe_load((root / "config/sdss_stripe82.yaml").read_text())
    bands = {"bands": {"g": "g", "r": "r"}, "errors": {"g": "g_err", "r": "r_err"}}
    config |= {"images": "sdss/fpC-*-[gr]4-*.fit.gz", "refcat": config["refcat"] | bands, "objects": True}
    return config | {"skymap": {"patch_size": 2700}, "visits_per_job": 2}


@pytest.fixture(scope="module", params=[2006, 2003], ids=["forward", "reverse"])
def difference(request, folder, config, snakemake, root) -> tuple[Path, int]:
    """Folder of the products of a run, and the night of its science image; both runs share what is calibrated."""
    targets = ["all"]
    if request.param == 2003:
        reverse = yaml.safe_load((root / "config/sdss_stripe82_reverse.yaml").read_text())
        config, targets = config | reverse | {"run": config["run"]}, TABLES
    done = snakemake(folder, config, *targets)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "results/sdss", request.param


@pytest.fixture(scope="module")
def stars(folder, config, snakemake, shared) -> tuple[np.ndarray, np.ndarray]:
    """Objects that are stars of the catalogue, and their rows of it."""
    done = snakemake(folder, config, "results/sdss/tables/object.parquet")
    assert done.returncode == 0, done.stderr[-5000:]
    objects = tables.read("object", folder / "results/sdss/tables/object.parquet")
    objects = objects[objects["detect_isPrimary"] & (objects["refcatId"] > 0)]
    catalogue = np.asarray(fits.getdata(shared / "sdss_stripe82_r/refcat_stars.fits"))
    order = np.argsort(catalogue["id"])
    return objects, catalogue[order[np.searchsorted(catalogue["id"], objects["refcatId"], sorter=order)]]


def test_zero_points_scatter_by_less_than_two_hundredths_of_a_magnitude(difference):
    visits = tables.read("visit", difference[0] / "tables/visit.parquet")
    assert set(visits["visit"]) == {visit + more for visit in NIGHTS.values() for more in (0, IN_G)}
    assert (visits["calexp_status"] == "ok").all()
    assert (visits["zero_point_scatter"] <= 0.02).all()


@pytest.mark.parametrize("band", ["g", "r"])
def test_objects_have_the_magnitudes_of_the_catalogue_at_any_brightness(stars, band):
    """Medians of bins of 10 and more stars, whose own error is 1 to 7 mmag, within 10 mmag.

    Differences are no larger than the errors of both say; they are half of that, since the catalogue claims errors of
    0.06 mag where all that is left between it and the objects is 0.02 to 0.04.
    """
    objects, catalogue = stars
    flaws = np.any(
        [objects[f"{band}_pixelFlags_{flaw}"] for flaw in ("saturated", "bad", "interpolatedCenter")], axis=0
    )
    good = ~(flaws | objects[f"{band}_psfFlux_flag"])
    flux, error = objects[f"{band}_psfFlux"], objects[f"{band}_psfFluxErr"]
    off = magnitude(flux) - catalogue[band]
    for first, last in ((14, 18), (18, 19), (19, 20), (20, 21)):
        of_bin = good & (catalogue[band] >= first) & (catalogue[band] < last)
        assert of_bin.sum() >= 10 and abs(np.median(off[of_bin])) < 0.01, (first, np.median(off[of_bin]))
    faint = good & (catalogue[band] >= 17)  # brighter ones differ by 1 to 3 % in r, which is no noise
    pulls = off[faint] / np.hypot(2.5 / np.log(10) * error[faint] / flux[faint], catalogue[f"{band}_err"][faint])
    assert 0.2 < 1.4826 * np.median(np.abs(pulls)) < 1


def test_difference_of_empty_sky_has_the_scatter_its_variance_plane_says(difference):
    results, night = difference
    visit = NIGHTS[night]
    names = f"calexp/{visit}/{CAMCOL}", f"diffim/{visit}/{CAMCOL}_template", f"diffim/{visit}/{CAMCOL}"
    science, template, diffim = (Exposure.read(results / f"{name}.fits") for name in names)
    sky = noise.sky(science) & noise.sky(template) & ~diffim.flagged(*noise.BAD_PLANES)
    assert sky.mean() > 0.7
    assert 0.95 < (diffim.image / np.sqrt(diffim.variance))[sky].std() < 1.05


@pytest.mark.parametrize(("ra", "dec", "seen"), MOVING)
def test_minor_planets_stand_out_in_the_night_they_were_there(difference, ra, dec, seen):
    results, night = difference
    sources = tables.read("dia_source", results / "tables/dia_source.parquet")
    separation = 3600 * np.hypot((sources["ra"] - ra) * np.cos(np.radians(dec)), sources["dec"] - dec)
    row = sources[np.argmin(separation)]
    assert separation.min() < TOLERANCE
    assert not row["pixelFlags"] and not row["isDipole"]
    assert (row["snr"] if seen == night else -row["snr"]) > 8
    assert row["isNegative"] == (seen != night)
    absent = "templateFlux" if seen == night else "scienceFlux"
    assert abs(row[absent]) < 3 * row[f"{absent}Err"]
