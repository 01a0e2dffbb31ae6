"""Jobs that were run: what Snakemake recorded of them, and what each noted beside its log that it used."""

import base64
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from diaflow.run import usage
from diaflow.run.batches import rule_of


@dataclass(frozen=True)
class Earlier:
    """A job that was run.

    Attributes
    ----------
    used : dict
        What it noted, as `usage.so_far` gives it.
    inputs, visits : int
        Number of its input files, and of its visits or 1.
    outputs : list of str
        Its products.
    params : list of str
        Its parameters in Python's notation.
    """

    used: dict
    inputs: int
    visits: int
    outputs: list[str]
    params: list[str]


def jobs(directory: Path) -> dict[str, list[Earlier]]:
    """The jobs that noted what they used, of all runs in a directory.

    Parameters
    ----------
    directory : path
        Where Snakemake was run, with its metadata in ``.snakemake``.

    Returns
    -------
    dict of str to list of Earlier
        By rule.
    """
    outputs, records = defaultdict(list), {}
    for record, output in _records(directory / ".snakemake/metadata"):
        job = record["rule"], *record["log"]
        records[job] = record
        outputs[job].append(output)
    found = defaultdict(list)
    for (name, *logs), record in records.items():
        for used in filter(None, (usage.read(directory / log) for log in logs)):
            made = outputs[name, *logs]
            visits, params = max(len(visits_of(name, made)), 1), record.get("params") or []
            found[rule_of(name)].append(Earlier(used, len(record["input"]), visits, made, params))
    return found


def _records(folder: Path) -> Iterable[tuple[dict, str]]:
    """Snakemake's records of finished jobs, one for each output, and the path of that output."""
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file():
            record = json.loads(path.read_text())
            if record.get("endtime") and not record.get("incomplete"):
                name = str(path.relative_to(folder)).replace("@", "").replace("/", "")
                yield record, base64.urlsafe_b64decode(name).decode()


def visits_of(name: str, output: Iterable[str]) -> list[str]:
    """The visits of a batch.

    Parameters
    ----------
    name : str
        Of the rule.
    output : iterable of str
        Paths of the products, which are named after their visits.

    Returns
    -------
    list of str
        None for a rule that is not that of a batch.
    """
    return list(dict.fromkeys(Path(path).stem for path in output)) if name != rule_of(name) else []


def size_on_disk(path: Path) -> int:
    """Of a file or a folder of files.

    Parameters
    ----------
    path : path

    Returns
    -------
    int
        [byte]; 0 where nothing is.
    """
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size if path.exists() else 0
