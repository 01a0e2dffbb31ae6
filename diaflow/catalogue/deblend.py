"""The pixels of each footprint shared out to its peaks: parents with children, in every band the same ones.

`symmetry` says what each child looks like in its reference band.  In each band the templates are scaled to what is
there, and a pixel goes to the children in proportion to them, so that these add up to the parent; a pixel where no
template is goes to the nearest peak.  So do all pixels of a footprint that is too large or has too little data.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy import ndimage
from scipy.spatial import cKDTree

from diaflow.catalogue import symmetry, templates
from diaflow.catalogue.blends import Blends
from diaflow.catalogue.merge import Peaks
from diaflow.catalogue.templates import Templates
from diaflow.image.exposure import Exposure
from diaflow.image.planes import pixels_where
from diaflow.jit import EXACT

MAX_PEAKS, MAX_PIXELS = 500, 1_000_000  # of a footprint that has templates: chosen, a second of a core
MAX_MISSING = 0.25  # of the pixels of such a footprint that have no data: as in LSST's meas_deblender
# Sweeps over the children of a blend to fit their templates, at most, and relative change of a weight that ends them.
SWEEPS, CONVERGED = 30, 1e-3


@dataclass(frozen=True)
class Tree:
    """Objects of a patch: a row for each footprint, or for its parent and each of its peaks.

    Attributes
    ----------
    peak : (n,) int array
        Row of `Peaks`; -1 of parents.
    family : (n,) int array
        Number of the footprint.
    parent : (n,) int array
        Row of the parent, -1 for none.
    n_peaks : (n,) int array
        Of the footprint for parents, else 1.
    skipped : (n,) bool array
        Parents and children of footprints without templates.
    """

    peak: np.ndarray
    family: np.ndarray
    parent: np.ndarray
    n_peaks: np.ndarray
    skipped: np.ndarray

    def __len__(self) -> int:
        return len(self.peak)

    @property
    def n_child(self) -> np.ndarray:
        """Children of each row."""
        return np.where(self.peak < 0, self.n_peaks, 0)

    @property
    def children(self) -> np.ndarray:
        """Rows of all children, blend by blend."""
        return np.flatnonzero(self.parent >= 0)


def tree(peaks: Peaks, no_data: np.ndarray) -> Tree:
    """The rows of the objects of a patch.

    Parameters
    ----------
    peaks : Peaks
    no_data : (ny, nx) bool array
        Pixels that some band does not have.

    Returns
    -------
    Tree
        In the order of the peaks, a parent before its children.
    """
    families, first, n_peaks = np.unique(peaks.family, return_index=True, return_counts=True)
    is_blend = n_peaks > 1
    # of each footprint, where its rows begin: a blend has one more than it has peaks
    begin = np.cumsum(n_peaks + is_blend) - (n_peaks + is_blend)
    n_rows = len(peaks) + is_blend.sum()
    peak = np.full(n_rows, -1)
    which = np.repeat(np.arange(len(families)), n_peaks)
    peak[begin[which] + is_blend[which] + np.arange(len(peaks)) - first[which]] = np.arange(len(peaks))
    which = np.repeat(np.arange(len(families)), n_peaks + is_blend)
    area = np.bincount(peaks.footprint.ravel(), minlength=families.max(initial=0) + 1)
    missing = np.bincount(peaks.footprint[no_data], minlength=len(area))
    too_much = (n_peaks > MAX_PEAKS) | (area[families] > MAX_PIXELS) | (missing > MAX_MISSING * area)[families]
    return Tree(
        peak=peak,
        family=families[which],
        parent=np.where((peak >= 0) & is_blend[which], begin[which], -1),
        n_peaks=np.where(peak < 0, n_peaks[which], 1),
        skipped=(too_much & is_blend)[which],
    )


class Deblender:
    """The objects of a patch with their templates, which shares out the pixels of one band after the other.

    Parameters
    ----------
    peaks : Peaks
    objects : Tree
    read : callable
        ``read(band)`` gives the coadd of a band by its index.
    sigma : sequence of float
        Radius of the PSF in each band [pixel].

    Attributes
    ----------
    x, y : (n,) arrays
        Places of the objects: of children the centroids of their own light, of others the peaks [pixel].
    """

    def __init__(self, peaks: Peaks, objects: Tree, read: Callable[[int], Exposure], sigma: Sequence[float]):
        self.objects, self.footprint, self._sigma = objects, peaks.footprint, sigma
        row = np.where(objects.peak >= 0, objects.peak, objects.peak[np.arange(len(objects)) + (objects.peak < 0)])
        self.x, self.y = peaks.x[row], peaks.y[row]
        found = ndimage.find_objects(self.footprint)
        slices = [found[number - 1] for number in objects.family.tolist()]
        self._extent = _boxes(slices)
        self._owner = _owners(self.footprint, objects, self.x, self.y)
        children = objects.children
        cells = self._cells(children)
        self._templates = self._in_reference_bands(peaks.reference[objects.peak[children]], read)
        parents = np.flatnonzero(objects.peak < 0)
        self.x[parents], self.y[parents] = self.x[parents + 1], self.y[parents + 1]  # of the brightest child
        self._boxes = self._extent.copy()
        self._boxes[children] = self._within(children, _union(cells, self._templates.boxes))

    def blends(self, exposure: Exposure) -> Blends:
        """The objects with their pixels in one band.

        Parameters
        ----------
        exposure : Exposure
            Its coadd.

        Returns
        -------
        Blends
        """
        objects, children = self.objects, self.objects.children
        sizes = (self._boxes[:, 2] - self._boxes[:, 0] + 1) * (self._boxes[:, 3] - self._boxes[:, 1] + 1)
        offsets = np.concatenate([[0], np.cumsum(sizes)])
        pixels, footprint = np.zeros(offsets[-1], np.float32), np.zeros(offsets[-1], bool)
        _whole(exposure.image, self.footprint, objects.family, self._boxes, offsets, objects.parent, pixels, footprint)
        point = self._templates.point
        psfs = templates.spread(self._psfs(exposure, children[point]), np.flatnonzero(point), len(children))
        chosen = templates.joined(self._templates, psfs, point)
        parents = np.flatnonzero(objects.peak < 0)
        first = np.searchsorted(objects.parent[children], np.append(parents, len(objects)))
        _share(
            *(exposure.image, self.footprint, objects.family[parents], self._extent[parents], first, self._owner),
            *(children, chosen.boxes, chosen.offsets, chosen.pixels, self._boxes, offsets, pixels, footprint),
        )
        return Blends(self.x, self.y, objects.parent, objects.n_child, self._boxes, offsets, pixels, footprint)

    def _cells(self, children: np.ndarray) -> np.ndarray:
        """Boxes of the pixels that each child is nearest to; of one that is nearest to none, its own pixel."""
        slices = ndimage.find_objects(self._owner + 1, max_label=len(self.objects))
        extent = self._extent[children]
        place = np.rint(np.stack([self.x[children], self.y[children]], axis=1)).astype(int)
        place = np.clip(place, extent[:, :2], extent[:, 2:]).tolist()
        own = [(slice(y, y + 1), slice(x, x + 1)) for x, y in place]
        return _boxes([slices[child] or pixel for child, pixel in zip(children.tolist(), own)])

    def _in_reference_bands(self, reference: np.ndarray, read: Callable[[int], Exposure]) -> Templates:
        """Templates of all children, each in the band of this index (n_children,)."""
        children, parent = self.objects.children, self.objects.parent[self.objects.children]
        usable = ~self.objects.skipped[children]
        found = templates.none(len(children))
        for band in np.unique(reference[usable]).tolist():
            mine = usable & (reference == band)
            among = np.flatnonzero(usable & np.isin(parent, parent[mine]))
            exposure, rows = read(band), children[among]
            parents, first = np.unique(parent[among], return_index=True)
            made, x, y = symmetry.templates_of(
                exposure.image,
                exposure.variance,
                *(self.footprint, self.objects.family[parents], np.append(first, len(among)), self._extent[parents]),
                *(self.x[rows], self.y[rows], exposure.psf(self.x[rows], self.y[rows]), self._sigma[band]),
            )
            found = templates.joined(found, templates.spread(made, among, len(children)), mine)
            of_band = mine[among]
            self.x[rows[of_band]], self.y[rows[of_band]] = x[of_band], y[of_band]
        return found

    def _psfs(self, exposure: Exposure, rows: np.ndarray) -> Templates:
        """The PSF of a band at the places of some objects."""
        x, y = self.x[rows], self.y[rows]
        return templates.of_stamps(exposure.psf(x, y), x, y) if len(rows) else templates.none(0)

    def _within(self, rows: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        """The parts of boxes that are in the footprints of objects."""
        extent = self._extent[rows]
        return np.hstack([np.maximum(boxes[:, :2], extent[:, :2]), np.minimum(boxes[:, 2:], extent[:, 2:])])


def _boxes(slices: list) -> np.ndarray:
    """Boxes (n, 4) of what `ndimage.find_objects` found."""
    return np.array([(x.start, y.start, x.stop - 1, y.stop - 1) for y, x in slices], int).reshape(-1, 4)


def _union(cells: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """The least boxes that hold cells and templates, of which there may be none."""
    both = np.hstack([np.minimum(cells[:, :2], boxes[:, :2]), np.maximum(cells[:, 2:], boxes[:, 2:])])
    return np.where((boxes[:, 2] < boxes[:, 0])[:, None], cells, both)


def _owners(footprint: np.ndarray, objects: Tree, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Row of the child that is nearest to each pixel of a blend; -1 elsewhere, (ny, nx) int32."""
    owner = np.full(footprint.shape, -1, np.int32)
    children = objects.children
    if not len(children):
        return owner
    in_blend = np.zeros(footprint.max() + 1, bool)
    in_blend[objects.family[children]] = True
    rows, columns = pixels_where(in_blend[footprint])
    # Footprints are layers that are farther apart than any two pixels.
    layer = float(sum(footprint.shape))
    places = np.column_stack([x[children], y[children], layer * objects.family[children]])
    nearest = cKDTree(places).query(np.column_stack([columns, rows, layer * footprint[rows, columns]]))[1]
    owner[rows, columns] = children[nearest]
    return owner


