"""The level at which a detector saturates, where it is lower than the header says: its brightest stars share a peak.

The light of a star that is not saturated falls off from its peak, so that pixels near the peak of the brightest star
are no more frequent than somewhat fainter ones, whatever the PSF.  Saturated stars of any brightness fill one level.
"""

import numpy as np
from scipy import ndimage

from diaflow.statistics import median_width

SPARSE = 7  # the level of the sky is that of every seventh pixel of every seventh row, which saves time
BRIGHT = 100.0  # typical deviations above the sky from which a plateau is looked for, chosen
# Relative half width of a plateau, how many pixels it must have, and how many stars share it, chosen: wells differ by
# some percent; within one percent of its peak no single star has many pixels, or is flat, that is not saturated.
KINDS = ((0.1, 20, 2), (0.01, 8, 1))
LEAST_SIZE = 4  # of its part in a star [pixel], chosen: more than a sharp core has within 10 % of its peak
# Pixels of the plateau over those of the next half width below, chosen: without saturation no more than 2 (a Gaussian
# has pixels in proportion to the logarithm), and 4 from stars half as bright again as the level.
LEAST_EXCESS = 3.0
MOST_ABOVE = 0.1  # pixels above a plateau (of other wells, or not of light) over those in it, chosen
LEAST_RIM = 0.1  # light of the brightest neighbour of the plateau over its own, chosen: a filled region has none
SIGMAS = 5.0  # of the scatter of the plateau, below which it does not begin: chosen


def level_and_deviation(counts: np.ndarray) -> tuple[float, float]:
    """Median of an image, and the median distance from it of the pixels that are not at it.

    Parameters
    ----------
    counts : (ny, nx) array

    Returns
    -------
    level, deviation : float
        The deviation is infinite where no pixel is finite, or all are equal.
    """
    sample = counts[::SPARSE, ::SPARSE]
    sample = sample[np.isfinite(sample)].astype(float)
    if not sample.size:
        return 0.0, np.inf
    level = float(np.median(sample))
    deviations = np.abs(sample - level)
    return level, float(np.median(deviations[deviations > 0])) if deviations.any() else np.inf


def plateau(counts: np.ndarray, unusable: np.ndarray) -> float:
    """The counts from which on the brightest stars are saturated.

    Parameters
    ----------
    counts : (ny, nx) array
    unusable : (ny, nx) bool array
        Pixels that do not count: known to be saturated, or without light.

    Returns
    -------
    float
        Infinite where no two stars share a peak.
    """
    sky, typical = level_and_deviation(counts)
    bright = (counts > sky + BRIGHT * typical) & ~unusable
    light = np.sort(counts[bright].astype(float)) - sky
    for width, least_pixels, least_stars in KINDS:
        if len(light) < least_pixels:
            continue
        # A few pixels may be above it.
        peak = np.median(light[light > (1 - width) * light[-least_pixels]])
        below, start, end = np.searchsorted(light, peak * (1 - width * np.array([2, 1, -1])))
        inside, above = end - start, len(light) - end
        if inside < max(least_pixels, LEAST_EXCESS * (start - below)) or above > MOST_ABOVE * inside:
            continue
        least = (1 - width) * peak
        if _stars(counts - sky, bright & (counts - sky > least), peak) >= least_stars:
            return float(sky + max(peak - SIGMAS * median_width(light[start:end] - peak), least))
    return np.inf


def _stars(light: np.ndarray, saturated: np.ndarray, peak: float) -> int:
    """Places with several saturated pixels and light around them."""
    labels, number = ndimage.label(saturated, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=number + 1)[1:]
    around = np.where(saturated, 0, ndimage.maximum_filter(labels, 3))
    rim = ndimage.maximum(light, around, np.arange(1, number + 1)) if number else np.zeros(0)
    return int(np.sum((sizes >= LEAST_SIZE) & (rim > LEAST_RIM * peak)))
