"""What every script of the workflow shares: its log, and one clear line when the input cannot be used."""

import logging
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder

from diaflow.errors import InputError


class _WithoutPandas(MetaPathFinder):
    """pyarrow imports pandas, 0.3 CPU s in every job, to ask whether an array is one of its; in scripts none is."""

    def find_spec(self, name, path, target=None):
        if name == "pandas":
            raise ModuleNotFoundError("scripts do without pandas", name=name)


def run(main: Callable, snakemake) -> None:
    """Run ``main(snakemake)`` with logging to the terminal and the rule's log file.

    An `InputError` ends the process with one line and exit code 1; any other error also leaves its traceback in the
    log.
    """
    sys.meta_path.insert(0, _WithoutPandas())
    handlers = [logging.StreamHandler(), *(logging.FileHandler(path, "w") for path in snakemake.log)]
    logging.basicConfig(level=logging.INFO, format=f"{snakemake.rule}: %(message)s", handlers=handlers)
    try:
        main(snakemake)
    except InputError as error:
        logging.error("error: %s", error)
        sys.exit(1)
    except Exception as error:
        logging.exception("error: %s", error)
        sys.exit(1)
