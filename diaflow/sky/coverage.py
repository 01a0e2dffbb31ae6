"""Where a survey has been, how often and how deep: in HEALPix cells, and as the MOC of them.

A cell counts for an image that holds its centre.  A MOC (multi-order coverage, IVOA recommendation 2.0) lists nested
cells, four that make up a larger one as this one, by one number each: 4**(order + 1) + pixel.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.sky import healpix, sphere
from diaflow.store import provenance
from diaflow.store.files import replacing

ORDER = 12  # of the cells: sides of 51.5 arcsec, chosen: gaps between CCDs are of this size
SIDE = np.sqrt(np.pi / 3) / (1 << ORDER)  # [rad]
# Points by which the cells on an image are found, along a side of a cell: the longest half diagonal of a cell is
# 1.25 sides (Calabretta & Roukema 2007, MNRAS 381, 865), the shortest way through its centre no less than half a side.
SAMPLING = 3


def cells(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """The cells whose centre an image holds.

    Parameters
    ----------
    ra, dec : (4,) arrays
        Corners of the image, in either order around it [deg].

    Returns
    -------
    (n,) int64 array
        Nested pixels of order `ORDER`, sorted.
    """
    middle = sphere.sky_position(sphere.unit_vectors(ra, dec).sum(axis=0))
    corners = np.stack(sphere.gnomonic(ra, dec, *middle))
    sides = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=0)
    n = 2 + int(np.ceil(SAMPLING * sides.max() / SIDE))
    u, v = np.meshgrid(np.linspace(0, 1, n), np.linspace(0, 1, n))
    weights = np.stack([(1 - u) * (1 - v), u * (1 - v), u * v, (1 - u) * v])
    points = sphere.from_gnomonic(*np.tensordot(corners, weights, axes=1), *middle)
    pixel = np.unique(healpix.nested(*(np.ravel(angle) for angle in points), ORDER))
    x, y = sphere.gnomonic(*healpix.nested_centres(pixel, ORDER), *middle)
    step_x, step_y = np.roll(corners, -1, axis=1) - corners
    turns = step_x[:, None] * (y - corners[1][:, None]) - step_y[:, None] * (x - corners[0][:, None])
    return pixel[(turns >= 0).all(axis=0) | (turns <= 0).all(axis=0)]


def coverage(images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cells that images hold, how many visits each has, and how deep they are together.

    Parameters
    ----------
    images : table "visit_summary"
        Of one band; rows whose status is not "ok" are left out.

    Returns
    -------
    pixel : (n,) int64 array
        Nested pixels of order `ORDER`, sorted.
    n_visits : (n,) int32 array
    depth : (n,) float32 array
        Of a point source at 5 sigma in all of them together, each with the weight of its variance [mag].
    """
    usable = images[images["status"] == "ok"]
    corners = [np.stack([usable[f"{axis}_{k}"] for k in (1, 2, 3, 4)], axis=1) for axis in ("ra", "dec")]
    held = [cells(*of_image) for of_image in zip(*corners)]
    image = np.repeat(np.arange(len(usable)), [len(pixel) for pixel in held])
    pixel, row = np.unique(np.concatenate([np.empty(0, np.int64), *held]), return_inverse=True)
    visits = np.unique(np.stack([row, usable["visit"][image]]), axis=1)[0]
    weight = 10 ** (0.8 * np.nan_to_num(usable["depth"].astype(float), nan=-np.inf))  # over the flux error squared
    with np.errstate(divide="ignore"):
        depth = 1.25 * np.log10(np.bincount(row, weight[image], len(pixel)))
    depth[np.isinf(depth)] = np.nan
    return pixel, np.bincount(visits, minlength=len(pixel)).astype(np.int32), depth.astype(np.float32)


def moc(pixel: np.ndarray) -> np.ndarray:
    """The MOC of cells.

    Parameters
    ----------
    pixel : (n,) int64 array
        Nested pixels of order `ORDER`, sorted, each once.

    Returns
    -------
    (m,) int64 array
        Sorted NUNIQ numbers of the largest cells that are whole.
    """
    parts = []
    for order in range(ORDER, 0, -1):
        larger, first, count = np.unique(pixel >> 2, return_index=True, return_counts=True)
        whole = count == 4
        parts.append(4 ** (order + 1) + np.delete(pixel, (first[whole, None] + np.arange(4)).ravel()))
        pixel = larger[whole]
    return np.sort(np.concatenate([4 + pixel, *parts]))


def write_moc(path: str | Path, pixel: np.ndarray) -> None:
    """Write the MOC of cells as FITS, as Aladin and mocpy read it.

    Parameters
    ----------
    path : path
    pixel : (n,) int64 array
        As for `moc`.
    """
    cards = {"MOCVERS": "2.0", "MOCDIM": "SPACE", "ORDERING": "NUNIQ", "MOCORD_S": ORDER, "MOCORDER": ORDER}
    _write(path, [fits.Column("UNIQ", "K", array=moc(pixel))], cards)


def write_map(path: str | Path, pixel: np.ndarray, n_visits: np.ndarray, depth: np.ndarray) -> None:
    """Write what `coverage` gives as a FITS table of cells, a HEALPix map of a part of the sky.

    Parameters
    ----------
    path : path
    pixel, n_visits, depth : (n,) arrays
    """
    columns = [
        fits.Column("PIXEL", "K", array=pixel),
        fits.Column("N_VISITS", "J", array=n_visits),
        fits.Column("DEPTH", "E", unit="mag", array=depth),
    ]
    cards = {"ORDERING": "NESTED", "NSIDE": 1 << ORDER, "INDXSCHM": "EXPLICIT", "OBJECT": "PARTIAL"}
    _write(path, columns, cards)


def _write(path: str | Path, columns: list[fits.Column], cards: dict) -> None:
    hdu = fits.BinTableHDU.from_columns(columns)
    hdu.header.update({"PIXTYPE": "HEALPIX", "COORDSYS": "C"} | cards)
    primary = fits.PrimaryHDU(header=fits.Header(provenance.cards()))
    with replacing(path) as part:
        fits.HDUList([primary, hdu]).writeto(part)
