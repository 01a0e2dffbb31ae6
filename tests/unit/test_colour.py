"""Colour pictures of coadds: colours are those of the fluxes, holes are black, saturated cores white, patches fit."""

import numpy as np
import pytest
from astropy.wcs import WCS
from PIL import Image

from diaflow.errors import InputError
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.image.planes import bits
from diaflow.report import colour

SIDE, OVERLAP = 120, 20
SIGMA = {"g": 1.0, "r": 2.0, "i": 4.0}  # nJy
STAR, RED, CORE, HOLE = (30, 40), (80, 40), (30, 90), (80, 90)  # y, x in the first patch


def tract_wcs(left: int) -> WCS:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [10.0, 20.0]
    wcs.wcs.cdelt, wcs.wcs.crpix = [-1e-4, 1e-4], [100.0 - left, 60.0]
    return wcs


@pytest.fixture(scope="module")
def coadds(tmp_path_factory):
    """Two patches side by side in three bands; a star of the colour of the noise, a red one, a core and a hole."""
    folder, paths = tmp_path_factory.mktemp("coadds"), {}
    y, x = np.indices((SIDE, SIDE))
    for patch, left in (("0_0", 0), ("1_0", SIDE - OVERLAP)):
        for seed, (band, sigma) in enumerate(SIGMA.items()):
            image = np.random.default_rng([seed, left]).normal(0, sigma, (SIDE, SIDE)).astype(np.float32)
            mask = np.zeros((SIDE, SIDE), np.int32)
            if patch == "0_0":
                for at, flux in ((STAR, 100 * sigma), (RED, 400 if band == "i" else 0)):
                    image += flux * np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 8)
                mask[CORE[0] - 2 : CORE[0] + 3, CORE[1] - 2 : CORE[1] + 3] = bits("SAT") if band == "r" else 0
                image[HOLE[0] - 2 : HOLE[0] + 3, HOLE[1] - 2 : HOLE[1] + 3] = np.nan if band == "g" else 0
            variance = np.full(image.shape, sigma**2, np.float32)
            path = folder / f"{patch}_{band}.fits"
            Exposure(image, variance, mask, tract_wcs(left), noise=WHITE).write(path)
            paths.setdefault(patch, {})[band] = path
    return paths


def pixels(path) -> np.ndarray:
    """A picture, row by row as the image."""
    return np.array(Image.open(path)).astype(int)[::-1]


def test_colours_holes_and_cores(coadds, tmp_path):
    colour.write_tract(coadds, tmp_path)
    picture = pixels(tmp_path / "0_0.jpg")
    assert picture.shape == (SIDE, SIDE, 3)
    red, green, blue = picture[STAR]
    assert min(red, green, blue) > 150 and np.ptp([red, green, blue]) < 25
    red, green, blue = picture[RED]
    assert red > 150 and max(green, blue) < 60
    assert picture[CORE].min() > 230 and picture[HOLE].max() < 25
    sky = picture[50:75, 5:35]
    assert 0 < sky.mean() < 50


def test_patches_lie_where_the_tract_has_them(coadds, tmp_path):
    colour.write_tract(coadds, tmp_path)
    tract = pixels(tmp_path / "tract.jpg")
    assert tract.shape == (SIDE, 2 * SIDE - OVERLAP, 3)
    np.testing.assert_allclose(tract[STAR], pixels(tmp_path / "0_0.jpg")[STAR], atol=40)


def test_large_pictures_are_reduced(coadds, tmp_path, monkeypatch):
    monkeypatch.setattr(colour, "LARGEST", 60)
    colour.write_tract(coadds, tmp_path)
    assert pixels(tmp_path / "0_0.jpg").shape == (SIDE // 2, SIDE // 2, 3)
    tract = pixels(tmp_path / "tract.jpg")
    assert tract.shape == (SIDE // 4, (2 * SIDE - OVERLAP) // 4, 3)
    red, green, blue = tract[RED[0] // 4, RED[1] // 4]
    assert red > 100 and max(green, blue) < 90


def test_of_two_bands_green_is_the_mean_and_a_missing_band_is_black(coadds, tmp_path):
    two = {patch: {band: paths[band] for band in "gr"} for patch, paths in coadds.items()}
    del two["1_0"]["g"]
    colour.write_tract(two, tmp_path)
    red, green, blue = pixels(tmp_path / "0_0.jpg")[STAR]
    assert np.ptp([red, green, blue]) < 25
    assert pixels(tmp_path / "1_0.jpg").max() == 0


def test_detections_are_ringed(coadds, tmp_path):
    colour.write_tract(coadds, tmp_path / "plain")
    wcs = tract_wcs(0)
    ra, dec = wcs.all_pix2world([60.0, 60.0], [20.0, 100.0], 0)
    table = np.rec.fromarrays(
        [ra, dec, np.zeros(2, int), [True, False]], names="ra,dec,parentObjectId,detect_isPrimary"
    )
    colour.write_tract(coadds, tmp_path / "ringed", {"0_0": table, "1_0": table[:0]})
    for name in ("0_0.jpg", "tract.jpg"):
        changed = np.abs(pixels(tmp_path / "ringed" / name) - pixels(tmp_path / "plain" / name)).max(axis=2) > 60
        y, x = np.nonzero(changed)
        assert len(y) and (np.abs(np.hypot(y - 20, x - 60) - colour.RING) < 3).all()


def test_bands_are_shown_from_red_to_blue():
    assert colour.bands_shown(["g", "r"]) == ["r", "g"]
    assert colour.bands_shown(["u", "y", "g", "z", "i", "r"]) == ["y", "z", "i"]


def test_a_missing_coadd_is_named(coadds, tmp_path):
    with pytest.raises(InputError, match="gone.fits"):
        colour.write_tract({"0_0": {"r": tmp_path / "gone.fits"}}, tmp_path)
