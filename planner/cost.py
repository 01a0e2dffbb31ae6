"""What jobs cost: CPU time, disk and memory, from earlier jobs of the same rule or else from measured figures.

Earlier jobs are those in Snakemake's metadata, of all runs in the directory, that noted beside their logs what they
took; what their outputs take is looked up on disk.  The figures are in costs.json, which benchmarks/costs.py writes:
what a rule takes with the defaults, and with each other method or choice in place of one of them.
"""

import json
import statistics
from collections import defaultdict
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
    "object": "inputs, each of a patch",
    "picture": "inputs, each of a patch",
    "associate": "inputs",
    "tables": "inputs",
}
OF_SURVEY = {"validate", "report", "patches", "coverage_maps"}  # rules that work on what was found in all images
# Rules that run the script of another one, whose figures are theirs, and sections with the keys of another one.
ALIKE = {"coadd_deep": "coadd_template", "select_deep": "select_template", "template_object": "object"}
SECTION_OF = {"deep": "template"}
# Choices that change what a job of a rule costs.
CHOICES = {
    "calexp": ("calexp.cosmic_rays", "storage.compress"),
    "skymap": ("skymap.type",),
    "coadd_template": ("template.method",),
    "coadd_deep": ("deep.method",),
    "diffim": ("subtract.algorithm", "subtract.mode", "subtract.basis", "storage.compress"),
    "associate": ("associate.algorithm",),
}


@dataclass(frozen=True)
class Cost:
    """Of the jobs of a rule.

    Attributes
    ----------
    start, each, seconds : float
        CPU time of every job, of each image or patch, and of each unit of its work [s]: see `UNITS`; for earlier jobs
        an input or a visit.
    size, size_per_area : float
        Disk that the products take: of each visit (or of the job), and of each megapixel made [byte].
    memory, memory_per_image : float
        Peak memory, and what each megapixel of an image or patch adds [MB].
    earlier_jobs : int
        Number of jobs that this is from; 0 for measured figures.
    """

    start: float = 1.5
    each: float = 0
    seconds: float = 0
    size: float = 1e5
    size_per_area: float = 0
    memory: float = 0
    memory_per_image: float = 0
    earlier_jobs: int = 0


# Guessed, or measured once.
GUESSED = {
    # The built-in surveys have no raw frames.
    "isr": Cost(seconds=0.2, size=0, size_per_area=12e6),
    # Measured once, of 2000 images of 16 megapixels on one field: no run makes them unless they are asked for.
    "patches": Cost(start=1.5, each=1e-4, size=350e3, memory=240),
    "coverage_maps": Cost(start=0.7, each=1.5e-3, size=650e3, memory=140),
}


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
    pieces : float
        Number of the latter; of files that may hold several images, their share of all.
    """

    visits: int
    inputs: int
    images: float
    area: float
    pieces: float


@dataclass(frozen=True)
class Estimate:
    """What a job takes: CPU time to start and of its work [s], size of its products [byte], memory [MB]."""

    start: float
    seconds: float
    size: float
    memory: float


def costs(directory: Path, config: dict, works: dict[str, Work]) -> dict[str, Cost]:
    """What a job of each rule costs.

    Parameters
    ----------
    directory : path
        Where Snakemake was run, with its metadata in ``.snakemake``.
    config : dict
        Of the plan.  Earlier jobs that chose the same tell; without any, those that chose otherwise, by what the
        choices cost over each other.
    works : dict of str to Work
        A typical job of each rule.

    Returns
    -------
    dict of str to Cost
        By rule.
    """
    jobs = earlier.jobs(directory)
    return {rule: _cost(directory, rule, choices(rule, config), jobs[rule], work) for rule, work in works.items()}


def _cost(directory: Path, rule: str, chosen: dict[str, object], jobs: list[Earlier], work: Work) -> Cost:
    groups = defaultdict(list)
    for job in jobs:
        groups[tuple(_chosen(rule, job.params).items())].append(job)
    same, ours = groups.pop(tuple(chosen.items()), None), figures(rule, chosen)
    if same:
        return _from_jobs(directory, rule, same)
    others = [(group, theirs) for other, group in groups.items() if ours and (theirs := figures(rule, dict(other)))]
    if others:
        group, theirs = max(others, key=lambda pair: len(pair[0]))
        return _scaled(_from_jobs(directory, rule, group), *(estimate(rule, 1, work, cost) for cost in (ours, theirs)))
    return ours or figures(rule, {})


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


def figures(rule: str, chosen: dict[str, object]) -> Cost | None:
    """What was measured.

    Parameters
    ----------
    rule : str
    chosen : dict of str to value
        From `choices`.

    Returns
    -------
    Cost or None
        That of the defaults, and what each choice adds to it; None where one of the choices was not measured.
    """
    rule = ALIKE.get(rule, rule)
    usual = FIGURES["rules"].get(rule)
    total = Cost(**usual) if usual else GUESSED.get(rule, Cost())
    for name, value in chosen.items():
        if value != values(name)[0]:
            section, key = name.split(".")
            other = FIGURES["choices"].get(f"{SECTION_OF.get(section, section)}.{key}={value}", {}).get(rule)
            if other is None:
                return None
            added = {part: max(getattr(total, part) + other[part] - usual[part], 0) for part in other}
            total = replace(total, **added)
    return total


def not_modelled(config: dict, found: dict[str, Cost]) -> list[str]:
    """Rules, and choices, of which neither earlier jobs nor the figures tell the cost.

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
    unknown = [
        rule for rule, cost in found.items() if not cost.earlier_jobs and ALIKE.get(rule, rule) not in FIGURES["rules"]
    ]
    return [f"cost of {rule} is not modelled: figures are guessed" for rule in unknown] + [
        f"cost of {name} {value!r} in {rule} is not modelled: figures are of {values(name)[0]!r}"
        for rule, cost in found.items()
        if not cost.earlier_jobs
        for name, value in choices(rule, config).items()
        if figures(rule, {name: value}) is None
    ]


