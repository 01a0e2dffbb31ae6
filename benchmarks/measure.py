"""CPU seconds and peak memory of whole processes, and the shape of a benchmark's result."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYTHON = sys.executable


def cpu_and_memory(command: list, cwd: Path | str | None = None) -> tuple[float, float]:
    """User + system CPU seconds and peak resident memory [MB] of a command and its children."""
    process = subprocess.Popen(
        [str(word) for word in command], cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise RuntimeError(f"{command[0]} failed: {errors.decode()[-2000:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


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
