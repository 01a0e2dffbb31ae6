"""What jobs cost: CPU time, disk and memory, from earlier jobs of the same rule or else from built-in figures.

Earlier jobs are those in Snakemake's metadata: start and end of the job that made each product, of all runs in the
directory.  They are told from each other by their logs, beside which each noted the memory that it took; what their
outputs take is looked up on disk.  The built-in figures are those of one core, per megapixel of images.
"""

import base64
import heapq
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diaflow.run import usage
from diaflow.run.batches import rule_of

START_UP = 1.5  # of a job [s]
SAMPLE = 20  # jobs of a rule whose outputs are measured
# Rules that get slower with every input; others do the same work however many there are.
PER_INPUT = {"ingest", "visit_summary", "select_template", "coadd_template", "associate", "tables"}


@dataclass(frozen=True)
class Cost:
    """Of one job: time [s] (wall of earlier jobs, of one core built in), size of its outputs [byte], memory [MB].

    The time has a fixed part and one per unit of work, the size a part per visit and one per unit of area; the memory
    is the most that an earlier job took, 0 where that is not known.
    """

    seconds: float
    seconds_per_unit: float
    size: float
    size_per_area: float
    earlier_jobs: int = 0
    memory: int = 0


# Of one core, for sparse fields; docs/planning.md has the measurement.  Work: megapixels of images, or an input for the
# rules in PER_INPUT.  Area: megapixels of images made, or of patches for warps and coadds.
BUILT_IN = {
    "simulate": Cost(START_UP, 0.13, 0, 2e6),
    "isr": Cost(START_UP, 0.2, 0, 12e6),
    "jointcal": Cost(START_UP, 0.26, 3e5, 0),
    "calexp": Cost(START_UP, 0.3, 0, 12e6),
    "warp": Cost(START_UP, 0.19, 0, 11.5e6),
    "warp_matched": Cost(START_UP, 0.38, 0, 11.5e6),
    "coadd_template": Cost(START_UP, 0.25, 0, 11.5e6),
    "diffim": Cost(START_UP, 0.38, 0, 25e6),
    "associate": Cost(START_UP, 0.02, 1e5, 0),
    "forced_diffim": Cost(START_UP, 0.02, 1e5, 0),
    "tables": Cost(START_UP, 0.01, 5e6, 0),
    "validate": Cost(4.0, 0, 1e4, 0),
    "report": Cost(7.0, 0, 1e6, 0),
}
OTHER = Cost(START_UP, 0, 1e5, 0)
# Keys that the cost of a rule depends on; the built-in figures are those of their defaults.
CHOICES = {
    "calexp": (("storage", "compress"),),
    "coadd_template": (("template", "method"),),
    "diffim": (("subtract", "algorithm"), ("subtract", "basis"), ("storage", "compress")),
}


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


def history(directory: Path, config: dict) -> dict[str, Cost]:
    """Costs of the jobs that were run in a directory: medians over those of a rule, however many detectors they had.

    Parameters
    ----------
    directory : path
        Where Snakemake was run, with its metadata in ``.snakemake``.
    config : dict
        Of the plan: jobs that chose otherwise cost otherwise, and do not count.

    Returns
    -------
    dict of str to Cost
        By rule.  Size and time above the start-up are those of one visit, or the time that of one input.
    """
    times, inputs, outputs, sizes = defaultdict(dict), defaultdict(dict), defaultdict(dict), defaultdict(dict)
    for record, output in _records(directory / ".snakemake/metadata"):
        rule, job = rule_of(record["rule"]), (record["rule"], *record["log"])
        if not all(_chose(record, key, value) for key, value in choices(rule, config).values()):
            continue
        times[rule][job], inputs[rule][job] = record["endtime"] - record["starttime"], len(record["input"])
        outputs[rule].setdefault(job, []).append(output)
        if job in sizes[rule] or len(sizes[rule]) < SAMPLE:
            sizes[rule][job] = sizes[rule].get(job, 0) + _size(directory / output)
    return {
        rule: replace(
            _from_jobs(rule, times[rule], inputs[rule], outputs[rule], sizes[rule]),
            memory=max(_memory(directory, logs) for _, *logs in times[rule]),
        )
        for rule in times
    }


def choices(rule: str, config: dict) -> dict[str, tuple[str, object]]:
    """What a configuration chooses of that on which the cost of a rule depends.

    Parameters
    ----------
    rule : str
    config : dict

    Returns
    -------
    dict of str to (str, value)
        By ``section.key``; without keys that belong to a method that is not chosen.
    """
    keys = CHOICES.get(rule, ())
    return {f"{section}.{key}": (key, config[section][key]) for section, key in keys if key in config[section]}


