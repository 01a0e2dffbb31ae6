"""Many small single-CCD visits: the workflow beside the same scripts called one after another in one process.

What the workflow costs above that is the start-up of its jobs: interpreter, imports, compiled kernels, Snakemake.
Visits are jobs of their own and share jobs in turn; the tables are compared.
"""

import argparse
import json
import logging
import runpy
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import yaml
from measure import PYTHON, ROOT, cpu_and_memory, result

from planner import graph

VISITS = 32
VISITS_PER_JOB = (1, 16)
CONFIG = {
    "run": "small",
    "images": "simulated",
    "refcat": {"path": "demo/refcat.parquet", "bands": {"g": "g_mag"}},
    "skymap": {"patch_size": 700},
    "template": {"mjd": [60000, 60400]},
    "science": {"mjd": [60400, 62000]},
    # 570 x 570 pixels are as many as 650 x 500.
    "simulate": {"bands": ["g"], "detectors": 1, "size": 570, "asteroids": 1},
}


def in_one_process(folder: Path) -> float:
    """CPU seconds of all jobs of a run, by their scripts' `main`, imports included and planning not."""
    logging.disable()
    seconds = 0.0
    with graph.built(ROOT / "Snakefile", folder, configfiles=[folder / "my.yaml"]) as workflow:
        for job in graph.to_run(workflow.dag):
            for path in map(Path, job.output):
                path.parent.mkdir(parents=True, exist_ok=True)
            parts = {name: getattr(job, name) for name in ("input", "output", "params", "wildcards")}
            start = time.process_time()
            script = runpy.run_path(str(ROOT / "scripts" / Path(str(job.rule.script)).name))
            script["main"](SimpleNamespace(**parts, threads=1))
            seconds += time.process_time() - start
    return seconds


def tables(folder: Path) -> list[bytes]:
    """What a run made for its users."""
    return [path.read_bytes() for path in sorted(folder.glob("results/small/tables/*.parquet"))]


def main(visits: int = VISITS, visits_per_job: Sequence[int] = VISITS_PER_JOB) -> list[dict]:
    """One row for each number of visits per job: half of the visits make the template, half are differenced."""
    simulate = CONFIG["simulate"] | {"template_visits": visits // 2, "science_visits": visits // 2}
    run = [PYTHON, "-m", "snakemake", "--cores", "1", "--snakefile", ROOT / "Snakefile", "--configfile", "my.yaml"]
    rows = []
    with tempfile.TemporaryDirectory() as name:
        process, *folders = (Path(name, str(k)) for k in range(1 + len(visits_per_job)))
        for folder, number in zip((process, *folders), (1, *visits_per_job)):
            folder.mkdir()
            config = CONFIG | {"simulate": simulate, "visits_per_job": number}
            (folder / "my.yaml").write_text(yaml.safe_dump(config))
        one = [PYTHON, __file__, "--in-one-process", process]
        done = subprocess.run(list(map(str, one)), text=True, capture_output=True, check=True)
        for folder, number in zip(folders, visits_per_job):
            ours, peak = cpu_and_memory(run, folder)
            if tables(folder) != tables(process):
                raise RuntimeError(f"visits_per_job: {number} makes other tables than one process")
            what = f"whole run of {visits} visits of one CCD of 325,000 pixels, {number} to a job"
            rows.append(result(what, ours, peak, "the same scripts in one process", float(done.stdout.split()[-1])))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=VISITS)
    parser.add_argument("--visits-per-job", type=int, nargs="+", default=VISITS_PER_JOB)
    parser.add_argument("--in-one-process", type=Path)
    asked = parser.parse_args()
    if asked.in_one_process:
        print(in_one_process(asked.in_one_process))
    else:
        print(json.dumps(main(asked.visits, asked.visits_per_job), indent=1))
