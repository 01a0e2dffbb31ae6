"""Sources as connected pixels above a threshold, with blends separated: `sep.extract`, which is SExtractor's."""

from contextlib import suppress

import numpy as np
import sep

from diaflow.errors import data_may_fail

# Pixels in unfinished sources that sep makes room for, some 40 bytes for each, which it fills at once: enough as a
# rule, and for stars that bleed or large galaxies.
PIXSTACKS = (200_000, 5_000_000)

# SExtractor's default filter (default.conv): a pyramid of 3 x 3 pixels.
PYRAMID = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32)


def extract(
    image: np.ndarray, threshold: float, filter_kernel: np.ndarray | None = None, **options
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """What `sep.extract` returns.

    Parameters
    ----------
    image : (ny, nx) float32 array
    threshold : float
        In sigma where the options have `var` or `err`, else in the unit of the image.
    filter_kernel : (k, k) array, optional
        What the image is convolved with before the threshold is applied; by default it is not.
    options
        Of `sep.extract`.

    Returns
    -------
    found : (n,) structured array
        One row per source, with SExtractor's measurements.
    segments : (ny, nx) int32 array
        Number of the source of each pixel, from 1; only with the option `segmentation_map`.

    Raises
    ------
    BadData
        When sep fails, as it does where a limit of its own is exceeded.
    """
    *usual, largest = PIXSTACKS
    for pixels in usual:
        sep.set_extract_pixstack(pixels)
        with suppress(Exception):  # sep has no class for its limits; what fails for another reason fails again
            return sep.extract(image, threshold, filter_kernel=filter_kernel, **options)
    sep.set_extract_pixstack(largest)
    with data_may_fail("source detection"):
        return sep.extract(image, threshold, filter_kernel=filter_kernel, **options)
