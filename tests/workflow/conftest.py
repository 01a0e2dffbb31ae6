"""Snakemake runs in temporary folders."""

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import forked
import pytest
import yaml
from astropy.io import fits
from snakemake import cli

TINY = {
    "run": "tiny",
    "images": "simulated",
    "refcat": {"path": "demo/refcat.parquet", "bands": {"g": "g_mag"}},
    # in one row of its patches: two, where a field in the middle of its tract would have four
    "skymap": {"center": [35.0, -4.445], "radius": 0.1, "patch_size": 750, "patch_border": 50},
    "template": {"mjd": [60000, 60400]},
    "science": {"mjd": [60400, 61000]},
    "simulate": {
        "bands": ["g"],
        "template_visits": 3,
        "science_visits": 2,
        "detectors": 2,
        "size": 512,
        "supernovae": 5,
        "variables": 5,
        "asteroids": 3,
    },
}

SNAKEMAKE = [sys.executable, "-m", "snakemake"]


@pytest.fixture(scope="session")
def tiny() -> dict:
    """Configuration of a survey that is processed in well under a minute."""
    return TINY


@pytest.fixture(scope="session")
def snakemake(root) -> Callable:
    """Run the workflow: ``snakemake(folder, config, *arguments)`` gives the completed process."""

    def run(folder: Path, config: dict | None, *arguments: str) -> subprocess.CompletedProcess:
        words = command(root, folder, config, *arguments)[len(SNAKEMAKE) :]
        forked.know_code(folder)
        return forked.run(functools.partial(cli.main, words), folder)

    return run


def command(root: Path, folder: Path, config: dict | None, *arguments: str) -> list[str]:
    """The command line of a run in `folder` with `config` written beside it."""
    words = [*SNAKEMAKE, *arguments, "--snakefile", str(root / "Snakefile"), "--cores", "2"]
    if config is None:
        return words
    (folder / "my.yaml").write_text(yaml.safe_dump(config))
    return [*words, "--configfile", "my.yaml"]


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory, root) -> Path:
    """Folder of a completed run of the tiny survey."""
    return completed_tiny_run(tmp_path_factory, root)


def completed_tiny_run(tmp_path_factory, root: Path) -> Path:
    """A copy of the tiny survey's run, which the first of all test processes makes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "completed"
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            making = folder.with_name("making")
            making.mkdir(exist_ok=True)
            done = subprocess.run(command(root, making, TINY), cwd=making, text=True, capture_output=True)
            assert done.returncode == 0, done.stderr[-5000:]
            making.rename(folder)
    return shutil.copytree(folder, tmp_path_factory.mktemp("tiny") / "run")


@pytest.fixture
def image(finished):
    """Put one image file of a module's `finished` run in place, or change it; the files are as before afterwards."""
    folder, _ = finished
    images = folder / "demo/images"
    contents = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in images.glob("*.fits")}

    def write(source: str, name: str, **cards) -> None:
        with fits.open(images / source) as hdus:
            for hdu in hdus:
                hdu.header.update({key: value for key, value in cards.items() if key in hdu.header})
            hdus.writeto(images / name, overwrite=True)

    yield write
    for path in set(images.glob("*.fits")) - set(contents):
        path.unlink()
    for path, (content, mtime) in contents.items():
        path.write_bytes(content)
        os.utime(path, ns=(mtime, mtime))
