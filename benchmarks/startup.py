"""Start-up of every script: CPU seconds and memory of the interpreter with the script's imports, and whose they are.

The packages are the largest of ``-X importtime``, each with its share of the time of all imports.
"""

import os
import re
import subprocess
from collections import Counter

from measure import PYTHON, ROOT, cpu_and_memory, result

ROUNDS = 3
N_PACKAGES = 5
BUDGET, BUDGET_WITHOUT_NUMBA = 1.5, 1.0  # CPU s
LOAD = (
    "import importlib.util as u; s = u.spec_from_file_location('script', '{}'); "
    "s.loader.exec_module(u.module_from_spec(s))"
)


def shares(command: list[str]) -> dict[str, float]:
    """Share of the import time by package, the largest first."""
    done = subprocess.run([command[0], "-X", "importtime", *command[1:]], text=True, capture_output=True, check=True)
    times = Counter()
    for own, name in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+([\w.]+)", done.stderr):
        times[name.split(".")[0]] += int(own)
    return {package: time / times.total() for package, time in times.most_common()}


def main(rounds: int = ROUNDS) -> list[dict]:
    """One row for each script, with the budget in place of a peer."""
    rows = []
    for script in sorted((ROOT / "scripts").glob("*.py")):
        command = [PYTHON, "-c", LOAD.format(script)]
        seconds, peak = min(cpu_and_memory(command) for _ in range(rounds))
        packages = shares(command)
        peer = "budget with numba" if "numba" in packages else "budget without numba"
        budget = BUDGET if "numba" in packages else BUDGET_WITHOUT_NUMBA
        largest = dict(list(packages.items())[:N_PACKAGES])
        rows.append(result(f"start-up of {script.name}", seconds, peak, peer, budget) | {"packages": largest})
    return rows


if __name__ == "__main__":
    os.environ["PYTHONPATH"] = str(ROOT)
    for row in main():
        first = ", ".join(f"{package} {share:.0%}" for package, share in row["packages"].items())
        print(
            f"{row['name']:32s} {row['ours_cpu_s']:5.2f} s {row['peak_mb']:4.0f} MB {row['peer']:20s} {first}",
            flush=True,
        )
