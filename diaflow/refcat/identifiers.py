"""Identifiers of stars as 64-bit integers: the same for the same star in every run, wherever its row stands.

What is an integer of 64 bits, or the text of one, is that integer.  Anything else becomes a hash of what is written;
where two stars get the same number after all, `convert` refuses the catalogue.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from diaflow.errors import InputError
from diaflow.refcat.columns import Column

_INTEGER = r"^(?:0|-?[1-9]\d{0,18})$"  # as integers are written: 0012 is another identifier than 12
_INT64 = np.iinfo(np.int64)
_WORD = 8  # [byte]
# The finalizer of SplitMix64 (Steele, Lea & Flood 2014, OOPSLA; constants of Stafford's variant 13), one-to-one.
_SHIFTS_AND_FACTORS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1))
_STEP = np.uint64(0x9E3779B97F4A7C15)


def of_column(column: Column, key: str = "refcat.id") -> np.ndarray:
    """Identifiers of a column.

    Parameters
    ----------
    column : Column
        Integers, whole numbers or text.
    key : str
        Of the configuration that names the column.

    Returns
    -------
    (n,) int64 array

    Raises
    ------
    InputError
        When a row has none, or a number is not whole.
    """
    values = column.values
    if column.is_text:
        values = pc.if_else(pc.equal(values, ""), None, values)
    elif pa.types.is_floating(values.type):
        values = pc.if_else(pc.is_nan(values), None, values)
    if values.null_count:
        missing = f"{values.null_count} rows with a position have no identifier"
        raise InputError(f"column '{column.name}' ({key}): {missing}; {key}: null makes them of the positions")
    if column.is_text or pa.types.is_uint64(values.type):
        return _of_text(pc.cast(values, pa.string()))
    try:
        return pc.cast(values, pa.int64()).to_numpy(zero_copy_only=False)
    except pa.ArrowException as error:
        raise InputError(f"column '{column.name}' ({key}) holds numbers that are not whole") from error


def of_positions(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Identifiers of stars that have none but their positions.

    Parameters
    ----------
    ra, dec : (n,) arrays
        [deg]

    Returns
    -------
    (n,) int64 array
    """
    words = np.stack([ra, dec + 0.0], axis=1).astype("<f8").view("<u8")  # of -0 and 0 one is enough
    return _hash(words, np.ones(words.shape, bool))


def _of_text(text: pa.Array) -> np.ndarray:
    """Integers of 64 bits that are written as such, hashes of other text."""
    words = _words(text)
    hashed = _hash(words, words != 0)
    digits = pc.if_else(pc.match_substring_regex(text, _INTEGER), text, None)
    numbers = pc.cast(digits, pa.decimal128(19))
    fits = pc.and_(pc.greater_equal(numbers, _INT64.min), pc.less_equal(numbers, _INT64.max))
    integers = pc.cast(pc.if_else(fits, numbers, None), pa.int64())
    return pc.coalesce(integers, pa.array(hashed)).to_numpy()


def _words(text: pa.Array) -> np.ndarray:
    """UTF-8 text in words of 8 bytes, those behind its end 0."""
    characters = np.array(pc.cast(text, pa.binary()).to_pylist(), np.bytes_)
    n_words = max(-(-characters.dtype.itemsize // _WORD), 1)
    return characters.astype(f"S{n_words * _WORD}").view("<u8").reshape(len(characters), n_words)


def _hash(words: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """One int64 for each row of 64-bit words, of those that count."""
    hashed = np.zeros(len(words), np.uint64)
    for word, counted in zip(words.T, counts.T):
        mixed = (hashed ^ word) + _STEP
        for shift, factor in _SHIFTS_AND_FACTORS:
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        hashed = np.where(counted, mixed, hashed)
    return hashed.view(np.int64)
