"""One list of peaks from those of all bands, and the footprints they lie in (LSST's mergeDetections, pipe_tasks).

Bands come in the order of a priority list.  A peak of a later band is that of an earlier one where both are at one
place, is new where it is far from all, and tells nothing in between.  Beside one in a saturated core, which is at no
certain place, it is no new one but tells the place.  The footprints of all bands together, grown by
what a source has beyond the threshold, fall into connected pieces, each of which is the parent of its peaks.  All peaks
stay: each rises above its surroundings as a source at the threshold does.  LSST's cullPeaks leaves out those of large
families that one band alone shows, which in a crowd of different colours are a third of the stars.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from diaflow.catalogue.detection import Detections
from diaflow.detect import footprints
from diaflow.psf.stampfield import FWHM_PER_SIGMA

# Least distance of a new peak from those of earlier bands, and largest one of the same peak [arcsec]: LSST's; no new
# peak is closer than the PSF can tell apart, either.
NEW_PEAK, SAME_PEAK = 1.0, 0.3
GROWTH = 2.4  # by which footprints are grown [sigma of the broadest PSF]: LSST's nSigmaToGrow
# The first band of the priority list tells the place of an object, unless its S/N is below the first number there and
# that of another band is larger by more than the second (LSST's mergeMeasurements).
FAINT, BETTER = 10.0, 3.0


@dataclass(frozen=True)
class Peaks:
    """The peaks of a patch, in the order of their families.

    Attributes
    ----------
    x, y : (n,) float arrays
        Place in the reference band [pixel].
    family : (n,) int array
        Number of the footprint, from 1.
    seen : (n, n_bands) bool array
        Which bands have the peak.
    snr : (n, n_bands) float array
        S/N of a point source there.
    reference : (n,) int array
        Index of the band that tells the place.
    footprint : (ny, nx) int32 array
        Number of the footprint at every pixel, 0 for none.
    """

    x: np.ndarray
    y: np.ndarray
    family: np.ndarray
    seen: np.ndarray
    snr: np.ndarray
    reference: np.ndarray
    footprint: np.ndarray

    def __len__(self) -> int:
        return len(self.x)


def merge(detections: Sequence[Detections], pixel_scale: float) -> Peaks:
    """The peaks of all bands as one list.

    Parameters
    ----------
    detections : sequence of Detections
        On one grid, in the order of the priority list.
    pixel_scale : float
        [arcsec]

    Returns
    -------
    Peaks
        Sorted by family, and in it by the largest S/N of all bands, from the highest.
    """
    sigma = max(found.sigma for found in detections)
    x, y, seen, saturated = _places(
        detections, SAME_PEAK / pixel_scale, max(NEW_PEAK / pixel_scale, FWHM_PER_SIGMA * sigma)
    )
    footprint = _footprints(detections, GROWTH * sigma)
    column, row = _pixels(x, y, footprint.shape)
    snr = np.stack([found.snr[row, column] for found in detections], axis=1)
    reference = _reference(np.where((seen & ~saturated).any(axis=1, keepdims=True), seen & ~saturated, seen), snr)
    own = np.arange(len(reference)), reference
    family = footprint[row, column]
    order = np.lexsort((x[own], y[own], -snr.max(axis=1, initial=0), family))
    own = order, reference[order]
    return Peaks(x[own], y[own], family[order], seen[order], snr[order], reference[order], footprint)


def _places(
    detections: Sequence[Detections], same: float, new: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Places of peaks in every band, (n, n_bands) each, those of the first band that has a peak where one has it not;
    which bands have it, and in which it is saturated."""
    n_bands = len(detections)
    x, y = np.empty((2, 0, n_bands))
    seen, saturated = np.empty((2, 0, n_bands), bool)
    for band, found in enumerate(detections):
        places = np.column_stack([found.x, found.y])
        first = seen.argmax(axis=1)
        rows = np.arange(len(x))
        tree = cKDTree(np.column_stack([x[rows, first], y[rows, first]]))
        distance, nearest = tree.query(places) if len(rows) else (np.full(len(places), np.inf), None)
        if nearest is not None:
            reach = np.where(saturated[rows, first], new, same)[nearest]
            known = np.flatnonzero(distance < reach)
            known = known[np.argsort(-distance[known], kind="stable")]  # of several, the nearest comes last and stays
            x[nearest[known], band], y[nearest[known], band] = places[known].T
            seen[nearest[known], band], saturated[nearest[known], band] = True, found.saturated[known]
        added = distance > new
        of_band = np.zeros((added.sum(), n_bands), bool)
        of_band[:, band] = True
        x = np.vstack([x, np.repeat(places[added, :1], n_bands, axis=1)])
        y = np.vstack([y, np.repeat(places[added, 1:], n_bands, axis=1)])
        seen = np.vstack([seen, of_band])
        saturated = np.vstack([saturated, of_band & found.saturated[added, None]])
    return x, y, seen, saturated


def _footprints(detections: Sequence[Detections], radius: float) -> np.ndarray:
    """Numbers of the connected pieces of what any band has above its threshold, grown by a radius."""
    above = np.logical_or.reduce([found.above for found in detections])
    return ndimage.label(footprints.grown(above, radius), np.ones((3, 3)), np.int32)[0]


def _reference(seen: np.ndarray, snr: np.ndarray) -> np.ndarray:
    """Index (n,) of the band that tells the place of each peak, of those that may."""
    first = seen.argmax(axis=1)
    rows = np.arange(len(seen))
    best = np.where(seen, snr, -np.inf).argmax(axis=1)
    better = (snr[rows, first] < FAINT) & (snr[rows, best] > snr[rows, first] + BETTER)
    return np.where(better, best, first)


def _pixels(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of places of every band, in the first column of bands."""
    return tuple(np.floor(p[:, 0] + 0.5).astype(int).clip(0, n - 1) for p, n in ((x, shape[1]), (y, shape[0])))
