"""What every script of the workflow shares: its log, and one clear line when the input cannot be used."""

import logging
import sys
from collections.abc import Callable

from diaflow.errors import InputError


def run(main: Callable, snakemake) -> None:
    """Run ``main(snakemake)`` with logging to the rule's log file; an `InputError` ends it with one line and code 1."""
    handlers = [logging.StreamHandler(), *(logging.FileHandler(path, "w") for path in snakemake.log)]
    logging.basicConfig(level=logging.INFO, format=f"{snakemake.rule}: %(message)s", handlers=handlers)
    try:
        main(snakemake)
    except InputError as error:
        logging.error("error: %s", error)
        sys.exit(1)
