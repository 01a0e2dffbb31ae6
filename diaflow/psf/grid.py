"""A PSF known at the nodes of a grid over an image and bilinear in between."""

from dataclasses import dataclass

import numpy as np
from astropy.io import fits


@dataclass(frozen=True)
class StampGrid:
    """Stamps at the nodes of a regular grid.

    Attributes
    ----------
    stamps : (n_y, n_x, k, k) array, k odd
        NaN at nodes where the PSF is unknown.
    first : (x, y)
        Position of the first node [pixel].
    step : (dx, dy)
        Distance of the nodes [pixel].
    """

    stamps: np.ndarray
    first: tuple[float, float]
    step: tuple[float, float]

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The mean of the known nodes around each position, weighted bilinearly.

        Parameters
        ----------
        x, y : (n,) arrays or floats
            Positions [pixel]; outside the grid the value at its border is taken.

        Returns
        -------
        (n, k, k) float64 array
            NaN where no node around is known.
        """
        column, right = self._cell(x, axis=0)
        row, up = self._cell(y, axis=1)
        total, weight = 0.0, np.zeros(len(column))
        for j in (0, 1):
            for i in (0, 1):
                stamps = self.stamps[row + j * (up > 0), column + i * (right > 0)].astype(float)
                known = np.isfinite(stamps).all((1, 2))
                share = known * (up if j else 1 - up) * (right if i else 1 - right)
                total = total + share[:, None, None] * np.where(known[:, None, None], stamps, 0)
                weight += share
        return total / np.where(weight > 0, weight, np.nan)[:, None, None]

    def _cell(self, position: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
        """Index of the node before each position and the fraction of the way to the next."""
        n = self.stamps.shape[1 - axis]
        place = (np.atleast_1d(np.asarray(position, float)) - self.first[axis]) / self.step[axis]
        place = np.clip(place, 0, n - 1)
        index = np.minimum(place.astype(int), max(n - 2, 0))
        return index, place - index

    def to_hdu(self) -> fits.ImageHDU:
        """The grid as an HDU.

        Returns
        -------
        fits.ImageHDU
            PSF_GRID, (n_y, n_x, k, k) float32, with the positions of the nodes in its header.
        """
        hdu = fits.ImageHDU(self.stamps.astype(np.float32), name="PSF_GRID")
        for key, value, comment in (
            ("NODE_X0", self.first[0], "x of the first node, from 0 [pixel]"),
            ("NODE_Y0", self.first[1], "y of the first node, from 0 [pixel]"),
            ("NODE_DX", self.step[0], "distance of the nodes along x [pixel]"),
            ("NODE_DY", self.step[1], "distance of the nodes along y [pixel]"),
        ):
            hdu.header[key] = (float(value), comment)
        return hdu

    @classmethod
    def from_hdu(cls, hdu: fits.ImageHDU) -> "StampGrid":
        """The inverse of `to_hdu`.

        Parameters
        ----------
        hdu : fits.ImageHDU

        Returns
        -------
        StampGrid

        Raises
        ------
        KeyError
            When its header does not say where the nodes are.
        """
        header = hdu.header
        stamps = np.ascontiguousarray(hdu.data, np.float32)
        return cls(stamps, (header["NODE_X0"], header["NODE_Y0"]), (header["NODE_DX"], header["NODE_DY"]))
