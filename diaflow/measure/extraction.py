"""Sources as connected pixels above a threshold, with blends separated: `sep.extract`, which is SExtractor's."""

import numpy as np
import sep

from diaflow.errors import BadData

# Pixels in unfinished sources that sep makes room for: enough as a rule, and for stars that bleed or large galaxies.
PIXSTACKS = (200_000, 5_000_000)


def extract(image: np.ndarray, threshold: float, **options) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """What `sep.extract` returns, without a filter.

    Parameters
    ----------
    image : (ny, nx) float32 array
    threshold : float
        In sigma where the options have `var`, else in the unit of the image.
    options
        Of `sep.extract`.

    Raises
    ------
    BadData
        When the limits of sep are exceeded.
    """
    for pixels in PIXSTACKS:
        sep.set_extract_pixstack(pixels)
        try:
            return sep.extract(image, threshold, filter_kernel=None, **options)
        except Exception as error:  # sep raises bare Exception when its limits are exceeded
            problem = error
    raise BadData(f"source detection failed: {problem}") from problem
