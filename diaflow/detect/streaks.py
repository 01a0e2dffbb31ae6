"""Trails of satellites and aircraft, spikes of bright stars, bad columns: lines across an image without its stars.

Bins of 4 x 4 pixels that stand out vote for the lines that pass through them (Hough 1962, Duda & Hart 1972), in the
whole image for long faint lines and in tiles for short ones.  A candidate counts when it can be followed: along it
the bins are brighter than those on both sides, steadily and for long enough.  Bright and dark lines are looked for
apart.
"""

import functools
from collections.abc import Iterator

import numpy as np
from numba import njit
from scipy.ndimage import binary_dilation, label
from scipy.special import pdtrc

from diaflow.detect import spikes
from diaflow.detect.binned import BIN, Bins
from diaflow.detect.segments import Streak, paint
from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.jit import EXACT
from diaflow.measure import photometry

VOTE = 2.0  # bins above this take part [sigma]
CLIP = 4.0  # what one bin can say at most [sigma]
# Blobs are bins above this that hang together, with a brighter peak, shorter than this many times their mean width.
BLOB_EDGE, BLOB_PEAK, BLOB_SHAPE = 2.5, 6.0, 3.0
TILE, OVERLAP = 64, 1.5  # side of a tile [bin], and tiles over each bin along an axis
CHANCE = 10.0  # candidates that noise makes in an image; following them costs little
MAX_TRIES = 8  # candidates in one tile
MIN_LENGTH = 14  # of a line [bin]
MIN_SIGNIFICANCE = 7.0  # of the contrast along a line [sigma]
# A line is cut into parts of this many bins, or into this many parts; the lower quartile of them must be this bright
# [sigma of a part]: two stars with nothing between them make no line.
SHORT_PART, MAX_PARTS, MIN_QUARTILE = 4, 16, 1.5
DRIFT, DRIFT_SHARE = 0.3, 0.4  # contrast that a line must exceed to go on [sigma], and [its mean contrast]
END = 4.0  # margin of the ends of a line whose contrast is 1 sigma [bin]
SIDES = (-5.0, -4.0, 4.0, 5.0)  # what a line is compared with [bin off the line]
MIDDLE = (-0.5, 0.5)
REACH = 3.0  # bins this far off a line tell its course [bin]
MAX_HALF_WIDTH = 8.0  # [bin]
FADED = 0.2  # a line is as wide as it is brighter than this part of its middle


def mark(difference: Exposure) -> None:
    """Set STREAK where lines cross a difference.

    Parameters
    ----------
    difference : Exposure
        Without sky; its mask is changed in place.
    """
    snr = contrasts(Bins.of(difference.image, difference.variance, difference.flagged(*photometry.UNUSABLE)))
    difference.mask &= ~np.int32(bits("STREAK"))
    paint(difference.mask, find(snr) + spikes.find(snr, *spikes.stars(difference.mask)), bits("STREAK"))


def contrasts(bins: Bins) -> np.ndarray:
    """What tells of lines: the S/N of bins, clipped, without those of compact sources.

    Parameters
    ----------
    bins : Bins
        Of an image without sky and static sources.

    Returns
    -------
    (my, mx) float32 array
        NaN where nothing is known.
    """
    snr = bins.snr
    return np.where(bins.usable & ~_blobs(snr), np.clip(snr, -CLIP, CLIP), np.float32(np.nan))


def find(snr: np.ndarray) -> list[Streak]:
    """Bright and dark lines.

    Parameters
    ----------
    snr : (my, mx) float32 array
        As `contrasts` gives it.

    Returns
    -------
    list of Streak
    """
    return [streak for sign in (1, -1) for streak in _bright_lines(np.float32(sign) * snr)]


def _blobs(snr: np.ndarray) -> np.ndarray:
    """Bins of bright sources that are not thin, and next to them: a few in a row would pass for a line."""
    labels, n = label(np.abs(snr) > BLOB_EDGE, np.ones((3, 3)))
    y, x = np.nonzero(labels)
    index = labels[y, x] - 1
    peak, low, high = np.zeros(n), np.full((2, n), np.inf), np.full((2, n), -np.inf)
    np.maximum.at(peak, index, np.abs(snr[y, x]))
    for axis, place in enumerate((x, y)):
        np.minimum.at(low[axis], index, place)
        np.maximum.at(high[axis], index, place)
    length, area = (high - low).max(axis=0) + 1, np.bincount(index, minlength=n)
    is_blob = (peak > BLOB_PEAK) & (length**2 < BLOB_SHAPE * area)
    return binary_dilation(np.append(False, is_blob)[labels], np.ones((3, 3)))


