"""The job runner, what every script of the workflow shares: its process, its log, and one clear line on bad input.

Importing it sets BLAS to one thread, and BLAS looks when numpy is loaded: scripts import it before all that is not
Python's own.  No other module does, so that a notebook that imports the library stays as it is.  Products that
something has damaged are found here, when the job that reads them fails.
"""

import ctypes
import gc
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

from diaflow.errors import InputError
from diaflow.run import usage
from diaflow.store import files, provenance

# Snakemake sets these to the threads of the rule.  Detectors are the unit of parallelism, and sums must not depend on
# the number of cores.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

# Of mallopt(3): blocks taken from the system one by one, and freed memory above which it is given back.
M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1


class _WithoutPandas(MetaPathFinder, Loader):
    """pyarrow imports pandas, 0.3 CPU s in every job, to ask whether an array is one of its; in scripts none is.

    Others may ask whether pandas is there (astropy does) and find it; only its import fails.
    """

    def find_spec(self, name, path, target=None):
        return ModuleSpec(name, self) if name == "pandas" else None

    def create_module(self, spec):
        raise ModuleNotFoundError("scripts do without pandas", name=spec.name)

    def exec_module(self, module):
        """Never reached."""


def run(main: Callable, snakemake) -> None:
    """Run ``main(snakemake)`` with logging to the terminal and the rule's log file.

    What it writes carries what made it (`diaflow.store.provenance`).  A job that is done says in its log what it used,
    and writes the same beside it for the planner (`usage`).  Inputs of
    a failed job that this run has made and that are damaged are removed, so that the next start of the run makes them
    again.

    Parameters
    ----------
    main : callable
        What the script does, a function of `snakemake`.
    snakemake : snakemake.iocontainers.Snakemake
        What Snakemake gives to a script: input, output, params, threads, log, config, rule.

    Raises
    ------
    SystemExit
        With code 1 when the job fails: after one line in the log for an `InputError`, after a traceback for others.
    """
    gc.freeze()  # what the imports made stays: to look through it again and again takes a tenth of a short job
    keep_freed_memory()
    handlers = [logging.StreamHandler(), *(logging.FileHandler(path, "w") for path in snakemake.log)]
    logging.basicConfig(level=logging.INFO, format=f"{snakemake.rule}: %(message)s", handlers=handlers)
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback of its own
    try:
        provenance.begin(provenance.of_job(dict(snakemake.params.items()), snakemake.input))
        with _without_pandas():
            main(snakemake)
    except InputError as error:
        logging.error("error: %s", error)
    except Exception as error:
        logging.exception("error: %s", error)
    else:
        _tell_usage(snakemake)
        return
    products = Path("results", snakemake.config["run"])
    _remove_damaged([path for path in map(Path, snakemake.input) if path.is_relative_to(products)])
    sys.exit(1)


def keep_freed_memory() -> None:
    """Let arrays use the memory of earlier ones: glibc gives it back to the system, which clears it each time anew."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)


@contextmanager
def _without_pandas() -> Iterator[None]:
    hook = _WithoutPandas()
    sys.meta_path.insert(0, hook)
    try:
        yield
    finally:
        sys.meta_path.remove(hook)


def _tell_usage(snakemake) -> None:
    used = usage.so_far(snakemake.rule, snakemake.threads)
    logging.info("used %.1f CPU s, at most %d MB", used["cpu_s"], used["max_mb"])
    for log in snakemake.log:
        with suppress(InputError):  # the products are whole: they need not be made again for the sake of a figure
            usage.write(used, log)


def by_visit(products: Iterable[str]) -> dict[int, Path]:
    """The products of a job of some visits by the visit that each is named after.

    Parameters
    ----------
    products : iterable of str
        Paths, each with the visit as its name.

    Returns
    -------
    dict of int to Path
    """
    return {int(path.stem): path for path in map(Path, products)}


def folders(products: Iterable[str]) -> dict[int, Path]:
    """Make folders that are products, and give them by visit.

    Parameters
    ----------
    products : iterable of str
        Paths, each with the visit as its name.

    Returns
    -------
    dict of int to Path
    """
    by_name = by_visit(products)
    for folder in by_name.values():
        folder.mkdir(parents=True, exist_ok=True)
    return by_name


def _remove_damaged(products: list[Path]) -> None:
    for product in products:
        broken = files.damaged(product)
        if broken:
            names = ", ".join(map(str, broken))
            logging.error("error: %s damaged; removed %s, start the run again to make it anew", names, product)
            shutil.rmtree(product, ignore_errors=True) if product.is_dir() else product.unlink(missing_ok=True)
