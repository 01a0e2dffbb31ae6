"""Subtraction of simulated pairs in whole processes (read, match, decorrelate, write), beside other tools.

Stars with PSFs that change over the detector in both images, white noise.  SFFT, OIS and ProperImage run where
``python -m venv benchmarks/.peers``, ``pip install sfft properimage`` and ``pip install --no-build-isolation ois`` in
it have put them (or in the Python named by PEERS_PYTHON).  ISIS, the C program of Alard & Lupton, runs where its
`mrj_phot` is on the PATH (the PyPI package OasisPy has the sources: ``make -B CC="gcc -O3 -w -fcommon"`` in
OasisPy/AIS/package/subtract), HOTPANTS where `hotpants` is.  What is missing is left out with the reason.  All get the
same pixels: 4k x 4k, and 1k x 1k for those that need more memory: the CPU version of SFFT takes 3.9 GB for these and
was out of memory at 17 GB for 4k.
What is left of bright stars is compared with the noise of the sky of the same difference.
"""

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from measure import PYTHON, cpu_and_memory, result

from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.psf.stampfield import StampField, fit_stamps
from diaflow.run import job
from diaflow.statistics import robust_width
from diaflow.store import tables
from diaflow.subtract import alard_lupton, zogy
from diaflow.subtract.subtraction import subtract

STAMP, STARS_PER_PIXEL = 31, 6000 / 4096**2
SCIENCE, TEMPLATE = (4.2, 100.0), (3.4, 25.0)  # FWHM at the centre [pixel], variance
FWHM_SLOPE = 0.3
OURS = {"alard_lupton": alard_lupton.subtract, "zogy": zogy.subtract}
CONFIG = {
    "mode": "auto",
    "basis": "gaussian",
    "kernel_order": 1,
    "background_order": 2,
    "scale_order": 0,
    "min_coverage": 0.1,
}
ROUNDS = 3
HERE = Path(__file__).parent
PEERS_PYTHON = os.environ.get("PEERS_PYTHON", str(HERE / ".peers/bin/python"))
PEERS = {1024: ("sfft", "ois", "properimage", "isis"), 4096: ("isis", "hotpants", "ois")}
ISIS_SKY = 1000.0  # because ISIS takes pixels below a positive limit for defects
# Its own kernel, of the size and the spatial orders of ours.  More than 10 x 10 stamps make it crash.
ISIS_CONFIG = """
nstamps_x 10
nstamps_y 10
sub_x 1
sub_y 1
half_mesh_size 10
half_stamp_size 15
deg_bg 2
saturation 1e6
pix_min 5
min_stamp_center 1300
ngauss 3
deg_gauss1 6
deg_gauss2 4
deg_gauss3 2
sigma_gauss1 0.7
sigma_gauss2 1.5
sigma_gauss3 3.0
deg_spatial 1
"""
# Half side of the box around a star that SFFT fits, least S/N of such a star, and of one whose residual counts.
STAR_BOX, FITTED_SNR, BRIGHT_SNR = 15, 10.0, 300.0
CORE = 4  # half side of the box that the residual is looked for in [pixel]


def psf_field(fwhm: float, slope: float, size: int) -> StampField:
    """Moffat PSF (beta 3.5) whose FWHM changes linearly along x."""
    t = np.arange(STAMP) - STAMP // 2
    x = np.linspace(0, size - 1, 5)
    gx, gy = (g.ravel() for g in np.meshgrid(x, x))
    width = fwhm + slope * (2 * gx / (size - 1) - 1)
    r2 = t[:, None] ** 2 + t**2
    stamps = (1 + r2 * (4 * (2 ** (1 / 3.5) - 1) / width**2)[:, None, None]) ** -3.5
    return fit_stamps(stamps / stamps.sum((1, 2), keepdims=True), gx, gy, 2, (size, size)).normalised()


