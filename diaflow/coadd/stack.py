"""A stack of warps on disk: its weights, its pixels in blocks of rows, and the noise of each warp.

A warp has one weight, the inverse of the clipped mean of its variance plane; a pixel-by-pixel weight would depend on
the sources.  `means` has the arithmetic.
"""

from collections.abc import Iterator

import numpy as np

from diaflow.coadd.means import INTERPOLATED, mean_of
from diaflow.errors import InputError
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.statistics import SIGMA_PER_IQR

# Pixels of all inputs that are in memory at a time, and what one takes in image, variance and mask together [byte].
BLOCK_BYTES = 32 * 2**20
PIXEL_BYTES = 12

# Rows on which the noise of an input is measured: of 160 pixels each, they tell it to 1.2 %.
NOISE_ROWS = 64

NO_DATA = bits("NO_DATA")
Block = tuple[int, np.ndarray, np.ndarray, np.ndarray]


def open_all(paths: list[str]) -> list[ExposureFile]:
    """The files of a stack, which must share a grid.

    Parameters
    ----------
    paths : list of str

    Returns
    -------
    list of ExposureFile

    Raises
    ------
    InputError
        When a file is unreadable or on another grid than the first.
    """
    files = [ExposureFile(path) for path in paths]
    for file in files[1:]:
        same_origin = np.allclose(file.wcs.wcs.crpix, files[0].wcs.wcs.crpix, atol=1e-6)
        if file.shape != files[0].shape or not same_origin:
            raise InputError(f"{file.path}: not on the pixel grid of {files[0].path}")
    return files


def warp_weights(files: list[ExposureFile]) -> np.ndarray:
    """Weights of warps in a mean: the inverse of their mean variance.

    Parameters
    ----------
    files : list of ExposureFile

    Returns
    -------
    (n,) array
        [nJy**-2]

    Raises
    ------
    InputError
        When a file is no warp.
    """
    for file in files:
        if not file.metadata.get("mean_variance", 0) > 0:
            raise InputError(f"{file.path}: no MEAN_VARIANCE in its header, so not a warp")
    return np.array([1 / file.metadata["mean_variance"] for file in files])


def blocks(files: list[ExposureFile]) -> Iterator[Block]:
    """Pixels of all files in blocks of rows.

    Parameters
    ----------
    files : list of ExposureFile

    Yields
    ------
    first : int
        First row of the block.
    image, variance, mask : (n, n_rows, nx) arrays
        Used again for the next block.
    """
    ny, nx = files[0].shape
    n_rows = min(ny, max(1, BLOCK_BYTES // (PIXEL_BYTES * nx * len(files))))
    buffer = np.empty(3 * len(files) * n_rows * nx, np.float32)
    for first in range(0, ny, n_rows):
        yield first, *read_rows(files, first, min(n_rows, ny - first), buffer)


def read_rows(
    files: list[ExposureFile], first: int, n_rows: int, buffer: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Some rows of all files.

    Parameters
    ----------
    files : list of ExposureFile
    first, n_rows : int
    buffer : float32 array, optional
        Room for the result: 3 n n_rows nx values.

    Returns
    -------
    image, variance, mask : (n, n_rows, nx) arrays
    """
    shape = (3, len(files), n_rows, files[0].shape[1])
    planes = (np.empty(shape, np.float32) if buffer is None else buffer[: np.prod(shape)]).reshape(shape)
    image, variance, mask = planes[0], planes[1], planes[2].view(np.int32)
    for name, plane in (("IMAGE", image), ("VARIANCE", variance), ("MASK", mask)):
        for file, rows in zip(files, plane):
            file.read_rows(name, first, rows)
    return image, variance, mask


def unfilled(files: list[ExposureFile], weights: np.ndarray) -> Exposure:
    """The exposure that a stack of the files fills.

    Parameters
    ----------
    files : list of ExposureFile
    weights : (n,) array

    Returns
    -------
    Exposure
        With noise and metadata of the mean, without a PSF; its pixels are whatever was in memory.
    """
    shape, first = files[0].shape, files[0].metadata
    return Exposure(
        image=np.empty(shape, np.float32),
        variance=np.empty(shape, np.float32),
        mask=np.empty(shape, np.int32),
        wcs=files[0].wcs,
        noise=Noise.mean([file.noise for file in files], weights),
        metadata={key: first[key] for key in ("band", "tract", "patch") if key in first}
        | {"n_inputs": len(files), "status": "ok"},
    )


def noise_scale(files: list[ExposureFile], weights: np.ndarray) -> np.ndarray:
    """Noise of each input over the square root of its variance plane, measured on rows all over the image.

    The noise of warps is correlated and their variance planes know no covariance.  From the interquartile range of
    (image - mean of all) / sqrt(variance); the mean contains the input itself, which makes its rms smaller by
    sqrt(1 - its share of the weight).

    Parameters
    ----------
    files : list of ExposureFile
    weights : (n,) array

    Returns
    -------
    (n,) array
        1 for an input that shares no pixel with others.
    """
    rows = np.unique(np.linspace(0, files[0].shape[0] - 1, NOISE_ROWS).astype(int))
    planes = [np.concatenate(parts, axis=1) for parts in zip(*(read_rows(files, row, 1) for row in rows))]
    mean, _, _ = mean_of(*planes, weights)
    scale = np.ones(len(files))
    for k, (image, variance, mask) in enumerate(zip(*planes)):
        clean = (mask & (NO_DATA | INTERPOLATED) == 0) & (variance > 0) & (variance < np.inf)
        residual = (image[clean] - mean[clean]) / np.sqrt(variance[clean])
        independent = 1 - weights[k] / weights.sum()
        if np.any(residual) and independent > 0:
            scale[k] = SIGMA_PER_IQR * np.subtract(*np.percentile(residual, [75, 25])) / np.sqrt(independent)
    return scale
