"""From the files of a catalogue and the `refcat` section of the configuration to the store."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from diaflow.errors import InputError
from diaflow.refcat import formats, standard, store


def check(config: dict, bands: Iterable[str]) -> None:
    """Refuse what is wrong before any file is opened.

    Parameters
    ----------
    config : dict
        The `refcat` section of the configuration.
    bands : iterable of str
        Bands of the images.

    Raises
    ------
    InputError
        When a band, also one of a colour term, has no column, or proper motions have no epoch.
    """
    missing = sorted(set(bands) - set(config["bands"]))
    if missing:
        named = ", ".join(config["bands"]) or "none"
        raise InputError(
            f"refcat.bands: no column of {config['path']} is named for band {', '.join(missing)} (there are: {named})"
        )
    for band, term in config["colour_terms"].items():
        for name in (band, term["secondary"]):
            if name not in config["bands"]:
                raise InputError(f"refcat.colour_terms.{band}: refcat.bands names no column for band {name}")
    if config["pm"] and config["epoch"] is None:
        raise InputError("refcat.epoch is missing: proper motions (refcat.pm) count from it")


def convert(paths: Iterable[str | Path], config: dict, out: str | Path) -> int:
    """Write the store of a catalogue; memory does not grow with it but for 24 bytes per row.

    Parameters
    ----------
    paths : iterable of path
        Files of one catalogue, in the formats of `formats.blocks`.
    config : dict
        The `refcat` section of the configuration; `path` is not used.
    out : path
        The store, see `store.read`.

    Returns
    -------
    int
        Number of rows; those without a position are left out.

    Raises
    ------
    InputError
        When a file cannot be read, a column is missing or is not what it should be, no row has a position, or two have
        one identifier; the message names the file or the column.
    """
    return store.write(_rows(list(paths), config), list(config["bands"]), out)


def _rows(paths: list[str | Path], config: dict) -> Iterator[np.ndarray]:
    """Blocks of rows of all files; InputError after the last where there is no row or an identifier repeats."""
    identifiers = [np.empty(0, np.int64)]
    for path in paths:
        try:
            for block in formats.blocks(path, standard.names(config)):
                rows = standard.rows(block, config)
                identifiers.append(rows["id"].copy())
                yield rows
        except InputError as error:
            raise InputError(f"reference catalogue {path}: {error}") from error
    identifiers = np.concatenate(identifiers)
    if not len(identifiers):
        raise InputError(f"reference catalogue {', '.join(map(str, paths))}: no row with a position on the sky")
    identifiers.sort()
    repeated = np.flatnonzero(identifiers[1:] == identifiers[:-1])
    if len(repeated):
        raise InputError(
            f"reference catalogue {', '.join(map(str, paths))}: column '{config['id']}' (refcat.id) must tell stars "
            f"apart, but {len(repeated)} rows repeat an identifier, such as {identifiers[repeated[0]]}"
        )
