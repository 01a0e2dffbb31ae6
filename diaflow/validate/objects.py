"""DIAObjects against the truth: of one true object each, each true object in one, and no two at one place.

A DIASource is of the object nearest to it in its image that varies, however faint that is there.
"""

import numpy as np

from diaflow.validate.comparison import Comparison
from diaflow.validate.detections import FALSE_MATCH, match_radius
from diaflow.validate.figures import Figure, fraction
from diaflow.validate.matching import close_pairs, nearest

REPEATED = 2  # sources of the DIAObjects that are judged


def true_ids(run: Comparison) -> np.ndarray:
    """The true object of each DIASource.

    Parameters
    ----------
    run : Comparison

    Returns
    -------
    (m,) int array
        objectId; 0 for a false DIASource.
    """
    radius = np.append(np.fmax(match_radius(run), FALSE_MATCH), 0)
    distance, index = nearest(run.sources, run.truth, by_image=True)
    true = distance < radius[index]
    ids = np.append(run.truth["objectId"], 0)
    return np.where(true, ids[index], 0)


def purity(run: Comparison, blend: float) -> list[Figure]:
    """Purity, splits and merges of the DIAObjects of two sources or more.

    Parameters
    ----------
    run : Comparison
    blend : float
        True objects that are closer than this may be merged and split [arcsec].

    Returns
    -------
    list of Figure
        Fraction of the DIAObjects whose sources are all of one true object; number of true objects that several
        DIAObjects share, and of DIAObjects that hold several true objects, neither of them a blend.
    """
    repeated = run.dia_objects["diaObjectId"][run.dia_objects["nDiaSources"] >= REPEATED]
    rows = np.isin(run.sources["diaObjectId"], repeated)
    links = np.unique(np.stack([run.sources["diaObjectId"][rows], true_ids(run)[rows]]), axis=1)
    first, counts = np.unique(links[0], return_index=True, return_counts=True)[1:]
    pure = int(((counts == 1) & (links[1][first] != 0)).sum())
    isolated = links[:, (links[1] != 0) & ~np.isin(links[1], _blended(run, blend))]
    out = [fraction("object_purity", "", pure, len(repeated))] if _has_lasting(run) else []
    for name, key in (("objects_split", 1), ("objects_merged", 0)):
        counts = np.unique(isolated[key], return_counts=True)[1]
        out.append(Figure(name, "", int((counts > 1).sum()), np.nan, len(counts)))
    return out


def pairs(run: Comparison, radius: float) -> list[Figure]:
    """Pairs that are closer than the association radius.

    Parameters
    ----------
    run : Comparison
    radius : float
        [arcsec]

    Returns
    -------
    list of Figure
        Numbers of pairs of DIASources of an image, and of DIAObjects.
    """
    sources, objects = close_pairs(run.sources, radius, by_image=True), close_pairs(run.dia_objects, radius)
    return [
        Figure("close_pairs", "DIASources", len(sources), np.nan, len(run.sources)),
        Figure("close_pairs", "DIAObjects", len(objects), np.nan, len(run.dia_objects)),
    ]


def _has_lasting(run: Comparison) -> bool:
    """Whether the truth has what a DIAObject can have two sources of."""
    return bool(np.isin(run.kind, ("supernova", "variable")).any())


def _blended(run: Comparison, blend: float) -> np.ndarray:
    """True objects that vary and have another one that varies within a distance [arcsec]."""
    places = run.truth[np.unique(run.truth["objectId"], return_index=True)[1]]
    return np.unique(places["objectId"][close_pairs(places, blend)])
