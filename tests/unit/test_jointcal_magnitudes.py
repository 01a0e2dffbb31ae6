"""Magnitudes of the joint calibration: what ties the images to the catalogue."""

import numpy as np

from diaflow.calibrate import jointcal
from diaflow.store import tables

ZERO_POINT, IMAGES, STARS = 27.0, 5, 60


def observed(rng, light: float):
    """Stars of S/N 350 to 7 on all images, 60 % of them with neighbours of `light` times the noise."""
    mag = 17 + np.log10(rng.uniform(1, 10 ** (0.15 * 4.3), STARS)) / 0.15
    flux = 10 ** (0.4 * (ZERO_POINT - mag))
    noise = 10 ** (0.4 * (ZERO_POINT - 17)) / 350
    neighbours = np.where(rng.random(STARS) < 0.6, rng.exponential(light * noise, STARS), 0)
    star, image = np.tile(np.arange(STARS), IMAGES), np.repeat(np.arange(IMAGES), STARS)
    table = tables.from_columns(
        "joint_source",
        id=star,
        x=0.0,
        y=0.0,
        err=0.01,
        flux=(flux + neighbours)[star] + rng.normal(0, noise, len(star)),
        flux_err=np.full(len(star), noise),
    )
    table["image"] = image
    return table, star, mag + rng.normal(0, 0.01, STARS), mag, neighbours == 0


def test_neighbours_of_faint_stars_hardly_shift_the_bright_ones():
    shifts = []
    for seed in range(60):
        table, star, catalogue, mag, alone = observed(np.random.default_rng(seed), 2.0)
        found, _ = jointcal.magnitudes(table, star, catalogue, np.full(STARS, np.nan))
        shifts.append(np.mean((found - mag)[(mag < 19) & alone]))
    # Neighbours have 1.2 times the noise of light in the mean; the stars that tie have S/N of 108 and more, 180 in the
    # mean, and hence 6.7 mmag of it, known to 0.5 from 60 skies. Twice as many stars would give 8.8.
    assert 0 < np.mean(shifts) < 0.0077
