"""Which DIASources are the same thing on the sky: association into DIAObjects, per tract and patch.

In: "dia_source" tables.  Out: an object index per source, or the "dia_object" and "dia_link" tables of one patch.
Sources take part in the order of visit, detector and diaSourceId whatever the order of the rows.  An algorithm
is a file beside this one with `OPTIONS` and ``associate(sources, rows, config)``.  Objects on a patch border are not
split: every patch associates its outer box and keeps what lies in its inner box (as `drpAssociationPipe` of LSST's
pipe_tasks does).
"""

from collections.abc import Callable

import numpy as np

from diaflow.associate import aggregate
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.skymap.tract import Tract
from diaflow.store import tables

# See `simple.associate`.
Algorithm = Callable[[np.ndarray, np.ndarray, dict], np.ndarray]


def associate(sources: np.ndarray, algorithm: Algorithm, config: dict) -> np.ndarray:
    """Object index of each source.

    Parameters
    ----------
    sources : "dia_source" table, shape (n,)
    algorithm : callable
        Function `associate` of an algorithm.
    config : dict
        The `associate` section of the configuration.

    Returns
    -------
    (n,) int64 array
        0 ... n_objects - 1 in the order in which the objects were founded; -1 for sources that are not `usable`, and
        for those that the algorithm leaves out.
    """
    rows = np.flatnonzero(usable(sources, config))
    keys = [sources[name][rows] for name in ("diaSourceId", "detector", "visit")]
    rows = rows[np.lexsort(keys)]
    index = np.full(len(sources), -1, np.int64)
    index[rows] = algorithm(sources, rows, config)
    return index


def columns(config: dict) -> list[str]:
    """The columns of DIASources that association reads.

    Parameters
    ----------
    config : dict
        The `associate` section of the configuration.

    Returns
    -------
    list of str
    """
    more = aggregate.flag_columns() if "flags" in config["aggregates"] else []
    return list(dict.fromkeys([*aggregate.COLUMNS, "snr", *config["flags"], *more]))


def usable(sources: np.ndarray, config: dict) -> np.ndarray:
    """Which sources may found or join an object.

    Sources on bad, saturated or missing pixels and flashes of satellites are left alone by default, as LSST filters
    them before it makes DIAObjects.  Sources of visits that are part of the template stay.

    Parameters
    ----------
    sources : "dia_source" table, shape (n,)
    config : dict
        The `associate` section of the configuration: `flags`, `bands`, `min_snr`.

    Returns
    -------
    (n,) bool array
        Sources at a finite position without any of the flags, of the bands, of the least S/N or more.
    """
    use = np.isfinite(sources["ra"]) & np.isfinite(sources["dec"])
    for flag in config["flags"]:
        use &= ~sources[flag]
    if config["bands"]:
        use &= np.isin(sources["band"].astype(str), config["bands"])
    if config["min_snr"] > 0:
        use &= np.abs(sources["snr"]) >= config["min_snr"]
    return use


def patch_objects(
    sources: np.ndarray, skymap: SkyMap, tract: int, patch: str, algorithm: Algorithm, config: dict
) -> tuple[np.ndarray, np.ndarray]:
    """The DIAObjects that a patch owns, and their DIASources.

    Neighbouring patches see the same sources within the border that they share and do the same arithmetic on
    them, so that each object is complete and in exactly one patch, as long as no chain of sources, each of which may
    be one object with the next, crosses the whole border.

    Parameters
    ----------
    sources : "dia_source" table
        At least all sources in the outer box of the patch; more do no harm.
    skymap : SkyMap
    tract, patch : int, str
        The patch.
    algorithm : callable
        Function `associate` of an algorithm.
    config : dict
        The `associate` section of the configuration.

    Returns
    -------
    objects : "dia_object" table
        Objects whose mean position is in the inner box of the patch and in the region that belongs to the tract.
    links : "dia_link" table
        One row per source of these objects, sorted by diaSourceId; and one, with the diaObjectId 0, per source on the
        area of the patch that may take part and that the algorithm leaves out.
    """
    sources = sources[in_outer_box(sources, skymap.tracts[tract], patch)]
    index = associate(sources, algorithm, config)
    objects = aggregate.dia_objects(sources, index, sorted(set(sources["band"])), config["aggregates"])
    objects["tract"], objects["patch"] = tract, patch

    def owned(table: np.ndarray) -> np.ndarray:
        owner_tract, owner_patch = skymap.owner(table["ra"], table["dec"])
        return (owner_tract == tract) & (owner_patch == patch)

    own = owned(objects)
    linked = index >= 0
    linked[linked] = own[index[linked]]
    left_out = (index < 0) & usable(sources, config)
    left_out[left_out] = owned(sources[left_out])
    rows = np.flatnonzero(linked | left_out)
    rows = rows[np.argsort(sources["diaSourceId"][rows], kind="stable")]
    ids = np.append(objects["diaObjectId"], 0)  # -1 is the last
    links = tables.from_columns("dia_link", diaSourceId=sources["diaSourceId"][rows], diaObjectId=ids[index[rows]])
    return objects[own], links


def in_outer_box(sources: np.ndarray, tract: Tract, patch: str) -> np.ndarray:
    """Which sources lie in the outer box of a patch; lets a caller drop the others visit by visit.

    Parameters
    ----------
    sources : "dia_source" table, shape (n,)
    tract : Tract
    patch : str

    Returns
    -------
    (n,) bool array
    """
    x0, y0, x1, y1 = tract.outer_box(patch)
    x, y = tract.pixels(sources["ra"], sources["dec"])
    return (x >= x0 - 0.5) & (x < x1 + 0.5) & (y >= y0 - 0.5) & (y < y1 + 0.5)
