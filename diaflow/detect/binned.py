"""An image in bins of 4 x 4 pixels, and what is left in it of the sky.

`Bins` holds sums over the usable pixels of each bin, on which both the residual background and the streaks
(`diaflow.detect.streaks`) are found.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.ndimage import binary_dilation

from diaflow.image.exposure import Exposure
from diaflow.jit import EXACT
from diaflow.measure import photometry

BIN = 4
MIN_FILLED = 0.5  # smallest usable part of a bin
MESH = 10  # side of the cells of the background [bin]: the 40 pixels of LSST's final background
CLIP = 3.0  # bins beyond are sources, with their neighbours [sigma]
MIN_CELL = 0.3  # smallest part of a cell that must be free of sources


@dataclass
class Bins:
    """Sums over bins.

    Attributes
    ----------
    total, variance, count : (my, mx) float32 arrays
        Sum of the usable pixels, its variance, and their number.
    """

    total: np.ndarray
    variance: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray, variance: np.ndarray, bad: np.ndarray) -> "Bins":
        """Bins of an image; those at the upper borders may be incomplete.

        Parameters
        ----------
        image, variance : (ny, nx) float32 arrays
        bad : (ny, nx) bool array
            Pixels that do not count.

        Returns
        -------
        Bins
        """
        return cls(*_bin_sums(image, variance, bad))

    @property
    def usable(self) -> np.ndarray:
        """Bins of which at least half is usable."""
        return (self.count >= MIN_FILLED * BIN**2) & (self.variance > 0)

    @property
    def snr(self) -> np.ndarray:
        """Sum over its error; 0 where a bin is not usable."""
        return np.divide(self.total, np.sqrt(self.variance), out=np.zeros_like(self.total), where=self.usable)

    def subtract(self, cells: np.ndarray) -> None:
        """Subtract a background.

        Parameters
        ----------
        cells : (n, m) array
            In cells of `MESH` bins [unit of the image].
        """
        self.total -= self.count * expanded(cells, self.total.shape, MESH)


@dataclass(frozen=True)
class Background:
    """What subtraction left of the sky.

    Attributes
    ----------
    cells : array
        In cells of 40 x 40 pixels [unit of the image].
    scatter, noise : float
        Scatter of the cells beyond their noise, and that noise.
    """

    cells: np.ndarray
    scatter: float
    noise: float


def background(bins: Bins) -> Background:
    """The sky that is left in an image, as far as it stands out of the noise.

    Medians of the bins in each cell show the sources; means of the others are the sky.  The mean of a cell has so much
    noise that subtracting it would move the flux of a PSF of 4 pixels FWHM by 0.2 of its error where there is nothing
    to subtract.  So each is multiplied by scatter**2 / (scatter**2 + noise**2), the linear estimate of least error
    (Wiener's), which is zero where the cells scatter as their noise does.

    Parameters
    ----------
    bins : Bins

    Returns
    -------
    Background
        Zero where fewer than two cells are free of sources.
    """
    first = expanded(_cell_medians(bins), bins.total.shape, MESH)
    excess = np.where(bins.usable, np.abs(bins.total - bins.count * first), 0)
    free = bins.usable & ~binary_dilation(excess > CLIP * np.sqrt(bins.variance), np.ones((3, 3), bool))
    total, variance, count = (
        np.nansum(_cells(np.where(free, plane, np.nan)), axis=-1) for plane in (bins.total, bins.variance, bins.count)
    )
    filled = count > MIN_CELL * (MESH * BIN) ** 2
    if filled.sum() < 2:
        return Background(np.zeros(count.shape), 0.0, 0.0)
    mean = total / np.maximum(count, 1)
    error2 = np.where(filled, variance, np.inf) / np.maximum(count, 1) ** 2
    weight = (1 / error2).sum()
    level = (mean / error2).sum() / weight
    noise2 = error2[filled].mean()
    scatter2 = mean[filled].var() - noise2
    # The variance of n values is known to sqrt(2 / n) of itself; less scatter than that is none.
    scatter2 = scatter2 if scatter2 > 2 * noise2 * np.sqrt(2 / filled.sum()) else 0.0
    level *= level**2 / (level**2 + 1 / weight)
    cells = level + (mean - level) * scatter2 / (scatter2 + error2)
    return Background(cells, float(np.sqrt(scatter2)), float(np.sqrt(noise2)))


def remove_sky(exposure: Exposure) -> float:
    """Subtract the sky that is left in an image, as far as it stands out of the noise.

    Parameters
    ----------
    exposure : Exposure
        Its image is changed in place; pixels without data are 0 afterwards.

    Returns
    -------
    float
        Scatter of the sky per pixel beyond its noise [unit of the image].
    """
    left = background(Bins.of(exposure.image, exposure.variance, exposure.flagged(*photometry.UNUSABLE)))
    # the same everywhere where nothing scatters
    cells = left.cells if left.scatter else left.cells[:1, :1]
    exposure.image -= expanded(cells, exposure.shape, MESH * BIN)
    exposure.image[exposure.flagged("NO_DATA")] = 0
    return left.scatter


def expanded(cells: np.ndarray, shape: tuple[int, int], side: int) -> np.ndarray:
    """Linear interpolation between the centres of cells and beyond them.

    Parameters
    ----------
    cells : (n, m) array
    shape : (ny, nx)
        Of the result.
    side : int
        Of a cell [pixel].

    Returns
    -------
    (ny, nx) float32 array
    """
    weights_y, weights_x = (_linear_weights(n, m, side) for n, m in zip(shape, cells.shape))
    return (weights_y @ cells.astype(np.float32)) @ weights_x.T


def _linear_weights(n: int, m: int, side: int) -> np.ndarray:
    """Matrix (n, m) from m cells to the n pixels of an axis."""
    starts, pixel = np.arange(m) * side, np.arange(n)
    if m == 1:
        return np.ones((n, 1), np.float32)
    centres = (starts + np.minimum(starts + side, n) - 1) / 2
    lower = (np.searchsorted(centres, pixel, "right") - 1).clip(0, m - 2)
    share = (pixel - centres[lower]) / np.diff(centres)[lower]
    weights = np.zeros((n, m), np.float32)
    weights[pixel, lower], weights[pixel, lower + 1] = 1 - share, share
    return weights


def _cells(plane: np.ndarray) -> np.ndarray:
    """Bins by cell, (n, m, MESH**2), NaN beyond the borders."""
    padded = np.pad(plane, [(0, -n % MESH) for n in plane.shape], constant_values=np.nan)
    cells = padded.reshape(len(padded) // MESH, MESH, -1, MESH).transpose(0, 2, 1, 3)
    return cells.reshape(*cells.shape[:2], -1)


def _cell_medians(bins: Bins) -> np.ndarray:
    """Median of the means of the usable bins in each cell; 0 where there is none."""
    means = np.sort(_cells(np.where(bins.usable, bins.total / np.maximum(bins.count, 1), np.nan)))
    middle = np.isfinite(means).sum(-1, keepdims=True) // 2  # NaN are sorted last
    return np.nan_to_num(np.take_along_axis(means, middle.clip(max=MESH**2 - 1), -1)[..., 0])


@njit(**EXACT)
def _bin_sums(image, variance, bad):
    ny, nx = image.shape
    shape = ((ny + BIN - 1) // BIN, (nx + BIN - 1) // BIN)
    total, noise, count = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    for y in range(ny):
        for x in range(nx):
            if not bad[y, x]:
                total[y // BIN, x // BIN] += image[y, x]
                noise[y // BIN, x // BIN] += variance[y, x]
                count[y // BIN, x // BIN] += 1
    return total, noise, count
