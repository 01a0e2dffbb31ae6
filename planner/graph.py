"""The jobs that a run would do, with the reason for each, from Snakemake's own graph built in this process.

Snakemake decides what runs; this module only reads its decision.  It uses the API of Snakemake 9 and, where that ends
(it executes graphs but does not hand them out), the `Workflow` object behind it.  Private names of Snakemake are used
in `built`, which does what the API does for a dry run up to the graph, and one in `_why`; nowhere else in the planner.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from snakemake.api import SnakemakeApi
from snakemake.io import is_flagged
from snakemake.settings import types as settings
from snakemake.settings.enums import RerunTrigger
from snakemake_interface_executor_plugins.registry import ExecutorPluginRegistry

from diaflow.run.batches import rule_of
from diaflow.run.code import recorded
from planner import changes, earlier, records


@dataclass
class Job:
    """One job that would run.

    Attributes
    ----------
    rule : str
        Batches of visits are jobs of the rule that makes one visit.
    wildcards : dict of str to str
    visits : list of str
        Those that it works on where it is a job of some visits.
    output : list of str
    temporary : list of str
        Those of the outputs that are removed when no job needs them any more.
    inputs : int
        Number of input files.
    threads : int
    memory : int
        What the rule asks for [MB].
    why : list of str
        The reasons, the cause before the consequence.
    after : list of int
        Places in the list of jobs of those whose products it waits for.
    """

    rule: str
    wildcards: dict[str, str]
    visits: list[str]
    output: list[str]
    temporary: list[str]
    inputs: int
    threads: int
    memory: int
    why: list[str]
    after: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Kept:
    """Products of a job that would not run, and what is to be said of them.

    Attributes
    ----------
    rule : str
    output : list of str
    why : list of str
    """

    rule: str
    output: list[str]
    why: list[str]


@dataclass
class Planned:
    """The answer of Snakemake.

    Attributes
    ----------
    jobs : list of Job
        Without rules that only collect targets.
    names : dict
        Of the Snakefile: its `config` and `plan` among them.
    missing : list of Kept
        What is not there, and nothing needs it now.
    stale : list of Kept
        What has no records and says of itself that other code, parameters or inputs made it.
    """

    jobs: list[Job]
    names: dict
    missing: list[Kept]
    stale: list[Kept]


# What makes a product stale: code is one of the parameters.
TRIGGERS = RerunTrigger.all() - {RerunTrigger.CODE}


def planned(
    snakefile: Path,
    directory: Path,
    targets: Sequence[str] = (),
    configfiles: Sequence[Path] = (),
    config: dict | None = None,
    cores: int = 1,
    forcerun: Sequence[str] = (),
) -> Planned:
    """The jobs that ``snakemake`` would run with the same arguments, in an order in which they can run.

    Parameters
    ----------
    snakefile, directory : path
        The workflow, and where it runs.
    targets : sequence of str
        Products or rules; none for everything.
    configfiles : sequence of path
    config : dict, optional
        Keys that replace those of the configuration files.
    cores : int
        Threads of rules are no more than these.
    forcerun : sequence of str
        Products or rules to make again.

    Returns
    -------
    Planned
    """
    with built(snakefile, directory, targets, configfiles, config, cores, forcerun) as workflow:
        tasks = list(to_run(workflow.dag))
        place = {job: k for k, job in enumerate(tasks)}
        jobs = [_described(job, workflow) for job in tasks]
        for job, description in zip(tasks, jobs):
            description.after = [place[other] for other in workflow.dag.dependencies[job] if other in place]
        missing, stale = _kept(workflow)
        return Planned(jobs, workflow.globals, missing, stale)


@contextmanager
def built(
    snakefile: Path,
    directory: Path,
    targets: Sequence[str] = (),
    configfiles: Sequence[Path] = (),
    config: dict | None = None,
    cores: int = 1,
    forcerun: Sequence[str] = (),
) -> Iterator:
    """Snakemake's workflow with its graph of jobs as ``snakemake --dry-run`` builds it.

    Parameters
    ----------
    snakefile, directory, targets, configfiles, config, cores, forcerun
        As for `planned`.

    Yields
    ------
    snakemake.workflow.Workflow
        Its graph is `dag`; the working directory is `directory` until the block ends.
    """
    output = settings.OutputSettings(dryrun=True, quiet={settings.Quietness.ALL}, enable_file_logging=False)
    with SnakemakeApi(output) as api:
        workflow_api = api.workflow(
            resource_settings=settings.ResourceSettings(cores=cores),
            config_settings=settings.ConfigSettings(config=config or {}, configfiles=list(configfiles)),
            snakefile=snakefile.resolve(),
            workdir=directory,
        )
        goal = settings.DAGSettings(targets=frozenset(targets), forcerun=frozenset(forcerun), rerun_triggers=TRIGGERS)
        workflow = workflow_api.dag(goal).workflow_api._workflow
        workflow._executor_plugin = ExecutorPluginRegistry().get_plugin("dryrun")
        workflow.execution_settings = settings.ExecutionSettings(lock=False)
        workflow.group_settings = settings.GroupSettings()
        workflow.remote_execution_settings = settings.RemoteExecutionSettings()
        workflow.scheduling_settings = settings.SchedulingSettings()
        workflow._prepare_dag(forceall=False, ignore_incomplete=True, lock_warn_only=True, nolock=True)
        workflow._build_dag()
        workflow.async_run(workflow.dag.postprocess(update_needrun=False, check_initial=True))
        yield workflow


def to_run(dag) -> Iterator:
    """Snakemake's jobs that would run, each after those that it waits for, in the same order at every call.

    Parameters
    ----------
    dag : snakemake.dag.DAG
        Of a workflow from `built`.

    Yields
    ------
    snakemake.jobs.Job
    """
    levels = (sorted(level, key=lambda job: str(job.output)) for level in dag.toposorted())
    return (job for level in levels for job in level if dag.needrun(job) and not job.is_norun)


def _described(job, workflow) -> Job:
    rule, wildcards, output = rule_of(job.rule.name), dict(job.wildcards_dict), [str(path) for path in job.output]
    return Job(
        rule=rule,
        wildcards=wildcards,
        visits=[wildcards["visit"]] if "visit" in wildcards else earlier.visits_of(job.rule.name, output),
        output=output,
        temporary=[str(path) for path in job.output if is_flagged(path, "temp")],
        inputs=len(job.input),
        threads=job.threads,
        memory=job.resources.get("mem_mb", 0),
        why=_why(job, workflow),
    )


def _why(job, workflow) -> list[str]:
    """Reasons of a job in words.  Snakemake stops at the first cause on the way down: parameters are compared here."""
    reason, persistence = workflow.dag.reason(job), workflow.persistence
    why = []
    if reason.forced:
        why.append("asked for")
    if reason.missing_output and not persistence.has_metadata(job):
        why.append("missing")
    elif reason.missing_output:
        why.append("was made, is missing")
    if reason._incomplete_output:
        why.append("incomplete")
    if persistence.has_metadata(job):
        why += changes.parameters(
            persistence.params_changed(job), job.params, workflow.globals["config"], *_code_of(job, workflow)
        )
        before = persistence.input(job.output[0]) if job.output else None
        why += changes.inputs(before, [str(path) for path in job.input])
    by_time = "" if persistence.has_metadata(job) or _says(job, workflow) != [] else ", by time alone"
    why += [f"newer input {path}{by_time}" for path in sorted(map(str, reason.updated_input))]
    makers = {other.rule.name for other, files in workflow.dag.dependencies[job].items() if workflow.dag.needrun(other)}
    why += [f"after {rule}" for rule in sorted(set(map(rule_of, makers)))]
    return why


def _code_of(job, workflow) -> tuple[dict, dict[str, str]]:
    """What the digests of the run's code were, and the parts of the code of a job."""
    return _history(str(workflow.globals["RECORD"])), workflow.globals["CODE"].known[job.params.code]


@functools.cache
def _history(record: str) -> dict:
    return recorded(Path(record))


def _says(job, workflow) -> list[str] | None:
    """Of a job without records: how what its products say of themselves differs from what it would be now."""
    outputs, inputs = map(str, job.output), map(str, job.input)
    return records.differences(outputs, dict(job.params.items()), inputs, *_code_of(job, workflow))


def _kept(workflow) -> tuple[list[Kept], list[Kept]]:
    """What is missing though nothing needs it, and what is stale though Snakemake has no records of it."""
    missing, stale = [], []
    for job in workflow.dag.jobs:
        if workflow.dag.needrun(job) or not job.rule.script:
            continue
        rule, output = rule_of(job.rule.name), [str(path) for path in job.output if not is_flagged(path, "temp")]
        absent = [path for path in output if not Path(path).exists()]
        if absent:
            missing.append(Kept(rule, absent, []))
        elif not workflow.persistence.has_metadata(job):
            why = _says(job, workflow)
            stale += [Kept(rule, output, why)] if why else []
    return missing, stale
