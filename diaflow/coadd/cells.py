"""The cells of a patch: squares around the nodes of a grid, in which the PSF of every warp is that at the node.

They reach to the nodes around, so that results of neighbours overlap and can be blended bilinearly, as PSFs between the
nodes are.
"""

from collections.abc import Iterator

import numpy as np
from scipy import fft

from diaflow.coadd import means, spectra, stack
from diaflow.errors import BadData, Kind
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.planes import bits
from diaflow.psf.stampfield import resized

# Largest distance of the nodes, and what a cell has around it so that its opposite edges do not meet [pixel].
STEP, MARGIN = 256, 32

# A warp that covers a part of a cell counts with this power of the fraction in the choice of the PSF: a PSF that needs
# it would amplify the noise where it is missing.
COVERAGE_POWER = 4

NO_DATA = bits("NO_DATA")
Node = tuple[int, int]


class Patch:
    """The warps of a patch and their PSFs at the nodes.

    Attributes
    ----------
    x, y : arrays
        Columns and rows of the nodes [pixel].
    variances : (n,) array
        Of white noise with the power that each warp's noise has at low frequencies [nJy**2].
    stamps : (n_y, n_x, n, k, k) array
        PSF of each warp at each node, or where it has data nearest to the node; 0 where it has none in the cell.
    coverage : (n_y, n_x, n) array
        Fraction of each cell, weighted with its taper, in which each warp has data; 0 where its PSF is unknown.

    Raises
    ------
    BadData
        When no warp has a PSF on the patch.
    """

    def __init__(self, warps: list[ExposureFile]):
        factors = np.array([warp.noise.covariance_factor for warp in warps])
        self.warps, self.variances = warps, factors / stack.warp_weights(warps)
        self.y, self.x = (np.linspace(0, n - 1, -(-(n - 1) // STEP) + 1) for n in warps[0].shape)
        stamps, coverage = zip(*(self._stamps(warp) for warp in warps))
        self.coverage = np.stack(coverage, axis=2)
        size = max(each.shape[-1] for each in stamps)
        self.stamps = np.stack([resized(each, size) for each in stamps], axis=2)
        if not self.coverage.any():
            raise BadData("no warp has a PSF on the patch", Kind.TEMPLATE)

    @property
    def step(self) -> tuple[float, float]:
        """Distance of the nodes along x and y [pixel]."""
        return _step(self.x), _step(self.y)

    def nodes(self) -> Iterator[Node]:
        """The nodes with data in their cells.

        Yields
        ------
        (row, column)
        """
        return (node for node in np.ndindex(len(self.y), len(self.x)) if self.coverage[node].any())

    def present(self, node: Node) -> np.ndarray:
        """The warps with data in a cell.

        Parameters
        ----------
        node : (row, column)

        Returns
        -------
        (m,) int array
            Their indices.
        """
        return np.flatnonzero(self.coverage[node])

    def choice(self, node: Node) -> np.ndarray:
        """Shares of the warps with data in a cell in the choice of the PSF.

        Parameters
        ----------
        node : (row, column)

        Returns
        -------
        (m,) array
            Of unit sum.
        """
        weights = self.coverage[node] ** COVERAGE_POWER / self.variances
        return weights[weights > 0] / weights.sum()

    def power(self, node: Node) -> np.ndarray:
        """Phi / S at a node for the choice of the PSF.

        Parameters
        ----------
        node : (row, column)

        Returns
        -------
        (GRID, GRID // 2 + 1) array
            On the grid of `spectra`.
        """
        return spectra.information(self._transforms(node, spectra.floored(self.stamps[node])), self.choice(node))

    def mean_power(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        """The mean of Phi / S over a cell, and the part of it that passes light.

        Parameters
        ----------
        node : (row, column)

        Returns
        -------
        power : (GRID, GRID // 2 + 1) array
        passed : complex array of that shape
            Less than the power where `spectra.FLOOR` matters.
        """
        weights = self.coverage[node] / self.variances
        weights = weights[weights > 0] / weights.sum()
        floored = self._transforms(node, spectra.floored(self.stamps[node]))
        passed = np.tensordot(weights, floored.conj() * self._transforms(node, self.stamps[node]), 1)
        return spectra.information(floored, weights), passed

    def _transforms(self, node: Node, stamps: np.ndarray) -> np.ndarray:
        return spectra.transform(stamps[self.present(node)].astype(float), (spectra.GRID,) * 2)

    def box(self, node: Node, margin: int = 0) -> tuple[slice, slice]:
        """Where a cell is.

        Parameters
        ----------
        node : (row, column)
        margin : int
            On all sides of the cell, as far as the patch goes [pixel].

        Returns
        -------
        rows, columns : slice
        """
        return tuple(
            slice(max(0, int(at[i] - _step(at)) - margin), min(int(at[-1]), int(at[i] + _step(at)) + margin) + 1)
            for i, at in zip(node, (self.y, self.x))
        )

    def taper(self, node: Node) -> np.ndarray:
        """Weight of a cell in its box.

        Parameters
        ----------
        node : (row, column)

        Returns
        -------
        float32 array
            1 at the node, falling linearly to 0 at the nodes around.
        """
        down, across = (
            np.maximum(1 - np.abs(np.arange(part.start, part.stop) - at[i]) / _step(at), 0)
            for i, at, part in zip(node, (self.y, self.x), self.box(node))
        )
        return np.outer(down, across).astype(np.float32)

    def _stamps(self, warp: ExposureFile) -> tuple[np.ndarray, np.ndarray]:
        """PSF of a warp at the nodes, and its coverage of the cells."""
        shape = len(self.y), len(self.x)
        x, y = (grid.ravel().copy() for grid in np.meshgrid(self.x, self.y))
        has_data = (warp.read_box("MASK", slice(None), slice(None)) & NO_DATA) == 0
        coverage = np.zeros(shape)
        for k, node in enumerate(np.ndindex(shape)):
            box, taper = self.box(node), self.taper(node)
            coverage[node] = np.average(has_data[box], weights=taper)
            if coverage[node] > 0 and not has_data[round(y[k]), round(x[k])]:
                row, column = (part.start + index for part, index in zip(box, np.nonzero(has_data[box])))
                nearest = np.argmin((row - y[k]) ** 2 + (column - x[k]) ** 2)
                y[k], x[k] = row[nearest], column[nearest]
        stamps = warp.psf(x, y)
        known = np.isfinite(stamps).all((1, 2)) & (coverage.ravel() > 0)
        stamps = np.where(known[:, None, None], stamps, 0).astype(np.float32)
        return stamps.reshape(*shape, *stamps.shape[1:]), coverage * known.reshape(shape)


def cell_pixels(
    patch: Patch, node: Node, clipped: list[np.ndarray], fill: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """The warps that are present in a cell.

    Parameters
    ----------
    patch : Patch
    node : (row, column)
    clipped : list of int arrays
        Pixels of each warp of the patch that are artefacts (flat indices, sorted).
    fill : (ny, nx) array
        What stands where a warp has no pixel.

    Returns
    -------
    images : (n, ny, nx) float32 array
        With a margin around the cell, and 0 where that leaves the patch.
    used : (n, ny, nx) bool array
        Where they are of the warp.
    inner : two slices
        Rows and columns that are the box of the cell.
    """
    (rows, columns), use = patch.box(node, MARGIN), patch.present(node)
    inside = rows.stop - rows.start, columns.stop - columns.start
    # room for what lies outside the patch and reaches into it
    shape = tuple(fft.next_fast_len(n + MARGIN, True) for n in inside)
    images, rank = np.zeros((len(use), *shape), np.float32), np.full((len(use), *shape), means.UNUSABLE, np.uint8)
    nx = fill.shape[1]
    for k, i in enumerate(use):
        image, mask = (patch.warps[i].read_box(plane, rows, columns) for plane in ("IMAGE", "MASK"))
        row, column = np.divmod(clipped[i][slice(*np.searchsorted(clipped[i], (rows.start * nx, rows.stop * nx)))], nx)
        reached = (column >= columns.start) & (column < columns.stop)
        mask[row[reached] - rows.start, column[reached] - columns.start] |= bits("CLIPPED")
        images[k, : inside[0], : inside[1]] = image
        rank[k, : inside[0], : inside[1]] = means.ranks(image, mask)
    used = (rank == rank.min(0)) & (rank < means.UNUSABLE)
    guess = np.zeros(shape, np.float32)
    guess[: inside[0], : inside[1]] = fill[rows, columns]
    inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(patch.box(node), (rows, columns)))
    return np.where(used, images, guess), used, inner


def _step(at: np.ndarray) -> float:
    return at[1] - at[0]
