"""A tract: a gnomonic (TAN) plane on the sky cut into square patches.

Inner boxes of patches tile the tract; outer boxes add a border shared with the neighbours and end at the edge of
the tract.  The grid is that of the "legacy" tract builder of lsst/skymap for explicit tracts (centre and radius).
Functions of positions also take a `Tract` whose fields are arrays: a tract for each position.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from astropy.wcs import WCS

from diaflow.errors import InputError
from diaflow.sky import sphere
from diaflow.units import ARCSEC

MAX_RADIUS = 20.0  # of a tract [deg]; TAN stretches the sky by 1/cos**2 of the distance, 13 % here
MAX_PATCHES = 1000  # along a side, chosen: three times what that radius has at 0.2 arcsec and 2000 pixels
MAX_SIDE = 1 << 31  # patches along a side for which two indices fit in one number


def patch_grid(
    radius: np.ndarray, pixel_scale: np.ndarray, patch_size: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The pixel grid of a tract of the given radius, as the legacy builder of lsst/skymap lays it out.

    Parameters
    ----------
    radius : float or array
        Of the tract, overlap with its neighbours included [deg].
    pixel_scale : float or array
        At the centre [arcsec].
    patch_size : int or array
        Side of a patch without its border [pixel].

    Returns
    -------
    needed : int or array
        Side of the square that holds the circle [pixel].
    n : int or array
        Patches along a side.
    centre : int or array
        Pixel index of the centre of the tract, along both axes.
    """
    half = np.tan(np.radians(radius)) / (pixel_scale * ARCSEC)
    lowest, highest = np.floor(-half + 0.5).astype(int), np.ceil(half - 0.5).astype(int)
    needed = highest - lowest + 1
    n = -(-needed // patch_size)
    return needed, n, (n * patch_size - needed) // 2 - lowest


def check_size(radius: float, pixel_scale: float, patch_size: int, remedy: str) -> None:
    """Refuse a tract that is too large for a plane, or that has more patches than anything can need.

    Parameters
    ----------
    radius : float
        [deg]
    pixel_scale : float
        [arcsec]
    patch_size : int
        [pixel]
    remedy : str
        What makes tracts smaller.

    Raises
    ------
    InputError
    """
    if radius > MAX_RADIUS:
        too_large = f"skymap: a tract of {radius:.1f} deg radius is too large for one plane"
        raise InputError(f"{too_large} (at most {MAX_RADIUS:g} deg); {remedy}")
    n_patches = 2 * radius * 3600 / pixel_scale / patch_size
    if n_patches > MAX_PATCHES:
        raise InputError(
            f"skymap: {n_patches:.0f} patches of {patch_size} pixels of {pixel_scale:g} arcsec along each side of the "
            f"tract (at most {MAX_PATCHES}): set skymap.pixel_scale or skymap.patch_size"
        )


def patch_names(px: np.ndarray, py: np.ndarray) -> np.ndarray:
    """Names of patches.

    Parameters
    ----------
    px, py : (n,) int arrays
        Indices; negative where there is none.

    Returns
    -------
    (n,) object array
        "x_y", or empty.
    """
    number = np.where(px >= 0, py * MAX_SIDE + px, -1)
    used, which = np.unique(number, return_inverse=True)
    names = [f"{one % MAX_SIDE}_{one // MAX_SIDE}" if one >= 0 else "" for one in used.tolist()]
    return np.array(names, dtype=object)[which]


@dataclass(frozen=True)
class Tract:
    """One TAN plane with its patches; `ra`, `dec` [deg] is its centre; unless rotated, north is up, east is left.

    Attributes
    ----------
    id : int
    ra, dec, radius : float
        Circle that the tract holds [deg].
    pixel_scale : float
        At the centre [arcsec].
    patch_size, border : int
        Side of a patch without its border, and the border [pixel].
    rotation : float
        Position angle of the y axis, from north through east [deg].
    """

    id: int
    ra: float
    dec: float
    radius: float
    pixel_scale: float
    patch_size: int
    border: int
    rotation: float = 0.0

    @cached_property
    def _grid(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return patch_grid(self.radius, self.pixel_scale, self.patch_size)

    @cached_property
    def _turn(self) -> tuple[float, float]:
        """Cosine and sine of the rotation."""
        return np.cos(np.radians(self.rotation)), np.sin(np.radians(self.rotation))

    @property
    def n_patches(self) -> tuple[int, int]:
        """Patches along x and along y."""
        return self._grid[1], self._grid[1]

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx) of the whole tract [pixel]."""
        return self.n_patches[1] * self.patch_size, self.n_patches[0] * self.patch_size

    @property
    def half_diagonal(self) -> float:
        """From the centre to a corner in the plane [rad]."""
        return np.hypot(*self.shape) / 2 * self.pixel_scale * ARCSEC

    @property
    def stretch(self) -> float:
        """Pixels at the corner of the tract per pixel at its centre, along the radius (TAN: 1/cos**2)."""
        return 1 + self.half_diagonal**2

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
        index, size, border = np.stack([px, py]), self.patch_size, self.border
        low = np.maximum(index * size - border, 0) - 0.5
        high = np.minimum(((index + 1) * size + border).T, np.stack(self.shape[::-1], axis=-1)) - 0.5
        return low.T, high

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
        scale, centre, (cosine, sine) = self.pixel_scale * ARCSEC, self._grid[2], self._turn
        return centre + (sine * eta - cosine * xi) / scale, centre + (cosine * eta + sine * xi) / scale

    def positions(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of `pixels`.

        Parameters
        ----------
        x, y : arrays
            [pixel]

        Returns
        -------
        ra, dec : arrays
            [deg]
        """
        scale, (cosine, sine) = self.pixel_scale * ARCSEC, self._turn
        x, y = (x - self._grid[2]) * scale, (y - self._grid[2]) * scale
        return sphere.from_gnomonic(sine * y - cosine * x, cosine * y + sine * x, self.ra, self.dec)

    def pixel_area(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Solid angles of pixels: smaller by the cube of the cosine away from the centre of a TAN plane.

        Parameters
        ----------
        x, y : arrays
            [pixel]

        Returns
        -------
        array
            [arcmin**2]
        """
        scale, centre = self.pixel_scale * ARCSEC, self._grid[2]
        return (self.pixel_scale / 60) ** 2 * (1 + scale**2 * ((x - centre) ** 2 + (y - centre) ** 2)) ** -1.5

    def patch_area(self, patch: str) -> float:
        """Solid angle of a patch with its border.

        Parameters
        ----------
        patch : str
            "x_y".

        Returns
        -------
        float
            [arcmin**2]
        """
        x0, y0, x1, y1 = self.outer_box(patch)
        return float((x1 - x0 + 1) * (y1 - y0 + 1) * self.pixel_area((x0 + x1) / 2, (y0 + y1) / 2))

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
        return self.patch_indices(ra, dec)[0] >= 0

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
        return patch_names(*self.patch_indices(np.atleast_1d(ra), np.atleast_1d(dec)))

    def patch_indices(self, ra: np.ndarray, dec: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The patch whose inner box holds each position, by its indices.

        Parameters
        ----------
        ra, dec : arrays
            [deg]

        Returns
        -------
        px, py : int arrays
            -1 outside the tract.
        """
        x, y = (np.floor(position + 0.5) for position in self.pixels(ra, dec))
        inside = (x >= 0) & (y >= 0) & (x < self.shape[1]) & (y < self.shape[0])
        px, py = (np.where(inside, position, -1).astype(int) // self.patch_size for position in (x, y))
        return px, py

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
        cosine, sine = self._turn
        wcs.wcs.cd = np.array([[-cosine, sine], [sine, cosine]]) * self.pixel_scale / 3600
        wcs.wcs.set()
        return wcs
