"""Resample exposures onto another WCS: Lanczos-3 interpolation that conserves flux.

In: exposures of one visit and the WCS and shape of the output.  Out: an exposure on that grid whose variance plane
holds sum K^2 V, whose mask is the OR of the pixels around each position, and whose PSF is evaluated lazily from
that of the input.  Positions come from the exact WCS chain on a coarse grid and are bilinear in between, as in the
LSST stack (afw WarpExposure); the kernel is tabulated at 1/1024 pixel.
"""

from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS
from numba import njit

from diaflow.image.exposure import Exposure
from diaflow.image.lanczos import PHASE_BITS, PHASES, kernel_table
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.jit import FAST
from diaflow.psf.coadd import CoaddPsf, PsfInput
from diaflow.sky.wcs import image_circle, sky_to_pixel
from diaflow.statistics import robust_width

# Largest error of an interpolated position [pixel], about half of a step of the tabulated kernel, and the step of the
# grid [pixel] with which the search for it begins.
POSITION_TOLERANCE = 5e-4
FIRST_STEP = 32

# The circles around two images that may overlap are nearer than this many times the sum of their radii: an edge that is
# bowed outwards passes the corners.
NEARNESS = 1.05

# Of the mean variance: outliers from this many sigma on, how often they are left out, and the pixels it is taken of.
N_SIGMA, N_ITERATIONS, MAX_SAMPLED = 3.0, 2, 1e6

# A flag of these planes spoils every output pixel whose kernel touches it; the others follow bilinear weights.
SPOILING = bits("EDGE", "NO_DATA")
NO_DATA = bits("NO_DATA")


def warp(exposure: Exposure, wcs: WCS, shape: tuple[int, int]) -> Exposure:
    """Resample one exposure.

    Parameters
    ----------
    exposure : Exposure
        Its non-finite pixels count as zero and as NO_DATA.
    wcs, shape
        Grid of the output.

    Returns
    -------
    Exposure
        Image in flux per output pixel; NaN, infinite variance and NO_DATA where the kernel leaves the input.
        Its `noise` is that of the input after the resampling.
    """
    out = Exposure.empty(wcs, shape)
    paste = _Paste(exposure, out)
    out.metadata, out.noise = exposure.metadata | paste.metadata, paste.noise
    out.psf = CoaddPsf([paste.psf_input], wcs) if exposure.psf is not None else None
    return out


def visit_on_patch(calexps: list[Exposure], patch_wcs: WCS, shape: tuple[int, int]) -> Exposure | None:
    """All detectors of one visit on the grid of a patch; where two have data, the first one counts.

    Parameters
    ----------
    calexps : list of Exposure
        Calibrated detectors of the visit, of one flux scale.
    patch_wcs, shape
        The grid of the patch.

    Returns
    -------
    Exposure or None
        None when no detector has data on the patch.  Metadata of the first detector that has, and: ``n_detectors``,
        ``mean_variance`` (the clipped mean of the variance plane, whose inverse is the visit's weight in a coadd).
    """
    out = Exposure.empty(patch_wcs, shape)
    pastes = []
    for calexp in calexps:
        paste = _Paste(calexp, out)
        if paste.n_pixels:
            pastes.append(paste)
    if not pastes:
        return None
    out.metadata = {key: value for key, value in pastes[0].exposure.metadata.items() if key != "detector"}
    n_pixels = [paste.n_pixels for paste in pastes]
    for key in pastes[0].metadata:
        out.metadata[key] = float(np.average([paste.metadata[key] for paste in pastes], weights=n_pixels))
    out.noise = Noise.mean([paste.noise for paste in pastes], n_pixels)
    out.metadata["n_detectors"] = len(pastes)
    out.metadata["mean_variance"] = clipped_mean_variance(out)
    if all(paste.exposure.psf is not None for paste in pastes):
        out.psf = CoaddPsf([paste.psf_input for paste in pastes], patch_wcs)
    return out


