"""Two real nights of SDSS Stripe 82, each subtracted from the other: calibration, noise, and what moved."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from diaflow.image.exposure import Exposure
from diaflow.store import tables
from diaflow.subtract import noise

NIGHTS = {2003: 41920300, 2006: 63770399}
CAMCOL = 4
# Minor planets brighter than S/N 8: ra, dec [deg] and the night they were there; by eye on both frames.
MOVING = [(351.70379, 0.19755, 2003), (351.68445, 0.15175, 2006), (351.58438, -0.00461, 2006)]
TOLERANCE = 0.3  # arcsec; at S/N 13 the centroid error is 1.05 pixel / 13 = 0.03 arcsec, and they move 0.3 in 54 s


@pytest.fixture(scope="module", params=[2006, 2003], ids=["forward", "reverse"])
def difference(request, tmp_path_factory, snakemake, shared, root) -> tuple[Path, int]:
    """Folder of the products of a run, and the night of its science image."""
    config = yaml.safe_load((root / "config/sdss_stripe82.yaml").read_text())
    if request.param == 2003:
        config |= yaml.safe_load((root / "config/sdss_stripe82_reverse.yaml").read_text())
    folder = tmp_path_factory.mktemp(config["run"])
    (folder / "sdss").symlink_to(shared / "sdss_stripe82_r")
    done = snakemake(folder, config)
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "results" / config["run"], request.param


def test_zero_points_scatter_by_less_than_two_hundredths_of_a_magnitude(difference):
    visits = tables.read("visit", difference[0] / "tables/visit.parquet")
    assert set(visits["visit"]) == set(NIGHTS.values())
    assert (visits["calexp_status"] == "ok").all()
    assert (visits["zero_point_scatter"] <= 0.02).all()


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
