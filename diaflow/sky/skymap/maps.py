"""Sky maps: tracts (TAN planes on the sky) cut into patches, made from the exposure table and kept as JSON.

A kind of sky map is a file beside this one with `OPTIONS` and ``tracts(config, ra, dec, pixel_scale)``.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType

import numpy as np

from diaflow.errors import InputError
from diaflow.sky import sphere
from diaflow.sky.skymap.tract import Tract
from diaflow.store.files import write_text


@dataclass(frozen=True)
class SkyMap:
    """Tracts by id.

    Attributes
    ----------
    kind : str
        `skymap.type` of the configuration.
    tracts : dict of int to Tract
    """

    kind: str
    tracts: dict[int, Tract]

    def find_tract(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """The tract whose centre is nearest to each position.

        Parameters
        ----------
        ra, dec : (n,) arrays or floats
            [deg]

        Returns
        -------
        (n,) int array
            Its id; -1 where it does not reach there.
        """
        ra, dec = np.atleast_1d(ra), np.atleast_1d(dec)
        centres = np.array([(tract.ra, tract.dec) for tract in self.tracts.values()])
        cosine = sphere.unit_vectors(ra, dec) @ sphere.unit_vectors(*centres.T).T
        nearest = np.array(list(self.tracts))[np.argmax(cosine, axis=-1)]
        found = np.full(ra.shape, -1)
        for tract in self.tracts.values():
            found[(nearest == tract.id) & tract.contains(ra, dec)] = tract.id
        return found

    def owner(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The patch that each position belongs to.

        Parameters
        ----------
        ra, dec : (n,) arrays
            [deg]

        Returns
        -------
        tract : (n,) int array
            -1 where no tract reaches.
        patch : (n,) object array
            Names "x_y", empty where no tract reaches.
        """
        tract, patch = self.find_tract(ra, dec), np.full(len(ra), "", object)
        for number in np.unique(tract[tract >= 0]).tolist():
            mine = tract == number
            patch[mine] = self.tracts[number].find_patch(ra[mine], dec[mine])
        return tract, patch

    def to_dict(self) -> dict:
        """The map in plain types that JSON can hold.

        Returns
        -------
        dict
        """
        return {"type": self.kind, "tracts": [asdict(tract) for tract in self.tracts.values()]}

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
        return cls(content["type"], {tract.id: tract for tract in tracts})

    def write(self, path: str | Path) -> None:
        """Write the map as JSON; the file appears under its name only when it is complete.

        Parameters
        ----------
        path : path
        """
        write_text(json.dumps(self.to_dict(), indent=1) + "\n", path)


def make_skymap(config: dict, exposures: np.ndarray, tracts: Callable[..., list[Tract]]) -> SkyMap:
    """The sky map of a set of images.

    Parameters
    ----------
    config : dict
        Section `skymap` of the configuration.
    exposures : table "exposure"
        Rows whose status is not "ok" are left out.
    tracts : callable
        Function `tracts` of the kind that `config` names.

    Returns
    -------
    SkyMap

    Raises
    ------
    InputError
        When there is no usable image, or the kind cannot hold all of them.
    """
    usable = exposures[exposures["status"] == "ok"]
    if len(usable) == 0:
        raise InputError("there are no images to make a sky map from")
    ra, dec = _corners(usable)
    pixel_scale = config["pixel_scale"]
    if pixel_scale is None:
        pixel_scale = np.median(usable["pixel_scale"].astype(float))
    return SkyMap(config["type"], {tract.id: tract for tract in tracts(config, ra, dec, float(pixel_scale))})


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
