"""The chain of objects of patches: from coadds of two bands on disk to rows, each object primary in one patch."""

import numpy as np
import pytest
from scipy.spatial import cKDTree

from diaflow.catalogue import objects
from diaflow.coadd import combine
from diaflow.errors import BadData
from diaflow.forced.template_on_diffim import forced_photometry, in_band
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.psf.coadd import EVERYWHERE, CoaddPsf, PsfInput
from diaflow.psf.stampfield import StampField
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.skymap.tract import Tract
from diaflow.store import ids, tables

SIGMA, STAMP = 1.8, 25
TRACT = Tract(id=3, ra=35.0, dec=-4.5, radius=0.02, pixel_scale=0.2, patch_size=240, border=60)
SKY = SkyMap("discrete", {3: TRACT})
PATCHES = ("1_1", "2_1")
T = np.arange(STAMP) - STAMP // 2
PSF = np.exp(-(T[:, None] ** 2 + T**2) / (2 * SIGMA**2)) / (2 * np.pi * SIGMA**2)


def coadd(patch, x, y, flux, seed):
    """Stars at places of the tract [pixel] on a patch; noise that patches share where they overlap."""
    wcs, (ny, nx) = TRACT.patch_wcs(patch)
    x0, y0, x1, y1 = TRACT.outer_box(patch)
    noise = np.random.default_rng(seed).normal(size=TRACT.shape)
    row, column = np.mgrid[y0 : y1 + 1, x0 : x1 + 1]
    image = noise[y0 : y1 + 1, x0 : x1 + 1].copy()
    for star_x, star_y, f in zip(x, y, flux):
        image += f * np.exp(-((column - star_x) ** 2 + (row - star_y) ** 2) / (2 * SIGMA**2)) / (2 * np.pi * SIGMA**2)
    psf = CoaddPsf([PsfInput(1, 0, 1.0, StampField(PSF[None], 0, (ny, nx)), wcs, (0, 0, nx - 1, ny - 1))], wcs)
    exposure = Exposure(
        image.astype("f4"), np.ones((ny, nx), "f4"), np.zeros((ny, nx), np.int32), wcs, psf, noise=WHITE
    )
    exposure.metadata = {"tract": 3, "patch": patch, "n_inputs": 1}
    return exposure


@pytest.fixture(scope="module")
def stars():
    """Places on the tract, apart from each other but for one close pair, and fluxes in two bands."""
    x0, y0, _, _ = TRACT.outer_box(PATCHES[0])
    _, _, x1, y1 = TRACT.outer_box(PATCHES[1])
    x, y = np.meshgrid(np.arange(x0 + 25, x1 - 20, 40.0), np.arange(y0 + 25, y1 - 20, 40.0))
    rng = np.random.default_rng(0)
    x, y = x.ravel() + rng.uniform(-5, 5, x.size), y.ravel() + rng.uniform(-5, 5, x.size)
    x, y = np.append(x, x[0] + 6), np.append(y, y[0])
    flux = rng.uniform(300, 3000, x.size)
    colour = np.where(np.arange(x.size) % 3 == 0, 0.0, 0.5)  # a third is not seen in r
    return x, y, flux, colour * flux


@pytest.fixture(scope="module")
def catalogue(stars, tmp_path_factory):
    """Objects of two neighbouring patches in r and g, one of which has no coadd in z."""
    folder, (x, y, g, r) = tmp_path_factory.mktemp("coadds"), stars
    found = []
    for patch in PATCHES:
        paths = {band: folder / f"{patch}_{band}.fits" for band in "rgz"}
        coadd(patch, x, y, g, 1).write(paths["g"])
        coadd(patch, x, y, r, 2).write(paths["r"])
        failed = combine.failed(*TRACT.patch_wcs(patch), BadData("no warps to coadd"))
        failed.write(paths["z"])
        found.append(objects.patch_objects(paths, SKY, 3, patch))
        tables.write("object", found[-1], folder / f"{patch}.parquet")
    return tables.concatenate("object", [tables.read("object", folder / f"{patch}.parquet") for patch in PATCHES])


def test_every_star_is_primary_once_and_nothing_else_is(catalogue, stars):
    x, y = stars[:2]
    primary = catalogue[catalogue["detect_isPrimary"]]
    found = np.column_stack(TRACT.pixels(primary["ra"], primary["dec"]))
    inner = np.array([TRACT.inner_box(patch) for patch in PATCHES])
    (x0, y0), (x1, y1) = inner[:, :2].min(0), inner[:, 2:].max(0)
    wanted = (x > x0 + 0.5) & (x < x1 - 0.5) & (y > y0 + 0.5) & (y < y1 - 0.5)
    distance, nearest = cKDTree(np.column_stack([x, y])).query(found)
    assert distance.max() < 0.5 and np.unique(nearest).size == len(primary)
    assert set(np.flatnonzero(wanted)) <= set(nearest)
    assert len(catalogue) > len(primary), "the border has objects of both patches"
    assert np.unique(catalogue["objectId"]).size == len(catalogue)


