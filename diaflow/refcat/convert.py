"""From the files of a catalogue and the `refcat` section of the configuration to the store."""

import logging
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
        When a file cannot be read, a column is missing or is not what it should be, no row has a position, two have one
        identifier, or none is a star or has a magnitude in a band; the message names the file or the column.
    """
    return store.write(_rows(list(paths), config), list(config["bands"]), out)


def _rows(paths: list[str | Path], config: dict) -> Iterator[np.ndarray]:
    """Blocks of rows of all files; InputError after the last where together they are of no use."""
    catalogue = f"reference catalogue {', '.join(map(str, paths))}"
    identifiers, n_stars, n_read = [np.empty(0, np.int64)], 0, 0
    unmeasured = set(config["bands"])
    for path in paths:
        for block, rows in _converted(path, config):
            n_read += len(block[config["ra"]][0])
            n_stars += np.count_nonzero(rows["star"])
            identifiers.append(rows["id"].copy())
            unmeasured -= {band for band in unmeasured if np.isfinite(rows[f"{band}_mag"]).any()}
            yield rows
    identifiers = np.concatenate(identifiers)
    if not len(identifiers):
        raise InputError(f"{catalogue}: no row with a position on the sky")
    if n_read > len(identifiers):
        logging.warning("%s: %d rows have no position and are left out", catalogue, n_read - len(identifiers))
    _refuse_repeated(identifiers, paths, config, catalogue)
    if not n_stars:
        wanted = ", ".join(f"{name}: {value}" for name, value in config["keep"].items())
        raise InputError(f"{catalogue}: no row has what refcat.keep asks for ({wanted})")
    for band in sorted(unmeasured):
        low, high = standard.CREDIBLE_MAG
        raise InputError(
            f"{catalogue}: column '{config['bands'][band]}' (refcat.bands.{band}) has no magnitude between {low:g} and "
            f"{high:g}; without a unit in the file its numbers are magnitudes"
        )


def _converted(path: str | Path, config: dict) -> Iterator[tuple[formats.Block, np.ndarray]]:
    """Blocks of a file, as they are and as rows of the store."""
    try:
        for block in formats.blocks(path, standard.names(config)):
            yield block, standard.rows(block, config)
    except InputError as error:
        raise InputError(f"reference catalogue {path}: {error}") from error


def _refuse_repeated(identifiers: np.ndarray, paths: list[str | Path], config: dict, catalogue: str) -> None:
    """InputError where two rows have one identifier, with the place on the sky of one of them."""
    identifiers.sort()
    repeated = identifiers[1:][identifiers[1:] == identifiers[:-1]]
    if not len(repeated):
        return
    rows = next(rows for path in paths for _, rows in _converted(path, config) if repeated[0] in rows["id"])
    star = rows[rows["id"] == repeated[0]][0]
    what = "their positions" if config["id"] is None else f"column '{config['id']}'"
    raise InputError(
        f"{catalogue}: {what} (refcat.id) must tell stars apart, but {len(repeated)} rows repeat an identifier, "
        f"such as {repeated[0]} at {star['ra']:.6f}, {star['dec']:+.6f}"
    )
