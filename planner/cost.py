"""What jobs cost: CPU time, disk and memory, from earlier jobs of the same rule or else from measured figures.

Earlier jobs are those in Snakemake's metadata, of all runs in the directory, that noted beside their logs what they
took; what their outputs take is looked up on disk.  The figures are in costs.json, which benchmarks/costs.py writes:
what a rule takes with the defaults, and what it takes over that with each other method or choice.
"""

import json
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from diaflow.run.config import schema
from planner import earlier
from planner.earlier import Earlier, size_on_disk

PATH = Path(__file__).with_name("costs.json")
FIGURES = json.loads(PATH.read_text())
LAUNCH = FIGURES["launch"]  # what Snakemake takes for each job [s]
SAMPLE = 20  # jobs of a rule whose outputs are measured
# What the time of a rule grows with; of the other rules it is the images.
UNITS = {
    "ingest": "inputs",
    "visit_summary": "inputs",
    "select_template": "inputs",
    "warp": "patches",
    "warp_matched": "patches",
    "coadd_template": "inputs, each of a patch",
    "associate": "inputs",
    "tables": "inputs",
}
ONE = {"seconds": 1.0, "size": 1.0, "memory": 1.0}  # what a job costs over one with the defaults
OF_SURVEY = {"validate", "report"}  # rules that work on what was found in all images
# Choices that change what a job of a rule costs.
CHOICES = {
    "calexp": ("calexp.cosmic_rays", "storage.compress"),
    "skymap": ("skymap.type",),
    "coadd_template": ("template.method",),
    "diffim": ("subtract.algorithm", "subtract.mode", "subtract.basis", "storage.compress"),
    "associate": ("associate.algorithm",),
}


@dataclass(frozen=True)
class Cost:
    """Of the jobs of a rule.

    Attributes
    ----------
    start, seconds : float
        CPU time of every job, and of each unit of its work [s]: see `UNITS`; for earlier jobs an input or a visit.
    size, size_per_area : float
        Disk that the products take: of each visit (or of the job), and of each megapixel made [byte].
    memory, memory_per_image : float
        Peak memory, and what each megapixel of the largest image or patch adds [MB].
    earlier_jobs : int
        Number of jobs that this is from; 0 for measured figures.
    """

    start: float = 1.5
    seconds: float = 0
    size: float = 1e5
    size_per_area: float = 0
    memory: float = 0
    memory_per_image: float = 0
    earlier_jobs: int = 0


# Guessed: the built-in surveys have no raw frames.
GUESSED = {"isr": Cost(seconds=0.2, size=0, size_per_area=12e6)}


@dataclass(frozen=True)
class Work:
    """What a job has to do.

    Attributes
    ----------
    visits : int
        At least 1.
    inputs : int
        Number of its input files.
    images, area : float
        Of the images that it works on, and of the images or patches that it makes [megapixel].
    image : float
        The largest of the latter [megapixel].
    """

    visits: int
    inputs: int
    images: float
    area: float
    image: float


def costs(directory: Path, config: dict, rules: Iterable[str]) -> dict[str, Cost]:
    """What a job of each rule costs.

    Parameters
    ----------
    directory : path
        Where Snakemake was run, with its metadata in ``.snakemake``.
    config : dict
        Of the plan.  Earlier jobs that chose the same tell; without any, those that chose otherwise, by what the
        choices cost over each other.
    rules : iterable of str

    Returns
    -------
    dict of str to Cost
        By rule.
    """
    jobs = earlier.jobs(directory)
    return {rule: _cost(directory, rule, choices(rule, config), jobs[rule]) for rule in rules}


def _cost(directory: Path, rule: str, chosen: dict[str, object], jobs: list[Earlier]) -> Cost:
    groups = defaultdict(list)
    for job in jobs:
        groups[tuple(_chosen(rule, job.params).items())].append(job)
    same, over = groups.pop(tuple(chosen.items()), None), relative(rule, chosen)
    if same:
        return _from_jobs(directory, rule, same)
    others = [(group, under) for other, group in groups.items() if over and (under := relative(rule, dict(other)))]
    if others:
        group, under = max(others, key=lambda pair: len(pair[0]))
        return _scaled(_from_jobs(directory, rule, group), over, under)
    return _scaled(_figures(rule), over or ONE, ONE)


def choices(rule: str, config: dict) -> dict[str, object]:
    """What a configuration chooses of that on which the cost of a rule depends.

    Parameters
    ----------
    rule : str
    config : dict

    Returns
    -------
    dict of str to value
        By ``section.key``; without keys that belong to a method that is not chosen.
    """
    keys = [(name, *name.split(".")) for name in CHOICES.get(rule, ())]
    return {name: config[section][key] for name, section, key in keys if key in config[section]}


