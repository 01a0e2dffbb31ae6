"""Subtraction of a simulated 4k x 4k pair in a whole process (read, match, decorrelate, write), beside HOTPANTS.

Stars with PSFs that change over the detector in both images, white noise.  HOTPANTS gets the same pixels, its kernel
of order 1 and background of order 2; it is left out, with the reason, where there is no `hotpants` on the PATH.
"""

import json
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from measure import PYTHON, cpu_and_memory, result

from diaflow import subtract, tables
from diaflow.exposure import Exposure
from diaflow.stampfield import StampField, fit_stamps

SIZE, N_STARS, STAMP = 4096, 6000, 31
SCIENCE, TEMPLATE = (4.2, 100.0), (3.4, 25.0)  # FWHM at the centre [pixel], variance
FWHM_SLOPE = 0.3
CONFIG = {"algorithm": "alard_lupton", "mode": "auto", "kernel_order": 1, "background_order": 2, "min_coverage": 0.1}
ROUNDS = 3


def psf_field(fwhm: float, slope: float) -> StampField:
    """Moffat PSF (beta 3.5) whose FWHM changes linearly along x."""
    t = np.arange(STAMP) - STAMP // 2
    x = np.linspace(0, SIZE - 1, 5)
    gx, gy = (g.ravel() for g in np.meshgrid(x, x))
    width = fwhm + slope * (2 * gx / (SIZE - 1) - 1)
    r2 = t[:, None] ** 2 + t**2
    stamps = (1 + r2 * (4 * (2 ** (1 / 3.5) - 1) / width**2)[:, None, None]) ** -3.5
    return fit_stamps(stamps / stamps.sum((1, 2), keepdims=True), gx, gy, 2, (SIZE, SIZE)).normalised()


def make_pair(folder: Path) -> None:
    """Write science.fits, template.fits and sources.parquet."""
    rng = np.random.default_rng(1)
    x, y = rng.integers(STAMP, SIZE - STAMP, (2, N_STARS))
    snr = 10 ** rng.uniform(0.5, 3, N_STARS)
    flux = snr * np.sqrt(4 * np.pi * SCIENCE[1]) * SCIENCE[0] / 2.3548
    t = np.arange(STAMP) - STAMP // 2
    pixels = (y[:, None, None] + t[:, None]) * SIZE + x[:, None, None] + t
    for name, (fwhm, variance), slope in (("science", SCIENCE, FWHM_SLOPE), ("template", TEMPLATE, -FWHM_SLOPE)):
        psf = psf_field(fwhm, slope)
        stars = flux[:, None, None] * psf(x, y)
        image = np.bincount(pixels.ravel(), stars.ravel(), SIZE**2).reshape(SIZE, SIZE)
        image += rng.normal(scale=np.sqrt(variance), size=image.shape)
        mask = np.zeros(image.shape, np.int32)
        exposure = Exposure(image, np.full(image.shape, variance), mask, WCS(naxis=2), psf, {"visit": 1})
        exposure.write(folder / f"{name}.fits")
        fits.writeto(folder / f"{name}_pixels.fits", image.astype(np.float32))
    sources = tables.from_columns("source", x=x, y=y, psfFlux=flux, psfFluxErr=flux / snr, extendedness=0.0)
    tables.write("source", sources, folder / "sources.parquet")


def subtract_pair(folder: Path) -> None:
    """What is timed."""
    science, template = (Exposure.read(folder / f"{name}.fits") for name in ("science", "template"))
    sources = tables.read("source", folder / "sources.parquet")
    difference, matched, _ = subtract.subtract(science, template, sources, CONFIG)
    difference.write(folder / "difference.fits")
    matched.write(folder / "matched.fits")


def hotpants(folder: Path) -> list:
    """HOTPANTS on the same pixels, its options otherwise the defaults."""
    files = ["-inim", "science_pixels.fits", "-tmplim", "template_pixels.fits", "-outim", "hotpants.fits"]
    limits = ["-il", -1e4, "-iu", 1e6, "-tl", -1e4, "-tu", 1e6]
    return ["hotpants", *files, *limits, "-ko", 1, "-bgo", 2, "-n", "i", "-c", "t"]


def main() -> list[dict]:
    """Interleaved runs of ours and, where it is installed, HOTPANTS."""
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    installed = shutil.which("hotpants") is not None
    if not installed:
        print("subtraction: no peer, hotpants is not on the PATH", file=sys.stderr)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_pair(folder)
        ours, peer = [], []
        for _ in range(ROUNDS):
            ours.append(cpu_and_memory([PYTHON, __file__, folder]))
            if installed:
                peer.append(cpu_and_memory(hotpants(folder), folder)[0])
    cpu, peak = statistics.median(run[0] for run in ours), max(run[1] for run in ours)
    label = f"subtraction of {SIZE} x {SIZE} pixels, whole process"
    return [result(label, cpu, peak, *(("hotpants", statistics.median(peer)) if installed else ()))]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        subtract_pair(Path(sys.argv[1]))
    else:
        print(json.dumps(main(), indent=1))
