"""From a signal-to-noise image to sources: the pixels beyond a threshold, shared out to the peaks they belong to.

For each sign the pixels are flooded from the highest to the lowest.  A peak stands for a source when it rises by the
threshold above the saddle that joins it to a higher one (its topological persistence), so that neither noise on a
bright wing nor on a plateau makes sources, and two transients whose wings touch stay two.  Peaks of opposite sign
within the reach of one misplaced star are the lobes of one source; the fainter lobe may stay below the threshold.
Peaks of one sign that are closer than the PSF can tell apart are one source, too, which pixels without a value cut.
"""

from dataclasses import dataclass, fields

import numpy as np
from numba import njit
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from diaflow.image.planes import bits, pixels_where
from diaflow.jit import EXACT
from diaflow.measure import photometry

FAINT_LOBE = 0.5  # least S/N of the fainter lobe [threshold]
# Largest distance of peaks of opposite sign that are one source [sigma of the PSF]: the filtered lobes of a source
# subtracted at a slightly wrong place peak 2 sqrt(2) apart.
MAX_LOBE_DISTANCE = 4.0
# Least distance of two sources [sigma of the PSF]: nearer ones have a single peak on the filtered image, where a PSF is
# wider by sqrt(2), and two equal Gaussians have one peak up to twice their sigma (Sparrow 1916).  A fitted position is
# a peak of the filtered image, too, between its pixels.
RESOLVED = 2 * np.sqrt(2)


@dataclass(frozen=True)
class Footprints:
    """Sources in the order of the y and x of their peaks.

    Attributes
    ----------
    x, y : (n,) int arrays
        Peak: the pixel of highest |S/N|.
    positive, negative : (n,) float arrays
        |S/N| of the highest peak of each sign; 0 where there is none above half the threshold.
    positive_peak, negative_peak : (2, n) int arrays
        x and y of these peaks; 0 where there is none.
    planes : (n,) int32 array
        All mask bits set in the footprint.
    bbox_size : (n,) int array
        Larger side of the footprint [pixel].
    threshold : float
    """

    x: np.ndarray
    y: np.ndarray
    positive: np.ndarray
    negative: np.ndarray
    positive_peak: np.ndarray
    negative_peak: np.ndarray
    planes: np.ndarray
    bbox_size: np.ndarray
    threshold: float

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: np.ndarray) -> "Footprints":
        """Some of the sources.

        Parameters
        ----------
        rows : (m,) int or (n,) bool array

        Returns
        -------
        Footprints
        """
        columns = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "threshold"}
        return Footprints(**{name: values[..., rows] for name, values in columns.items()}, threshold=self.threshold)

    @property
    def height(self) -> np.ndarray:
        """|S/N| of the highest peak."""
        return np.maximum(self.positive, self.negative)

    @property
    def is_negative(self) -> np.ndarray:
        """No positive peak above the threshold."""
        return self.positive <= self.threshold

    @property
    def has_both_signs(self) -> np.ndarray:
        """Peaks of both signs."""
        return (self.positive > 0) & (self.negative > 0)


def find(snr: np.ndarray, threshold: float, sigma: float, mask: np.ndarray) -> Footprints:
    """Footprints of both signs; sets DETECTED and DETECTED_NEGATIVE in `mask`.

    Parameters
    ----------
    snr : (ny, nx) float array
        Signal-to-noise ratio, finite.
    threshold : float
        Least |S/N| of a peak, and least rise of a peak above the saddle to a higher one.
    sigma : float
        Radius of the PSF [pixel]: footprints are the pixels beyond the threshold grown by sqrt(2) sigma.
    mask : (ny, nx) int32 array
        Mask planes, changed in place.

    Returns
    -------
    Footprints
    """
    radius = float(np.ceil(np.sqrt(2) * sigma))
    mask &= ~np.int32(bits("DETECTED", "DETECTED_NEGATIVE"))
    signs = [_peaks(snr, threshold, radius, mask), _peaks(-snr, threshold, radius, mask)]
    for peaks, plane in zip(signs, ("DETECTED", "DETECTED_NEGATIVE")):
        _paint(peaks.pixels_x, peaks.pixels_y, radius, np.int32(bits(plane)), mask)
    found = _linked(*signs, sigma, threshold)
    _add_faint_lobes(found, snr, MAX_LOBE_DISTANCE * sigma)
    return found


def grown(pixels: np.ndarray, radius: float) -> np.ndarray:
    """Pixels within a distance of others.

    Parameters
    ----------
    pixels : (ny, nx) bool array
        These.
    radius : float
        [pixel]

    Returns
    -------
    (ny, nx) bool array
    """
    y, x = pixels_where(pixels)
    out = np.zeros(pixels.shape, np.int32)
    _paint(x, y, radius, np.int32(1), out)
    return out != 0


