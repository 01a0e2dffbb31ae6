"""Columns and rows that were made of their neighbours are found, and no others."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from diaflow.image.planes import bits
from diaflow.isr import filled, flaws

SHAPE = 600, 400


def sky(seed: int, noise: float = 5.0) -> np.ndarray:
    """A hundred stars on a sky with a gradient along both axes."""
    rng = np.random.default_rng(seed)
    light = np.zeros(SHAPE)
    light[rng.integers(0, SHAPE[0], 100), rng.integers(0, SHAPE[1], 100)] = 100 * noise * rng.pareto(1.5, 100)
    image = gaussian_filter(light, 1.5) + 200 + np.linspace(0, 10 * noise, SHAPE[1])
    image += np.linspace(0, 20 * noise, SHAPE[0])[:, None] + rng.normal(0, noise, SHAPE)
    return np.rint(image)


def found(image: np.ndarray) -> np.ndarray:
    return filled.pixels(image, np.zeros(image.shape, bool))


def fill(image: np.ndarray, column: int, offsets: list[int], weights: list[float]) -> None:
    image[:, column] = np.rint(sum(w * image[:, column + o] for o, w in zip(offsets, weights)))


@pytest.mark.parametrize("noise", [1.5, 5.0, 100.0])
@pytest.mark.parametrize("offsets, weights", [([-1, 1], [0.5, 0.5]), ([-2, -1, 1, 2], [-0.27, 0.77, 0.77, -0.27])])
def test_a_column_made_of_its_neighbours_is_found(noise, offsets, weights):
    image = sky(1, noise)
    fill(image, 50, offsets, weights)
    for turned in (False, True):
        marked = found(image.T).T if turned else found(image)
        assert marked[:, 50].all()
        assert marked.sum() == SHAPE[0]


def test_two_columns_side_by_side_are_found_and_not_their_neighbours():
    image = sky(2)
    good = image.copy()
    fill(image, 120, [-2, -1, 2, 3], [-0.2, 0.87, 0.47, -0.14])
    image[:, 121] = np.rint(good[:, [118, 119, 122, 123]] @ [-0.14, 0.47, 0.87, -0.2])
    assert np.flatnonzero(found(image)[0]).tolist() == [120, 121]


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_stars_are_not_filled_in(seed):
    assert not found(sky(seed)).any()


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_an_image_whose_noise_is_correlated_tells_nothing(sigma):
    assert not found(gaussian_filter1d(gaussian_filter1d(sky(3), sigma, axis=0), sigma, axis=1)).any()


def test_images_without_noise_or_with_hardly_a_pixel_are_left_alone():
    assert not found(np.ones(SHAPE)).any()
    assert not found(np.add(*np.mgrid[: SHAPE[0], : SHAPE[1]]).astype(float)).any()
    assert not found(np.zeros((3, 2))).any()
    assert not filled.pixels(sky(4), np.ones(SHAPE, bool)).any()


def test_a_filled_column_is_bad():
    image = sky(5)
    fill(image, 50, [-1, 1], [0.5, 0.5])
    mask, _ = flaws.mask_of(image, np.zeros(SHAPE, bool))
    assert np.flatnonzero(((mask & bits("BAD")) != 0).all(0)).tolist() == [50]


@pytest.mark.parametrize("rows", range(5, 50, 5))
def test_columns_of_few_usable_pixels_are_not_judged(rows):
    """Chance explains the noise of a few pixels: half of the columns have no more of them."""
    image = sky(4)
    unusable = np.zeros(SHAPE, bool)
    unusable[: SHAPE[0] // 2 - 200 + rows, : SHAPE[1] // 2] = True
    unusable[SHAPE[0] // 2 - 200 + rows + rows :, : SHAPE[1] // 2] = True
    assert not filled.pixels(image, unusable).any()
