"""The answer of the planner as one dictionary: what JSON holds, and what text and page are written from."""

import re
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from diaflow.run.config import validated
from planner import cost
from planner.graph import Job, Planned

DEFAULTS = validated({"images": "simulated"})
MOST_FILES = 4  # of the code that a line names; the JSON file has all
NEWER_INPUT = re.compile(r"^(newer input) .*?(, by time alone)?$")
SEEING = {
    "": "the selection does not ask for the seeing",
    "measured": "by measured seeing",
    "header": "by header seeing where a visit is not measured yet; the run measures it and may select others",
    "none": "all visits are planned: the seeing of some is unknown; the run measures it and selects",
}


def answer(planned: Planned, directory: Path, cores: list[int]) -> dict:
    """What the jobs are, why they run and what they cost.

    Parameters
    ----------
    planned : Planned
    directory : path
        Where the run is; earlier jobs there tell what jobs cost.
    cores : list of int
        Numbers of cores to give the wall time for.

    Returns
    -------
    dict with run, rules, total, wall, template, science, failed, not_modelled, missing, stale, jobs
        Times are in hours, sizes in GB.
    """
    jobs, config, plan = planned.jobs, planned.names["config"], planned.names["plan"]
    costs, works = cost.history(directory, config), _works(jobs, plan, config["skymap"])
    entries = [_job(job, *work, costs) for job, work in zip(jobs, works)]
    memory = [_memory(job, costs) for job in jobs]
    rules = _rules(jobs, entries, memory, costs)
    requirements = [job.threads for job in jobs], memory, [job.after for job in jobs]
    seconds = [job["core_seconds"] for job in entries]
    return {
        "run": config["run"],
        "total": {
            "jobs": len(jobs),
            "core_hours": sum(rule["core_hours"] for rule in rules),
            "gb": sum(rule["gb"] for rule in rules),
            "temporary_gb": sum(rule["temporary_gb"] for rule in rules),
        },
        "rules": rules,
        "wall": [_wall(seconds, *requirements, number) for number in cores],
        "template": _template(plan),
        "science": _science(plan, config["science"]),
        "failed": [
            {"path": path, "reason": reason}
            for path, reason, status in zip(*(plan.exposures[name].tolist() for name in ("path", "reason", "status")))
            if status == "failed"
        ],
        "not_modelled": cost.not_modelled([rule["rule"] for rule in rules], config, DEFAULTS, costs),
        "missing": [asdict(kept) for kept in planned.missing],
        "stale": [asdict(kept) for kept in planned.stale],
        "jobs": entries,
    }


def _works(jobs: list[Job], plan, config_skymap: dict) -> list[tuple[float, float]]:
    """Megapixels of the images that each job works on, and of the images or patches that it makes."""
    pixels = cost.megapixels(plan.exposures)
    of_a_file = sum(pixels.values()) / max(sum(map(len, plan.images.values())), 1)
    patch = (config_skymap["patch_size"] + 2 * config_skymap["patch_border"]) ** 2 / 1e6
    works = []
    for job in jobs:
        images = (
            sum(pixels[visit] for visit in job.visits) if job.visits else of_a_file * max(job.inputs, len(job.output))
        )
        if "tract" in job.wildcards:
            tract = int(job.wildcards["tract"])
            places = [place for visit in map(int, job.visits) for place in plan.patches[visit] if place[0] == tract]
            works.append((images, patch * len(places if job.visits else [tract])))
        else:
            works.append((images, images))
    return works


def _job(job: Job, work: float, area: float, costs: dict) -> dict:
    seconds, volume = cost.estimate(job.rule, job.threads, job.inputs, len(job.visits), work, area, costs)
    return {
        "rule": job.rule,
        "wildcards": job.wildcards,
        "visits": job.visits,
        "output": job.output,
        "why": job.why,
        "core_seconds": seconds,
        "bytes": volume,
        "temporary": len(job.temporary) / max(len(job.output), 1),
    }


def _memory(job: Job, costs: dict) -> int:
    """What earlier jobs of the rule took at most, else what the rule asks for [MB]."""
    return (costs[job.rule].memory if job.rule in costs else 0) or job.memory


def _rules(jobs: list[Job], entries: list[dict], memory: list[int], costs: dict) -> list[dict]:
    """One entry for each rule, in the order in which their last jobs can run."""
    last = {job.rule: place for place, job in enumerate(jobs)}
    groups: dict[str, list] = {rule: [] for rule in sorted(last, key=last.get)}
    for job, *of_job in zip(jobs, entries, memory):
        groups[job.rule].append(of_job)
    return [
        {
            "rule": rule,
            "jobs": len(group),
            "why": dict(Counter(_in_short(entry["why"]) for entry, _ in group).most_common()),
            "core_hours": sum(entry["core_seconds"] for entry, _ in group) / 3600,
            "gb": sum(entry["bytes"] for entry, _ in group) / 1e9,
            "temporary_gb": sum(entry["bytes"] * entry["temporary"] for entry, _ in group) / 1e9,
            "memory_mb": max(megabytes for _, megabytes in group),
            "earlier_jobs": costs[rule].earlier_jobs if rule in costs else 0,
        }
        for rule, group in groups.items()
    ]


def _in_short(why: list[str]) -> str:
    """The causes without the names of files; where there is none, what the job comes after."""
    causes = [_with_few_files(NEWER_INPUT.sub(r"\1\2", reason)) for reason in why]
    own = [reason for reason in dict.fromkeys(causes) if not reason.startswith("after ")]
    return "; ".join(own or causes)


def _with_few_files(reason: str) -> str:
    """A reason that names no more than some files of the code."""
    files = reason.split(", ") if reason.startswith("code: ") else []
    if len(files) <= MOST_FILES:
        return reason
    return ", ".join([*files[:MOST_FILES], f"and {len(files) - MOST_FILES} more"])


def _wall(seconds, threads, memory, after, cores: int) -> dict:
    wall, peak = cost.schedule(seconds, threads, memory, after, cores)
    return {"cores": cores, "hours": wall / 3600, "memory_gb": peak / 1000}


def _template(plan) -> dict:
    """How the template visits were chosen, and why others were not."""
    columns = (plan.selection[name].tolist() for name in ("visit", "selected", "reason"))
    left_out = defaultdict(set)
    used = set()
    for visit, selected, reason in zip(*columns):
        used.add(visit) if selected else left_out[reason].add(visit)
    return {
        "seeing": SEEING[plan.seeing],
        "visits": sorted(used),
        "left_out": {reason: sorted(visits - used) for reason, visits in left_out.items() if visits - used},
        "left_out_of_some_patches": {
            reason: sorted(visits & used) for reason, visits in left_out.items() if visits & used
        },
    }


def _science(plan, config_science: dict) -> dict:
    out = [visit for visit in plan.visits if visit not in set(plan.science)]
    not_listed = [visit for visit in out if config_science["visits"] and visit not in config_science["visits"]]
    reasons = {"not in science.visits": not_listed}
    if config_science["mjd"]:
        first, last = config_science["mjd"]
        reasons[f"outside science.mjd {first:g} to {last:g}"] = [visit for visit in out if visit not in not_listed]
    return {"visits": plan.science, "left_out": {reason: visits for reason, visits in reasons.items() if visits}}
