"""64-bit identifiers: data ID and running number packed into one integer, the same in every run."""

import numpy as np

from diaflow.errors import InputError

# Of the 63 bits of a positive int64: 512 detectors, 131072 sources each, and 37 bits that are left for the visit.
DETECTOR_BITS, NUMBER_BITS = 9, 17
# The same of objects: tracts, patches along each axis of a tract, and objects of a patch.
TRACT_BITS, PATCH_BITS, OBJECT_BITS = 22, 10, 21
MAX_VISIT = 2 ** (63 - DETECTOR_BITS - NUMBER_BITS)


def source_ids(visit: int, detector: int, count: int) -> np.ndarray:
    """Identifiers of the sources of one detector image.

    Parameters
    ----------
    visit, detector : int
    count : int
        Number of sources.

    Returns
    -------
    (count,) int64 array
        Ascending.

    Raises
    ------
    InputError
        When visit, detector or count do not fit (visit < 2**37, detector < 512, count < 131072).
    """
    if not (0 <= visit < MAX_VISIT and 0 <= detector < 2**DETECTOR_BITS and count <= 2**NUMBER_BITS):
        raise InputError(f"visit {visit}, detector {detector} with {count} sources does not fit a 64-bit id")
    base = (int(visit) << (DETECTOR_BITS + NUMBER_BITS)) | (int(detector) << NUMBER_BITS)
    return base + np.arange(count, dtype=np.int64)


def object_ids(tract: int, patch: str, count: int) -> np.ndarray:
    """Identifiers of the objects of one patch.

    Parameters
    ----------
    tract : int
    patch : str
        "x_y".
    count : int
        Number of objects.

    Returns
    -------
    (count,) int64 array
        Ascending, from 1 in the first patch of the first tract.

    Raises
    ------
    InputError
        When tract, patch or count do not fit (tract < 2**22, x and y < 1024, count < 2**21).
    """
    x, y = (int(index) for index in patch.split("_"))
    if not (0 <= tract < 2**TRACT_BITS and max(x, y) < 2**PATCH_BITS and count < 2**OBJECT_BITS):
        raise InputError(f"tract {tract}, patch {patch} with {count} objects does not fit a 64-bit id")
    base = (((int(tract) << PATCH_BITS) | y) << PATCH_BITS | x) << OBJECT_BITS
    return base + np.arange(1, count + 1, dtype=np.int64)


def data_ids(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where sources are, from their identifiers.

    Parameters
    ----------
    ids : (n,) int64 array

    Returns
    -------
    visit, detector : (n,) int64 arrays
    """
    ids = np.asarray(ids, np.int64)
    return ids >> (DETECTOR_BITS + NUMBER_BITS), (ids >> NUMBER_BITS) & (2**DETECTOR_BITS - 1)


def rows_of(ids: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Row of each wanted identifier in a column, the first of equal ones.

    Parameters
    ----------
    ids : (n,) array
        In any order.
    wanted : (m,) array

    Returns
    -------
    (m,) int array
        -1 where the column has it not.
    """
    if not len(ids):
        return np.full(len(wanted), -1)
    order = np.argsort(ids, kind="stable")
    rows = order[np.minimum(np.searchsorted(ids, wanted, sorter=order), len(ids) - 1)]
    return np.where(ids[rows] == wanted, rows, -1)
