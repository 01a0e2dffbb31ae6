"""Shapes of a star's image: sums of round Gaussians, in units of their FWHM, and copies of them side by side.

A Moffat profile is a sum of Gaussians whose inverse variances follow a gamma distribution, which turns into a
quadrature; a double Gaussian has a core and a halo.  A trailed or a defocused image is the same one at many places.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

# Of the default shape: least-squares fit to a Moffat profile of beta = 3.5; sigma in units of the FWHM of the sum.
PSF_WEIGHT = np.array([0.4181, 0.5010, 0.0809])
PSF_SIGMA = np.array([0.36839, 0.61451, 1.16808])
# Nodes of the quadrature of a Moffat profile, logarithm of the gamma variable: beyond the first the wings end, at 4.6
# FWHM for beta = 2.5, which leaves 0.3 % of its light out; the distance of the nodes is good to 1e-4 up to beta = 5.
MOFFAT_NODES = np.arange(-4.0, 3.1, 0.7)
LEAST_WEIGHT = 1e-5  # of a Gaussian that is kept
PITCH = 1.0  # largest distance of copies [pixel]: no wider than the sigma of an image of 2.7 pixels FWHM
HOLE = 0.4  # inner over outer radius of a defocused image, as of a telescope with a secondary mirror; chosen


@dataclass(frozen=True)
class Profile:
    """A star's image.

    Attributes
    ----------
    weight, sigma : (m,) arrays
        Share of the light and size [FWHM of their sum] of its Gaussians.
    copies : (k, 2) array
        Where the sum of Gaussians is repeated, each with the same light: x, y from the star's position [pixel].
    """

    weight: np.ndarray
    sigma: np.ndarray
    copies: np.ndarray


SINGLE = np.zeros((1, 2))  # the copies of an image in focus that nothing has trailed


def moffat(beta: float) -> tuple[np.ndarray, np.ndarray]:
    """A Moffat profile, (1 + r**2 / alpha**2)**-beta, without its faintest wings.

    It is the mean of Gaussians of variance alpha**2 / (2 t), where t has the gamma distribution of shape beta - 1.

    Parameters
    ----------
    beta : float
        Above 1.

    Returns
    -------
    weight, sigma : (m,) arrays
        Sum 1; [FWHM].
    """
    t = np.exp(MOFFAT_NODES)
    weight = t ** (beta - 1) * np.exp(-t)
    weight /= weight.sum()
    kept = weight > LEAST_WEIGHT
    return _of_unit_width(weight[kept] / weight[kept].sum(), 1 / np.sqrt(2 * t[kept]))


def double_gaussian(halo: float, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """A core and a halo.

    Parameters
    ----------
    halo : float
        Share of the light in the halo.
    ratio : float
        Size of the halo over that of the core.

    Returns
    -------
    weight, sigma : (2,) arrays
        Sum 1; [FWHM].
    """
    return _of_unit_width(np.array([1 - halo, halo]), np.array([1.0, ratio]))


def _of_unit_width(weight: np.ndarray, sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same Gaussians scaled such that their sum has a FWHM of 1."""

    def above_half(r: float) -> float:
        return (weight / sigma**2 * (np.exp(-0.5 * (r / sigma) ** 2) - 0.5)).sum()

    # The sum is above half of its maximum inside the half width of the narrowest, below it outside that of the widest.
    half_width = brentq(above_half, sigma.min(), 1.2 * sigma.max())
    return weight, sigma / (2 * half_width)


def trail(length: float, angle: float) -> np.ndarray:
    """Copies along a line.

    Parameters
    ----------
    length : float
        [pixel]
    angle : float
        From x to y [rad].

    Returns
    -------
    (k, 2) array
        [pixel]
    """
    n = 1 + int(np.ceil(length / PITCH))
    # In the middle of equal parts of the line.
    along = length * ((np.arange(n) + 0.5) / n - 0.5)
    return np.outer(along, [np.cos(angle), np.sin(angle)])


def ring(radius: float) -> np.ndarray:
    """Copies over the image of the mirror out of focus: a disc with a hole.

    Parameters
    ----------
    radius : float
        Of the disc [pixel].

    Returns
    -------
    (k, 2) array
        [pixel]
    """
    steps = PITCH * np.arange(-np.ceil(radius / PITCH), np.ceil(radius / PITCH) + 1)
    x, y = (axis.ravel() for axis in np.meshgrid(steps, steps))
    distance = np.hypot(x, y)
    inside = (distance <= radius) & (distance >= HOLE * radius)
    return np.column_stack([x[inside], y[inside]])
