"""CPU seconds and peak memory of whole processes, scripts without Snakemake, and the shape of a benchmark's result."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable
# Peers as our jobs: BLAS would otherwise take all cores.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def cpu_and_memory(command: list, cwd: Path | str | None = None) -> tuple[float, float]:
    """User + system CPU seconds and peak resident memory [MB] of a command and its children.

    This file starts it, in a process that is small: Linux counts as a process's peak what the one that forked it uses.
    """
    starter = [PYTHON, "-I", str(Path(__file__).resolve())]
    words = [*starter, *map(str, command)]
    done = subprocess.run(words, cwd=cwd, env=os.environ | ONE_THREAD, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-2000:]}")
    cpu_s, peak_mb = map(float, done.stdout.split())
    return cpu_s, peak_mb


class Named(SimpleNamespace):
    """Input, output, params or wildcards of a job, as Snakemake gives them to a script."""

    def __getitem__(self, name: str):
        return getattr(self, name)

    def __iter__(self):
        return iter(vars(self).values())

    def items(self):
        """Names and values."""
        return vars(self).items()


def run_script(main: Callable, rule: str, **parts: dict) -> None:
    """Run the main function of a script with its input, output, params and, if it has some, wildcards."""
    from diaflow.run import job  # not needed to measure

    named = {name: Named(**values) for name, values in parts.items()}
    job.run(main, SimpleNamespace(rule=rule, log=[], threads=1, config={"run": rule}, **named))


def result(name: str, ours: float, peak_mb: float, peer: str | None = None, peer_cpu_s: float | None = None) -> dict:
    """One row of benchmarks/results.json."""
    ratio = ours / peer_cpu_s if peer_cpu_s else None
    return {
        "name": name,
        "ours_cpu_s": ours,
        "peer": peer,
        "peer_cpu_s": peer_cpu_s,
        "ratio": ratio,
        "peak_mb": peak_mb,
    }


if __name__ == "__main__":
    status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)
    sys.exit(status)
