"""Forced photometry on template patches: what is measured once, and by whom."""

import numpy as np
import pytest
from builders import constant_psf, exposure, gaussian, star_image

from diaflow.forced import dia_object_on_template, dia_source_on_template
from diaflow.forced.positions import Positions
from diaflow.image.noise import Noise
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.skymap.tract import Tract
from diaflow.store import tables

SIGMA, FLUX = 1.8, 5000.0
# Two tracts that overlap around RA 0, of 2 x 2 patches each.
TRACTS = {k: Tract(k, ra, 0.0, 0.02, 0.5, 150, 20) for k, ra in ((0, 359.99), (1, 0.015))}
MAP = SkyMap("discrete", TRACTS)


@pytest.fixture(scope="module")
def sources():
    """DIASources all over both tracts, and beyond them."""
    rng = np.random.default_rng(0)
    n = 300
    table = tables.from_columns("dia_source", diaSourceId=np.arange(1, n + 1), visit=7, detector=3, band="r")
    table["ra"], table["dec"] = rng.uniform(-0.03, 0.04, n) % 360, rng.uniform(-0.02, 0.02, n)
    return table


@pytest.fixture(scope="module")
def templates(tmp_path_factory, sources):
    """A template of each patch but one, and one that failed, with a star at each source."""
    folder, paths = tmp_path_factory.mktemp("template"), []
    for tract in TRACTS.values():
        for patch in tract.patches():
            path = folder / str(tract.id) / patch / "r.fits"
            path.parent.mkdir(parents=True)
            wcs, shape = tract.patch_wcs(patch)
            if (tract.id, patch) == (0, "0_0"):
                continue
            image = np.zeros(shape)
            for x, y in zip(*wcs.all_world2pix(sources["ra"][:50], sources["dec"][:50], 0)):
                if -20 < x < shape[1] + 20 and -20 < y < shape[0] + 20:
                    image += star_image(shape, x, y, SIGMA, FLUX)
            own = PsfInput(1, 0, 1.0, constant_psf(gaussian(SIGMA), shape), wcs, (0, 0, shape[1] - 1, shape[0] - 1))
            template = exposure(image, 4.0, CoaddPsf([own], wcs), wcs, Noise(1.2), band="r")
            if (tract.id, patch) == (1, "1_1"):
                template.metadata["status"] = "failed"
            template.write(path)
            paths.append(path)
    return paths


def test_every_dia_source_has_one_primary_row(sources, templates):
    table = dia_source_on_template.forced_photometry(sources, templates, MAP)
    tract, patch = MAP.owner(sources["ra"], sources["dec"])
    primary = table[table["detect_isPrimary"]]
    np.testing.assert_array_equal(primary["diaSourceId"], sources["diaSourceId"])
    np.testing.assert_array_equal(primary["tract"], tract)
    np.testing.assert_array_equal(primary["patch"], patch)
    without = ((tract == 0) & (patch == "0_0")) | ((tract == 1) & (patch == "1_1")) | (tract < 0)
    np.testing.assert_array_equal(primary["psfFlux_flag"], without)
    assert 0 < without.sum() < len(sources) and set(table["band"]) == {"r"} and set(table["visit"]) == {7}


def test_all_patches_that_have_a_source_give_a_row(sources, templates):
    table = dia_source_on_template.forced_photometry(sources, templates, MAP)
    measured = table[np.isfinite(table["x"])]
    expected = 0
    for path in templates:
        tract, patch = TRACTS[int(path.parent.parent.name)], path.parent.name
        if (tract.id, patch) == (1, "1_1"):
            continue
        x0, y0, x1, y1 = tract.outer_box(patch)
        x, y = tract.pixels(sources["ra"], sources["dec"])
        inside = (x >= x0 - 0.5) & (x < x1 + 0.5) & (y >= y0 - 0.5) & (y < y1 + 0.5)
        expected += inside.sum()
    assert expected == len(measured) > len(sources)
    of_one = measured[measured["diaSourceId"] == np.bincount(measured["diaSourceId"]).argmax()]
    assert len(set(zip(of_one["tract"], of_one["patch"]))) == len(of_one) >= 3


def test_fluxes_and_errors_are_those_of_the_template(sources, templates):
    table = dia_source_on_template.forced_photometry(sources, templates, MAP)
    stars = sources[:50]
    apart = np.hypot(stars["ra"] - stars["ra"][:, None], stars["dec"] - stars["dec"][:, None])
    ids = stars["diaSourceId"][(apart < 0.005).sum(0) == 1]
    rows = table[np.isin(table["diaSourceId"], ids) & ~table["psfFlux_flag"] & ~table["pixelFlags"]]
    inside = (rows["x"] > 15) & (rows["x"] < 150) & (rows["y"] > 15) & (rows["y"] < 150)
    np.testing.assert_allclose(rows["psfFlux"][inside], FLUX, rtol=5e-3)
    np.testing.assert_allclose(rows["psfFluxErr"][inside], np.sqrt(4 * 1.2 * 4 * np.pi) * SIGMA, rtol=0.01)
    assert inside.sum() > 10


def test_positions_of_a_patch_without_a_template_have_rows_without_a_flux(templates):
    at = Positions(np.array([0.02, 0.021]), np.array([0.01, 0.011]), {"positionId": np.array([5, 6])})
    failed = next(path for path in templates if path.parent.name == "1_1" and path.parent.parent.name == "1")
    table = dia_object_on_template.forced_photometry(at, failed)
    assert table["positionId"].tolist() == [5, 6] and table["psfFlux_flag"].all() and set(table["tract"]) == {1}
