"""Convolution with a kernel that varies over the image, by overlap-save FFT tiles.

With K(x, y) = sum_m P_m(x, y) K_m the result is sum_m P_m (K_m (x) image), a sum of ordinary convolutions.  In each
tile P_m are polynomials of the position from its centre, of which the degrees that matter within it are kept: all of
them in a small image, the constant and the linear ones in a large one.  Variances go through the square of the kernel
at the centre of each tile, which is exact for a constant kernel and close enough for errors otherwise.  The kernel is
the one at the output pixel.
"""

from collections.abc import Iterator

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view

from diaflow import polynomials
from diaflow.psf.stampfield import StampField, fit_stamps, resized

# Side of the tiles over side of the kernel: below, too little of a tile is useful; above, it leaves the cache.
TILE_RATIO = 4.2
MIN_SIDE = 64  # of the tiles [pixel]
# Degrees of the change of a kernel within a tile are left out where they are below this fraction of its change to the
# border of the image: of a kernel that changes by 10 %, 1e-4.
LEAST_CHANGE = 1e-3
# Fraction of the sum of a squared kernel that may be moved from its wings to its core.
SQUARE_WINGS = 1e-3


def convolve(image: np.ndarray, kernel: StampField, ignored: np.ndarray | None = None) -> np.ndarray:
    """Convolve an image with a spatially varying kernel; outside the image is zero.

    Parameters
    ----------
    image : (ny, nx) array
        Pixels that are not finite count as zero; mask the half-kernel around them, as the border.
    kernel : StampField
        Field over an image of this shape.
    ignored : (ny, nx) bool array, optional
        Pixels that count as zero.

    Returns
    -------
    (ny, nx) float32 array
    """
    out = np.empty(image.shape, np.float32)
    for rows, block in convolved_blocks(image, kernel, ignored):
        out[rows] = block
    return out


def convolved_blocks(
    image: np.ndarray, kernel: StampField, ignored: np.ndarray | None = None
) -> Iterator[tuple[slice, np.ndarray]]:
    """The result of `convolve` in blocks of rows, where the whole would not be kept.

    Parameters
    ----------
    image, kernel, ignored
        As there.  Kernels of one size give the same blocks.

    Yields
    ------
    rows : slice
    block : (n_rows, nx) float32 array
    """
    ny, nx = image.shape
    tiles = _Tiles(image, kernel.size, ignored)
    transforms = tiles.kernel_transforms(kernel.terms)
    (u, du), (v, dv) = (_from_centres(n, tiles.step) for n in (nx, ny))
    reach = max(np.abs(du).max(), np.abs(dv).max())
    degree = max(d for d in range(kernel.order + 1) if d == 0 or reach**d > LEAST_CHANGE)
    for row in range(tiles.n_rows):
        spectrum = tiles.spectrum(row)
        y = tiles.rows(row)
        block = 0
        for i, j in polynomials.exponents(degree):
            local = polynomials.derivative_terms(u, v[row], i, j, kernel.order)
            transform = (local @ transforms.reshape(len(transforms), -1).view(np.float32)).view(np.complex64)
            term = tiles.convolved(spectrum, transform.reshape(len(u), *transforms.shape[1:]), y.stop - y.start)
            if i + j:
                term *= dv[y, None] ** j * du**i
            block = term if i + j == 0 else np.add(block, term, out=block)
        yield y, block


def convolve_variance(variance: np.ndarray, *kernels: StampField, psf: StampField | None = None) -> np.ndarray:
    """Variance of white noise after convolution with one or more kernels in succession.

    Parameters
    ----------
    variance : (ny, nx) array
        Pixels that are not finite count as zero.
    kernels : StampField
        The square of their joint stamp, at the centre of each tile, is applied.
    psf : StampField, optional
        Give the variance that a fit of this PSF feels, instead of that of a pixel.

    Returns
    -------
    (ny, nx) float32 array
        Variance per pixel; covariances between pixels are not part of it.

    Notes
    -----
    All the noise of a difference is white, but that of one of its two images, as the photons of a star in it, is not:
    sum (P (x) K)**2 / sum P**2 takes the place of sum K**2, which is the same when the noise is white.
    """
    ny, nx = variance.shape
    squared = squared_field(*kernels, psf=psf)
    tiles = _Tiles(variance, squared.size)
    x = np.minimum((np.arange(tiles.n_columns) + 0.5) * tiles.step, nx - 1)
    out = np.empty((ny, nx), np.float32)
    for row in range(tiles.n_rows):
        y = tiles.rows(row)
        stamps = squared(x, np.full(len(x), (y.start + y.stop - 1) / 2))
        out[y] = tiles.convolved(tiles.spectrum(row), tiles.kernel_transforms(stamps), y.stop - y.start)
    return np.maximum(out, 0, out=out)


