"""Errors of PSF fluxes that are not noise of the pixels: what an image has of stars that were not removed exactly.

They belong to a flux, not to pixels: as a part of the variance plane they would hide what is no point source, and a
fit that weights pixels by their variance would leave out the cores of stars.  They change over the width of a PSF, so
that one number for each bin of 2 x 2 pixels tells them.
"""

from dataclasses import dataclass

import numpy as np

BIN = 2  # [pixel]


@dataclass(frozen=True)
class FluxError:
    """Standard error of the PSF flux at every place of an image, beyond what the variance plane says.

    Attributes
    ----------
    bins : (my, mx) float32 array
        In bins of 2 x 2 pixels, which may be incomplete at the upper borders [unit of the flux].
    """

    bins: np.ndarray

    @classmethod
    def binned(cls, pixels: np.ndarray) -> "FluxError":
        """The rms in each bin.

        Parameters
        ----------
        pixels : (ny, nx) float32 array
            The error in each pixel [unit of the flux].

        Returns
        -------
        FluxError
        """
        padded = np.pad(pixels, [(0, -n % BIN) for n in pixels.shape], mode="edge")
        rows = padded[::BIN] ** 2 + padded[1::BIN] ** 2
        return cls(np.sqrt(rows[:, ::BIN] + rows[:, 1::BIN]) / np.float32(BIN))

    def at(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """The error at positions.

        Parameters
        ----------
        x, y : (n,) arrays
            [pixel]

        Returns
        -------
        (n,) array
            [unit of the flux]; 0 where a position is NaN, that of the nearest bin where it is off the image.
        """
        rows, columns = (
            np.clip(np.nan_to_num(np.floor((position + 0.5) / BIN)), 0, n - 1).astype(int)
            for position, n in zip((y, x), self.bins.shape)
        )
        return np.where(np.isfinite(x) & np.isfinite(y), self.bins[rows, columns], 0)

    def rows(self, rows: slice, width: int) -> np.ndarray:
        """The error in every pixel of some rows.

        Parameters
        ----------
        rows : slice
        width : int
            Columns of the image.

        Returns
        -------
        (n, width) float32 array
            [unit of the flux]
        """
        return self.bins[np.arange(rows.start, rows.stop) // BIN].repeat(BIN, 1)[:, :width]
