"""Batches: visits that share a job, and the names of the rules that make them.

A batch has a rule of its own, whose name is that of the rule of one visit and the first visit of the batch:
``calexp_17`` makes what ``calexp`` makes of visit 17, and the same of the visits that share its job.
"""

import re
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence


def group(keys: Mapping[int, Hashable], size: int) -> list[list[int]]:
    """The visits of each batch: those of the same key, `size` at a time in their order.

    Parameters
    ----------
    keys : mapping of int to hashable
        What the visits of a batch must have in common, by visit.
    size : int
        The most visits of a batch.

    Returns
    -------
    list of list of int
    """
    alike = defaultdict(list)
    for visit, key in keys.items():
        alike[key].append(visit)
    return [visits[k : k + size] for visits in alike.values() for k in range(0, len(visits), size)]


def batch_name(rule: str, visits: Sequence[int]) -> str:
    """The name of the rule of a batch.

    Parameters
    ----------
    rule : str
        The rule of one visit, which does not end with a number.
    visits : sequence of int
        The visits of the batch.

    Returns
    -------
    str
    """
    return f"{rule}_{visits[0]}"


def rule_of(name: str) -> str:
    """The rule of one visit, of the name of a rule that may be that of a batch: the inverse of `batch_name`.

    Parameters
    ----------
    name : str
        Of any rule of the workflow.

    Returns
    -------
    str
        `name` itself where it is not that of a batch.
    """
    return re.sub(r"_\d+$", "", name)
