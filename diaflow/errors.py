"""The two ways things go wrong: bad input (the user must act) and bad data (the survey goes on without it).

A call of a library that can fail on data stands in ``with data_may_fail(...)``; nothing else is caught, so that a bug
of diaflow stays an error.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum


class InputError(Exception):
    """A file, key or value that the user gave and that cannot be used; one line that names it."""


class Kind(StrEnum):
    """What a reason is about, which decides what can be done; the column `kind` beside every `reason`."""

    FILE = "file"
    HEADER = "header"
    WCS = "wcs"
    NOT_WANTED = "not_wanted"
    ELSEWHERE = "elsewhere"
    CALIBRATION = "calibration"
    PIXELS = "pixels"
    PSF = "psf"
    MATCH = "match"
    ZERO_POINT = "zero_point"
    NO_CALEXP = "no_calexp"
    TEMPLATE = "template"
    KERNEL = "kernel"
    DIFFERENCE = "difference"
    UNFORESEEN = "unforeseen"


class BadData(Exception):
    """Pixels or a catalogue that cannot be calibrated, matched or subtracted.

    Parameters
    ----------
    reason : str
        One line, which becomes the column `reason` of the detector.
    kind : Kind
        What it is about.
    found, needed : float, optional
        The numbers in it, where the reason is that there is too little (or too much) of something.

    Attributes
    ----------
    kind : Kind
    found, needed : float or None
    """

    def __init__(
        self, reason: str, kind: Kind = Kind.UNFORESEEN, *, found: float | None = None, needed: float | None = None
    ):
        super().__init__(reason)
        self.kind, self.found, self.needed = kind, found, needed


@contextmanager
def data_may_fail(action: str) -> Iterator[None]:
    """A context in which any exception is `BadData` and leaves its traceback in the log.

    For calls of other libraries whose errors on unusual data have no class of their own, or one of many.

    Parameters
    ----------
    action : str
        What is done, a noun: the reason is "`action` failed: ...".

    Raises
    ------
    BadData
        Chained to the exception.  A lack of memory is none: it says nothing about the data.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        logging.warning("%s failed", action, exc_info=True)
        raise BadData(f"{action} failed: {error}", Kind.UNFORESEEN) from error
