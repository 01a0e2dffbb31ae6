"""Many tracts in one: a `Tract` whose fields are arrays, which works on many positions at once."""

from collections.abc import Iterable
from dataclasses import fields

import numpy as np

from diaflow.sky.skymap.tract import Tract


def together(tracts: Iterable[Tract]) -> Tract:
    """Tracts in one.

    Parameters
    ----------
    tracts : iterable of Tract

    Returns
    -------
    Tract
        Its fields are arrays, in the order of the tracts.
    """
    tracts = list(tracts)
    return Tract(*(np.array([getattr(tract, field.name) for tract in tracts]) for field in fields(Tract)))


def at(every: Tract, rows: np.ndarray) -> Tract:
    """Some of many tracts.

    Parameters
    ----------
    every : Tract
        Its fields are arrays.
    rows : int array of any shape

    Returns
    -------
    Tract
        Its fields have the shape of `rows`.
    """
    return Tract(*(getattr(every, field.name)[rows] for field in fields(Tract)))


def one_by_one(every: Tract, rows: np.ndarray) -> list[Tract]:
    """The same, each by itself.

    Parameters
    ----------
    every : Tract
        Its fields are arrays.
    rows : (n,) int array

    Returns
    -------
    list of Tract
    """
    some = at(every, rows)
    return [Tract(*values) for values in zip(*(getattr(some, field.name).tolist() for field in fields(Tract)))]
