"""Diffraction spikes of saturated stars that are too short or too faint to be found as lines of their own.

The vanes of a telescope make them: two opposite arms each, in the same directions at every star of an image.  So a
direction is one in which the surroundings of all saturated stars together, on both sides, are brighter than the rings
about the stars are elsewhere, and an arm is what is steadily so at one star in such a direction.  A source beside a
star has nothing opposite it nor at other stars, and none beyond it on the arm.  Spikes of the science image are bright,
those of the template dark, with directions of their own.
"""

import numpy as np
from scipy.ndimage import label, maximum_filter1d, median_filter

from diaflow.detect.binned import BIN
from diaflow.detect.segments import Streak
from diaflow.image.planes import bits

REACH = 28  # of spikes from their star: longer ones are found as lines [bin]
ANGLES = 2 * round(np.pi * REACH)  # directions around a star, a bin apart at the reach
APART = 3  # least distance of two directions: arms are 1 to 2 bins wide [step of the angle]
MIN_DIRECTION = 7.0  # of a direction, all stars together, as of a line [sigma]
MIN_ARM = 3.0  # of an arm at one star, whose direction is known: 1 % of them are chance [sigma]
# An arm ends where the median of so many bins in a row, of which a source of up to 8 pixels fills two, falls below its
# own noise [bin], [sigma].
STEADY = 5
DRIFT = np.sqrt(np.pi / 2 / STEADY)
HALF_WIDTH = 1.5  # the bins on the line and those beside them [bin]
BATCH = 1000  # stars whose surroundings are in memory at once: 20 MB


def stars(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Saturated stars: the middles of their pixels.

    Parameters
    ----------
    mask : (ny, nx) int32 array
        Of a difference.

    Returns
    -------
    x, y : (n,) arrays [bin]
    """
    labels, n = label((mask & bits("SAT", "SAT_TEMPLATE")) != 0, np.ones((3, 3)))
    rows, columns = np.nonzero(labels)
    star = labels[rows, columns] - 1
    count = np.bincount(star, minlength=n)
    x, y = (np.bincount(star, place, n) / count for place in (columns, rows))
    return (x + 0.5) / BIN - 0.5, (y + 0.5) / BIN - 0.5


def find(snr: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[Streak]:
    """Arms of the spikes of an image.

    Parameters
    ----------
    snr : (my, mx) float32 array
        Of bins, without compact sources; NaN where nothing is known.
    x, y : (n,) arrays
        Stars that may have spikes [bin].

    Returns
    -------
    list of Streak
    """
    batches = [(x[k : k + BATCH], y[k : k + BATCH]) for k in range(0, len(x), BATCH)]
    total, count = np.zeros(ANGLES // 2), np.zeros(ANGLES // 2, int)
    for some in batches:
        both = _surroundings(snr, *some).reshape(-1, 2, ANGLES // 2, REACH)
        total += np.nansum(both, axis=(0, 1, 3))
        count += np.isfinite(both).sum(axis=(0, 1, 3))
    significance = total / np.sqrt(np.maximum(count, 1))
    directions = {sign: _directions(sign * significance) for sign in (1, -1)}
    return [
        arm
        for some in batches
        for sign, angles in directions.items()
        if len(angles)
        for arm in _arms(sign * _surroundings(snr, *some), angles, *some)
    ]


def _surroundings(snr: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """How much brighter than the ring it is in a bin is: (n, ANGLES, REACH) array, by direction and distance."""
    angle, distance = 2 * np.pi * np.arange(ANGLES)[:, None] / ANGLES, np.arange(1, REACH + 1)
    column = np.rint(x[:, None, None] + distance * np.cos(angle)).astype(int)
    row = np.rint(y[:, None, None] + distance * np.sin(angle)).astype(int)
    my, mx = snr.shape
    there = (column >= 0) & (column < mx) & (row >= 0) & (row < my)
    values = np.where(there, snr[np.clip(row, 0, my - 1), np.clip(column, 0, mx - 1)], np.float32(np.nan))
    # what is NaN is sorted to the end
    middle = np.maximum(np.isfinite(values).sum(1, keepdims=True) - 1, 0) // 2
    return values - np.take_along_axis(np.sort(values, axis=1), middle, axis=1)


def _directions(significance: np.ndarray) -> np.ndarray:
    """Steps of the angle, of half a turn, where the significance [sigma] of both sides together has its peaks."""
    peaks = significance == maximum_filter1d(significance, 2 * APART + 1, mode="wrap")
    return np.flatnonzero(peaks & (significance > MIN_DIRECTION))


def _arms(surroundings: np.ndarray, directions: np.ndarray, x: np.ndarray, y: np.ndarray) -> list[Streak]:
    """What is steadily bright at each star on either side of it, in the best of the steps about each direction."""
    steps = (np.concatenate([directions, directions + ANGLES // 2])[:, None] + np.arange(-1, 2)) % ANGLES
    profiles = surroundings[:, steps]
    best = np.nansum(profiles, axis=-1).argmax(-1)
    profiles = np.take_along_axis(profiles, best[..., None, None], 2)[:, :, 0]
    known, profiles = np.isfinite(profiles), np.nan_to_num(profiles)
    steady = median_filter(profiles, (1, 1, STEADY), mode="constant")
    rise = np.cumsum(np.where(known, steady - DRIFT, 0), axis=-1)
    on = known & (np.arange(REACH) <= rise.argmax(-1)[..., None])
    count = on.sum(-1)
    is_arm = (count > STEADY / 2) & ((profiles * on).sum(-1) > MIN_ARM * np.sqrt(count))
    star, arm = np.nonzero(is_arm)
    angle = 2 * np.pi * steps[arm, best[star, arm]] / ANGLES
    length = 1 + rise.argmax(-1)[star, arm]
    begin = np.stack([x[star], y[star]])
    ends = BIN * (np.concatenate([begin, begin + length * [np.cos(angle), np.sin(angle)]]) + 0.5) - 0.5
    return [Streak(*end, BIN * HALF_WIDTH) for end in ends.T.tolist()]
