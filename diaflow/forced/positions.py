"""Sky positions on an image: which of them lie on its pixels, and where."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.wcs import WCS

from diaflow.measure import photometry
from diaflow.sky.sphere import unit_vectors
from diaflow.sky.wcs import image_circle, sky_to_pixel

ROOM = 1.05  # around the circle about an image: what rounding and distortion may add to its radius


@dataclass(frozen=True)
class Positions:
    """Positions to measure at.

    Attributes
    ----------
    ra, dec : (n,) float64 arrays
        ICRS [deg].
    ids : dict of str to (n,) int64 arrays
        What is there, by the column of the tables that says so: diaObjectId, diaSourceId, positionId.
    """

    ra: np.ndarray
    dec: np.ndarray
    ids: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.ra)

    def __getitem__(self, rows: np.ndarray) -> "Positions":
        return Positions(self.ra[rows], self.dec[rows], {name: ids[rows] for name, ids in self.ids.items()})

    @classmethod
    def of(cls, table: np.ndarray, name: str) -> "Positions":
        """The positions of a table.

        Parameters
        ----------
        table : structured array
            With columns ra, dec and `name`.
        name : str
            Column of the identifier.

        Returns
        -------
        Positions
        """
        return cls(table["ra"], table["dec"], {name: table[name]})

    @classmethod
    def joined(cls, parts: Sequence["Positions"]) -> "Positions":
        """Several sets of positions one after the other.

        Parameters
        ----------
        parts : sequence of Positions

        Returns
        -------
        Positions
            An identifier that a part does not have is 0 in it.
        """
        names = dict.fromkeys(name for part in parts for name in part.ids)
        none = [np.zeros(len(part), np.int64) for part in parts]
        ids = {name: np.concatenate([p.ids.get(name, zero) for p, zero in zip(parts, none)]) for name in names}
        return cls(np.concatenate([p.ra for p in parts]), np.concatenate([p.dec for p in parts]), ids)


def positions_inside(
    wcs: WCS, shape: tuple[int, int], positions: Positions
) -> tuple[Positions, np.ndarray, np.ndarray]:
    """Which positions are on the pixels of an image, and where.

    The inverse of a distorted WCS means something near its image only, so positions beyond the circle about the
    image's corners are put aside first.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)
    positions : Positions

    Returns
    -------
    inside : Positions
        Those on the pixels, in their order.
    x, y : arrays
        Where they are [pixel].
    """
    ny, nx = shape
    centre, radius = image_circle(wcs, shape)
    near = np.linalg.norm(unit_vectors(positions.ra, positions.dec) - centre, axis=1) <= ROOM * radius
    rows = np.flatnonzero(near)
    x, y = sky_to_pixel(wcs, positions.ra[rows], positions.dec[rows], (0, 0, nx - 1, ny - 1))
    on_pixels = photometry.is_inside(shape, x, y)
    return positions[rows[on_pixels]], x[on_pixels], y[on_pixels]
