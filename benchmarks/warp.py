"""Cost of warping a visit, whole processes: ours against SWarp with LANCZOS3, one thread each.

Both read 4k x 4k images that are rotated by 12 degrees, resample them onto one grid and write the results; ours
carries image, variance and mask through, SWarp image and weight.  Rounds are interleaved, medians are reported.
`main` returns the rows of benchmarks/results.json.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.psf.stampfield import StampField

SIZE = 4096
ROTATION = 12.0
ROUNDS = 3

SWARP_OPTIONS = {
    "RESAMPLING_TYPE": "LANCZOS3",
    "COMBINE": "N",
    "SUBTRACT_BACK": "N",
    "WEIGHT_TYPE": "MAP_WEIGHT",
    "NTHREADS": "1",
    "CENTER_TYPE": "MANUAL",
    "CENTER": "150.0,2.0",
    "PIXELSCALE_TYPE": "MANUAL",
    "PIXEL_SCALE": "0.2",
    "IMAGE_SIZE": f"{SIZE},{SIZE}",
    "WRITE_XML": "N",
    "VERBOSE_TYPE": "QUIET",
}

# What the warp step does with its visit: read each detector, warp it, write it.
OURS = """
import sys
from diaflow.image.exposure import Exposure
from diaflow.warp import warp
*paths, target = sys.argv[1:]
grid = Exposure.read(target)
for path in paths:
    warp(Exposure.read(path), grid.wcs, {shape}).write(path.replace(".fits", ".warp.fits"))
"""


def main() -> list[dict]:
    """Figures for a visit of eight images and of one; the peer's fields are None where SWarp is not installed."""
    binary = shutil.which("SWarp") or shutil.which("swarp")
    if not binary:
        print("SWarp is not installed (Debian package swarp): no comparison", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        make_images(Path(folder), 8)
        return [measure(Path(folder), n, binary) for n in (8, 1)]


def make_images(folder: Path, n: int) -> None:
    """Noise images as exposures, and as image and weight files for SWarp."""
    rng = np.random.default_rng(1)
    for k in range(n):
        image = rng.standard_normal((SIZE, SIZE), dtype=np.float32)
        ones = np.ones_like(image)
        psf = StampField(np.pad([[1.0]], 12)[None], 0, image.shape)
        wcs = tan_wcs(ROTATION + 0.1 * k)
        planes = image, ones, np.zeros(image.shape, np.int32)
        exposure = Exposure(*planes, wcs, psf, noise=WHITE, metadata={"visit": 1, "detector": k})
        exposure.write(folder / f"{k}.fits")
        fits.writeto(folder / f"s{k}.fits", image, wcs.to_header())
        fits.writeto(folder / f"s{k}.weight.fits", ones, wcs.to_header())
    small = np.zeros((1, 1), np.float32)
    Exposure(small, small, small.astype(np.int32), tan_wcs(0.0), noise=WHITE).write(folder / "target.fits")


def tan_wcs(rotation: float) -> WCS:
    """TAN about the middle of the image, 0.2 arcsec per pixel."""
    c, s = np.cos(np.radians(rotation)) * 0.2 / 3600, np.sin(np.radians(rotation)) * 0.2 / 3600
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150.0, 2.0], [(SIZE + 1) / 2] * 2
    wcs.wcs.cd = [[-c, s], [s, c]]
    return wcs


def measure(folder: Path, n: int, binary: str | None) -> dict:
    """Median CPU time of both on the first n images."""
    names = [f"{k}.fits" for k in range(n)]
    ours = [sys.executable, "-c", OURS.format(shape=(SIZE, SIZE)), *names, "target.fits"]
    commands = {"ours": ours}
    if binary:
        options = [word for key, value in SWARP_OPTIONS.items() for word in (f"-{key}", value)]
        commands["peer"] = [binary, *(f"s{name}" for name in names), *options]
    cpu, peak = {name: [] for name in commands}, 0.0
    for _ in range(ROUNDS):
        for name, command in commands.items():
            seconds, megabytes = cost(command, folder)
            cpu[name].append(seconds)
            peak = max(peak, megabytes) if name == "ours" else peak
    ours_cpu, peer_cpu = (statistics.median(cpu[name]) if name in cpu else None for name in ("ours", "peer"))
    return {
        "name": f"warp, visit of {n}",
        "ours_cpu_s": round(ours_cpu, 2),
        "peer": "SWarp LANCZOS3" if binary else None,
        "peer_cpu_s": round(peer_cpu, 2) if binary else None,
        "ratio": round(ours_cpu / peer_cpu, 3) if binary else None,
        "peak_mb": round(peak),
    }


def cost(command: list[str], folder: Path) -> tuple[float, float]:
    """CPU seconds (user and system) and peak memory [MB] of a command."""
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    error = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, stderr=error)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


if __name__ == "__main__":
    for row in main():
        print(*(f"{key} {value}" for key, value in row.items()), sep="  ")