def test_bands_have_their_fluxes_and_one_without_a_coadd_is_flagged(catalogue, stars):
    x, y, g, r = stars
    primary = catalogue[catalogue["detect_isPrimary"]]
    found = np.column_stack(TRACT.pixels(primary["ra"], primary["dec"]))
    star = cKDTree(np.column_stack([x, y])).query(found)[1]
    for band, flux in (("g", g), ("r", r)):
        pull = (primary[f"{band}_psfFlux"] - flux[star]) / primary[f"{band}_psfFluxErr"]
        assert abs(np.median(pull)) < 4 / np.sqrt(len(pull)) and np.abs(pull).max() < 6
        np.testing.assert_array_equal(primary[f"{band}_merge_peak"], flux[star] > 0)
    assert np.isnan(catalogue["z_psfFlux"]).all() and catalogue["z_psfFlux_flag"].all()
    assert set(primary["refBand"]) == {"g", "r"}
    np.testing.assert_array_equal(primary["refBand"] == "r", r[star] > 0)


def test_the_close_pair_is_a_parent_with_two_children(catalogue):
    parents = catalogue[catalogue["deblend_nChild"] > 0]
    assert len(parents) >= 1 and not parents["detect_isPrimary"].any() and (parents["parentObjectId"] == 0).all()
    for parent in parents:
        children = catalogue[catalogue["parentObjectId"] == parent["objectId"]]
        assert len(children) == parent["deblend_nChild"] == parent["deblend_nPeaks"]
        assert children["detect_fromBlend"].all() and not children["detect_isIsolated"].any()


def test_fluxes_do_not_depend_on_a_level_of_the_sky(stars, tmp_path):
    x, y, flux, _ = stars
    tables_of = []
    for level in (0.0, -0.3):
        exposure = coadd(PATCHES[0], x, y, flux, 1)
        exposure.image += np.float32(level)
        exposure.write(tmp_path / "g.fits")
        tables_of.append(objects.patch_objects({"g": tmp_path / "g.fits"}, SKY, 3, PATCHES[0]))
    flat, sunk = tables_of
    # from 4e4 pixels
    np.testing.assert_allclose(sunk["g_sky"], flat["g_sky"] - 0.3, atol=0.005)
    assert np.abs(flat["g_sky"]).max() < 3 / np.sqrt(4e4)
    bright = flat["g_psfFlux"] > 500
    same = cKDTree(np.column_stack([sunk["ra"], sunk["dec"]])).query(np.column_stack([flat["ra"], flat["dec"]]))[1]
    off = (sunk["g_psfFlux"][same] - flat["g_psfFlux"])[bright] / flat["g_psfFluxErr"][bright]
    assert np.abs(np.median(off)) < 0.05, "a tenth of the noise of a pixel would be half of an error"


def test_identifiers_of_objects_tell_tract_and_patch_apart():
    some = [ids.object_ids(tract, patch, 3) for tract in (0, 1, 18937) for patch in ("0_0", "1_0", "0_1", "99_99")]
    assert np.unique(np.concatenate(some)).size == 36 and np.min(some) == 1
    assert ids.object_ids(2**22 - 1, "1023_1023", 2**21 - 1)[-1] == 2**63 - 1


def test_what_is_on_templates_is_measured_with_its_parent_or_not_at_all(catalogue, stars):
    seen = in_band(catalogue, "r")
    assert len(seen) < len(in_band(catalogue, "g")) <= len(catalogue) and len(in_band(catalogue, "i")) == 0
    x, y, g, _ = stars
    difference = coadd(PATCHES[0], x[:1], y[:1], 0 * g[:1], 7)
    field = StampField(PSF[None], 0, difference.shape)
    difference.psf = CoaddPsf([PsfInput(-1, -1, 1.0, field, difference.wcs, EVERYWHERE)], difference.wcs)
    difference.metadata = {"visit": 1, "detector": 0, "mjd": 6e4, "band": "g"}
    table = forced_photometry(difference, in_band(catalogue, "g"))
    primary = table[table["detect_isPrimary"]]
    assert set(table["patch"]) == set(PATCHES), "rows of the overlap are kept"
    assert len(primary) == len(np.unique(primary["objectId"])) < len(table)
    assert np.isin(table["parentObjectId"][table["parentObjectId"] > 0], table["objectId"]).all()
    pull = (primary["psfFlux"] / primary["psfFluxErr"])[~primary["psfFlux_flag"]]
    assert abs(pull.mean()) < 4 / np.sqrt(len(pull)) and pull.std() == pytest.approx(1, abs=4 / np.sqrt(2 * len(pull)))
    without = catalogue[catalogue["deblend_nChild"] == 0]
    orphans = forced_photometry(difference, without)
    assert not (orphans["parentObjectId"] > 0).any()
