"""One worker process per detector of a visit, forked after the imports so that start-up is paid once."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from diaflow.errors import InputError


def each(function: Callable, items: Iterable, workers: int) -> list:
    """``[function(item) for item in items]`` in order, in up to `workers` processes.

    Parameters
    ----------
    function : callable
        Of one item; it and the results can be pickled.
    items : iterable
    workers : int
        With fewer than two, or one item, everything is done in this process.

    Returns
    -------
    list

    Raises
    ------
    InputError
        When a worker is killed, which is what systems do to processes that need more memory than there is.
    """
    items = list(items)
    if min(workers, len(items)) < 2:
        return [function(item) for item in items]
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=multiprocessing.get_context("fork")) as pool:
        try:
            return list(pool.map(function, items))
        except BrokenProcessPool as error:
            raise InputError("a worker was killed: give the job more memory or fewer threads") from error