def _scaled(cost: Cost, ours: Estimate, theirs: Estimate) -> Cost:
    """The cost of jobs that chose otherwise, by what was measured of a job with each choice."""
    seconds, size, memory = (
        one / other if other else 1.0
        for one, other in ((ours.seconds, theirs.seconds), (ours.size, theirs.size), (ours.memory, theirs.memory))
    )
    return replace(cost, seconds=cost.seconds * seconds, size=cost.size * size, memory=cost.memory * memory)


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
    start = min(figures(rule, {}).start, statistics.median(job.used["cpu_s"] for job in jobs))
    amounts = [max(job.inputs, 1) if _per_input(rule) else job.visits for job in jobs]
    sizes = [sum(size_on_disk(directory / path) for path in job.outputs) / job.visits for job in jobs[:SAMPLE]]
    return Cost(
        start,
        0,
        statistics.median((job.used["cpu_s"] - start) / units for job, units in zip(jobs, amounts)),
        statistics.median(sizes),
        memory=max(job.used["max_mb"] for job in jobs),
        earlier_jobs=len(jobs),
    )


def _per_input(rule: str) -> bool:
    """Whether earlier jobs of a rule tell what an input costs; those of others tell what a visit does."""
    return "inputs" in UNITS.get(ALIKE.get(rule, rule), "")


def images(exposures: np.ndarray) -> dict[str, tuple[int, float]]:
    """Number and megapixels of the usable images of each visit.

    Parameters
    ----------
    exposures : table "exposure"

    Returns
    -------
    dict of str to (int, float)
        By visit.
    """
    usable = exposures[exposures["status"] == "ok"]
    visits, which = np.unique(usable["visit"], return_inverse=True)
    pixels = np.bincount(which, usable["nx"].astype(float) * usable["ny"]) / 1e6
    return dict(zip(map(str, visits.tolist()), zip(np.bincount(which).tolist(), pixels.tolist())))


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
    }[UNITS.get(ALIKE.get(rule, rule), "images")]


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
        seconds = cost.seconds * (work.inputs if _per_input(rule) else work.visits)
        memory = cost.memory
    else:
        seconds = cost.each * work.pieces + cost.seconds * amount(rule, work)
        memory = (cost.memory + cost.memory_per_image * work.area / work.pieces) * threads
    return Estimate(cost.start, seconds, cost.size * work.visits + cost.size_per_area * work.area, memory)
