"""Geometry on the sky: corners of images, unit vectors, the gnomonic plane, and which image touches which patch.

Great circles are straight lines in the gnomonic (TAN) plane of a tract, so an image is a quadrangle and a patch a
rectangle there, and the separating-axis theorem says whether two convex polygons meet: they do unless their
shadows on the normal of some edge are apart.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS, FITSFixedWarning

from diaflow import tables
from diaflow.errors import BadData

if TYPE_CHECKING:
    from diaflow.skymap import SkyMap, Tract

ARCSEC = np.pi / 180 / 3600
# Those of wcslib are ValueErrors; the others come from impossible cards.
_WCS_ERRORS = (ValueError, TypeError, KeyError, fits.VerifyError)
# Beyond this distance from the tangent point [cosine] an image cannot be on a tract, and TAN runs away.
_NEAR = 0.1


def header_wcs(header: fits.Header) -> WCS:
    """The WCS of an image header, which must be right ascension and declination, equinox 2000.

    Raises
    ------
    BadData
        When there is no such WCS; the message says what is there.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FITSFixedWarning)
            wcs = WCS(header)
            celestial = wcs.has_celestial
    except _WCS_ERRORS as error:
        raise BadData(f"unusable WCS: {_last_line(error)}") from error
    axes = tuple(wcs.wcs.ctype)
    if not celestial:
        raise BadData(f"no celestial WCS in the header (CTYPE {', '.join(axis or 'missing' for axis in axes)})")
    if not (axes[0].startswith("RA-") and axes[1].startswith("DEC-")):
        raise BadData(f"the WCS must have RA and DEC as its axes, in this order (CTYPE {', '.join(axes)})")
    system, equinox = wcs.wcs.radesys.upper(), wcs.wcs.equinox
    if system not in ("", "ICRS", "FK5") or (system != "ICRS" and np.isfinite(equinox) and equinox != 2000.0):
        raise BadData(f"the WCS must be ICRS or FK5 of equinox 2000, not {system or 'equinox'} {equinox:g}")
    return wcs


