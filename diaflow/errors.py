"""The two ways things go wrong: bad input (the user must act) and bad data (the survey goes on without it).

A call of a library that can fail on data stands in ``with data_may_fail(...)``; nothing else is caught, so that a bug
of diaflow stays an error.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(Exception):
    """A file, key or value that the user gave and that cannot be used; one line that names it."""


class BadData(Exception):
    """Pixels or a catalogue that cannot be calibrated, matched or subtracted.

    Parameters
    ----------
    reason : str
        One line, which becomes the column `reason` of the detector.
    found, needed : float, optional
        The numbers in it, where the reason is that there is too little (or too much) of something.

    Attributes
    ----------
    found, needed : float or None
    """

    def __init__(self, reason: str, found: float | None = None, needed: float | None = None):
        super().__init__(reason)
        self.found, self.needed = found, needed


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
        raise BadData(f"{action} failed: {error}") from error
