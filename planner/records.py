"""Products that Snakemake has no records of, because they were copied: what they say of themselves, against today."""

from collections.abc import Iterable, Mapping

from diaflow.store import provenance
from planner import changes


def differences(
    products: Iterable[str], params: Mapping, inputs: Iterable[str], history: dict, parts: dict[str, str]
) -> list[str] | None:
    """Why a job would make other products than those that are there.

    Parameters
    ----------
    products : iterable of str
        Of the job.
    params : mapping
        Of the job as it is planned, by name.
    inputs : iterable of str
    history, parts : dict
        As `changes.code` takes them.

    Returns
    -------
    list of str or None
        Empty where what they say agrees; None where no product says what made it.
    """
    said = next((found for found in map(provenance.read, products) if found), None)
    if said is None:
        return None
    now = provenance.of_job(params, inputs)
    why = [changes.code(said.code, parts, history)] if said.code != now.code else []
    why += ["parameters changed"] if said.parameters != now.parameters else []
    return why + changes.inputs(said.inputs, now.inputs)