def squared_field(*kernels: StampField, psf: StampField | None = None) -> StampField:
    """The squares of the joint stamps of kernels applied in succession.

    Parameters
    ----------
    kernels : StampField
        On one detector.
    psf : StampField, optional
        Scale the squares to the sum that a fit of this PSF feels, see `convolve_variance`.

    Returns
    -------
    StampField
        Without wings that hold less than `SQUARE_WINGS` of the sum.
    """
    order, shape = 2 * sum(kernel.order for kernel in kernels), kernels[0].shape
    gx, gy = (g.ravel() for g in np.meshgrid(*(np.linspace(0, n - 1, order + 1) for n in shape[::-1])))
    joint = kernels[0]
    for kernel in kernels[1:]:
        joint = joint.convolved(kernel, joint.size + kernel.size - 1)
    stamps = joint(gx, gy)
    squares = stamps**2
    if psf is not None:
        squares *= _fitted_power(stamps, psf(gx, gy))[:, None, None]
    total = squares.sum((1, 2))
    for size in range(3, squares.shape[-1] + 1, 2):
        held = resized(squares, size).sum((1, 2)) / total
        if held.min() > 1 - SQUARE_WINGS:
            break
    cut = resized(squares, size) / held[:, None, None]
    return fit_stamps(cut, gx, gy, order, shape)


def _fitted_power(stamps: np.ndarray, psfs: np.ndarray) -> np.ndarray:
    """sum (P (x) K)**2 / (sum P**2 sum K**2) of stamps (n, k, k) and PSFs (n, m, m)."""
    side = (scipy.fft.next_fast_len(stamps.shape[-1] + psfs.shape[-1] - 1, True),) * 2
    fitted = scipy.fft.irfft2(scipy.fft.rfft2(stamps, side) * scipy.fft.rfft2(psfs, side), side)
    return (fitted**2).sum((1, 2)) / ((stamps**2).sum((1, 2)) * (psfs**2).sum((1, 2)))


class _Tiles:
    """An image cut into overlapping square tiles, one row of tiles at a time."""

    def __init__(self, image: np.ndarray, size: int, ignored: np.ndarray | None = None):
        self.image, self.size, self.ignored = image, size, ignored
        self.side = max(MIN_SIDE, 2 ** int(np.ceil(np.log2(TILE_RATIO * size))))
        self.step = self.side - size + 1
        ny, nx = image.shape
        self.n_rows, self.n_columns = -(-ny // self.step), -(-nx // self.step)
        self.block = np.zeros((self.side, self.n_columns * self.step + size - 1), np.float32)

    def rows(self, row: int) -> slice:
        """Image rows that a row of tiles yields."""
        return slice(row * self.step, min((row + 1) * self.step, self.image.shape[0]))

    def spectrum(self, row: int) -> np.ndarray:
        """Transforms of a row of tiles, (n_columns, side, side // 2 + 1)."""
        half, (ny, nx) = self.size // 2, self.image.shape
        first = row * self.step - half
        above, end = max(0, -first), min(self.side, ny - first)
        self.block[:above], self.block[end:] = 0, 0
        pixels = self.block[above:end, half : half + nx]
        pixels[:] = self.image[first + above : first + end]
        if self.ignored is not None:
            pixels[self.ignored[first + above : first + end]] = 0
        if not np.isfinite(pixels.sum()):
            pixels[~np.isfinite(pixels)] = 0
        return scipy.fft.rfft2(sliding_window_view(self.block, (self.side, self.side))[0, :: self.step])

    def kernel_transforms(self, stamps: np.ndarray) -> np.ndarray:
        """Transforms of stamps (n, k, k) at the size of the tiles."""
        return scipy.fft.rfft2(stamps.astype(np.float32), (self.side, self.side))

    def convolved(self, spectrum: np.ndarray, transform: np.ndarray, n_rows: int) -> np.ndarray:
        """The (n_rows, nx) rows of the image of a row of tiles times kernel transforms."""
        pixels = scipy.fft.irfft2(spectrum * transform, (self.side, self.side), overwrite_x=True)
        valid = pixels[:, self.size - 1 : self.size - 1 + n_rows, self.size - 1 :]
        return valid.transpose(1, 0, 2).reshape(n_rows, -1)[:, : self.image.shape[1]]


def _from_centres(n: int, step: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the tiles, and of every pixel its distance from that of its tile, in units of `spanned` positions.

    The last tile may end beyond the image: its centre is that of its pixels.  Far from them, a polynomial about it is a
    difference of large numbers.
    """
    half, pixel = polynomials.half_length(n), np.arange(n)
    first = np.arange(0, n, step)
    centres = (first + np.minimum(first + step, n) - 1) / 2
    return centres / half - 1, ((pixel - centres[pixel // step]) / half).astype(np.float32)
