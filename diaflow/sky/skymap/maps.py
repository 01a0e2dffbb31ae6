"""Sky maps: tracts (TAN planes on the sky) cut into patches, made from the exposure table and kept as JSON.

The kinds are the files beside this one, as the face of the room says.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np

from diaflow.errors import InputError
from diaflow.sky import sphere
from diaflow.sky.skymap.many import at, one_by_one, together
from diaflow.sky.skymap.tract import Tract, patch_names
from diaflow.store import ids
from diaflow.store.files import write_text

# Of the tracts nearest to a position that no tract owns by its number, those that are asked whether they reach it.
NEAREST = 8


@dataclass(frozen=True)
class SkyMap:
    """Tracts by id, and which of them owns a position.

    Attributes
    ----------
    kind : str
        `skymap.type` of the configuration.
    tracts : dict of int to Tract
        All that there are, or those that a run uses.
    options : dict
        What the kind numbers its tracts by, as in the section `skymap` of the configuration.
    """

    kind: str
    tracts: dict[int, Tract]
    options: dict = field(default_factory=dict)

    def find_tract(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """The tract that each position belongs to.

        It is the one that the numbering of the kind says, where its pixels reach there: near the poles those of some
        tracts do not reach the corners of their share of the sky.  Else, and in a kind without a numbering, it is the
        one of those that reach there whose centre is nearest.

        Parameters
        ----------
        ra, dec : (n,) arrays or floats
            [deg]

        Returns
        -------
        (n,) int array
            Its id; -1 where no tract reaches.
        """
        return self._owners(ra, dec)[0]

    def owner(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The patch that each position belongs to.

        Parameters
        ----------
        ra, dec : (n,) arrays or floats
            [deg]

        Returns
        -------
        tract : (n,) int array
            As `find_tract` has it.
        patch : (n,) object array
            Names "x_y", empty where no tract reaches.
        """
        tract, px, py = self._owners(ra, dec)
        return tract, patch_names(px, py)

    def _owners(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Tract and indices of the patch, (3, n); -1 where no tract reaches."""
        ra, dec = np.atleast_1d(ra), np.atleast_1d(dec)
        found = np.full((3, *ra.shape), -1)
        known = np.flatnonzero(np.isfinite(ra) & np.isfinite(dec))
        kind = import_module(f"diaflow.sky.skymap.{self.kind}")
        if hasattr(kind, "find_tract"):
            number = kind.find_tract(self.options, ra[known], dec[known])
            found[:, known] = self._in_tracts(number, ra[known], dec[known])
            known = known[found[0, known] < 0]
        if len(known):
            found[:, known] = self._in_nearest(ra[known], dec[known])
        return found

    def _in_nearest(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """The same of the tract, of those that reach each position, whose centre is nearest."""
        if len(self.tracts) == 1:
            return self._in_tracts(np.broadcast_to(self.columns.id, ra.shape), ra, dec)
        from scipy.spatial import cKDTree  # a third of a second, which most jobs do without

        tree = cKDTree(sphere.unit_vectors(self.columns.ra, self.columns.dec))
        rows = tree.query(sphere.unit_vectors(ra, dec), range(1, min(NEAREST, len(self.tracts)) + 1))[1]
        found = self._in_tracts(self.columns.id[rows], ra[:, None], dec[:, None])
        return found[:, np.arange(len(ra)), np.argmax(found[0] >= 0, axis=1)]

    def _in_tracts(self, tract: np.ndarray, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """The same of the given tract for each position; -1 where the map does not have it or it does not reach."""
        rows = ids.rows_of(self.columns.id, tract.ravel()).reshape(tract.shape)
        px, py = at(self.columns, rows).patch_indices(ra, dec)
        return np.where((rows >= 0) & (px >= 0), (tract, px, py), -1)

    @cached_property
    def columns(self) -> Tract:
        """All tracts in one, whose fields are arrays."""
        return together(self.tracts.values())

    def to_dict(self) -> dict:
        """The map in plain types that JSON can hold.

        Returns
        -------
        dict
        """
        tracts = [asdict(tract) for tract in self.tracts.values()]
        return {"type": self.kind, "options": self.options, "tracts": tracts}

    @classmethod
    def from_dict(cls, content: dict) -> "SkyMap":
        """The inverse of `to_dict`.

        Parameters
        ----------
        content : dict

        Returns
        -------
        SkyMap

        Raises
        ------
        KeyError, ValueError, TypeError
            When it is not the content of a sky map.
        """
        types = {field.name: field.type for field in fields(Tract)}
        tracts = [Tract(**{name: kind(entry[name]) for name, kind in types.items()}) for entry in content["tracts"]]
        return cls(content["type"], {tract.id: tract for tract in tracts}, dict(content["options"]))

    def write(self, path: str | Path) -> None:
        """Write the map as JSON; the file appears under its name only when it is complete.

        Parameters
        ----------
        path : path
        """
        write_text(json.dumps(self.to_dict(), indent=1) + "\n", path)


def whole_sky(config: dict) -> SkyMap:
    """A map of all tracts of the sky, to look up tracts and patches without any images.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration, with a type that covers the whole sky.

    Returns
    -------
    SkyMap

    Raises
    ------
    InputError
        When the type does not cover the whole sky, or lacks what it needs.
    """
    kind = import_module(f"diaflow.sky.skymap.{config['type']}")
    if not hasattr(kind, "every_tract"):
        raise InputError(f"skymap.type: {config['type']} does not cover the whole sky")
    every = kind.every_tract(config)
    return _of_tracts(config, kind, one_by_one(every, every.id))


def make_skymap(config: dict, exposures: np.ndarray, kind: ModuleType) -> SkyMap:
    """The sky map of a set of images.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.
    exposures : table "exposure"
        Rows whose status is not "ok" are left out.
    kind : module
        The kind that `config` names.

    Returns
    -------
    SkyMap
        With the tracts that images may reach; of a kind that covers the whole sky, some more.

    Raises
    ------
    InputError
        When there is no usable image, or the kind cannot hold all of them.
    """
    usable = exposures[exposures["status"] == "ok"]
    if len(usable) == 0:
        raise InputError("no images found: there is nothing to compute the convex hull of a sky map from")
    ra, dec = _corners(usable)
    pixel_scale = config["pixel_scale"]
    if pixel_scale is None:
        pixel_scale = np.median(usable["pixel_scale"].astype(float))
    return _of_tracts(config, kind, kind.tracts(config, ra, dec, float(pixel_scale)))


def _of_tracts(config: dict, kind: ModuleType, tracts: list[Tract]) -> SkyMap:
    options = {key: config[key] for key in kind.OPTIONS}
    return SkyMap(config["type"], {tract.id: tract for tract in tracts}, options)


def strays(config: dict, exposures: np.ndarray, kind: ModuleType) -> tuple[np.ndarray, str]:
    """Usable images that are too far from the others for a sky map of both.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.
    exposures : table "exposure"
    kind : module
        The kind that `config` names; one that covers the whole sky has no function `strays`.

    Returns
    -------
    strays : (n,) bool array
    reason : str
    """
    far, reason = exposures["status"] == "ok", ""
    if not hasattr(kind, "strays"):
        return far & False, reason
    far[far], reason = kind.strays(config, *_corners(exposures[far]))
    return far, reason


def _corners(exposures: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Right ascension and declination of the corners of images, (n, 4) each [deg]."""
    return tuple(np.stack([exposures[f"{axis}_{k}"] for k in (1, 2, 3, 4)], axis=1) for axis in ("ra", "dec"))


def load_skymap(path: str | Path) -> SkyMap:
    """Read a sky map made by `SkyMap.write`.

    Parameters
    ----------
    path : path

    Returns
    -------
    SkyMap

    Raises
    ------
    InputError
        When the file is missing, truncated or not a sky map; the message names it.
    """
    try:
        return SkyMap.from_dict(json.loads(Path(path).read_text()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a readable sky map ({error})") from error
