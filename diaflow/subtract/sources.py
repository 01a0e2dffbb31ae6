"""Which sources of the science image the matching kernel may rest on.

Stars above S/N 10, the brightest first: residuals of bright stars are what a kernel must avoid, so it rests on all
that are not saturated.  Neighbours do no harm, because they are in both images; masked pixels do.
"""

import numpy as np
import sep

from diaflow.errors import data_may_fail
from diaflow.image.exposure import Exposure
from diaflow.measure.extraction import PYRAMID, extract
from diaflow.psfmatch.solution import MIN_STARS

MIN_SNR = 10.0  # of a star the kernel may rest on: fainter ones add noise to it
MAX_SOURCES = 1000  # candidates, the brightest
ENOUGH = 20  # stars; with fewer, galaxies are taken too
# Where they are detected here: side of the cells of the sky, far larger than a star [pixel]; least number of pixels of
# a source, and least S/N of each.
SKY_MESH = 128
MIN_AREA, PIXEL_SNR = 5, MIN_SNR / 3
UNUSABLE = ("pixelFlags_edge", "pixelFlags_saturated", "pixelFlags_interpolatedCenter", "pixelFlags_bad")


def kernel_sources(sources: np.ndarray, science: Exposure, bad: np.ndarray) -> np.ndarray:
    """Pixel positions of kernel candidates, brightest first, at most 1000.

    Parameters
    ----------
    sources : table "source"
        Of the science image; when fewer than three of them can be used, sources are detected here at 10 sigma.
    science : Exposure
    bad : (ny, nx) bool array
        Pixels that must not lie in the central 3 x 3 of a source.

    Returns
    -------
    (2, n) array
        x and y.

    Raises
    ------
    BadData
        When sources must be detected and cannot.
    """
    places = _from_catalogue(sources, bad)
    if len(places[0]) < MIN_STARS:
        places = _detected(science, bad)
    return np.stack(places)[:, :MAX_SOURCES].astype(float)


def _from_catalogue(sources: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = sources["psfFlux"] / sources["psfFluxErr"]
    usable = np.isfinite(sources["x"] + sources["y"]) & (snr > MIN_SNR)
    for flag in UNUSABLE:
        usable &= ~sources[flag]
    usable[usable] = _clean_centre(sources["x"][usable], sources["y"][usable], bad)
    best = usable & ~(sources["extendedness"] == 1)
    rows = np.flatnonzero(best if best.sum() >= ENOUGH else usable)
    rows = rows[np.argsort(-snr[rows], kind="stable")]
    return sources["x"][rows], sources["y"][rows]


def _detected(science: Exposure, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    noise = np.sqrt(np.median(science.variance[~bad])) if not bad.all() else 0.0
    if not noise > 0:
        return np.empty(0), np.empty(0)
    image = np.ascontiguousarray(science.image, np.float32)
    with data_may_fail("background of the kernel stars"):
        image = image - sep.Background(image, mask=bad, bw=SKY_MESH, bh=SKY_MESH).back()
    # with all of the contrast asked of a part of a blend, none is split off
    found = extract(image, PIXEL_SNR, PYRAMID, err=noise, mask=bad, minarea=MIN_AREA, deblend_cont=1.0)
    # flux over the noise in the isophote
    snr = found["flux"] / (noise * np.sqrt(found["npix"]))
    found = found[np.argsort(-snr, kind="stable")][: np.count_nonzero(snr > MIN_SNR)]
    clean = _clean_centre(found["x"], found["y"], bad)
    return found["x"][clean], found["y"][clean]


def _clean_centre(x: np.ndarray, y: np.ndarray, bad: np.ndarray) -> np.ndarray:
    ny, nx = bad.shape
    col, row = np.rint(x).astype(int), np.rint(y).astype(int)
    clean = (col >= 1) & (row >= 1) & (col < nx - 1) & (row < ny - 1)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            clean[clean] = ~bad[row[clean] + dy, col[clean] + dx]
    return clean