def corners(wcs: WCS, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """The corners of an image at its pixel edges: lower left, lower right, upper right, upper left.

    Parameters
    ----------
    wcs : astropy.wcs.WCS
    shape : (ny, nx)

    Returns
    -------
    ra, dec : (4,) arrays [deg]

    Raises
    ------
    BadData
        When the WCS does not give a position there.
    """
    ny, nx = shape
    x, y = np.array([0, nx, nx, 0]) - 0.5, np.array([0, 0, ny, ny]) - 0.5
    return _sky(wcs, x, y)


def centre(wcs: WCS, shape: tuple[int, int]) -> tuple[float, float]:
    """Right ascension and declination of the centre of an image [deg]."""
    ra, dec = _sky(wcs, np.array([(shape[1] - 1) / 2]), np.array([(shape[0] - 1) / 2]))
    return float(ra[0]), float(dec[0])


def pixel_scale(wcs: WCS, shape: tuple[int, int]) -> float:
    """Square root of the pixel area at the centre of an image, distortion included [arcsec].

    Raises
    ------
    BadData
        When the pixel has no area, or is larger or longer than any camera's.
    """
    x, y = (shape[1] - 1) / 2, (shape[0] - 1) / 2
    ra, dec = _sky(wcs, x + np.array([-0.5, 0.5, 0.0, 0.0]), y + np.array([0.0, 0.0, -0.5, 0.5]))
    v = unit_vectors(ra, dec)
    sides = np.linalg.norm([v[1] - v[0], v[3] - v[2]], axis=1) / ARCSEC
    scale = float(np.sqrt(np.linalg.norm(np.cross(v[1] - v[0], v[3] - v[2]))) / ARCSEC)
    # wcslib puts 1 deg where a matrix has zeros only.
    if not (sides.max() < 1000 and scale > 0.1 * sides.max()):
        raise BadData(f"the WCS has pixels of {sides[0]:.3g} x {sides[1]:.3g} arcsec and {scale**2:.3g} arcsec**2")
    return scale


def _sky(wcs: WCS, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    try:
        ra, dec = wcs.all_pix2world(x, y, 0)
    except _WCS_ERRORS as error:
        raise BadData(f"unusable WCS: {_last_line(error)}") from error
    if not np.all(np.isfinite(ra) & np.isfinite(dec)):
        raise BadData("the WCS has no position on the sky for parts of the image")
    return ra % 360.0, dec


def unit_vectors(ra: np.ndarray, dec: np.ndarray) -> np.ndarray:
    """Unit vectors (..., 3) of positions [deg]."""
    ra, dec = np.radians(ra), np.radians(dec)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def sky_position(vector: np.ndarray) -> tuple[float, float]:
    """Right ascension and declination [deg] of a vector (3,)."""
    x, y, z = (float(component) for component in vector)
    return float(np.degrees(np.arctan2(y, x)) % 360.0), float(np.degrees(np.arctan2(z, np.hypot(x, y))))


def separation(v: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Angles between unit vectors (..., 3) [rad], exact at any angle."""
    return 2 * np.arcsin(np.clip(np.linalg.norm(v - w, axis=-1) / 2, 0, 1))


def gnomonic(ra: np.ndarray, dec: np.ndarray, ra_0: float, dec_0: float) -> tuple[np.ndarray, np.ndarray]:
    """Position in the plane that touches the sky at (ra_0, dec_0), xi to the east, eta to the north.

    Calabretta & Greisen 2002, A&A 395, 1077, section 5.1.3.

    Parameters
    ----------
    ra, dec, ra_0, dec_0 : [deg]

    Returns
    -------
    xi, eta : arrays [rad]; NaN for positions 84 deg or more from the tangent point.
    """
    a, d, d0 = np.radians(np.asarray(ra, float) - ra_0), np.radians(dec), np.radians(dec_0)
    cosine = np.sin(d0) * np.sin(d) + np.cos(d0) * np.cos(d) * np.cos(a)
    cosine = np.where(cosine > _NEAR, cosine, np.nan)
    xi = np.cos(d) * np.sin(a) / cosine
    eta = (np.cos(d0) * np.sin(d) - np.sin(d0) * np.cos(d) * np.cos(a)) / cosine
    return xi, eta


def boxes_touch(x: np.ndarray, y: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Whether convex quadrangles and upright rectangles meet, pair by pair (separating-axis theorem).

    Parameters
    ----------
    x, y : (n, 4) arrays
        Corners of the quadrangles, in either order around them.
    low, high : (n, 2) arrays
        Lower left and upper right corner of the rectangles.

    Returns
    -------
    (n,) bool; polygons that share a point of their boundaries meet.
    """
    apart = (x.max(1) < low[:, 0]) | (x.min(1) > high[:, 0]) | (y.max(1) < low[:, 1]) | (y.min(1) > high[:, 1])
    middle, half = (low + high) / 2, (high - low) / 2
    for k in range(4):
        normal_x, normal_y = y[:, k - 1] - y[:, k], x[:, k] - x[:, k - 1]
        shadow = (x - middle[:, :1]) * normal_x[:, None] + (y - middle[:, 1:]) * normal_y[:, None]
        reach = half[:, 0] * np.abs(normal_x) + half[:, 1] * np.abs(normal_y)
        apart |= (shadow.min(1) > reach) | (shadow.max(1) < -reach)
    return ~apart


def overlaps(exposures: np.ndarray, skymap: "SkyMap", margin_arcsec: float) -> np.ndarray:
    """Which detector images may touch which patches (with their borders).

    Parameters
    ----------
    exposures : table "exposure" or "visit_summary"
        Corners ra_1 ... dec_4 [deg]; rows whose status is not "ok" are left out.
    skymap : diaflow.skymap.SkyMap
    margin_arcsec : float
        Largest error of the positions in the headers [arcsec]; patches are grown by it on every side.  It also has
        to cover the bow of image edges between their corners.

    Returns
    -------
    table "overlap", sorted by tract, patch (row by row), visit and detector.
    """
    usable = exposures[exposures["status"] == "ok"]
    ra = np.stack([usable[f"ra_{k}"] for k in (1, 2, 3, 4)], axis=1)
    dec = np.stack([usable[f"dec_{k}"] for k in (1, 2, 3, 4)], axis=1)
    parts = [_tract_overlaps(usable, ra, dec, tract, margin_arcsec) for tract in skymap.tracts.values()]
    return tables.concatenate("overlap", parts)


def _tract_overlaps(
    usable: np.ndarray, ra: np.ndarray, dec: np.ndarray, tract: "Tract", margin_arcsec: float
) -> np.ndarray:
    x, y = tract.pixels(ra, dec)
    near = np.flatnonzero(np.all(np.isfinite(x), axis=1))
    x, y = x[near], y[near]
    margin = margin_arcsec / tract.pixel_scale * tract.stretch
    image, px, py = _candidates(x, y, tract, margin)
    low, high = tract.outer_edges(px, py)
    touch = boxes_touch(x[image], y[image], low - margin, high + margin)
    image, px, py = near[image[touch]], px[touch], py[touch]
    rows = usable[image]
    order = np.lexsort((rows["detector"], rows["visit"], px, py))
    patch = np.array([f"{i}_{j}" for i, j in zip(px[order].tolist(), py[order].tolist())], dtype=object)
    columns = {name: rows[name][order] for name in ("visit", "detector", "band")}
    return tables.from_columns("overlap", tract=np.full(len(order), tract.id), patch=patch, **columns)


def _candidates(
    x: np.ndarray, y: np.ndarray, tract: "Tract", margin: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs (image, px, py) whose upright bounding boxes can meet."""
    reach = tract.border + 0.5 + margin
    first, last = [], []
    for corner, n in ((x, tract.n_patches[0]), (y, tract.n_patches[1])):
        # An image off the tract by more than the reach gets an empty range.
        first.append(np.clip(np.floor((corner.min(1) - reach) / tract.patch_size), 0, n).astype(int))
        last.append(np.clip(np.floor((corner.max(1) + reach) / tract.patch_size), -1, n - 1).astype(int))
    width, height = (np.maximum(last[k] - first[k] + 1, 0) for k in (0, 1))
    image = np.repeat(np.arange(len(x)), width * height)
    running = np.arange(len(image)) - np.repeat(np.cumsum(width * height) - width * height, width * height)
    return image, first[0][image] + running % width[image], first[1][image] + running // width[image]


def _last_line(error: Exception) -> str:
    """What wcslib says last is the cause; before it come line numbers of its source."""
    lines = str(error).strip().splitlines()
    return lines[-1] if lines else type(error).__name__
