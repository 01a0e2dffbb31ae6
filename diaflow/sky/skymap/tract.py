"""A tract: a gnomonic (TAN) plane on the sky cut into square patches.

Inner boxes of patches tile the tract; outer boxes add a border shared with the neighbours and end at the edge of
the tract.  The grid is that of the "legacy" tract builder of lsst/skymap for explicit tracts (centre and radius).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.wcs import WCS

from diaflow.errors import InputError
from diaflow.sky import sphere
from diaflow.units import ARCSEC


def patch_grid(radius: float, pixel_scale: float, patch_size: int) -> tuple[int, int, int]:
    """The pixel grid of a tract of the given radius, as the legacy builder of lsst/skymap lays it out.

    Parameters
    ----------
    radius : float
        Of the tract, overlap with its neighbours included [deg].
    pixel_scale : float
        At the centre [arcsec].
    patch_size : int
        Side of a patch without its border [pixel].

    Returns
    -------
    needed : int
        Side of the square that holds the circle [pixel].
    n : int
        Patches along a side.
    centre : int
        Pixel index of the centre of the tract, along both axes.
    """
    half = np.tan(np.radians(radius)) / (pixel_scale * ARCSEC)
    lowest, highest = int(np.floor(-half + 0.5)), int(np.ceil(half - 0.5))
    needed = highest - lowest + 1
    n = -(-needed // patch_size)
    return needed, n, (n * patch_size - needed) // 2 - lowest


@dataclass(frozen=True)
class Tract:
    """One TAN plane with its patches; `ra`, `dec` [deg] is its centre, north is up, east is left.

    Attributes
    ----------
    id : int
    ra, dec, radius : float
        Circle that the tract holds [deg].
    pixel_scale : float
        At the centre [arcsec].
    patch_size, border : int
        Side of a patch without its border, and the border [pixel].
    """

    id: int
    ra: float
    dec: float
    radius: float
    pixel_scale: float
    patch_size: int
    border: int

    @cached_property
    def _grid(self) -> tuple[int, int, int]:
        return patch_grid(self.radius, self.pixel_scale, self.patch_size)

    @property
    def n_patches(self) -> tuple[int, int]:
        """Patches along x and along y."""
        return self._grid[1], self._grid[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the whole tract [pixel]."""
        return self.n_patches[1] * self.patch_size, self.n_patches[0] * self.patch_size

    @property
    def stretch(self) -> float:
        """Pixels at the corner of the tract per pixel at its centre, along the radius (TAN: 1/cos**2)."""
        half_diagonal = np.hypot(*self.shape) / 2 * self.pixel_scale * ARCSEC
        return float(1 + half_diagonal**2)

    @property
    def wcs(self) -> WCS:
        """WCS of the tract's pixels."""
        return self._wcs_from(0, 0)

    def patches(self) -> list[str]:
        """Names of all patches.

        Returns
        -------
        list of str
            "x_y", x running fastest.
        """
        return [f"{px}_{py}" for py in range(self.n_patches[1]) for px in range(self.n_patches[0])]

    def inner_box(self, patch: str) -> tuple[int, int, int, int]:
        """The part of the tract that is a patch's own.

        Parameters
        ----------
        patch : str
            "x_y".

        Returns
        -------
        x0, y0, x1, y1 : int
            First and last pixel, inclusive.

        Raises
        ------
        InputError
            When the tract has no such patch.
        """
        px, py = self._index(patch)
        size = self.patch_size
        return px * size, py * size, (px + 1) * size - 1, (py + 1) * size - 1

    def outer_box(self, patch: str) -> tuple[int, int, int, int]:
        """The inner box of a patch grown by the border, within the tract.

        Parameters
        ----------
        patch : str
            "x_y".

        Returns
        -------
        x0, y0, x1, y1 : int
            First and last pixel, inclusive.

        Raises
        ------
        InputError
            When the tract has no such patch.
        """
        px, py = self._index(patch)
        low, high = self.outer_edges(np.array([px]), np.array([py]))
        (x0, y0), (x1, y1) = (low[0] + 0.5).astype(int).tolist(), (high[0] - 0.5).astype(int).tolist()
        return x0, y0, x1, y1

    def outer_edges(self, px: np.ndarray, py: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Outer boxes of many patches, at their pixel edges.

        Parameters
        ----------
        px, py : (n,) int arrays
            Indices of the patches.

        Returns
        -------
        low, high : (n, 2) arrays
            Lower left and upper right corners [pixel].
        """
        index, size = np.stack([px, py], axis=-1), self.patch_size
        low = np.maximum(index * size - self.border, 0) - 0.5
        high = np.minimum((index + 1) * size + self.border, np.array(self.shape[::-1])) - 0.5
        return low, high

    def patch_wcs(self, patch: str) -> tuple[WCS, tuple[int, int]]:
        """The grid of a patch.

        Parameters
        ----------
        patch : str
            "x_y".

        Returns
        -------
        wcs : astropy.wcs.WCS
            Its pixel (0, 0) is the first of the outer box.
        shape : (ny, nx)
            Of the outer box.

        Raises
        ------
        InputError
            When the tract has no such patch.
        """
        x0, y0, x1, y1 = self.outer_box(patch)
        return self._wcs_from(x0, y0), (y1 - y0 + 1, x1 - x0 + 1)

    def pixels(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixel positions of sky positions.

        Parameters
        ----------
        ra, dec : arrays
            [deg]

        Returns
        -------
        x, y : arrays
            NaN far from the tract.
        """
        xi, eta = sphere.gnomonic(ra, dec, self.ra, self.dec)
        scale, centre = self.pixel_scale * ARCSEC, self._grid[2]
        return centre - xi / scale, centre + eta / scale

    def contains(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """Whether positions are on the tract's pixels.

        Parameters
        ----------
        ra, dec : arrays
            [deg]

        Returns
        -------
        bool array
        """
        return self._rounded(ra, dec)[2]

    def find_patch(self, ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
        """The patch whose inner box holds each position.

        Parameters
        ----------
        ra, dec : (n,) arrays or floats
            [deg]

        Returns
        -------
        (n,) object array
            Names "x_y"; empty outside the tract.
        """
        x, y, inside = self._rounded(np.atleast_1d(ra), np.atleast_1d(dec))
        px, py = x // self.patch_size, y // self.patch_size
        names = np.array(self.patches() + [""], dtype=object)
        return names[np.where(inside, py * self.n_patches[0] + px, len(names) - 1)]

    def _rounded(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Pixel indices, rounded half up, and whether they are on the tract."""
        x, y = (np.floor(position + 0.5) for position in self.pixels(ra, dec))
        inside = (x >= 0) & (y >= 0) & (x < self.shape[1]) & (y < self.shape[0])
        return np.where(inside, x, 0).astype(int), np.where(inside, y, 0).astype(int), inside

    def _index(self, patch: str) -> tuple[int, int]:
        px, _, py = patch.partition("_")
        if not (px.isdecimal() and py.isdecimal() and int(px) < self.n_patches[0] and int(py) < self.n_patches[1]):
            nx, ny = self.n_patches
            raise InputError(f"tract {self.id} has no patch '{patch}' (0_0 to {nx - 1}_{ny - 1})")
        return int(px), int(py)

    def _wcs_from(self, x0: int, y0: int) -> WCS:
        wcs = WCS(naxis=2)
        wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
        wcs.wcs.cunit = ["deg", "deg"]
        wcs.wcs.radesys = "ICRS"
        wcs.wcs.crval = [self.ra, self.dec]
        wcs.wcs.crpix = [self._grid[2] - x0 + 1, self._grid[2] - y0 + 1]
        wcs.wcs.cd = np.diag([-self.pixel_scale, self.pixel_scale]) / 3600
        wcs.wcs.set()
        return wcs