def resolved(x: np.ndarray, y: np.ndarray, height: np.ndarray, sigma: float) -> np.ndarray:
    """Which sources stay when, of any two that are closer than the PSF can tell apart, the lower one goes.

    Parameters
    ----------
    x, y : (n,) arrays
        Positions [pixel].
    height : (n,) array
        What makes one of two sources the better; of equal ones the first stays.
    sigma : float
        Radius of the PSF [pixel].

    Returns
    -------
    (n,) bool array
    """
    pairs = close_pairs(x, y, RESOLVED * sigma)
    rank = np.empty(len(x), int)
    rank[np.argsort(-height, kind="stable")] = np.arange(len(x))
    stays = np.ones(len(x), bool)
    stays[np.where(rank[pairs[:, 0]] < rank[pairs[:, 1]], pairs[:, 1], pairs[:, 0])] = False
    return stays


def close_pairs(x: np.ndarray, y: np.ndarray, distance: float) -> np.ndarray:
    """Pairs of places that are close to each other.

    Parameters
    ----------
    x, y : (n,) arrays
    distance : float
        Largest distance of a pair, in their unit.

    Returns
    -------
    (m, 2) int array
        Rows of the two.
    """
    return _tree(x, y).query_pairs(distance, output_type="ndarray")


def _tree(x: np.ndarray, y: np.ndarray) -> cKDTree:
    return cKDTree(np.column_stack([x, y]).reshape(-1, 2))


def _add_faint_lobes(found: Footprints, snr: np.ndarray, distance: float) -> None:
    """Where there are peaks of one sign only, what the other has nearby above half the threshold.

    The error of the flux of a bright star often leaves one lobe of its dipole below the threshold.
    """
    half = int(distance)
    t = np.arange(-half, half + 1)
    far = t[:, None] ** 2 + t**2 > distance**2
    lobes = (found.positive, found.positive_peak, 1), (found.negative, found.negative_peak, -1)
    for height, peak, sign in lobes:
        rows = np.flatnonzero(height == 0)
        boxes = np.where(far, 0, sign * photometry.cutouts(snr, found.x[rows], found.y[rows], half)).reshape(
            len(rows), far.size
        )
        best = boxes.argmax(axis=1)
        value = np.take_along_axis(boxes, best[:, None], 1)[:, 0]
        # above the threshold it is the wing of another source
        seen = (value > FAINT_LOBE * found.threshold) & (value <= found.threshold)
        height[rows[seen]] = value[seen]
        dy, dx = np.divmod(best[seen], 2 * half + 1)
        peak[:, rows[seen]] = found.x[rows[seen]] + dx - half, found.y[rows[seen]] + dy - half


@dataclass(frozen=True)
class _Peaks:
    """Peaks of one sign: place, height, mask bits and box (x0, y0, x1, y1) of each, and all pixels of the sign."""

    x: np.ndarray
    y: np.ndarray
    height: np.ndarray
    planes: np.ndarray
    box: np.ndarray
    pixels_x: np.ndarray
    pixels_y: np.ndarray


def _peaks(snr: np.ndarray, threshold: float, radius: float, mask: np.ndarray) -> _Peaks:
    y, x = pixels_where(snr > threshold)
    order = np.argsort(-snr[y, x], kind="stable")
    y, x = y[order].astype(np.int32), x[order].astype(np.int32)
    height = snr[y, x]
    root = flood(x, y, height, np.full(len(x), threshold), snr.shape)
    planes, box = _extent(x, y, root, radius, mask)
    peak = np.flatnonzero(root == np.arange(len(root)))
    return _Peaks(x[peak], y[peak], height[peak], planes[peak], box[peak], x, y)


def _pairs(positive: _Peaks, negative: _Peaks, sigma: float) -> np.ndarray:
    """Pairs of peaks that are one source, (m, 2): lobes, or parts that are not resolved; negative ones come last."""
    opposite = _tree(positive.x, positive.y).sparse_distance_matrix(
        _tree(negative.x, negative.y), MAX_LOBE_DISTANCE * sigma, output_type="coo_matrix"
    )
    pairs = np.column_stack([opposite.row, opposite.col])
    cut = [close_pairs(peaks.x, peaks.y, RESOLVED * sigma) for peaks in (positive, negative)]
    n_positive = len(positive.x)
    return np.concatenate([pairs + [0, n_positive], cut[0], cut[1] + n_positive])