def _bright_lines(snr: np.ndarray) -> list[Streak]:
    rows, columns = np.nonzero(snr > VOTE)  # in the order of rows
    density = len(rows) / max(np.isfinite(snr).sum(), 1)
    free, found = np.ones(len(rows), bool), []
    for x0, y0, width, height in _tiles(*snr.shape):
        diagonal = float(np.hypot(width, height))
        angles = np.arange(0, np.pi, 2 / diagonal)  # half a bin at the ends of the diagonal
        least = least_votes(density, diagonal, len(angles), snr.size / (width * height))
        some = slice(*np.searchsorted(rows, [y0, y0 + height]))
        voters = some.start + np.flatnonzero(free[some] & (columns[some] >= x0) & (columns[some] < x0 + width))
        centre_x, centre_y = x0 + width / 2, y0 + height / 2
        for _ in range(MAX_TRIES):
            if len(voters) < least:
                break
            x, y = columns[voters] - centre_x, rows[voters] - centre_y
            votes, angle, offset = _most_voted(x, y, np.cos(angles), np.sin(angles), diagonal)
            if votes < least:
                break
            line = np.array([0.0, 0.0, angles[angle], 0.0, 0.0, 0.0])
            line[:2] = centre_x + offset * np.cos(angles[angle]), centre_y + offset * np.sin(angles[angle])
            if _follow(snr, line):
                streak = _streak(line)
                explained = free & _covers(streak, columns, rows)
                # else it is one that was found before
                if explained.sum() > MIN_LENGTH / 2:
                    found.append(streak)
                free &= ~explained
                voters = voters[free[voters]]
            # whether it is one or not, this line has been looked at
            off = (columns[voters] - line[0]) * np.cos(line[2]) + (rows[voters] - line[1]) * np.sin(line[2])
            voters = voters[np.abs(off) > REACH / 2]
    return found


def _tiles(ny: int, nx: int) -> Iterator[tuple[int, int, int, int]]:
    """The whole image, then overlapping tiles: (x0, y0, width, height)."""
    yield 0, 0, nx, ny
    if max(ny, nx) > TILE:
        starts = (
            np.unique(np.linspace(0, max(0, n - TILE), int(np.ceil(OVERLAP * n / TILE))).astype(int)) for n in (ny, nx)
        )
        for y0, x0 in np.stack(np.meshgrid(*starts, indexing="ij"), -1).reshape(-1, 2):
            yield x0, y0, min(TILE, nx), min(TILE, ny)


@functools.cache
def least_votes(density: float, diagonal: float, n_angles: int, n_tiles: float) -> int:
    """Votes for the two bins across a diagonal that noise exceeds `CHANCE` times in the image.

    Parameters
    ----------
    density : float
        Voting pixels per pixel where there is noise alone; their number is Poisson's.
    diagonal : float
        Length of the diagonal of a tile [pixel].
    n_angles : int
        Directions in which lines are sought.
    n_tiles : float
        Tiles of the image.

    Returns
    -------
    int
    """
    votes = np.arange(int(2 * diagonal) + 2)
    chance = CHANCE / (n_angles * diagonal * n_tiles)
    return int(np.argmax(pdtrc(votes, 2 * density * diagonal) <= chance)) + 1


@njit(**EXACT)
def _most_voted(x, y, cos, sin, diagonal):
    """(votes, index of the angle, offset) of the line, two bins wide, that passes through most points."""
    n = int(diagonal / 2) + 2
    counts = np.zeros(2 * n + 2, np.int32)
    best, best_angle, best_offset = 0, 0, 0.0
    for a in range(len(cos)):
        counts[:] = 0
        for i in range(len(x)):
            counts[int(x[i] * cos[a] + y[i] * sin[a] + n)] += 1
        for k in range(2 * n + 1):
            votes = counts[k] + counts[k + 1]
            if votes > best:
                best, best_angle, best_offset = votes, a, k + 1.0 - n
    return best, best_angle, best_offset


@njit(**EXACT)
def _sample(snr, x, y):
    """Value of the nearest bin; NaN where there is none."""
    i, j = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
    return snr[j, i] if 0 <= i < snr.shape[1] and 0 <= j < snr.shape[0] else np.nan


@njit(**EXACT)
def _mean(snr, x, y, normal_x, normal_y, offsets):
    total, count = 0.0, 0
    for u in offsets:
        value = _sample(snr, x + u * normal_x, y + u * normal_y)
        if not np.isnan(value):
            total += value
            count += 1
    return total / count if count else np.nan


@njit(**EXACT)
def _longest(contrast, drift):
    """First and last index of the run with the largest sum of contrast - drift; what is NaN counts nothing."""
    best, start, end, total, first = 0.0, 0, -1, 0.0, 0
    for t in range(len(contrast)):
        if not np.isnan(contrast[t]):
            total += contrast[t] - drift
        if total <= 0:
            total, first = 0.0, t + 1
        elif total > best:
            best, start, end = total, first, t
    return start, end


