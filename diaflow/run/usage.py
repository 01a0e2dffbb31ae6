"""What a job used, in a small file of JSON beside its log: the job runner writes it, the planner reads it."""

import json
import re
import resource
from pathlib import Path

from diaflow.store import files


def beside(log: str | Path) -> Path:
    """The file of JSON that belongs to a log: ``calexp/17.json`` beside ``calexp/17.log``.

    Parameters
    ----------
    log : path
        The log of a rule, or of one of its jobs.

    Returns
    -------
    Path
    """
    return Path(log).with_suffix(".json")


def so_far(rule: str, threads: int) -> dict:
    """What this process and its workers that have ended used.

    Parameters
    ----------
    rule : str
        Name of the rule, of a batch of visits where the job is one.
    threads : int
        Number of workers at once.

    Returns
    -------
    dict
        `rule` and `threads`, the CPU time `cpu_s` [s], and `max_mb`, an upper limit of the memory [MB]: the workers
        share with this process what they can.
    """
    own, workers = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in (own, workers))
    memory = peak_mb() + threads * workers.ru_maxrss / 1024
    return {"rule": rule, "threads": threads, "cpu_s": round(seconds, 2), "max_mb": round(memory)}


def peak_mb() -> float:
    """Peak memory of this process [MB].

    Returns
    -------
    float
        By ``/proc`` where it exists: what Linux counts in a process's usage may be that of the one that started it.
    """
    status = Path("/proc/self/status")
    peak = re.search(r"VmHWM:\s+(\d+)", status.read_text()) if status.exists() else None
    return (int(peak[1]) if peak else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / 1024


def write(used: dict, log: str | Path) -> None:
    """Write what a job used beside its log.

    Parameters
    ----------
    used : dict
        From `so_far`.
    log : path
        The log of the job.

    Raises
    ------
    InputError
        When the disk is full or may not be written to.
    """
    files.write_text(json.dumps(used) + "\n", beside(log))


def read(log: str | Path) -> dict:
    """What the job of a log used when it was last completed.

    Parameters
    ----------
    log : path
        The log of the job.

    Returns
    -------
    dict
        As `so_far` gives it; empty where nothing is beside the log.
    """
    path = beside(log)
    return json.loads(path.read_text()) if path.exists() else {}
