"""The answer of the planner as one dictionary: what JSON holds, and what text and page are written from."""

import re
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from planner import cost
from planner.graph import Job, Planned
from planner.schedule import Task, schedule

MOST_FILES = 4  # of the code that a line names; the JSON file has all
NEWER_INPUT = re.compile(r"^(newer input) .*?(, by time alone)?$")
SEEING = {
    "": "the selection does not ask for the seeing",
    "measured": "by measured seeing",
    "header": "by header seeing where a visit is not measured yet; the run measures it and may select others",
    "none": "all visits are planned: the seeing of some is unknown; the run measures it and selects",
}


def answer(planned: Planned, directory: Path, cores: list[int], queue_wait: float = 0) -> dict:
    """What the jobs are, why they run and what they cost.

    Parameters
    ----------
    planned : Planned
    directory : path
        Where the run is; earlier jobs there tell what jobs cost.
    cores : list of int
        Numbers of cores to give the wall time for.
    queue_wait : float
        Time that each job waits in a queue [s].

    Returns
    -------
    dict with run, rules, total, wall, short, template, science, failed, not_modelled, missing, stale, jobs
        Times are in hours, sizes in GB.
    """
    jobs, config, plan = planned.jobs, planned.names["config"], planned.names["plan"]
    works = _works(jobs, plan, config["skymap"])
    costs = cost.costs(directory, config, {job.rule: work for job, work in zip(jobs, works)})
    estimates = [cost.estimate(job.rule, job.threads, work, costs[job.rule]) for job, work in zip(jobs, works)]
    entries = [_job(*of_job) for of_job in zip(jobs, works, estimates)]
    rules = _rules(jobs, entries, costs)
    tasks = [_task(job, entry) for job, entry in zip(jobs, entries)]
    return {
        "run": config["run"],
        "total": {
            "jobs": len(jobs),
            "core_hours": sum(rule["core_hours"] for rule in rules),
            "gb": sum(rule["gb"] for rule in rules),
            "temporary_gb": sum(rule["temporary_gb"] for rule in rules),
        },
        "rules": rules,
        "wall": [_wall(tasks, number, queue_wait) for number in cores],
        "short": _short(jobs, estimates, cost.LAUNCH + queue_wait),
        "template": _template(plan),
        "science": _science(plan, config["science"]),
        "failed": [
            {"path": path, "reason": reason}
            for path, reason, status in zip(*(plan.exposures[name].tolist() for name in ("path", "reason", "status")))
            if status == "failed"
        ],
        "not_modelled": cost.not_modelled(config, costs),
        "missing": [asdict(kept) for kept in planned.missing],
        "stale": [asdict(kept) for kept in planned.stale],
        "jobs": entries,
    }


def _works(jobs: list[Job], plan, config_skymap: dict) -> list[cost.Work]:
    """What each job has to do."""
    of_visit = cost.images(plan.exposures)
    whole = [sum(numbers) for numbers in zip(*of_visit.values())]
    files = max(sum(map(len, plan.images.values())), 1)
    patch = (config_skymap["patch_size"] + 2 * config_skymap["patch_border"]) ** 2 / 1e6
    works = []
    for job in jobs:
        if job.visits:
            pieces, images = (sum(numbers) for numbers in zip(*(of_visit[visit] for visit in job.visits)))
        else:
            # Not all files are images.
            share = 1 if job.rule in cost.OF_SURVEY else min(max(job.inputs, len(job.output)) / files, 1)
            pieces, images = (share * number for number in whole)
        area = images
        if "tract" in job.wildcards:
            tract = int(job.wildcards["tract"])
            places = [place for visit in map(int, job.visits) for place in plan.patches[visit] if place[0] == tract]
            pieces = max(len(places), 1)
            area = patch * pieces
        works.append(cost.Work(max(len(job.visits), 1), job.inputs, images, area, pieces))
    return works


def _job(job: Job, work: cost.Work, estimate: cost.Estimate) -> dict:
    return {
        "rule": job.rule,
        "wildcards": job.wildcards,
        "visits": job.visits,
        "output": job.output,
        "why": job.why,
        "work": asdict(work),
        "core_seconds": estimate.start + estimate.seconds,
        "memory_mb": estimate.memory or job.memory,
        "bytes": estimate.size,
        "temporary": len(job.temporary) / max(len(job.output), 1),
    }


def _task(job: Job, entry: dict) -> Task:
    temporary = entry["bytes"] * entry["temporary"]
    return Task(
        entry["core_seconds"], job.threads, entry["memory_mb"], entry["bytes"] - temporary, temporary, job.after
    )


def _rules(jobs: list[Job], entries: list[dict], costs: dict[str, cost.Cost]) -> list[dict]:
    """One entry for each rule, in the order in which their last jobs can run."""
    last = {job.rule: place for place, job in enumerate(jobs)}
    groups: dict[str, list[dict]] = {rule: [] for rule in sorted(last, key=last.get)}
    for entry in entries:
        groups[entry["rule"]].append(entry)
    return [
        {
            "rule": rule,
            "jobs": len(group),
            "why": dict(Counter(_in_short(entry["why"]) for entry in group).most_common()),
            "core_hours": sum(entry["core_seconds"] for entry in group) / 3600,
            "gb": sum(entry["bytes"] for entry in group) / 1e9,
            "temporary_gb": sum(entry["bytes"] * entry["temporary"] for entry in group) / 1e9,
            "memory_mb": round(max(entry["memory_mb"] for entry in group)),
            "earlier_jobs": costs[rule].earlier_jobs,
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


def _wall(tasks: list[Task], cores: int, queue_wait: float) -> dict:
    run = schedule(tasks, cores, cost.LAUNCH, queue_wait)
    return {"cores": cores, "hours": run.seconds / 3600, "memory_gb": run.memory / 1000, "disk_gb": run.disk / 1e9}


def _short(jobs: list[Job], estimates: list[cost.Estimate], launch: float) -> dict:
    """The jobs whose work takes less than what starts them: how many by rule, and how long they take to start."""
    starts = [
        (job.rule, estimate.start + launch)
        for job, estimate in zip(jobs, estimates)
        if estimate.seconds / job.threads < estimate.start + launch
    ]
    return {"jobs": dict(Counter(rule for rule, _ in starts)), "hours": sum(seconds for _, seconds in starts) / 3600}


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
