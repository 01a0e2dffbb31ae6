"""What the forced fluxes of one object have in common: the noise of their template, and the level at which it is off.

Differences against one template contain its noise.  With e_i the error of the flux at epoch i and t_i the part of it
that is the template's (`psfFluxErrTemplate`), the covariance of two epochs is t_i t_j, as far as their kernels weight
the pixels of the template alike: for two Gaussian PSFs of the radii s_i and s_j against a template of radius s_T by
2 a b / (a**2 + b**2) of that, a**2 = 2 s_i**2 - s_T**2, b**2 = 2 s_j**2 - s_T**2 (0.9 where one seeing is 1.5 times the
other).
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from diaflow.store import tables

COLUMNS = ["diaObjectId", "positionId", "band", "midpointMjdTai", "visitInTemplate"]
FLUXES = ["psfFlux", "psfFluxErr", "psfFluxErrTemplate"]


def covariance(err: np.ndarray, err_template: np.ndarray) -> np.ndarray:
    """Covariance matrix of the fluxes of one object in one band.

    Parameters
    ----------
    err, err_template : (n,) arrays
        psfFluxErr and psfFluxErrTemplate [nJy].

    Returns
    -------
    (n, n) array
        [nJy**2]
    """
    err, err_template = (np.asarray(e, float) for e in (err, err_template))
    return np.diag(err**2 - err_template**2) + np.outer(err_template, err_template)


def quiet(mjd: np.ndarray, first: np.ndarray, last: np.ndarray, config: dict) -> np.ndarray:
    """At which epochs objects are off.

    Parameters
    ----------
    mjd : (n,) array
        Of each flux [d].
    first, last : (n,) arrays
        Dates of the first and the last DIASource of its object [d]; NaN for none.
    config : dict
        `forced.quiet` of the configuration: `mjd`, ranges of dates, or `before` and `after` [d].

    Returns
    -------
    (n,) bool array
    """
    if config["mjd"]:
        return np.any([(mjd >= begin) & (mjd <= end) for begin, end in config["mjd"]], axis=0)
    off = np.zeros(len(mjd), bool)
    if config["before"] is not None:
        off |= mjd < first - config["before"]
    if config["after"] is not None:
        off |= mjd > last + config["after"]
    return off


class Baseline:
    """The mean flux of each object, in each band, at the epochs at which it is off.

    Fluxes are added in parts, so that memory does not grow with the number of visits.  Epochs are weighted by the noise
    that is their own.

    Parameters
    ----------
    ids : (m,) int64 array
        Of the objects, sorted.
    bands : sequence of str
    """

    def __init__(self, ids: np.ndarray, bands: Sequence[str]):
        self.ids, self.bands = np.asarray(ids, np.int64), sorted(bands)
        self.weight, self.flux, self.err_template = np.zeros((3, len(self.ids) * len(self.bands)))

    def add(
        self,
        ids: np.ndarray,
        band: np.ndarray,
        off: np.ndarray,
        flux: np.ndarray,
        err: np.ndarray,
        err_template: np.ndarray,
    ) -> None:
        """Take part of the fluxes into the means.

        Parameters
        ----------
        ids, band : (n,) arrays
            Object, one of those of the start, and band of each flux.
        off : (n,) bool array
            At which epochs the object is off, of a visit that is not part of the template.
        flux, err, err_template : (n,) arrays
            psfFlux, psfFluxErr and psfFluxErrTemplate [nJy]; fluxes without a finite error do not count.
        """
        index, own2, count = self._counted(ids, band, off, flux, err, err_template)
        index, weight = index[count], 1 / own2[count]
        n = len(self.weight)
        self.weight += np.bincount(index, weight, n)
        self.flux += np.bincount(index, weight * flux[count], n)
        self.err_template += np.bincount(index, weight * err_template[count], n)

    def subtracted(
        self,
        ids: np.ndarray,
        band: np.ndarray,
        off: np.ndarray,
        flux: np.ndarray,
        err: np.ndarray,
        err_template: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fluxes over the mean of when the object is off.

        Parameters
        ----------
        ids, band, off, flux, err, err_template
            As they were added.

        Returns
        -------
        flux, err : (n,) arrays
            NaN where no epoch of the object in the band is off [nJy].
        """
        index, own2, count = self._counted(ids, band, off, flux, err, err_template)
        total = np.where(self.weight > 0, self.weight, np.nan)[index]
        # c_k = delta_jk - w_k / W of all epochs k: sum c_k**2 own_k**2 + (sum c_k t_k)**2
        own = own2 + 1 / total - np.where(count, 2 / total, 0)
        shared = err_template - self.err_template[index] / total
        variance = np.maximum(own, 0) + shared**2
        return flux - self.flux[index] / total, np.sqrt(variance)

    def _counted(self, ids, band, off, flux, err, err_template):
        """Where each flux belongs, the variance that is its own, and whether it counts."""
        index = np.searchsorted(self.ids, ids) * len(self.bands) + np.searchsorted(self.bands, band.astype(str))
        own2 = err**2 - err_template**2
        return index, own2, off & np.isfinite(flux) & (own2 > 0)


def baselines(
    paths: Iterable[str | Path], dia_objects: np.ndarray, config: dict
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """What the tables of all visits say of the flux of each object when it is off.

    Parameters
    ----------
    paths : iterable of path
        "dia_forced_source" tables, read one after the other.
    dia_objects : "dia_object" table
        Of all patches.
    config : dict
        `forced.quiet` of the configuration.

    Returns
    -------
    callable
        Of rows of table "dia_forced_source", columns psfFluxBaseline and psfFluxBaselineErr by name.
    """
    objects = dia_objects[np.argsort(dia_objects["diaObjectId"])]
    known = [tables.read("dia_forced_source", path, ["positionId", "band"]) for path in paths]
    bands = sorted({band for part in known for band in part["band"]})
    chosen = np.unique(np.concatenate([part["positionId"] for part in known] + [np.zeros(1, np.int64)]))
    of = {"diaObjectId": Baseline(objects["diaObjectId"], bands), "positionId": Baseline(chosen, bands)}

    def split(rows):
        """The rows of DIAObjects and those of the user's positions, with what a baseline asks for."""
        for name in of:
            mine = np.flatnonzero((rows["positionId"] == 0) == (name == "diaObjectId"))
            part = rows[mine]
            first, last = np.full((2, len(part)), np.nan)
            if name == "diaObjectId":
                row = np.searchsorted(objects["diaObjectId"], part[name])
                first, last = (objects[f"{end}DiaSourceMjdTai"][row] for end in ("first", "last"))
            off = quiet(part["midpointMjdTai"], first, last, config) & ~part["visitInTemplate"]
            yield name, mine, (part[name], part["band"], off, *(part[flux].astype(float) for flux in FLUXES))

    for path in paths:
        for name, _, values in split(tables.read("dia_forced_source", path, COLUMNS + FLUXES)):
            of[name].add(*values)

    def columns(rows: np.ndarray) -> dict[str, np.ndarray]:
        flux, err = np.full((2, len(rows)), np.nan)
        for name, mine, values in split(rows):
            flux[mine], err[mine] = of[name].subtracted(*values)
        return {"psfFluxBaseline": flux, "psfFluxBaselineErr": err}

    return columns
