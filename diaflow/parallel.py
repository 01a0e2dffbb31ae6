"""One worker process per detector of a visit, forked after the imports so that start-up is paid once."""

import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor


def each(function: Callable, items: Iterable, workers: int) -> list:
    """``[function(item) for item in items]`` in order, in up to `workers` processes."""
    items = list(items)
    if min(workers, len(items)) < 2:
        return [function(item) for item in items]
    with ProcessPoolExecutor(min(workers, len(items)), mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(function, items))