def _linked(positive: _Peaks, negative: _Peaks, sigma: float, threshold: float) -> Footprints:
    """One source for each set of connected peaks."""
    n_positive, n = len(positive.x), len(positive.x) + len(negative.x)
    x, y, height, planes = (
        np.concatenate([getattr(positive, name), getattr(negative, name)]) for name in ("x", "y", "height", "planes")
    )
    box = np.concatenate([positive.box, negative.box])
    pairs = _pairs(positive, negative, sigma)
    links = coo_array((np.ones(len(pairs)), pairs.T), shape=(n, n))
    n_sources, source = connected_components(links, directed=False)
    lobes, peaks = np.zeros((2, n_sources)), np.zeros((2, 2, n_sources), np.int32)
    for sign, rows in enumerate((slice(0, n_positive), slice(n_positive, n))):
        upwards = rows.start + np.lexsort((x[rows], y[rows], height[rows]))
        # of several peaks of a source the last one written is the highest
        lobes[sign, source[upwards]] = height[upwards]
        peaks[sign][:, source[upwards]] = x[upwards], y[upwards]
    all_planes = np.zeros(n_sources, np.int32)
    np.bitwise_or.at(all_planes, source, planes)
    low, high = np.full((n_sources, 2), np.iinfo(np.int32).max), np.full((n_sources, 2), -1)
    np.minimum.at(low, source, box[:, :2])
    np.maximum.at(high, source, box[:, 2:])
    by_height = np.lexsort((x, y, -height))
    highest = by_height[np.unique(source[by_height], return_index=True)[1]]
    rows = np.lexsort((x[highest], y[highest]))
    return Footprints(
        x=x[highest][rows],
        y=y[highest][rows],
        positive=lobes[0][rows],
        negative=lobes[1][rows],
        positive_peak=peaks[0][:, rows],
        negative_peak=peaks[1][:, rows],
        planes=all_planes[rows],
        bbox_size=(high - low + 1).max(axis=1)[rows],
        threshold=threshold,
    )


@njit(**EXACT)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(**EXACT)
def flood(x, y, height, least_rise, shape):
    """Which peak each pixel of an image belongs to; a peak is its own.

    A pixel joins the highest of the basins that it touches.  A lower basin that it connects to that one goes into it
    unless its peak rises enough above the pixel, which is their saddle.

    Parameters
    ----------
    x, y : (n,) int arrays
        Pixels, from the highest to the lowest.
    height : (n,) array
    least_rise : (n,) array
        How far the peak of a basin must be above each pixel for the two to be separate there.
    shape : (ny, nx)
        Of the image.

    Returns
    -------
    (n,) int array
        Index of the peak of each pixel.
    """
    rank = np.full(shape, -1, np.int32)
    parent, beside = np.arange(x.size), np.empty(8, np.int64)
    for i in range(x.size):
        highest, n_beside = i, 0
        for yy in range(max(0, y[i] - 1), min(shape[0], y[i] + 2)):
            for xx in range(max(0, x[i] - 1), min(shape[1], x[i] + 2)):
                if rank[yy, xx] >= 0:
                    beside[n_beside] = _root(parent, rank[yy, xx])
                    highest = min(highest, beside[n_beside])
                    n_beside += 1
        for other in beside[:n_beside]:
            if height[other] - height[i] < least_rise[i]:
                parent[other] = highest
        parent[i] = highest
        rank[y[i], x[i]] = i
    for i in range(x.size):
        parent[i] = _root(parent, i)
    return parent


@njit(**EXACT)
def _extent(x, y, root, radius, mask):
    """Mask bits and box of the grown pixels of each peak, in the rows of the peaks."""
    ny, nx = mask.shape
    h = int(radius)
    planes = np.zeros(x.size, np.int32)
    box = np.empty((x.size, 4), np.int32)
    for i in range(x.size):
        r = root[i]
        x0, y0, x1, y1 = max(0, x[i] - h), max(0, y[i] - h), min(nx - 1, x[i] + h), min(ny - 1, y[i] + h)
        if r == i:
            box[r] = (x0, y0, x1, y1)
        box[r, 0], box[r, 1] = min(box[r, 0], x0), min(box[r, 1], y0)
        box[r, 2], box[r, 3] = max(box[r, 2], x1), max(box[r, 3], y1)
        for yy in range(y0, y1 + 1):
            for xx in range(x0, x1 + 1):
                if (yy - y[i]) ** 2 + (xx - x[i]) ** 2 <= radius * radius:
                    planes[r] |= mask[yy, xx]
    return planes, box


@njit(**EXACT)
def _paint(x, y, radius, bit, mask):
    """Set `bit` within `radius` of each pixel."""
    ny, nx = mask.shape
    h = int(radius)
    for i in range(x.size):
        for yy in range(max(0, y[i] - h), min(ny, y[i] + h + 1)):
            for xx in range(max(0, x[i] - h), min(nx, x[i] + h + 1)):
                if (yy - y[i]) ** 2 + (xx - x[i]) ** 2 <= radius * radius:
                    mask[yy, xx] |= bit
