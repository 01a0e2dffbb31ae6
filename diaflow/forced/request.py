"""What a run asks of forced photometry; the workflow reads this before any job, so it imports no pixels."""

import logging
from collections.abc import Sequence

from diaflow.errors import InputError

_log = logging.getLogger(__name__)
# The collected table of each variant.
TABLES = {
    "diffim": "dia_forced_source",
    "calexp": "forced_source",
    "dia_source_on_template": "dia_source_on_template",
    "dia_object_on_template": "dia_object_on_template",
    "template_on_diffim": "template_on_diffim",
}


def check(config: dict, objects: bool = False) -> None:
    """Refuse what cannot be measured.

    Parameters
    ----------
    config : dict
        Section `forced` of the configuration.
    objects : bool
        Whether there are objects.

    Raises
    ------
    InputError
        When there is nothing that calexp could measure.
    """
    if config["positions"] is None and not objects and "calexp" in config["variants"]:
        raise InputError("forced.variants: calexp measures objects and forced.positions, which is missing")


def visits(available: Sequence[int], wanted: Sequence[int]) -> list[int]:
    """Visits on which forced photometry is measured, in order.

    Parameters
    ----------
    available : sequence of int
        Those that have the images it needs.
    wanted : sequence of int
        `forced.visits` of the configuration; empty for all.

    Returns
    -------
    list of int
    """
    absent = sorted(set(wanted) - set(available))
    if absent:
        _log.warning("forced.visits: nothing to measure on visit %s", ", ".join(map(str, absent)))
    return [visit for visit in available if not wanted or visit in wanted]
