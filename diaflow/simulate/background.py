"""The sky behind everything: its level on the pixels of an image, and its noise."""

import math

import numpy as np

from diaflow.psf.stampfield import FWHM_PER_SIGMA
from diaflow.simulate import gaussians, optics
from diaflow.simulate.pointing import GAIN, READ_NOISE, Visit, stream


def sky_image(config: dict, visit: Visit, detector: int) -> np.ndarray:
    """The sky background: a plane, and blotches where the configuration asks for them.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int

    Returns
    -------
    (size, size) array
        [DN]
    """
    size, sky = config["size"], config["sky"]
    t = np.arange(size)
    level = _plane(config, visit, detector, t, t[:, None])
    if not sky["blotches"]:
        return level
    rng = stream(config["seed"], "blotches", visit.visit, detector)
    uneven = blotches((size, size), sky["blotches"], sky["blotch_width"], sky["blotch_level"], rng)
    return level + visit.sky * uneven


def sky_sigma(config: dict, visit: Visit, detector: int) -> float:
    """Standard deviation of an empty pixel in the middle of a detector: photons of the sky, read noise and rounding.

    Parameters
    ----------
    config : dict
        The `simulate` section.
    visit : Visit
    detector : int

    Returns
    -------
    float
        [DN]; blotches do not count.
    """
    middle = np.array((config["size"] - 1) / 2)
    level = float(_plane(config, visit, detector, middle, middle))
    return math.sqrt(level / GAIN + (READ_NOISE / GAIN) ** 2 + 1 / 12)


def _plane(config: dict, visit: Visit, detector: int, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Level of the sky without its blotches at pixels x, y of shapes that broadcast [DN]."""
    u, v = optics.focal_plane(config, detector, x, y)
    gx, gy = visit.sky_gradient
    return visit.sky * (1 + gx * u + gy * v)


def blotches(shape: tuple[int, int], number: int, widths: tuple, level: float, rng: np.random.Generator) -> np.ndarray:
    """Round patches in which the sky is brighter or darker.

    Parameters
    ----------
    shape : (int, int)
        Of the image.
    number : int
    widths : (float, float)
        Smallest and largest FWHM [pixel].
    level : float
        Largest change at the centre of a blotch.
    rng : numpy.random.Generator

    Returns
    -------
    array of that shape
        In the unit of `level`.
    """
    image = np.zeros(shape)
    variance = (rng.uniform(*widths, number) / FWHM_PER_SIGMA) ** 2
    total = rng.uniform(-level, level, number) * 2 * np.pi * variance
    x, y = rng.uniform(0, shape[1], number), rng.uniform(0, shape[0], number)
    gaussians.add_gaussians(image, x, y, total, variance, np.zeros(number), variance)
    return image
