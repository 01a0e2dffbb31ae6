"""Tracklets against the truth: what moves is linked, and nothing else is."""

import numpy as np

from diaflow.units import NIGHT
from diaflow.validate.comparison import FLEETING, Comparison
from diaflow.validate.figures import Figure, fraction
from diaflow.validate.objects import true_ids

DETECTIONS = 3  # in a night, of an asteroid that has to be linked


def tracklets(run: Comparison) -> list[Figure]:
    """How many of the asteroids that are detected three times in a night are linked, and how many tracklets are false.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    list of Figure
        None where no tracklet was made.  A tracklet is false when its sources are not all of one asteroid.
    """
    linked = run.sources["trackletId"] != 0
    if not linked.any():
        return []
    ids, of = np.unique(true_ids(run), return_inverse=True)
    moving = np.isin(ids, run.objects["objectId"][np.isin(run.objects["type"].astype(str), FLEETING)])
    mjd, index = np.unique(run.sources["midpointMjdTai"], return_inverse=True)
    night = np.cumsum(np.append(False, np.diff(mjd) >= NIGHT))[index]
    seen = np.flatnonzero(moving[of] & ~run.sources["pixelFlags"] & ~run.sources["psfFlux_flag"])
    pairs, pair, count = np.unique(np.stack([night[seen], of[seen]]), axis=1, return_inverse=True, return_counts=True)
    often = count >= DETECTIONS
    member = linked[seen]
    together = np.unique(np.stack([pair[member], run.sources["trackletId"][seen][member]]), axis=1, return_counts=True)
    of_pair, most = together[0][0], np.zeros(pairs.shape[1], int)
    np.maximum.at(most, of_pair, together[1])
    tracklet, place = np.unique(run.sources["trackletId"][linked], return_inverse=True)
    lowest, highest = np.full(len(tracklet), len(ids)), np.full(len(tracklet), -1)
    np.minimum.at(lowest, place, of[linked])
    np.maximum.at(highest, place, of[linked])
    false = (lowest != highest) | ~moving[lowest]
    n_nights = int(night.max(initial=-1) + 1)
    return [
        fraction("tracklets_linked", "", int((most[often] >= DETECTIONS).sum()), int(often.sum())),
        Figure("tracklets_false", "", false.sum() / n_nights, np.sqrt(max(false.sum(), 1)) / n_nights, len(tracklet)),
    ]