@njit(**EXACT)
def _follow(snr, line):
    """Whether there is a line at (x, y, angle of the normal, ...); sets them, its ends and half width in `line`.

    The ends are distances along the line from (x, y) [bin].
    """
    n = int(np.hypot(snr.shape[0], snr.shape[1])) + 1
    contrast = np.empty(2 * n + 1)
    for turn in range(3):
        c, s = np.cos(line[2]), np.sin(line[2])
        for k in range(2 * n + 1):
            x, y = line[0] - s * (k - n), line[1] + c * (k - n)
            contrast[k] = _mean(snr, x, y, c, s, MIDDLE) - _mean(snr, x, y, c, s, SIDES)
        start, end = _longest(contrast, DRIFT)
        if end - start + 1 < MIN_LENGTH:
            return False
        start, end = _longest(contrast, max(DRIFT, DRIFT_SHARE * np.nanmean(contrast[start : end + 1])))
        line[3], line[4] = start - n, end - n
        if turn < 2:
            _straighten(snr, line)
    run = contrast[start : end + 1]
    count = np.sum(~np.isnan(run))
    # the contrast of one bin has about unit noise
    if count < MIN_LENGTH or np.nansum(run) < MIN_SIGNIFICANCE * np.sqrt(count):
        return False
    side = max(SHORT_PART, len(run) // MAX_PARTS)
    parts = np.array([np.nanmean(run[k : k + side]) for k in range(0, len(run) - side + 1, side)])
    if np.nanquantile(parts, 0.25) < MIN_QUARTILE / np.sqrt(side):
        return False
    line[5] = _half_width(snr, line)
    # where a line ends in noise is known to a few bins over the square of its contrast
    margin = min(END / np.nanmean(run) ** 2, MIN_LENGTH)
    line[3] -= margin
    line[4] += margin
    # what is not known there, a piece between bad columns that looked like a blob or a blob itself, may be the line
    while start > 0 and np.isnan(contrast[start - 1]):
        start -= 1
    while end < 2 * n and np.isnan(contrast[end + 1]):
        end += 1
    line[3], line[4] = min(line[3], start - n), max(line[4], end - n)
    return True


@njit(**EXACT)
def _straighten(snr, line):
    """Least-squares course of the bright bins near a line."""
    c, s = np.cos(line[2]), np.sin(line[2])
    w, wt, wu, wtt, wtu = 0.0, 0.0, 0.0, 0.0, 0.0
    for t in range(int(line[3]), int(line[4]) + 1):
        for k in range(int(-REACH), int(REACH) + 1):
            x, y = line[0] - s * t + c * k, line[1] + c * t + s * k
            value = _sample(snr, x, y)
            if value > VOTE / 2:
                # the bin is not exactly where it was looked for
                dx, dy = np.floor(x + 0.5) - line[0], np.floor(y + 0.5) - line[1]
                along, off = -s * dx + c * dy, c * dx + s * dy
                w, wt, wu = w + value, wt + value * along, wu + value * off
                wtt, wtu = wtt + value * along * along, wtu + value * along * off
    determinant = w * wtt - wt * wt
    if determinant > 0:
        slope = (w * wtu - wt * wu) / determinant
        shift = (wu - slope * wt) / w
        line[0] += c * shift
        line[1] += s * shift
        line[2] -= np.arctan(slope)


@njit(**EXACT)
def _half_width(snr, line):
    """Where the profile across a line falls to `FADED` of its middle [bin]."""
    c, s = np.cos(line[2]), np.sin(line[2])
    steps = int(2 * MAX_HALF_WIDTH) + 1
    profile, count = np.zeros(steps), np.zeros(steps)
    for t in range(int(line[3]), int(line[4]) + 1):
        for k in range(steps):
            for side in (-0.5, 0.5):
                value = _sample(snr, line[0] - s * t + side * k * c, line[1] + c * t + side * k * s)
                if not np.isnan(value):
                    profile[k] += value
                    count[k] += 1
    profile /= np.maximum(count, 1)
    noise = 1 / np.sqrt(max(count[0] / 2, 1))
    for k in range(1, steps):
        if profile[k] < max(FADED * profile[0], 2 * noise):
            return k / 2
    return MAX_HALF_WIDTH


def _streak(line: np.ndarray) -> Streak:
    """From bins to pixels."""
    x, y, angle, start, end, half = line
    ends = [(x - t * np.sin(angle), y + t * np.cos(angle)) for t in (start, end)]
    (x0, y0), (x1, y1) = [[BIN * (value + 0.5) - 0.5 for value in point] for point in ends]
    return Streak(x0, y0, x1, y1, BIN * (half + 0.5))


def _covers(streak: Streak, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Which bins lie under or next to a streak."""
    x, y = BIN * (columns + 0.5) - 0.5 - streak.x0, BIN * (rows + 0.5) - 0.5 - streak.y0
    dx, dy = streak.x1 - streak.x0, streak.y1 - streak.y0
    length, reach = np.hypot(dx, dy), streak.half_width + BIN
    along, off = (x * dx + y * dy) / length, (y * dx - x * dy) / length
    return (np.abs(off) < reach) & (along > -reach) & (along < length + reach)
