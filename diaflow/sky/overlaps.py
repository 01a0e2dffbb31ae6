"""Which image touches which patch, and how much of it is on it.

Great circles are straight lines in the gnomonic (TAN) plane of a tract, so an image is a quadrangle and a patch a
rectangle there, and the separating-axis theorem says whether two convex polygons meet: they do unless their
shadows on the normal of some edge are apart.
"""

from dataclasses import replace
from types import ModuleType

import numpy as np
from scipy.spatial import cKDTree

from diaflow.sky import sphere
from diaflow.sky.skymap.many import at
from diaflow.sky.skymap.maps import SkyMap, make_skymap
from diaflow.sky.skymap.tract import Tract, patch_names
from diaflow.store import tables
from diaflow.units import ARCSEC


def lay_out(config: dict, exposures: np.ndarray, kind: ModuleType, margin_arcsec: float) -> tuple[SkyMap, np.ndarray]:
    """The sky map of a set of images, with the tracts that they touch, and the patches.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.
    exposures : table "exposure"
    kind : module
        The kind of sky map that `config` names.
    margin_arcsec : float
        As in `patch_overlaps`.

    Returns
    -------
    SkyMap
    table "overlap"

    Raises
    ------
    InputError
        When there is no usable image, or the kind cannot hold all of them.
    """
    sky = make_skymap(config, exposures, kind)
    overlaps = patch_overlaps(exposures, sky, margin_arcsec)
    touched = np.unique(overlaps["tract"]).tolist()
    return replace(sky, tracts={number: sky.tracts[number] for number in touched}), overlaps