@njit(**EXACT)
def _whole(image, footprint, family, boxes, offsets, parent, pixels, used):
    """Pixels of the footprints of all that are no children, row by row; and which have a value."""
    for n in range(len(family)):
        if parent[n] >= 0:
            continue
        k = offsets[n]
        for row in range(boxes[n, 1], boxes[n, 3] + 1):
            for column in range(boxes[n, 0], boxes[n, 2] + 1):
                if footprint[row, column] == family[n] and math.isfinite(image[row, column]):
                    pixels[k], used[k] = image[row, column], True
                k += 1


@njit(**EXACT)
def _share(
    image,
    footprint,
    family,
    extent,
    first,
    owner,
    children,
    template_boxes,
    template_offsets,
    template,
    boxes,
    offsets,
    pixels,
    used,
):
    """Pixels of all children: those of their footprints in proportion to their templates, scaled to the image."""
    weight = np.zeros(len(children), np.float32)
    for m in range(len(family)):
        x0, y0 = extent[m, 0], extent[m, 1]
        shape = extent[m, 3] - y0 + 1, extent[m, 2] - x0 + 1
        inside = np.zeros(shape, np.bool_)
        left = np.zeros(shape, np.float32)
        for j in range(shape[0]):
            for i in range(shape[1]):
                inside[j, i] = footprint[y0 + j, x0 + i] == family[m] and math.isfinite(image[y0 + j, x0 + i])
                if inside[j, i]:
                    left[j, i] = image[y0 + j, x0 + i]
        _fit(left, inside, x0, y0, first[m], first[m + 1], template_boxes, template_offsets, template, weight)
        total = np.zeros(shape, np.float32)
        for c in range(first[m], first[m + 1]):
            part = template[template_offsets[c] : template_offsets[c + 1]]
            _add_inside(total, inside, part, template_boxes[c], x0, y0, weight[c])
        for c in range(first[m], first[m + 1]):
            n, width = children[c], template_boxes[c, 2] - template_boxes[c, 0] + 1
            k = offsets[n]
            for row in range(boxes[n, 1], boxes[n, 3] + 1):
                for column in range(boxes[n, 0], boxes[n, 2] + 1):
                    j, i = row - y0, column - x0
                    if inside[j, i]:
                        u, v = column - template_boxes[c, 0], row - template_boxes[c, 1]
                        if total[j, i] > 0:
                            if 0 <= u < width and 0 <= v <= template_boxes[c, 3] - template_boxes[c, 1]:
                                value = weight[c] * template[template_offsets[c] + v * width + u]
                                if value > 0:
                                    pixels[k], used[k] = image[row, column] * (value / total[j, i]), True
                        elif owner[row, column] == n:
                            pixels[k], used[k] = image[row, column], True
                    k += 1


