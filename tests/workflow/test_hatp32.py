"""Frames of a small telescope that tell their pointing only, to ten arcminutes: matched to a shallow catalogue."""

from pathlib import Path

import numpy as np
import pytest

from diaflow.image.exposure import Exposure
from diaflow.refcat import store
from diaflow.sky import sphere
from diaflow.store import tables

VISITS = (13343, 30312, 33912)
POINTING_ERROR = 600.0  # more than that of any of the frames [arcsec]
PIXEL_SCALE = 5.165  # arcsec
RADIUS = 0.7  # of an image and more [deg]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shared) -> Path:
    folder = tmp_path_factory.mktemp("hatp32")
    for path in (shared / "hatp32").glob("*.fits.gz"):
        (folder / path.name.replace(".fits.gz", ".FITS")).symlink_to(path)  # as its map has the names
    return folder


@pytest.fixture(scope="module")
def summaries(folder, shared, snakemake):
    """Visit summaries of a run with a largest pointing error [arcsec]."""

    def made(max_offset) -> np.ndarray:
        run = f"to_{max_offset:.0f}"
        config = {
            "run": run,
            "visits_per_job": 3,
            "images": "*.FITS",
            "instrument": str(shared / "hatp32/hatp_map.yaml"),
            "refcat": {"path": str(shared / "hatp32/hatp_tycho.csv"), "bands": {"Clear": "vt"}},
            "calexp": {"max_offset": max_offset},
        }
        target = f"results/{run}/visit_summary.parquet"
        done = snakemake(folder, config, target)
        assert done.returncode == 0, done.stderr[-5000:]
        return tables.read("visit_summary", folder / target)

    return made


def test_every_frame_is_matched_to_its_tycho_stars(folder, summaries):
    summary = summaries(POINTING_ERROR)
    assert summary["visit"].tolist() == list(VISITS)
    assert (summary["status"] == "ok").all(), summary["reason"].tolist()
    # A tenth of a pixel: stars of 2 pixels FWHM at high signal to noise, and Tycho-2 of 2000 without motion to 2017.
    assert (summary["astrom_scatter"] < 0.1 * PIXEL_SCALE).all()
    assert summary["psf_flux_ratio"] == pytest.approx(1, abs=0.05)  # aperture over PSF flux of the stars
    assert np.ptp(summary["zero_point"]) < 1.0  # one night, one exposure time, some haze
    for row in summary:
        table = tables.read("source", folder / f"results/to_600/src/{row['visit']}.parquet")
        exposure = Exposure.read(folder / f"results/to_600/calexp/{row['visit']}/0.fits")
        stars = store.read(folder / "results/to_600/refcat.parquet", "Clear", row["ra"], row["dec"], RADIUS, row["mjd"])
        there = sphere.unit_vectors(table["ra"], table["dec"])
        inside = inner(exposure, stars)
        distance = sphere.separation(there[:, None], sphere.unit_vectors(stars["ra"], stars["dec"])[inside]).min(0)
        # The cores of the brightest are saturated. By accident a source is as near to 7 % of all places.
        assert np.mean(np.degrees(distance) * 3600 < 2 * PIXEL_SCALE) > 0.7


def inner(exposure, stars, margin=20):
    """Which stars are on the image, away from its edges."""
    x, y = exposure.wcs.all_world2pix(stars["ra"], stars["dec"], 0, quiet=True)
    ny, nx = exposure.shape
    return (x > margin) & (y > margin) & (x < nx - margin) & (y < ny - margin)


def test_a_search_that_is_too_small_says_how_far_it_went(summaries):
    summary = summaries(120.0)
    assert (summary["status"] == "failed").all()
    for reason in summary["reason"]:
        assert reason.startswith("no match to the reference catalogue (best ")
        assert "tried: offsets to 120 arcsec, rotations to 1 deg, the scale of RA---TAN to 1 %" in reason
