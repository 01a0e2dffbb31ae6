"""Connected regions of pixels, from lists of flat indices: few of the pixels of an image are in one."""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


@dataclass
class Regions:
    """Connected regions of pixels.

    Attributes
    ----------
    pixels : (n,) int array
        Flat indices, sorted.
    labels : (n,) int array
        Region of each.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def mean(self, values: np.ndarray) -> np.ndarray:
        """Mean over each region.

        Parameters
        ----------
        values : (n,) array
            Of the pixels.

        Returns
        -------
        (n_regions,) array
        """
        return np.bincount(self.labels, values) / np.bincount(self.labels)


def regions_of(pixels: np.ndarray, shape: tuple[int, int], min_pixels: int, radius: int) -> Regions:
    """Regions of enough pixels, grown.

    Parameters
    ----------
    pixels : (n,) int array
        Flat indices in an image, ascending.
    shape : (ny, nx)
        Of the image.
    min_pixels : int
        That hang together; others are left out.
    radius : int
        By which the others are grown [pixel].

    Returns
    -------
    Regions
    """
    found = Regions(pixels, region_numbers(pixels, shape))
    if len(pixels):
        keep = np.bincount(found.labels) >= min_pixels
        pixels = np.flatnonzero(grown(pixels[keep[found.labels]], shape, radius))
    return Regions(pixels, region_numbers(pixels, shape))


def grown(pixels: np.ndarray, shape: tuple[int, int], radius: int) -> np.ndarray:
    """The pixels within a distance of others.

    Parameters
    ----------
    pixels : (n,) int array
        Flat indices in an image.
    shape : (ny, nx)
        Of the image.
    radius : int
        [pixel]

    Returns
    -------
    (ny * nx,) bool array
        The flat image.
    """
    ny, nx = shape
    t = np.arange(-radius, radius + 1)
    dx, dy = (d[np.hypot(*np.meshgrid(t, t)) <= radius + 0.5] for d in np.meshgrid(t, t))
    y, x = np.divmod(pixels, nx)
    out = np.zeros(ny * nx, bool)
    for ox, oy in zip(dx, dy):
        inside = (x + ox >= 0) & (x + ox < nx) & (y + oy >= 0) & (y + oy < ny)
        out[pixels[inside] + oy * nx + ox] = True
    return out


def region_numbers(pixels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Number of the connected region (sides or corners touch) of each of the sorted pixels.

    Parameters
    ----------
    pixels : (n,) int array
        Flat indices in an image, ascending.
    shape : (ny, nx)
        Of the image.

    Returns
    -------
    (n,) int array
        From 0.
    """
    if not len(pixels):
        return np.zeros(0, np.int64)
    nx = shape[1]
    # One column more than the image has, so that the end of a row does not touch the beginning of the next.
    keys = pixels + pixels // nx
    links = []
    for offset in (1, nx, nx + 1, nx + 2):
        at = np.minimum(np.searchsorted(keys, keys + offset), len(keys) - 1)
        first = np.flatnonzero(keys[at] == keys + offset)
        links.append((first, at[first]))
    first, second = np.concatenate(links, axis=1)
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(len(keys), len(keys)))
    return connected_components(graph, directed=False)[1]