def make_pair(folder: Path, size: int) -> None:
    """Write science.fits, template.fits and sources.parquet."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(STAMP, size - STAMP, (2, round(STARS_PER_PIXEL * size**2)))
    snr = 10 ** rng.uniform(0.5, 3, len(x))
    flux = snr * np.sqrt(4 * np.pi * SCIENCE[1]) * SCIENCE[0] / 2.3548
    t = np.arange(STAMP) - STAMP // 2
    pixels = (y[:, None, None] + t[:, None]) * size + x[:, None, None] + t
    for name, (fwhm, variance), slope in (("science", SCIENCE, FWHM_SLOPE), ("template", TEMPLATE, -FWHM_SLOPE)):
        psf = psf_field(fwhm, slope, size)
        stars = flux[:, None, None] * psf(x, y)
        image = np.bincount(pixels.ravel(), stars.ravel(), size**2).reshape(size, size)
        image += rng.normal(scale=np.sqrt(variance), size=image.shape)
        planes = image, np.full(image.shape, variance), np.zeros(image.shape, np.int32)
        exposure = Exposure(*planes, WCS(naxis=2), psf, noise=WHITE, metadata={"visit": 1})
        exposure.write(folder / f"{name}.fits")
        fits.writeto(folder / f"{name}_pixels.fits", image.astype(np.float32))
        fits.writeto(folder / f"{name}_sky.fits", (image + ISIS_SKY).astype(np.float32))
        fits.writeto(folder / f"{name}_stars.fits", np.where(near_stars(x, y, snr, size), image, 0).astype(np.float32))
    sources = tables.from_columns("source", x=x, y=y, psfFlux=flux, psfFluxErr=flux / snr, extendedness=0.0)
    tables.write("source", sources, folder / "sources.parquet")


def near_stars(x: np.ndarray, y: np.ndarray, snr: np.ndarray, size: int) -> np.ndarray:
    """Pixels in the boxes around the stars that SFFT is fitted to."""
    near = np.zeros((size, size), bool)
    for column, row in zip(x[snr > FITTED_SNR], y[snr > FITTED_SNR]):
        near[row - STAR_BOX : row + STAR_BOX + 1, column - STAR_BOX : column + STAR_BOX + 1] = True
    return near


def read_pair(folder: Path) -> tuple[Exposure, Exposure, np.ndarray]:
    """Science image, template and sources."""
    science, template = (Exposure.read(folder / f"{image}.fits") for image in ("science", "template"))
    return science, template, tables.read("source", folder / "sources.parquet")


def subtract_pair(folder: Path, name: str) -> None:
    """What is timed."""
    job.keep_freed_memory()
    difference = subtract(*read_pair(folder), OURS[name], CONFIG)
    difference.exposure.write(folder / f"{name}.fits")
    difference.matched_template.write(folder / f"{name}_matched.fits")


def later_subtraction(folder: Path) -> float:
    """CPU s of the subtraction alone, of the second image of a process, which has its memory and kernels."""
    job.keep_freed_memory()
    pair = read_pair(folder)
    for _ in range(2):
        start = time.process_time()
        subtract(*pair, OURS["alard_lupton"], CONFIG)
    return time.process_time() - start


def quality(folder: Path, name: str) -> dict:
    """Robust width of the sky, and of the cores of bright stars relative to it: 1 where nothing is left of them."""
    with fits.open(folder / f"{name}.fits") as hdus:
        image = (hdus["IMAGE"] if "IMAGE" in hdus else hdus[0]).data
    sources = tables.read("source", folder / "sources.parquet")
    x, y = (np.rint(sources[column]).astype(int) for column in ("x", "y"))
    inner = slice(2 * STAMP, -2 * STAMP)
    sky = robust_width(image[inner, inner][~near_stars(x, y, np.full(len(x), np.inf), len(image))[inner, inner]])
    border = np.minimum(np.minimum(x, y), len(image) - 1 - np.maximum(x, y))
    bright = (sources["psfFlux"] / sources["psfFluxErr"] > BRIGHT_SNR) & (border > 2 * STAMP)
    offsets = np.arange(-CORE, CORE + 1)
    cores = image[y[bright][:, None, None] + offsets[:, None], x[bright][:, None, None] + offsets]
    return {"sky_sigma": sky, "star_over_sky": float(np.sqrt(np.median((cores**2).mean((1, 2))))) / sky}


def isis(folder: Path) -> list:
    """ISIS (Alard & Lupton 1998, Alard 2000) on the same pixels."""
    (folder / "isis.config").write_text(ISIS_CONFIG)
    return ["sh", "-c", "mrj_phot template_sky.fits science_sky.fits -c isis.config && mv conv.fits isis.fits"]


def hotpants(folder: Path) -> list:
    """HOTPANTS on the same pixels, its options otherwise the defaults."""
    files = ["-inim", "science_pixels.fits", "-tmplim", "template_pixels.fits", "-outim", "hotpants.fits"]
    limits = ["-il", -1e4, "-iu", 1e6, "-tl", -1e4, "-tu", 1e6]
    return ["hotpants", *files, *limits, "-ko", 1, "-bgo", 2, "-n", "i", "-c", "t"]


# By the name of the program, which must be on the PATH.
PROGRAMS = {"isis": ("mrj_phot", isis), "hotpants": ("hotpants", hotpants)}


def peers(folder: Path, names: tuple[str, ...]) -> dict[str, list]:
    """Commands of the peers that are installed; says why others are left out."""
    commands = {}
    for name in names:
        command = [PEERS_PYTHON, HERE / "subtract_peers.py", name]
        program, with_files = PROGRAMS.get(name, ("", None))
        if shutil.which(program):
            commands[name] = with_files(folder)
        elif Path(PEERS_PYTHON).exists() and subprocess.run(command, capture_output=True).returncode == 0:
            commands[name] = [*command, folder]
        else:
            print(f"subtraction: no peer {name}, it is not installed", file=sys.stderr)
    return commands


def compared(size: int, names: tuple[str, ...]) -> list[dict]:
    """Interleaved runs of ours and of the peers that are installed, and our first call with nothing compiled."""
    label = f"of {size} x {size} pixels, whole process"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_pair(folder, size)
        commands = {name: [PYTHON, __file__, folder, name] for name in OURS} | peers(folder, names)
        os.environ["NUMBA_CACHE_DIR"] = str(folder / "cache")
        first = cpu_and_memory(commands["alard_lupton"])
        del os.environ["NUMBA_CACHE_DIR"]
        runs = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                runs[name].append(cpu_and_memory(command, folder))
        alone = [
            subprocess.run([PYTHON, __file__, folder, "later"], capture_output=True, check=True) for _ in range(ROUNDS)
        ]
        left = {name: quality(folder, name) for name in commands}
    cpu = {name: statistics.median(run[0] for run in done) for name, done in runs.items()}
    peak = {name: max(run[1] for run in done) for name, done in runs.items()}
    rows = [result(f"first subtraction, alard_lupton, numba cache empty, {label}", *first)]
    seconds = statistics.median(float(done.stdout) for done in alone)
    name = f"alard_lupton of {size} x {size} pixels alone, of a later image of a process"
    rows.append(result(name, seconds, peak["alard_lupton"], "isis" if "isis" in cpu else None, cpu.get("isis")))
    for name in OURS:
        for peer in [other for other in commands if other not in OURS] or [None]:
            row = result(f"subtraction {name} {label}", cpu[name], peak[name], peer, cpu.get(peer))
            row |= left[name] | {f"peer_{key}": value for key, value in left.get(peer, {}).items()}
            rows.append(row | ({"peer_peak_mb": peak[peer]} if peer else {}))
    return rows


def main() -> list[dict]:
    """All pairs of images."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    return [row for size, names in PEERS.items() for row in compared(size, names)]


if __name__ == "__main__":
    if sys.argv[2:] == ["later"]:
        print(later_subtraction(Path(sys.argv[1])))
    elif len(sys.argv) > 1:
        subtract_pair(Path(sys.argv[1]), sys.argv[2])
    else:
        print(json.dumps(main(), indent=1))