def not_modelled(rules: Iterable[str], config: dict, defaults: dict, costs: dict[str, Cost]) -> list[str]:
    """Choices of which neither earlier jobs nor the built-in figures tell the cost.

    Parameters
    ----------
    rules : iterable of str
        Those that would run.
    config, defaults : dict
        The configuration of the plan, and that of the built-in figures.
    costs : dict
        From `history`.

    Returns
    -------
    list of str
        A line for each.
    """
    lines = []
    for rule in rules:
        for name, (_, value) in choices(rule, config).items() if rule not in costs else ():
            usual = choices(rule, defaults).get(name, (None, None))[1]
            if value != usual:
                lines.append(f"cost of {name} {value!r} in {rule} is not modelled: figures are of {usual!r}")
    return lines


def _chose(record: dict, key: str, value: object) -> bool:
    """Whether a job had a value of a key, as a parameter or in one; Snakemake records them in Python's notation."""
    params = record.get("params") or []
    return repr(value) in params or any(f"'{key}': {value!r}" in text for text in params)


def _from_jobs(rule: str, times: dict, inputs: dict, outputs: dict, sizes: dict) -> Cost:
    visits = {job: max(len(visits_of(job[0], outputs[job])), 1) for job in times}
    units = {job: max(number, 1) for job, number in inputs.items()} if rule in PER_INPUT else visits
    start = min(START_UP, statistics.median(times.values()))
    seconds = statistics.median((times[job] - start) / units[job] for job in times)
    return Cost(start, seconds, statistics.median(size / visits[job] for job, size in sizes.items()), 0, len(times))


def _records(folder: Path) -> Iterable[tuple[dict, str]]:
    """Snakemake's records of finished jobs, one for each output, and the path of that output."""
    for path in folder.rglob("*") if folder.is_dir() else ():
        if path.is_file():
            record = json.loads(path.read_text())
            if record.get("starttime") and record.get("endtime") and not record.get("incomplete"):
                name = str(path.relative_to(folder)).replace("@", "").replace("/", "")
                yield record, base64.urlsafe_b64decode(name).decode()


def _memory(directory: Path, logs: list[str]) -> int:
    """What a job took by what it noted beside its log [MB]; 0 where that is gone."""
    return max((usage.read(directory / log).get("max_mb", 0) for log in logs), default=0)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(entry.stat().st_size for entry in path.rglob("*") if entry.is_file())
    return path.stat().st_size if path.exists() else 0


def megapixels(exposures: np.ndarray) -> dict[str, float]:
    """Megapixels of the usable images of each visit.

    Parameters
    ----------
    exposures : table "exposure"

    Returns
    -------
    dict of str to float
        By visit.
    """
    usable = exposures[exposures["status"] == "ok"]
    visits, which = np.unique(usable["visit"], return_inverse=True)
    pixels = np.bincount(which, usable["nx"].astype(float) * usable["ny"]) / 1e6
    return {str(visit): size for visit, size in zip(visits.tolist(), pixels.tolist())}


def estimate(
    rule: str, threads: int, files: int, visits: int, work: float, area: float, costs: dict[str, Cost]
) -> tuple[float, float]:
    """Time of all its cores [s] and bytes of output of one job.

    Parameters
    ----------
    rule : str
    threads : int
    files : int
        Number of its input files.
    visits : int
        Number of visits that it works on; 0 where it is no job of some visits.
    work, area : float
        Of the images that it reads, and of the images or patches that it makes [megapixel].
    costs : dict
        From `history`; rules that are not in it get the built-in figures.

    Returns
    -------
    seconds, size : float
        [s], [byte]
    """
    visits = max(visits, 1)
    cost, cores, amount = (costs[rule], threads, visits) if rule in costs else (BUILT_IN.get(rule, OTHER), 1, work)
    units = files if rule in PER_INPUT else amount
    return (cost.seconds + cost.seconds_per_unit * units) * cores, cost.size * visits + cost.size_per_area * area


def schedule(
    seconds: list[float], threads: list[int], memory: list[int], after: list[list[int]], cores: int
) -> tuple[float, int]:
    """Wall time [s] and peak of the memory [MB] when jobs start as soon as they can.

    Parameters
    ----------
    seconds, threads, memory : list
        Of each job: time of all its cores, number of them, memory [MB].
    after : list of list of int
        Jobs that each waits for; they come before it.
    cores : int

    Returns
    -------
    wall : float
        [s]
    peak : int
        [MB]
    """
    waiting = [len(jobs) for jobs in after]
    followers = defaultdict(list)
    for job, jobs in enumerate(after):
        for other in jobs:
            followers[other].append(job)
    ready = [job for job, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    running, now, free, used, peak = [], 0.0, cores, 0, 0
    while ready or running:
        while ready and free >= min(threads[ready[0]], cores):
            job = heapq.heappop(ready)
            n_cores = min(threads[job], cores)
            free -= n_cores
            used += memory[job]
            heapq.heappush(running, (now + seconds[job] / n_cores, job))
        peak = max(peak, used)
        now, job = heapq.heappop(running)
        free += min(threads[job], cores)
        used -= memory[job]
        for other in followers[job]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, other)
    return now, peak
