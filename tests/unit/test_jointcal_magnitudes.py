"""Magnitudes of the joint calibration: what ties the images to the catalogue."""

import numpy as np
import pytest

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
        found, *_ = jointcal.magnitudes(table, star, catalogue, np.full(STARS, np.nan))
        shifts.append(np.mean((found - mag)[(mag < 19) & alone]))
    # Neighbours have 1.2 times the noise of light in the mean; the stars that tie have S/N of 108 and more, 180 in the
    # mean, and hence 6.7 mmag of it, known to 0.5 from 60 skies. Twice as many stars would give 8.8.
    assert 0 < np.mean(shifts) < 0.0077


@pytest.mark.parametrize("catalogue_error", [0.002, 0.01])
def test_each_detector_is_tied_and_knows_how_well(catalogue_error):
    """A camera whose detectors share no star; nearly all stars have more noise than an error of 2 mmag."""
    detectors, pulls = 12, []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        parts = [observed(rng, 0.0) for _ in range(detectors)]
        table = np.concatenate([part[0] for part in parts])
        star = np.concatenate([part[1] + STARS * number for number, part in enumerate(parts)])
        table["image"] += np.repeat(IMAGES * np.arange(detectors, dtype=np.int32), STARS * IMAGES)
        mag = np.concatenate([part[3] for part in parts])
        errors = np.full(len(mag), catalogue_error)
        found, error, common = jointcal.magnitudes(table, star, mag + rng.normal(0, errors), errors)
        of_detector = np.arange(len(mag)).reshape(detectors, STARS)
        weight = error**-2.0
        off = [np.average((found - mag)[rows], weights=weight[rows]) for rows in of_detector]
        pulls.extend(off / np.array([np.median(common[rows]) for rows in of_detector]))
    # 96 detectors tell the width to 7 %; stars have an error of 1 mmag at least, which makes it less than one where the
    # catalogue is hardly worse.
    assert 0.5 < np.std(pulls) < 1.25
    assert np.abs(pulls).max() < 5
