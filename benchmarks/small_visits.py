"""Many small single-CCD visits: the workflow beside the same scripts called one after another in one process.

What the workflow costs above that is the start-up of its jobs: interpreter, imports, compiled kernels, Snakemake.
"""

import argparse
import json
import logging
import runpy
import subprocess
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import yaml
from measure import PYTHON, ROOT, cpu_and_memory, result

from planner import graph

VISITS = 8
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


def main(visits: int = VISITS) -> list[dict]:
    """One row: half of the visits make the template, half are differenced."""
    simulate = CONFIG["simulate"] | {"template_visits": visits // 2, "science_visits": visits // 2}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("workflow", "process"):
            Path(folder, name).mkdir()
            Path(folder, name, "my.yaml").write_text(yaml.safe_dump(CONFIG | {"simulate": simulate}))
        run = [PYTHON, "-m", "snakemake", "--cores", "1", "--snakefile", ROOT / "Snakefile", "--configfile", "my.yaml"]
        ours, peak = cpu_and_memory(run, Path(folder, "workflow"))
        one = [PYTHON, __file__, "--in-one-process", Path(folder, "process")]
        done = subprocess.run(list(map(str, one)), text=True, capture_output=True, check=True)
    name = f"whole run of {visits} visits of one CCD of 325,000 pixels"
    return [result(name, ours, peak, "the same scripts in one process", float(done.stdout.split()[-1]))]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visits", type=int, default=VISITS)
    parser.add_argument("--in-one-process", type=Path)
    asked = parser.parse_args()
    if asked.in_one_process:
        print(in_one_process(asked.in_one_process))
    else:
        print(json.dumps(main(asked.visits), indent=1))
