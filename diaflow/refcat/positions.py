"""Positions of the user's choice: a table that is read as a reference catalogue is, and brought to a date.

Each row is a position, that of a star with its proper motion, or one of several of something that moves: between the
dates of two rows of one identifier it is on the great circle through them, and before the first and after the last it
is nowhere.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diaflow.errors import InputError
from diaflow.refcat import columns, formats, standard
from diaflow.sky import sphere
from diaflow.store import tables

_log = logging.getLogger(__name__)
# Columns of table "position" by those of `standard.placed`.
NAMES = {"id": "positionId", "ra": "ra", "dec": "dec", "pm_ra": "pmRa", "pm_dec": "pmDec", "epoch": "epoch"}


def check(config: dict, section: str) -> None:
    """Refuse what is wrong before any file is opened.

    Parameters
    ----------
    config : dict
        Section of the configuration that describes the table.
    section : str
        Its name.

    Raises
    ------
    InputError
        When proper motions have no epoch, or what moves by its rows has proper motions or no identifier.
    """
    if config["pm"] and config["epoch"] is None:
        raise InputError(f"{section}.epoch is missing: proper motions ({section}.pm) count from it")
    if config["mjd"] and (config["pm"] or config["id"] is None):
        raise InputError(f"{section}.mjd: positions by date need an identifier and have no proper motion")


def convert(paths: Iterable[str | Path], config: dict, section: str) -> np.ndarray:
    """The user's table as diaflow keeps it.

    Parameters
    ----------
    paths : iterable of path
        Files of any format of `diaflow.refcat.formats`.
    config : dict
        Section of the configuration that describes the table; `path` is not used.
    section : str
        Its name, for what is said of wrong input.

    Returns
    -------
    table "position"
        Sorted by positionId and date; rows without a position on the sky are left out and counted in the log.

    Raises
    ------
    InputError
        When a file cannot be read, a column is missing or is not what it should be, no row is left or two are of one
        identifier (and date); the message names the file or the column.
    """
    wanted = {config[key] for key in ("id", "ra", "dec", "epoch", "mjd") if isinstance(config[key], str)}
    parts, n_read = [tables.empty("position")], 0
    for path in paths:
        try:
            for block in formats.blocks(path, wanted | set(config["pm"])):
                n_read += len(block[config["ra"]][0])
                parts.append(_rows(block, config, section))
        except InputError as error:
            raise InputError(f"{section} {path}: {error}") from error
    table = tables.concatenate("position", parts)
    if not len(table):
        raise InputError(f"{section}: no row with a position on the sky")
    if n_read > len(table):
        _log.warning("%s: %d rows have no position and are left out", section, n_read - len(table))
    table = table[np.lexsort((table["mjd"], table["positionId"]))]
    same = (np.diff(table["positionId"]) == 0) & ~(np.diff(table["mjd"]) > 0)
    if same.any():
        twice = table["name"][:-1][same][0]
        what = f"and one date ({section}.mjd)" if config["mjd"] else f"; {section}.mjd names the dates of what moves"
        raise InputError(f"{section}: {same.sum()} rows repeat an identifier ({section}.id) {what}: {twice}")
    return table


def _rows(block: formats.Block, config: dict, section: str) -> np.ndarray:
    of, values = standard.placed(block, config, section)
    known = {NAMES[name]: column for name, column in values.items()}
    names = known["positionId"] if config["id"] is None else pc.cast(of[config["id"]].values, pa.string()).to_pylist()
    if config["mjd"]:
        known["mjd"] = columns.numbers(of[config["mjd"]])
        if not np.isfinite(known["mjd"]).all():
            raise InputError(f"column '{config['mjd']}' ({section}.mjd): a row with a position has no date")
    table = tables.empty("position", len(names))
    for name, column in known.items():
        table[name] = column
    table["name"] = [str(name) for name in names]
    return table


def at(table: np.ndarray, mjd: float) -> np.ndarray:
    """Where everything is at a date.

    Parameters
    ----------
    table : table "position"
        As `convert` gives it.
    mjd : float
        TAI [d].

    Returns
    -------
    table "position"
        One row of each, with ra and dec at this date; without what is nowhere then.
    """
    moves = np.isfinite(table["mjd"])
    fixed, moving = table[~moves], _between_dates(table[moves], mjd)
    where = (fixed[name] for name in ("ra", "dec", "pmRa", "pmDec"))
    fixed["ra"], fixed["dec"] = sphere.moved(*where, mjd - fixed["epoch"])
    return np.concatenate([fixed, moving])


def _between_dates(table: np.ndarray, mjd: float) -> np.ndarray:
    """Where things are that have a row for each of some dates, as far as they have one before and one after this."""
    start = np.unique(table["positionId"], return_index=True)[1]
    end = np.append(start[1:], len(table))
    passed = np.concatenate([[0], np.cumsum(table["mjd"] <= mjd)])
    before = start + passed[end] - passed[start] - 1
    there = (before >= start) & ((before + 1 < end) | (table["mjd"][np.maximum(before, 0)] == mjd))
    before = before[there]
    after = np.minimum(before + 1, end[there] - 1)
    gap = table["mjd"][after] - table["mjd"][before]
    part = np.divide(mjd - table["mjd"][before], gap, out=np.zeros(len(gap)), where=gap > 0)
    v, w = (sphere.unit_vectors(table["ra"][rows], table["dec"][rows]) for rows in (before, after))
    now = table[before]
    now["ra"], now["dec"] = sphere.sky_position(sphere.between(v, w, part))
    return now
