"""A survey on the border of two tracts, all the way: one template of both, every object in one of them."""

import shutil

import numpy as np
import pytest
from astropy.io import fits
from plans import planned, rules

from diaflow.image.exposure import Exposure
from diaflow.sky import sphere
from diaflow.sky.skymap.maps import load_skymap
from diaflow.store import tables
from diaflow.units import ARCSEC

# Rings of 1.5 deg: the field of the tiny survey, at RA 35, Dec -4.5, is in the middle of one, between two tracts.
RINGS = {
    "type": "rings",
    "num_rings": 119,
    "ra_start": 1.25,
    "pixel_scale": 0.5,
    "patch_size": 1230,
    "patch_border": 50,
}
TRACTS = 8496, 8497


@pytest.fixture(scope="module")
def on_border(tiny_run, tiny, root, snakemake, tmp_path_factory):
    """The tiny survey's run on the border, and the visits of that in its discrete tract."""
    folder = shutil.copytree(tiny_run, tmp_path_factory.mktemp("border") / "run")
    before = tables.read("visit", tiny_run / "results/tiny/tables/visit.parquet")
    config = tiny | {"skymap": RINGS, "forced": {"variants": ["diffim", "dia_source_on_template"]}}
    assert not rules(planned(root, folder, config)) & {"calexp", "patches", "coverage_maps"}
    done = snakemake(folder, config, "all", "patches", "coverage_maps")
    assert done.returncode == 0, done.stderr[-5000:]
    return folder / "results/tiny", before


def test_a_run_over_a_border_of_tracts(on_border):
    folder, before = on_border
    sky = load_skymap(folder / "skymap.json")
    assert tuple(sky.tracts) == TRACTS
    # Templates are of both tracts, and reach as far and are as deep as with one tract.
    after = tables.read("visit", folder / "tables/visit.parquet")
    for column, tolerance in (("template_coverage", 0.01), ("template_depth", 0.05), ("noise_ratio", 0.02)):
        np.testing.assert_allclose(after[column], before[column], atol=tolerance)
    for path in folder.glob("diffim/*/*_template.fits"):
        template = Exposure.read(path)
        ra, dec = template.wcs.all_pix2world(*np.indices(template.shape)[::-1, ::16, ::16].reshape(2, -1), 0)
        on = {number: tract.contains(ra, dec) for number, tract in sky.tracts.items()}
        empty = (template.flagged("NO_DATA")[::16, ::16]).ravel()
        assert all((~empty & of_tract).any() for of_tract in on.values())
    # Every object is in the one patch that owns it; near is no second one.
    objects = tables.read("dia_object", folder / "tables/dia_object.parquet")
    tract, patch = sky.owner(objects["ra"], objects["dec"])
    assert (objects["tract"] == tract).all() and (objects["patch"] == patch).all()
    assert set(objects["tract"]) == set(TRACTS)
    both = np.logical_and(*(sky.tracts[number].contains(objects["ra"], objects["dec"]) for number in TRACTS))
    assert both.any(), "some are where the tracts overlap"
    v = sphere.unit_vectors(objects["ra"], objects["dec"])
    assert np.triu(sphere.separation(v[:, None], v) < ARCSEC, 1).sum() == 0
    sources = tables.read("dia_source", folder / "tables/dia_source.parquet")
    assert set(sources["diaObjectId"]) - {0} == set(objects["diaObjectId"])
    on_template = tables.read("dia_source_on_template", folder / "tables/dia_source_on_template.parquet")
    assert on_template["detect_isPrimary"].sum() == len(sources) < len(on_template)


def test_maps_are_made_where_they_are_asked_for(on_border):
    folder, _ = on_border
    text = (folder / "maps/patches.txt").read_text()
    assert all(f"tract {number} at RA" in text for number in TRACTS)
    assert (folder / "maps/patches.png").read_bytes().startswith(b"\x89PNG")
    cells = fits.getdata(folder / "maps/g_depth.fits")
    assert cells["N_VISITS"].max() == 5
    depth = tables.read("visit_summary", folder / "visit_summary.parquet")["depth"]
    assert depth.max() + 0.5 < cells["DEPTH"].max() < depth.max() + 1.25 * np.log10(5) + 0.01
    assert fits.getval(folder / "maps/g_moc.fits", "ORDERING", 1) == "NUNIQ"
