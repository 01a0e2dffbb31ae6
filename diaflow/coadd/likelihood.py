"""Coadds of maximum likelihood: the sky that explains all warps best, seen with a PSF that the method chooses.

In: warps, the artefacts in them, and a response (see `diaflow.coadd.spectra`).  The patch is done in square cells
around the nodes of a grid, blended bilinearly, so that PSFs may vary; in a cell the PSF of every warp is that at its
node.  Without missing pixels the solution is a filter.  Missing pixels (masks, gaps, edges) are filled with the mean
of the other warps, and that start is improved by conjugate gradients until what is left is small against the noise:
the PSF of the coadd does not change where an input ends.  Its PSF and its noise are worked out at the nodes.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from scipy import fft

from diaflow.coadd import direct, spectra, stack
from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.pixels.growth import core_radius, grow
from diaflow.psf.coadd import CoaddPsf
from diaflow.psf.grid import StampGrid
from diaflow.psf.stampfield import resized

# Largest distance of the nodes, and what a cell has around it so that its opposite edges do not meet [pixel].
STEP, MARGIN = 256, 32

# Conjugate gradients stop when no pixel of the residual is above this fraction of the noise, or after so many steps:
# the first ones find what missing pixels do to stars, later ones amplify the noise where a sharp input is missing.
TOLERANCE = 0.1
MAX_STEPS = 3

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
            raise BadData("no warp has a PSF on the patch")

    def nodes(self) -> Iterator[Node]:
        """Row and column of the nodes with data in their cells."""
        return (node for node in np.ndindex(len(self.y), len(self.x)) if self.coverage[node].any())

    def present(self, node: Node) -> np.ndarray:
        """Indices of the warps with data in a cell."""
        return np.flatnonzero(self.coverage[node])

    def choice(self, node: Node) -> np.ndarray:
        """Share that each of the warps with data in a cell has in the choice of the PSF."""
        weights = self.coverage[node] ** COVERAGE_POWER / self.variances
        return weights[weights > 0] / weights.sum()

    def power(self, node: Node) -> np.ndarray:
        """Phi / S at a node for the choice of the PSF, on the grid of `spectra`."""
        return spectra.information(self._transforms(node, spectra.floored(self.stamps[node])), self.choice(node))

    def mean_power(self, node: Node) -> tuple[np.ndarray, np.ndarray]:
        """The mean of Phi / S over a cell, and the part of it that passes light, less where `spectra.FLOOR` matters."""
        weights = self.coverage[node] / self.variances
        weights = weights[weights > 0] / weights.sum()
        floored = self._transforms(node, spectra.floored(self.stamps[node]))
        passed = np.tensordot(weights, floored.conj() * self._transforms(node, self.stamps[node]), 1)
        return spectra.information(floored, weights), passed

    def _transforms(self, node: Node, stamps: np.ndarray) -> np.ndarray:
        return spectra.transform(stamps[self.present(node)].astype(float), (spectra.GRID,) * 2)

    def box(self, node: Node, margin: int = 0) -> tuple[slice, slice]:
        """Rows and columns of a cell, with a margin, as far as the patch goes."""
        return tuple(
            slice(max(0, int(at[i] - _step(at)) - margin), min(int(at[-1]), int(at[i] + _step(at)) + margin) + 1)
            for i, at in zip(node, (self.y, self.x))
        )

    def taper(self, node: Node) -> np.ndarray:
        """Weight of a cell in its box: 1 at the node, falling linearly to 0 at the nodes around."""
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


def _step(at: np.ndarray) -> float:
    return at[1] - at[0]


def combine(
    warps: list[ExposureFile],
    matched: list[ExposureFile],
    choose: Callable[[Patch], spectra.Response],
    ridge: float = 0.0,
) -> Exposure:
    """Coadd of maximum likelihood.

    Parameters
    ----------
    warps, matched : lists of ExposureFile
        Direct and PSF-matched warps of the same visits, in the same order.
    choose : callable
        Gives the response of a patch: the PSF of its coadd.
    ridge : float
        Prior of the sky: its inverse power at the Nyquist frequency in units of S; it goes as frequency squared.

    Returns
    -------
    Exposure
        ``psf.grid`` is the PSF, ``psf.inputs`` the record of the inputs.  The variance plane is that of a pixel,
        and `noise` has both factors.

    Raises
    ------
    BadData
        When no warp has a PSF on the patch.
    """
    patch = Patch(warps)
    response = choose(patch)
    coadd, clipped = direct.clean_mean(warps, matched, psf_jumps=False)
    correlated = coadd.noise
    fill = np.where(np.isfinite(coadd.image), coadd.image, np.float32(0))
    image, weight, noise = (np.zeros(coadd.shape, np.float32) for _ in range(3))
    size = patch.stamps.shape[-1]
    stamps, factors = np.full((len(patch.y), len(patch.x), size, size), np.nan, np.float32), []
    for node in patch.nodes():
        box, taper = patch.box(node), patch.taper(node)
        psf, variance, weighted = _psf_and_noise(patch, node, response, ridge, correlated)
        stamps[node] = spectra.stamp(psf, size)
        factors.append((1 / variance, weighted / variance))
        image[box] += taper * _solved(patch, node, clipped, fill, response, ridge)
        noise[box] += taper * np.float32(correlated.covariance_factor * variance)
        weight[box] += taper
    has_data = ~coadd.flagged("NO_DATA") & (weight > 0)
    weight[~has_data] = 1
    coadd.image = np.where(has_data, image / weight, np.float32(np.nan))
    coadd.variance = np.where(has_data, coadd.variance, np.float32(np.inf))
    coadd.variance[has_data] *= (noise / weight)[has_data]
    coadd.mask[~has_data] |= NO_DATA
    coadd.noise = Noise(*np.mean(factors, axis=0).tolist())
    first, step = (float(patch.x[0]), float(patch.y[0])), (_step(patch.x), _step(patch.y))
    weights = 1 / patch.variances
    inputs = [replace(source, weight=w) for warp, w in zip(warps, weights) for source in warp.psf.inputs]
    coadd.psf = CoaddPsf(inputs, coadd.wcs, StampGrid(stamps, first, step))
    _flag_inexact(coadd)
    return coadd


def solve(
    images: np.ndarray, used: np.ndarray, transforms: np.ndarray, variances: np.ndarray, ridge: float = 0.0
) -> np.ndarray:
    """The sky H that minimises sum |used (P_i H - Z_i)|^2 / C_i + S ridge |k H / pi|^2, almost.

    Parameters
    ----------
    images : (n, ny, nx) float32 array
        Where they are not used, a guess that the solution starts from.
    used : (n, ny, nx) bool array
    transforms : (n, ny, nx // 2 + 1) complex array
        Of the PSFs, periodic as the images are.
    variances : (n,) array
    ridge : float

    Returns
    -------
    (ny, nx // 2 + 1) complex64 array
        Transform of H, the noise of which is not bounded: apply a response to it.
    """
    shape = images.shape[1:]
    variances = np.asarray(variances, np.float32)[:, None, None]
    prior = spectra.roughness(shape) * np.float32(ridge * (1 / variances).sum())
    adjoint = transforms.conj() / variances
    phi = (adjoint * transforms).real
    partial = [i for i in range(len(images)) if not used[i].all()]
    complete = phi.sum(0) - phi[partial].sum(0) + prior
    # In the unknown H / whitening noise has unit variance, and the matrix is 1 where nothing is missing.
    whitening = 1 / np.sqrt(phi.sum(0) + prior)
    spectra_of = [fft.rfft2(image) for image in images]
    start = whitening * sum(a * z for a, z in zip(adjoint, spectra_of))
    if not partial:
        return whitening * start

    def normal(sky):
        out = complete * sky
        for i in partial:
            out += adjoint[i] * fft.rfft2(used[i] * fft.irfft2(transforms[i] * sky, shape))
        return out

    for i in partial:
        spectra_of[i] = fft.rfft2(used[i] * images[i])
    residual = whitening * (sum(a * z for a, z in zip(adjoint, spectra_of)) - normal(whitening * start))
    direction, found, norm = residual, start, _dot(residual, residual)
    for _ in range(MAX_STEPS):
        if np.abs(fft.irfft2(residual, shape)).max() < TOLERANCE:
            break
        product = whitening * normal(whitening * direction)
        length = norm / _dot(direction, product)
        found = found + length * direction
        residual = residual - length * product
        previous, norm = norm, _dot(residual, residual)
        direction = residual + norm / previous * direction
    return whitening * found


def _dot(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Product of two images from half their transforms, up to a constant; the first column is there once."""
    product = (a.conj() * b).real
    return np.float32(2 * product.sum(dtype=float) - product[:, 0].sum(dtype=float))


def _solved(
    patch: Patch, node: Node, clipped: list[np.ndarray], fill: np.ndarray, response: spectra.Response, ridge: float
) -> np.ndarray:
    """The coadd in the box of a cell."""
    use = patch.present(node)
    images, used, inner = cell_pixels(patch, node, clipped, fill)
    shape = images.shape[1:]
    transforms = spectra.transform(spectra.floored(patch.stamps[node][use]), shape)
    sky = solve(images, used, transforms, patch.variances[use], ridge)
    power = spectra.information(transforms, patch.choice(node))
    return fft.irfft2(response(power, shape) * sky, shape)[inner]


def cell_pixels(
    patch: Patch, node: Node, clipped: list[np.ndarray], fill: np.ndarray
) -> tuple[np.ndarray, np.ndarray, tuple[slice, slice]]:
    """The warps that are present in a cell.

    Parameters
    ----------
    patch, node
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
    images, rank = np.zeros((len(use), *shape), np.float32), np.full((len(use), *shape), stack.UNUSABLE, np.uint8)
    nx = fill.shape[1]
    for k, i in enumerate(use):
        image, mask = (patch.warps[i].read_box(plane, rows, columns) for plane in ("IMAGE", "MASK"))
        row, column = np.divmod(clipped[i][slice(*np.searchsorted(clipped[i], (rows.start * nx, rows.stop * nx)))], nx)
        reached = (column >= columns.start) & (column < columns.stop)
        mask[row[reached] - rows.start, column[reached] - columns.start] |= bits("CLIPPED")
        images[k, : inside[0], : inside[1]] = image
        rank[k, : inside[0], : inside[1]] = stack.ranks(image, mask)
    used = (rank == rank.min(0)) & (rank < stack.UNUSABLE)
    guess = np.zeros(shape, np.float32)
    guess[: inside[0], : inside[1]] = fill[rows, columns]
    inner = tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(patch.box(node), (rows, columns)))
    return np.where(used, images, guess), used, inner


def _psf_and_noise(
    patch: Patch, node: Node, response: spectra.Response, ridge: float, correlated: Noise
) -> tuple[np.ndarray, float, float]:
    """PSF transform of the coadd at a node, and two variances times S, which is what it is at low frequencies.

    The variance of a pixel, and that of white noise in which a PSF flux would have the same error.
    """
    shape = (spectra.GRID,) * 2
    wanted = response(patch.power(node), shape)
    power, passed = patch.mean_power(node)
    prior = ridge * spectra.roughness(shape)
    psf = wanted * passed / (power + prior)
    noise = spectra.noise_power(wanted, power, prior) * correlated.power(spectra.GRID)
    return psf, spectra.mean(noise, shape), spectra.psf_weighted(noise, psf, shape)


def _flag_inexact(coadd: Exposure) -> None:
    """Leave INEXACT_PSF only near pixels of which all inputs are missing or saturated."""
    coadd.mask &= ~bits("INEXACT_PSF")
    n_y, n_x = coadd.psf.grid.stamps.shape[:2]
    stamp = coadd.psf.grid.stamps[n_y // 2, n_x // 2]
    reach = core_radius(np.nan_to_num(stamp))
    coadd.mask |= grow(np.where(coadd.flagged("NO_DATA", "SAT"), np.int32(bits("INEXACT_PSF")), np.int32(0)), reach)