def values(name: str) -> list:
    """What can be chosen.

    Parameters
    ----------
    name : str
        ``section.key`` of one of `CHOICES`.

    Returns
    -------
    list
        The default first.
    """
    section, key = name.split(".")
    entry = schema()["properties"][section]["properties"][key]
    return sorted(entry.get("enum", [False, True]), key=lambda value: value != entry["default"])


def relative(rule: str, chosen: dict[str, object]) -> dict[str, float] | None:
    """What a job costs over one with the defaults.

    Parameters
    ----------
    rule : str
    chosen : dict of str to value
        From `choices`.

    Returns
    -------
    dict of str to float or None
        Ratios of `seconds` above the start, `size` and `memory`; None where one of the choices was not measured.
    """
    total = ONE
    for name, value in chosen.items():
        if value != values(name)[0]:
            over = FIGURES["choices"].get(f"{name}={value}", {}).get(rule)
            if over is None:
                return None
            total = {what: total[what] + over[what] - 1 for what in ONE}
    return total


def not_modelled(config: dict, found: dict[str, Cost]) -> list[str]:
    """Choices of which neither earlier jobs nor the figures tell the cost.

    Parameters
    ----------
    config : dict
        Of the plan.
    found : dict
        From `costs`.

    Returns
    -------
    list of str
        A line for each.
    """
    return [
        f"cost of {name} {value!r} in {rule} is not modelled: figures are of {values(name)[0]!r}"
        for rule, cost in found.items()
        if not cost.earlier_jobs
        for name, value in choices(rule, config).items()
        if relative(rule, {name: value}) is None
    ]


def _figures(rule: str) -> Cost:
    return Cost(**FIGURES["rules"][rule]) if rule in FIGURES["rules"] else GUESSED.get(rule, Cost())


def _scaled(cost: Cost, over: dict[str, float], under: dict[str, float]) -> Cost:
    """The cost of a choice from that of another one, both given over the defaults."""
    seconds, size, memory = (over[what] / under[what] for what in ("seconds", "size", "memory"))
    return replace(
        cost,
        seconds=cost.seconds * seconds,
        size=cost.size * size,
        size_per_area=cost.size_per_area * size,
        memory=cost.memory * memory,
        memory_per_image=cost.memory_per_image * memory,
    )


def _chosen(rule: str, params: list[str]) -> dict[str, object]:
    """What an earlier job chose, as a parameter or in one."""
    found = {}
    for name in CHOICES.get(rule, ()):
        key = repr(name.split(".")[1])
        inside = [text for text in params if f"{key}: " in text]
        for value in values(name):
            if any(f"{key}: {value!r}" in text for text in inside) if inside else repr(value) in params:
                found[name] = value
    return found


def _from_jobs(directory: Path, rule: str, jobs: list[Earlier]) -> Cost:
    """Medians over jobs, however many detectors they had."""
    start = min(_figures(rule).start, statistics.median(job.used["cpu_s"] for job in jobs))
    amounts = [max(job.inputs, 1) if _per_input(rule) else job.visits for job in jobs]
    sizes = [sum(size_on_disk(directory / path) for path in job.outputs) / job.visits for job in jobs[:SAMPLE]]
    return Cost(
        start,
        statistics.median((job.used["cpu_s"] - start) / units for job, units in zip(jobs, amounts)),
        statistics.median(sizes),
        memory=max(job.used["max_mb"] for job in jobs),
        earlier_jobs=len(jobs),
    )


def _per_input(rule: str) -> bool:
    """Whether earlier jobs of a rule tell what an input costs; those of others tell what a visit does."""
    return "inputs" in UNITS.get(rule, "")


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


@dataclass(frozen=True)
class Estimate:
    """What a job takes: CPU time to start and of its work [s], size of its products [byte], memory [MB]."""

    start: float
    seconds: float
    size: float
    memory: float


def amount(rule: str, work: Work) -> float:
    """The work of a job in units of its rule.

    Parameters
    ----------
    rule : str
    work : Work

    Returns
    -------
    float
        See `UNITS`; megapixels where these are images or patches.
    """
    return {
        "images": work.images,
        "patches": work.area,
        "inputs": work.inputs,
        "inputs, each of a patch": work.inputs * work.area,
    }[UNITS.get(rule, "images")]


def estimate(rule: str, threads: int, work: Work, cost: Cost) -> Estimate:
    """What a job takes.

    Parameters
    ----------
    rule : str
    threads : int
        Each has memory of its own.
    work : Work
    cost : Cost
        Of its rule, from `costs`.

    Returns
    -------
    Estimate
    """
    if cost.earlier_jobs:
        units, memory = (work.inputs if _per_input(rule) else work.visits), cost.memory
    else:
        units, memory = amount(rule, work), (cost.memory + cost.memory_per_image * work.image) * threads
    return Estimate(cost.start, cost.seconds * units, cost.size * work.visits + cost.size_per_area * work.area, memory)
