"""Difference images of visits of 1 and 8 detectors of 4k x 4k: whole processes of the rule's script, per detector.

From the calexp and the patches of the template to the difference, the template as subtracted and the DIASources:
template to the science grid, fit, convolution, decorrelation, detection, measurement.  The detectors are the same image
under other numbers.  ``python diffim.py 62`` takes a visit of 62, which writes 0.4 GB for each.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import yaml
from measure import PYTHON, ROOT, cpu_and_memory, result

from diaflow.run.config import validated
from diaflow.store import tables

DETECTORS = (1, 8)
BUDGET = 10.0  # CPU s per detector
TEMPLATE_VISITS = 3
VISIT = TEMPLATE_VISITS + 1
RUN = Path("results/bench")
CONFIG = {
    "run": RUN.name,
    "images": "simulated",
    "refcat": {"path": "demo/refcat.parquet", "bands": {"r": "r_mag"}},
    "calexp": {"joint_visits": 0},
    "skymap": {"patch_size": 4000},
    "template": {"mjd": [60000, 60400]},
    "science": {"mjd": [60400, 61000]},
    "simulate": {
        "bands": ["r"],
        "template_visits": TEMPLATE_VISITS,
        "science_visits": 1,
        "detectors": 1,
        "size": 4096,
        "pixel_scale": 0.2,
        "seeing": [0.7, 0.9],
        "stars": 85000,
        "galaxies": 170000,
    },
}
OURS = """
import json, sys
from types import SimpleNamespace
class Named(SimpleNamespace):
    def __getitem__(self, name):
        return getattr(self, name)
sys.path.insert(0, "{scripts}")
import diffim
from diaflow.run import job
files = json.load(open("{folder}/job.json"))
job.run(diffim.main, SimpleNamespace(
    rule="diffim", log=[], threads=1, **{{name: Named(**files[name]) for name in ("input", "output", "params")}}
))
"""


def make_inputs(folder: Path) -> None:
    """The calexp of a science visit and the template, by the workflow."""
    (folder / "my.yaml").write_text(yaml.safe_dump(CONFIG))
    command = [PYTHON, "-m", "snakemake", "--cores", "2", "--snakefile", ROOT / "Snakefile", "--configfile", "my.yaml"]
    product = RUN / f"diffim_summary/{VISIT}.parquet"
    done = subprocess.run([*map(str, command), "--", str(product)], cwd=folder, text=True, capture_output=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])


def make_job(folder: Path, n: int) -> list:
    """A visit of n detectors in a folder of its own; returns the command of its job."""
    visit = folder / f"detectors_{n}"
    calexps = visit / "calexp" / str(VISIT)
    calexps.mkdir(parents=True)
    for detector in range(n):
        (calexps / f"{detector}.fits").symlink_to(folder / RUN / f"calexp/{VISIT}/0.fits")
    copies = {}
    for name, product in (("source", "src"), ("visit_summary", "visit_summary")):
        table = tables.read(name, folder / RUN / product / f"{VISIT}.parquet")
        parts = [table.copy() for _ in range(n)]
        for detector, part in enumerate(parts):
            part["detector"] = detector
        copies[name] = visit / product / f"{VISIT}.parquet"
        copies[name].parent.mkdir()
        tables.write(name, np.concatenate(parts), copies[name])
    outputs = {"diffims": f"diffim/{VISIT}"}
    outputs |= {name: f"{name}/{VISIT}.parquet" for name in ("dia_sources", "summaries")}
    for name in outputs.values():
        (visit / name).parent.mkdir()
    config = validated(CONFIG)
    job = {
        "input": {
            "calexps": [str(calexps)],
            "sources": [str(copies["source"])],
            "summaries": [str(copies["visit_summary"])],
            f"templates_{VISIT}": sorted(map(str, (folder / RUN / "coadd").rglob("*.fits"))),
        },
        "output": {name: [str(visit / path)] for name, path in outputs.items()},
        "params": {"subtract": config["subtract"], "detect": config["detect"], "compress": False},
    }
    (visit / "job.json").write_text(json.dumps(job))
    return [PYTHON, "-c", OURS.format(scripts=ROOT / "scripts", folder=visit)]


def main(detectors: tuple[int, ...] = DETECTORS) -> list[dict]:
    """One row for each visit, with the budget in place of a peer."""
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_inputs(folder)
        for n in detectors:
            seconds, peak = cpu_and_memory(make_job(folder, n))
            name = f"diffim per detector of 4k x 4k, visit of {n}"
            rows.append(result(name, seconds / n, peak, "budget", BUDGET))
    return rows


if __name__ == "__main__":
    print(json.dumps(main(tuple(map(int, sys.argv[1:])) or DETECTORS), indent=1))
