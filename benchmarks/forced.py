"""Forced photometry of 10,000 positions on a 4k x 4k image, beside the PSF photometry of photutils at fixed positions.

photutils runs where ``python -m venv benchmarks/.peers`` and ``pip install photutils`` in it have put it (or in the
Python named by PEERS_PYTHON).  Both get the same pixels, errors, positions and PSF, which our side evaluates at each
position, since it may change over the image; neither starts, reads or compiles within its time.  Fluxes of both are
compared: a peer with another task would be none.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
PEERS_PYTHON = os.environ.get("PEERS_PYTHON", str(HERE / ".peers/bin/python"))
SIZE, N, STAMP, SIGMA = 4096, 10_000, 31, 1.7  # [pixel], positions, side of the PSF's stamps, its sigma [pixel]
NOISE = 10.0  # of a pixel
BRIGHTEST = 5e3  # flux: S/N 83, at which 3e-4 of a flux, by which interpolated PSFs differ, is no matter
AGREEMENT = 0.05  # of the fluxes of both [error]


def stars(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions on a jittered grid, so that none is on another's stamp, and fluxes."""
    side = int(np.ceil(np.sqrt(N)))
    step = (SIZE - 2 * STAMP) / side
    y, x = (STAMP + step * (grid.ravel()[:N] + 0.5) for grid in np.mgrid[:side, :side])
    x, y = (at + rng.uniform(-0.5, 0.5, N) for at in (x, y))
    return x, y, rng.uniform(0, BRIGHTEST, N)


def gaussian(x: np.ndarray, y: np.ndarray, half: int) -> np.ndarray:
    """Unit-flux stamps of a Gaussian PSF about the pixels nearest to the positions."""
    offsets = np.arange(-half, half + 1)
    dx, dy = (offsets - (at - np.rint(at))[:, None] for at in (x, y))
    px, py = (np.exp(-0.5 * (d / SIGMA) ** 2) / np.sqrt(2 * np.pi) / SIGMA for d in (dx, dy))
    return py[:, :, None] * px[:, None, :]


def simulate(folder: Path) -> None:
    """Pixels, positions and PSF, for both."""
    rng = np.random.default_rng(1)
    x, y, flux = stars(rng)
    image = rng.normal(0, NOISE, (SIZE, SIZE)).astype(np.float32)
    half = STAMP // 2
    for stamp, ix, iy, f in zip(gaussian(x, y, half), np.rint(x).astype(int), np.rint(y).astype(int), flux):
        image[iy - half : iy + half + 1, ix - half : ix + half + 1] += f * stamp
    psf = gaussian(np.zeros(1), np.zeros(1), half)[0]
    np.savez(folder / "pixels.npz", image=image, x=x, y=y, psf=psf)


def ours(folder: Path) -> None:
    """Forced photometry of diaflow."""
    from astropy.wcs import WCS

    from diaflow.forced.measure import at_positions
    from diaflow.forced.positions import Positions
    from diaflow.image.exposure import Exposure
    from diaflow.image.noise import WHITE
    from diaflow.psf.stampfield import fit_stamps
    from diaflow.run import job

    job.keep_freed_memory()
    data = np.load(folder / "pixels.npz")
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [150, 2], [SIZE / 2, SIZE / 2]
    wcs.wcs.cd = np.diag([-0.2, 0.2]) / 3600
    psf = fit_stamps(data["psf"][None], np.zeros(1), np.zeros(1), 0, (SIZE, SIZE))
    planes = data["image"], np.full((SIZE, SIZE), NOISE**2, np.float32), np.zeros((SIZE, SIZE), np.int32)
    exposure = Exposure(*planes, wcs, psf, noise=WHITE, metadata={"band": "r"})
    ra, dec = wcs.all_pix2world(data["x"], data["y"], 0)
    positions = Positions(ra, dec, {"positionId": np.arange(1, N + 1)})
    at_positions("forced_source", exposure, positions[np.arange(10)])
    start = time.process_time()
    table = at_positions("forced_source", exposure, positions)
    write(folder / "ours.json", time.process_time() - start, table["psfFlux"], table["psfFluxErr"])


def photutils(folder: Path) -> None:
    """The PSF photometry of photutils, with positions that its fit holds fixed."""
    from astropy.table import Table
    from photutils.psf import ImagePSF, PSFPhotometry

    data = np.load(folder / "pixels.npz")
    model = ImagePSF(data["psf"])
    model.x_0.fixed = model.y_0.fixed = True
    fit = PSFPhotometry(model, STAMP, aperture_radius=3 * SIGMA)
    first = Table({"x_init": data["x"], "y_init": data["y"]})
    error = np.full((SIZE, SIZE), NOISE)
    fit(data["image"], error=error, init_params=first[:10])
    start = time.process_time()
    table = fit(data["image"], error=error, init_params=first)
    write(folder / "photutils.json", time.process_time() - start, table["flux_fit"], table["flux_err"])


def write(path: Path, seconds: float, flux: np.ndarray, err: np.ndarray) -> None:
    """What a side took and found."""
    path.write_text(json.dumps({"cpu_s": seconds, "flux": list(map(float, flux)), "err": list(map(float, err))}))


def main() -> list[dict]:
    """The row of the benchmark table."""
    from measure import PYTHON, cpu_and_memory, result

    name = f"forced photometry of {N:,} positions on {SIZE} x {SIZE} pixels"
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        simulate(folder)
        peak = cpu_and_memory([PYTHON, __file__, "ours", folder])[1]
        mine = json.loads((folder / "ours.json").read_text())
        command = [PEERS_PYTHON, __file__, "photutils", str(folder)]
        if not Path(PEERS_PYTHON).exists() or subprocess.run(command, capture_output=True).returncode:
            return [result(name, mine["cpu_s"], peak, f"no photutils in {PEERS_PYTHON}")]
        theirs = json.loads((folder / "photutils.json").read_text())
    off = np.abs(np.subtract(mine["flux"], theirs["flux"])) / mine["err"]
    if np.median(off) > AGREEMENT:
        raise AssertionError(f"fluxes differ by {np.median(off):.3f} errors: not the same task")
    return [result(name, mine["cpu_s"], peak, "photutils", theirs["cpu_s"])]


if __name__ == "__main__":
    sides = {"ours": ours, "photutils": photutils}
    print(*main(), sep="\n") if len(sys.argv) == 1 else sides[sys.argv[1]](Path(sys.argv[2]))
