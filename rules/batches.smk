# Small visits share jobs (visits_per_job): which do, and the rules that make them.
#
# An output cannot be a function of wildcards, so no single rule can say "the visits that share a job with visit 17".
# Each batch of visits therefore has a rule of its own, which lists the products of its visits and is named after the
# first of them (calexp_17).  Where every visit has a job of its own, one rule makes any {visit}.  Both are written
# once, as a rule without a name in a loop over what `batches` gives; the directive `name` then names it.

from diaflow.run.batches import batch_name, group

ANY_VISIT = ["{visit}"]


def batches(rule, alike=lambda visit: None, size=None):
    """The visits of each rule that makes what `rule` says, by its name.

    The visits of a batch have their band in common, and what `alike` says of each; there are at most `size` of them
    (by default `visits_per_job`).
    """
    size = size or config["visits_per_job"]
    if size == 1:
        return {rule: ANY_VISIT}
    keys = {visit: (plan.bands[visit], alike(visit)) for visit in plan.visits}
    return {batch_name(rule, visits): visits for visits in group(keys, size)}


def visits_of(wildcards, visits):
    """The visits of a job: those of its rule's batch, or the one in its wildcards."""
    return visits if visits != ANY_VISIT else [int(wildcards.visit)]


def of_visits(get, visits):
    """Input or parameter of a job of some visits: the list of what `get` lists for each."""
    return lambda wildcards: [item for visit in visits_of(wildcards, visits) for item in get(visit)]


def of_visits_by_name(name, get, visits):
    """Input of a job of some visits: what `get` lists for each, under names that end with the visit."""
    return unpack(lambda wildcards: {f"{name}_{visit}": get(visit) for visit in visits_of(wildcards, visits)})


def of_one_visit(get, visits):
    """Input of a job of some visits for all of which `get` gives the same."""
    return lambda wildcards: get(visits_of(wildcards, visits)[0])