@njit(**EXACT)
def _add_inside(pixels, inside, template, box, x0, y0, factor):
    """Add a template times a factor to the pixels that are inside."""
    width = box[2] - box[0] + 1
    for row in range(max(box[1], y0), min(box[3], y0 + pixels.shape[0] - 1) + 1):
        for column in range(max(box[0], x0), min(box[2], x0 + pixels.shape[1] - 1) + 1):
            if inside[row - y0, column - x0]:
                pixels[row - y0, column - x0] += factor * template[(row - box[1]) * width + column - box[0]]


@njit(**EXACT)
def _fit(left, inside, x0, y0, begin, end, boxes, offsets, template, weight):
    """Least-squares weights, none negative, of the templates of a blend; `left` becomes what they leave over.

    One weight after the other is set to its best value, until none changes by more than `CONVERGED`.
    """
    for _ in range(SWEEPS):
        largest = np.float32(0)
        for c in range(begin, end):
            part, box = template[offsets[c] : offsets[c + 1]], boxes[c]
            width, product, square = box[2] - box[0] + 1, 0.0, 0.0
            for row in range(max(box[1], y0), min(box[3], y0 + left.shape[0] - 1) + 1):
                for column in range(max(box[0], x0), min(box[2], x0 + left.shape[1] - 1) + 1):
                    if inside[row - y0, column - x0]:
                        t = part[(row - box[1]) * width + column - box[0]]
                        product += t * left[row - y0, column - x0]
                        square += t * t
            if square > 0:
                new = max(np.float32(weight[c] + product / square), np.float32(0))
                step = new - weight[c]
                _add_inside(left, inside, part, box, x0, y0, -step)
                largest = max(largest, abs(step) / max(new, weight[c], np.float32(1e-30)))
                weight[c] = new
        if largest < CONVERGED:
            return
