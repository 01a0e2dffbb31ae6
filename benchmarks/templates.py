"""The template methods beside each other on one small simulated survey: the table in docs/templates.md.

One band, one detector of 1024 x 1024 pixels, six visits for the template and four to difference.  Everything before
the coadd is made once; for every method the rest of the workflow runs on a copy.  CPU times are those of the coadd of
one patch, in this process, after the compiled loops have been loaded.

Usage: benchmarks/templates.py [FOLDER]   (default: a temporary one)
"""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from measure import PYTHON, ROOT

from diaflow.coadd import combine
from diaflow.image.exposure import Exposure
from diaflow.psf.stampfield import fwhm
from diaflow.run import config, methods
from diaflow.store import tables
from diaflow.units import magnitude

CONFIG = {
    "images": "simulated",
    "refcat": {"path": "demo/refcat.parquet", "bands": {"r": "r_mag"}},
    "skymap": {"patch_size": 700, "patch_border": 100},
    "template": {"mjd": [60000, 60400], "dcr": {"latitude": -30, "longitude": -30, "bands": {"r": [552, 691]}}},
    "science": {"mjd": [60400, 61000]},
    "simulate": {
        "bands": ["r"], "template_visits": 6, "science_visits": 4, "detectors": 1, "size": 1024,
        "supernovae": 150, "variables": 100, "asteroids": 20, "stars": 12000, "seeing": [1.4, 2.6],
    },
}  # fmt: skip
METHODS = list(methods.listed("coadd"))
BEFORE = ("exposures.parquet", "overlaps.parquet", "refcat.parquet", "skymap.json", "visit_summary.parquet")
FOLDERS = ("calexp", "jointcal", "refcat", "src", "visit_summary", "warp", "warp_matched")
COLUMNS = {
    "psf_fwhm": "PSF FWHM [pixel]",
    "depth": "depth of the template [mag]",
    "covariance_factor": "covariance factor",
    "diffim_depth": "depth of the differences [mag]",
    "noise_ratio": "their noise over the predicted one",
    "variance_scale": "factor on their variance",
    "completeness": "transients found",
    "n_false": "false",
    "hostless_pull_width": "pull width",
    "cpu": "CPU [ms per megapixel and input]",
}


def run(folder: Path, method: str, *arguments: str) -> None:
    """The workflow with one method."""
    survey = CONFIG | {"run": method, "template": CONFIG["template"] | {"method": method}}
    (folder / f"{method}.yaml").write_text(yaml.safe_dump(survey))
    words = [PYTHON, "-m", "snakemake", f"results/{method}/validation.json", "--snakefile", ROOT / "Snakefile"]
    words += ["--configfile", f"{method}.yaml", "--cores", "1", "--quiet", "rules", *arguments]
    done = subprocess.run([str(word) for word in words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])


def copy(folder: Path, method: str) -> None:
    """What the first run made before its coadds, for another one."""
    first, other = (folder / "results" / name for name in (METHODS[0], method))
    other.mkdir(parents=True, exist_ok=True)
    for name in (*BEFORE, *FOLDERS):
        source = first / name
        if source.is_dir():
            shutil.copytree(source, other / name, dirs_exist_ok=True)
        elif source.exists():
            shutil.copy2(source, other / name)


def cpu_per_megapixel(products: Path, method: str) -> float:
    """CPU milliseconds of the coadd of the patch with the most inputs, per megapixel of an input."""
    paths = sorted(products.glob("coadd/template/*/*/*.fits"))
    visits = [_visits(path) for path in paths]
    path, inputs = max(zip(paths, visits), key=lambda pair: len(pair[1]))
    tract, patch = path.parts[-3:-1]
    files = [
        [products / f"{kind}/{tract}/{visit}/{patch}.fits" for visit in inputs] for kind in ("warp", "warp_matched")
    ]
    survey = config.validated(CONFIG | {"template": CONFIG["template"] | {"method": method}})
    options = config.method_options(survey, "template")
    made = partial(combine.combine_warps, *files, methods.load("coadd", method).combine, **options)
    made()
    start = time.process_time()
    shape = made().shape
    return 1e9 * (time.process_time() - start) / (len(inputs) * shape[0] * shape[1])


def _visits(path: Path) -> list[int]:
    return sorted({source.visit for source in Exposure.read(path).psf.inputs})


def figures(products: Path, method: str) -> dict[str, float]:
    """The row of a method."""
    depths, widths, factors = [], [], []
    for path in products.glob("coadd/template/*/*/*.fits"):
        template = Exposure.read(path)
        used = ~template.flagged("NO_DATA", "SENSOR_EDGE")
        y, x = (int(np.median(index)) for index in np.nonzero(used))
        stamp = template.psf([x], [y])[0]
        error = template.noise.psf_flux_error(np.sqrt(np.median(template.variance[used]) / (stamp**2).sum()))
        depths.append(magnitude(5 * error))
        widths.append(fwhm(stamp))
        factors.append(template.noise.covariance_factor)
    visits = tables.read("visit", products / "tables/visit.parquet")
    visits = visits[visits["diffim_status"] == "ok"]
    validation = json.loads((products / "validation.json").read_text())
    return {
        "psf_fwhm": np.mean(widths),
        "depth": np.mean(depths),
        "covariance_factor": np.mean(factors),
        "diffim_depth": np.median(visits["diffim_depth"]),
        "noise_ratio": np.median(visits["noise_ratio"]),
        "variance_scale": np.median(visits["variance_scale"]),
        **{key: validation[key] for key in ("completeness", "n_false", "hostless_pull_width")},
        "cpu": cpu_per_megapixel(products, method),
    }


def main() -> None:
    """Run every method and print the table."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    print("| method |", " | ".join(COLUMNS.values()), "|")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for k, method in enumerate(METHODS):
        products = folder / "results" / method
        if k:
            copy(folder, method)
        run(folder, method, *(["--rerun-triggers", "mtime"] if k else []))
        row = figures(products, method)
        print(f"| `{method}` |", " | ".join(f"{row[key]:.4g}" for key in COLUMNS), "|", flush=True)


if __name__ == "__main__":
    main()
