"""Wall time and peaks of memory and disk when jobs start as soon as they can, in the order that Snakemake takes.

Snakemake starts jobs one after another, on a cluster they then wait in the queue.  Of the jobs that are ready it takes
first what reads most of temporary products; these are removed when the last job that reads them has ended.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Task:
    """What the schedule knows of a job.

    Attributes
    ----------
    seconds : float
        CPU time of all its threads [s].
    threads : int
    memory : float
        [MB]
    kept, temporary : float
        Size of its products that stay, and of those that are removed [byte].
    after : sequence of int
        Places of the jobs that it waits for; they come before it.
    """

    seconds: float
    threads: int = 1
    memory: float = 0
    kept: float = 0
    temporary: float = 0
    after: Sequence[int] = ()


@dataclass(frozen=True)
class Run:
    """A run of all jobs.

    Attributes
    ----------
    seconds : float
        Wall time [s].
    memory : float
        Most memory that jobs take together [MB].
    disk : float
        Most disk that the products take together [byte].
    """

    seconds: float
    memory: float
    disk: float


def schedule(tasks: Sequence[Task], cores: int, launch: float = 0, wait: float = 0) -> Run:
    """How jobs run on some cores.

    Parameters
    ----------
    tasks : sequence of Task
    cores : int
    launch : float
        Time that Snakemake takes for each job, one after another [s].
    wait : float
        Time that each job waits in a queue; its cores count as taken [s].

    Returns
    -------
    Run
    """
    waiting = [len(task.after) for task in tasks]
    followers: list[list[int]] = [[] for _ in tasks]
    for job, task in enumerate(tasks):
        for other in task.after:
            followers[other].append(job)
    readers = [len(jobs) for jobs in followers]
    threads = [min(task.threads, cores) for task in tasks]
    order = [(-sum(tasks[other].temporary for other in task.after), job) for job, task in enumerate(tasks)]
    ready = [order[job] for job, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, launched, free = 0.0, 0.0, cores
    memory = most_memory = disk = most_disk = 0.0
    while ready or running:
        while ready and free >= threads[ready[0][1]]:
            _, job = heapq.heappop(ready)
            free -= threads[job]
            memory += tasks[job].memory
            launched = max(launched, now) + launch
            heapq.heappush(running, (launched + wait + tasks[job].seconds / threads[job], job))
        most_memory = max(most_memory, memory)
        now, job = heapq.heappop(running)
        free += threads[job]
        memory -= tasks[job].memory
        disk += tasks[job].kept + tasks[job].temporary
        most_disk = max(most_disk, disk)
        for other in tasks[job].after:
            readers[other] -= 1
            disk -= 0 if readers[other] else tasks[other].temporary
        for other in followers[job]:
            waiting[other] -= 1
            if not waiting[other]:
                heapq.heappush(ready, order[other])
    return Run(now, most_memory, most_disk)
