"""What every script of the workflow shares: its log, and one clear line when the input cannot be used.

Products that something has damaged are found here, when the job that reads them fails.
"""

import ctypes
import gc
import logging
import re
import resource
import shutil
import sys
from collections.abc import Callable, Iterable
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path

from diaflow.errors import InputError
from diaflow.store import files

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

    The log of a job that is done ends with what it used, from which the planner knows what such jobs need.  An
    `InputError` ends the process with one line and exit code 1; any other error also leaves its traceback in the
    log.  Inputs of the failed job that this run has made and that are damaged are removed, so that the next start
    of the run makes them again.
    """
    gc.freeze()  # what the imports made stays: to look through it again and again takes a tenth of a short job
    keep_freed_memory()
    sys.meta_path.insert(0, _WithoutPandas())
    handlers = [logging.StreamHandler(), *(logging.FileHandler(path, "w") for path in snakemake.log)]
    logging.basicConfig(level=logging.INFO, format=f"{snakemake.rule}: %(message)s", handlers=handlers)
    logging.raiseExceptions = False  # a log on a full disk is no reason for a traceback of its own
    try:
        main(snakemake)
    except InputError as error:
        logging.error("error: %s", error)
    except Exception as error:
        logging.exception("error: %s", error)
    else:
        logging.info("used %.1f CPU s, at most %.0f MB", *_used(snakemake.threads))
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


def _used(threads: int) -> tuple[float, float]:
    """CPU seconds and an upper limit of the memory [MB] of this process and its workers, which share what they can."""
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in (own, workers))
    return seconds, peak_mb() + threads * workers.ru_maxrss / 1024


def peak_mb() -> float:
    """Peak memory of this process [MB]; what Linux counts in its usage may be that of the one that started it."""
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return (int(peak[1]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def by_visit(products: Iterable[str]) -> dict[int, Path]:
    """The products of a job of some visits by the visit that each is named after."""
    return {int(path.stem): path for path in map(Path, products)}


def folders(products: Iterable[str]) -> dict[int, Path]:
    """Make folders that are products, and give them by visit."""
    made = by_visit(products)
    for folder in made.values():
        folder.mkdir(parents=True, exist_ok=True)
    return made


def _remove_damaged(products: list[Path]) -> None:
    for product in products:
        broken = files.damaged(product)
        if broken:
            names = ", ".join(map(str, broken))
            logging.error("error: %s damaged; removed %s, start the run again to make it anew", names, product)
            shutil.rmtree(product, ignore_errors=True) if product.is_dir() else product.unlink(missing_ok=True)