def boxes_touch(x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether convex quadrangles and upright rectangles meet, pair by pair (separating-axis theorem).

    Parameters
    ----------
    x, y : (n, 4) arrays
        Corners of the quadrangles, in either order around them.
    low, high : (n, 2) arrays
        Lower left and upper right corner of the rectangles.

    Returns
    -------
    (n,) bool array
        Polygons that share a point of their boundaries meet.
    """
    apart = (x.max(1) < low[:, 0]) | (x.min(1) > high[:, 0]) | (y.max(1) < low[:, 1]) | (y.min(1) > high[:, 1])
    middle, half = (low + high) / 2, (high - low) / 2
    for k in range(4):
        normal_x, normal_y = y[:, k - 1] - y[:, k], x[:, k] - x[:, k - 1]
        shadow = (x - middle[:, :1]) * normal_x[:, None] + (y - middle[:, 1:]) * normal_y[:, None]
        reach = half[:, 0] * np.abs(normal_x) + half[:, 1] * np.abs(normal_y)
        apart |= (shadow.min(1) > reach) | (shadow.max(1) < -reach)
    return ~apart


def common_area(x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """The area that quadrangles and upright rectangles have in common, pair by pair.

    It is the sum over the edges of the quadrangle of the area between each and the lower side of the rectangle, with
    the edge pushed into the rectangle where it is above or below it; areas under edges to the left count negative.

    Parameters
    ----------
    x, y, low, high : arrays
        As in `boxes_touch`.

    Returns
    -------
    (n,) array
    """
    total = np.zeros(len(x))
    for k in range(4):
        start, end = np.stack([x[:, k - 1], y[:, k - 1]]), np.stack([x[:, k], y[:, k]])
        step = end - start
        # Parts of the edge between which it enters or leaves one of the two stripes that cross in the rectangle.
        parts = np.clip((np.stack([low.T, high.T]) - start) / np.where(step == 0, 1, step), 0, 1)
        parts = np.sort(np.concatenate([parts.reshape(4, -1), [np.zeros(len(x)), np.ones(len(x))]]), axis=0)
        edge = np.clip(start + parts[:, None] * step, low.T, high.T)
        height = edge[:, 1] - low[:, 1]
        total += (np.diff(edge[:, 0], axis=0) * (height[1:] + height[:-1]) / 2).sum(axis=0)
    return np.abs(total)


def patch_overlaps(exposures: np.ndarray, skymap: SkyMap, margin_arcsec: float) -> np.ndarray:
    """Which detector images may touch which patches (with their borders).

    Parameters
    ----------
    exposures : table "exposure" or "visit_summary"
        Corners ra_1 ... dec_4 [deg]; rows whose status is not "ok" are left out.
    skymap : SkyMap
    margin_arcsec : float
        Largest error of the positions in the headers [arcsec]; patches are grown by it on every side.  It also has
        to cover the bow of image edges between their corners.

    Returns
    -------
    table "overlap", sorted by tract, patch (row by row), visit and detector.
    """
    usable = exposures[exposures["status"] == "ok"]
    ra, dec = (np.stack([usable[f"{axis}_{k}"] for k in (1, 2, 3, 4)], axis=1) for axis in ("ra", "dec"))
    tract, image = _near(ra, dec, skymap.columns, margin_arcsec * ARCSEC)
    x, y = at(skymap.columns, tract[:, None]).pixels(ra[image], dec[image])
    reached = np.all(np.isfinite(x), axis=1)
    tract, image, x, y = tract[reached], image[reached], x[reached], y[reached]
    margin = (margin_arcsec / skymap.columns.pixel_scale * skymap.columns.stretch)[tract]
    pair, px, py = _candidates(x, y, at(skymap.columns, tract), margin)
    tract, image, x, y, margin = tract[pair], image[pair], x[pair], y[pair], margin[pair, None]
    low, high = at(skymap.columns, tract).outer_edges(px, py)
    touch = boxes_touch(x, y, low - margin, high + margin)
    order = np.flatnonzero(touch)
    rows = usable[image[order]]
    order = order[np.lexsort((rows["detector"], rows["visit"], px[order], py[order], tract[order]))]
    each, rows, low, high = at(skymap.columns, tract[order]), usable[image[order]], low[order], high[order]
    return tables.from_columns(
        "overlap",
        tract=each.id,
        patch=patch_names(px[order], py[order]),
        area=common_area(x[order], y[order], low, high) * each.pixel_area(*(low + high).T / 2),
        **{name: rows[name] for name in ("visit", "detector", "band")},
    )


def _near(ra: np.ndarray, dec: np.ndarray, tracts: Tract, margin: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows of tracts and of images whose circles can meet."""
    corners = sphere.unit_vectors(ra, dec)
    middles = corners.mean(axis=1)
    reach = np.arctan(tracts.half_diagonal) + np.linalg.norm(corners - middles[:, None], axis=2).max(initial=0) + margin
    images = cKDTree(middles).query_ball_point(sphere.unit_vectors(tracts.ra, tracts.dec), reach, return_sorted=True)
    tract = np.repeat(np.arange(len(images)), [len(near) for near in images])
    return tract, np.concatenate([np.empty(0, int), *(np.array(near, int) for near in images)])


def _candidates(x: np.ndarray, y: np.ndarray, tract: Tract, margin: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All triples (row, px, py) of images on tracts and patches whose upright bounding boxes can meet."""
    reach = tract.border + 0.5 + margin
    first, last = [], []
    for corner, n in ((x, tract.n_patches[0]), (y, tract.n_patches[1])):
        # An image off the tract by more than the reach gets an empty range.
        first.append(np.clip(np.floor((corner.min(1) - reach) / tract.patch_size), 0, n).astype(int))
        last.append(np.clip(np.floor((corner.max(1) + reach) / tract.patch_size), -1, n - 1).astype(int))
    width, height = (np.maximum(last[k] - first[k] + 1, 0) for k in (0, 1))
    row = np.repeat(np.arange(len(x)), width * height)
    running = np.arange(len(row)) - np.repeat(np.cumsum(width * height) - width * height, width * height)
    return row, first[0][row] + running % width[row], first[1][row] + running // width[row]