def clipped_mean_variance(exposure: Exposure) -> float:
    """Mean of the variance plane without its outliers (bright sources).

    Starts from the median and the interquartile range, as the MEANCLIP of LSST's afw, on about a million pixels.

    Parameters
    ----------
    exposure : Exposure

    Returns
    -------
    float
        [unit of the variance plane]; infinity where no pixel has a variance.
    """
    stride = max(1, int(np.sqrt(exposure.image.size / MAX_SAMPLED)))
    variance = exposure.variance[::stride, ::stride]
    values = variance[np.isfinite(variance)].astype(float)
    if not len(values):
        return float("inf")
    centre, width = np.median(values), robust_width(values)
    for _ in range(N_ITERATIONS):
        kept = values[np.abs(values - centre) <= N_SIGMA * width]
        centre, width = kept.mean(), kept.std()
    return float(centre)


class _Paste:
    """One exposure resampled into the pixels of `out` that have no data yet, and what is to be known of it."""

    def __init__(self, exposure: Exposure, out: Exposure):
        self.exposure, self.n_pixels, white_ratio, scale = exposure, 0, 1.0, 1.0
        grid = position_grid(out.wcs, out.shape, exposure.wcs, exposure.shape)
        if grid is not None:
            image, variance, mask = _finite(exposure)
            self.n_pixels, white_ratio = _resample(
                image, variance, _grow(mask, SPOILING), *grid.arguments(), kernel_table(), *_planes(out)
            )
            scale = float(np.sqrt(np.median(grid.area)))
        (ny, nx), told = exposure.shape, exposure.metadata
        whence, correction = (told.get("visit", -1), told.get("detector", -1)), told.get("aperture_correction", np.nan)
        self.psf_input = PsfInput(*whence, 1.0, exposure.psf, exposure.wcs, (0, 0, nx - 1, ny - 1), correction)
        self.noise = exposure.noise.resampled(white_ratio)
        known = exposure.metadata.keys() & {"psf_fwhm", "psf_sigma"}
        self.metadata = {name: exposure.metadata[name] / scale for name in sorted(known)}


def _planes(exposure: Exposure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return exposure.image, exposure.variance, exposure.mask


def _finite(exposure: Exposure) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The planes, with zero and NO_DATA where image or variance are not finite."""
    image, variance, mask = _planes(exposure)
    if np.isfinite(image.sum()) and np.isfinite(variance.sum()):
        return image, variance, mask
    return _without_gaps(image, variance, mask)


@dataclass(frozen=True)
class PositionGrid:
    """Source positions of the nodes of a coarse grid over part of an output image.

    Attributes
    ----------
    x0, y0 : int
        Output pixel of the first node.
    step : int
        Distance of the nodes [output pixel].
    x, y : (n, m) arrays
        Their positions in the source [pixel].
    area : (n, m) array
        Area of an output pixel [source pixel**2].
    """

    x0: int
    y0: int
    step: int
    x: np.ndarray
    y: np.ndarray
    area: np.ndarray

    def arguments(self) -> tuple:
        """The fields in order.

        Returns
        -------
        tuple
            As the compiled loop takes them.
        """
        return self.x0, self.y0, self.step, self.x, self.y, self.area


def position_grid(
    wcs: WCS, shape: tuple[int, int], source_wcs: WCS, source_shape: tuple[int, int], step: int = FIRST_STEP
) -> PositionGrid | None:
    """The grid from which bilinear interpolation gives source positions to `POSITION_TOLERANCE`.

    The step is halved until the positions at the middle of the cells, where bilinear interpolation is worst, are
    right.

    Parameters
    ----------
    wcs, shape
        Grid of the output.
    source_wcs, source_shape
        Grid of the source.
    step : int
        To begin with [pixel].

    Returns
    -------
    PositionGrid or None
        None when the source does not overlap the output.
    """
    if _far_apart(wcs, shape, source_wcs, source_shape):
        return None
    ny, nx = shape
    node_x, node_y = np.arange(0, nx + step, step), np.arange(0, ny + step, step)
    x, y = _source_positions(wcs, node_x, node_y, source_wcs, source_shape)
    touched = _cells_touching(x, y, source_shape)
    if not touched.any():
        return None
    centre_x, centre_y = _source_positions(
        wcs, node_x[:-1] + step / 2, node_y[:-1] + step / 2, source_wcs, source_shape
    )
    error = np.hypot(_corners(x).mean(0) - centre_x, _corners(y).mean(0) - centre_y)[touched]
    if step > 1 and not (error < POSITION_TOLERANCE).all():
        return position_grid(wcs, shape, source_wcs, source_shape, step // 2)
    dx_dy, dx_dx = np.gradient(x, step)
    dy_dy, dy_dx = np.gradient(y, step)
    area = np.abs(dx_dx * dy_dy - dx_dy * dy_dx)
    rows, columns = (np.flatnonzero(touched.any(axis)) for axis in (1, 0))
    part = np.s_[rows[0] : rows[-1] + 2, columns[0] : columns[-1] + 2]
    return PositionGrid(
        int(node_x[columns[0]]), int(node_y[rows[0]]), step, *(np.ascontiguousarray(a[part]) for a in (x, y, area))
    )


def _far_apart(wcs: WCS, shape: tuple[int, int], other_wcs: WCS, other_shape: tuple[int, int]) -> bool:
    """Whether two images cannot overlap, because the circles around them do not."""
    (centre, radius), (other_centre, other_radius) = image_circle(wcs, shape), image_circle(other_wcs, other_shape)
    return np.linalg.norm(centre - other_centre) > NEARNESS * (radius + other_radius)


def _source_positions(wcs: WCS, x: np.ndarray, y: np.ndarray, source_wcs: WCS, source_shape: tuple[int, int]):
    """Positions in the source of the grid of output pixels x (n_x,), y (n_y,): two arrays (n_y, n_x)."""
    ra, dec = wcs.all_pix2world(*(g.ravel() for g in np.meshgrid(x, y)), 0)
    ny, nx = source_shape
    px, py = sky_to_pixel(source_wcs, ra, dec, (0, 0, nx - 1, ny - 1))
    return px.reshape(len(y), len(x)), py.reshape(len(y), len(x))


def _corners(nodes: np.ndarray) -> np.ndarray:
    """Values at the four corners of each cell, (4, n - 1, m - 1)."""
    return np.stack([nodes[:-1, :-1], nodes[:-1, 1:], nodes[1:, :-1], nodes[1:, 1:]])


def _cells_touching(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Whether each cell of the grid reaches the image of the given shape; False where a corner is undefined."""
    ny, nx = shape
    cx, cy = _corners(x), _corners(y)
    with np.errstate(invalid="ignore"):
        return (cx.max(0) >= 0) & (cx.min(0) < nx) & (cy.max(0) >= 0) & (cy.min(0) < ny)


@njit(**FAST)
def _without_gaps(image, variance, mask):
    """Copies of planes with zero and NO_DATA where image or variance are not finite.

    Parameters
    ----------
    image, variance, mask : (ny, nx) arrays

    Returns
    -------
    image, variance, mask : (ny, nx) arrays
    """
    out_image, out_variance, out_mask = np.empty_like(image), np.empty_like(variance), np.empty_like(mask)
    for j in range(image.shape[0]):
        for i in range(image.shape[1]):
            known = np.isfinite(image[j, i]) and np.isfinite(variance[j, i])
            out_image[j, i] = image[j, i] if known else np.float32(0)
            out_variance[j, i] = variance[j, i] if known else np.float32(0)
            out_mask[j, i] = mask[j, i] if known else mask[j, i] | NO_DATA
    return out_image, out_variance, out_mask


@njit(**FAST)
def _grow(mask, planes):
    """A mask with some bits spread by two pixels; with the bilinear rule they then reach all six taps of the kernel.

    Parameters
    ----------
    mask : (ny, nx) int32 array
    planes : int
        The bits.

    Returns
    -------
    (ny, nx) int32 array
    """
    ny, nx = mask.shape
    out = np.empty_like(mask)
    column = np.zeros(nx + 4, np.int32)
    for j in range(ny):
        a, b, c, d = mask[max(0, j - 2)], mask[max(0, j - 1)], mask[min(ny - 1, j + 1)], mask[min(ny - 1, j + 2)]
        for i in range(nx):
            column[i + 2] = (a[i] | b[i] | mask[j, i] | c[i] | d[i]) & planes
        for i in range(nx):
            out[j, i] = mask[j, i] | column[i] | column[i + 1] | column[i + 2] | column[i + 3] | column[i + 4]
    return out


@njit(**FAST)
def _resample(image, variance, mask, x0, y0, step, grid_x, grid_y, grid_area, table, out_image, out_variance, out_mask):
    """Fill the output pixels that have no data and whose kernel lies inside the input.

    Parameters
    ----------
    image, variance, mask : (ny, nx) arrays
        The input; finite.
    x0, y0, step, grid_x, grid_y, grid_area
        Of a `PositionGrid`.
    table : (PHASES, 6) float32 array
        Kernel.
    out_image, out_variance, out_mask : 2-d arrays
        Changed in place.

    Returns
    -------
    n_pixels : int
        That were filled.
    white_ratio : float
        Mean of (white-equivalent variance V A) / (variance plane), which is 1 / (A sum K^2).
    """
    ny, nx = image.shape
    out_ny, out_nx = out_image.shape
    n_nodes = grid_x.shape[1]
    inverse_power = np.float32(1) / (table * table).sum(1)
    row_x, row_y, row_area = np.empty(n_nodes), np.empty(n_nodes), np.empty(n_nodes)
    n_pixels, white_ratio = 0, 0.0
    for j in range(y0, min(out_ny, y0 + step * (grid_x.shape[0] - 1))):
        node = (j - y0) // step
        f = (j - y0 - node * step) / step
        for g in range(n_nodes):
            row_x[g] = (1 - f) * grid_x[node, g] + f * grid_x[node + 1, g]
            row_y[g] = (1 - f) * grid_y[node, g] + f * grid_y[node + 1, g]
            row_area[g] = (1 - f) * grid_area[node, g] + f * grid_area[node + 1, g]
        for g in range(n_nodes - 1):
            step_x, step_y = (row_x[g + 1] - row_x[g]) / step, (row_y[g + 1] - row_y[g]) / step
            step_area = (row_area[g + 1] - row_area[g]) / step
            first = x0 + g * step
            for k in range(min(step, out_nx - first)):
                i = first + k
                x, y = row_x[g] + k * step_x, row_y[g] + k * step_y
                inside = x >= 2 and y >= 2 and x < nx - 4 and y < ny - 4
                if not inside or not out_mask[j, i] & NO_DATA:
                    continue
                tick_x, tick_y = int(x * PHASES + 0.5), int(y * PHASES + 0.5)
                ix, iy = tick_x >> PHASE_BITS, tick_y >> PHASE_BITS
                kx, ky = tick_x & (PHASES - 1), tick_y & (PHASES - 1)
                right, up = ix + (kx > 0), iy + (ky > 0)
                area = np.float32(row_area[g] + k * step_area)
                total, total_variance = _dot(image, variance, ix - 2, iy - 2, table, kx, ky)
                out_image[j, i] = area * total
                out_variance[j, i] = area * area * total_variance
                out_mask[j, i] = mask[iy, ix] | mask[iy, right] | mask[up, ix] | mask[up, right]
                n_pixels += 1
                white_ratio += inverse_power[kx] * inverse_power[ky] / area
    return n_pixels, white_ratio / max(n_pixels, 1)


@njit(inline="always", **FAST)
def _dot(image, variance, x, y, table, kx, ky):
    """sum K I and sum K^2 V over 6 x 6 pixels; unsigned indices spare the test for negative ones.

    Parameters
    ----------
    image, variance : (ny, nx) float32 arrays
    x, y : int
        The first of the pixels.
    table : (PHASES, 6) float32 array
        Kernel.
    kx, ky : int
        Phases, rows of the table.

    Returns
    -------
    total, total_variance : float32
    """
    x, y = np.uint64(x), np.uint64(y)
    total, total_variance = np.float32(0), np.float32(0)
    for b in range(np.uint64(6)):
        row, row_variance, wy = np.float32(0), np.float32(0), table[ky, b]
        for a in range(np.uint64(6)):
            wx = table[kx, a]
            row += wx * image[y + b, x + a]
            row_variance += wx * wx * variance[y + b, x + a]
        total += wy * row
        total_variance += wy * wy * row_variance
    return total, total_variance
