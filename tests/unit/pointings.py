"""Skies of stars as a detector sees them through a pointing error, for the tests of matching and of the WCS."""

import numpy as np
from builders import cubic, tan_wcs

from diaflow.sky.localplane import from_plane, to_plane
from diaflow.store import tables

SHAPE, SCALE = (4096, 4096), 0.2  # a large detector: SIP, crowding
SMALL, COARSE = (1024, 1024), 0.5


def sky_wcs(shape=SMALL, scale=COARSE, centre=(150.0, 30.0), corner=0.0):
    """A TAN WCS, or a TAN-SIP one whose radial cubic distortion moves the corners by `corner` pixels."""
    sip = cubic(corner / (np.hypot(*shape) / 2) ** 3) if corner else None
    return tan_wcs(shape, scale, centre=centre, sip=sip)


def mispointed(wcs, offset, rotation, scale=1.0):
    """The WCS a telescope would report: shifted [arcsec], rotated on the sky [deg] and without distortion."""
    header = wcs.deepcopy()
    header.sip, header.wcs.ctype = None, ["RA---TAN", "DEC--TAN"]
    header.wcs.crval = from_plane(np.array(offset) / 3600, wcs.wcs.crval)
    # North is another direction there, which near a pole matters: it turns the detector too.
    centre, above = header.wcs.crval, header.wcs.crval + [0, 1e-3]
    east, north = np.subtract(to_plane(*above, wcs.wcs.crval), to_plane(*centre, wcs.wcs.crval))
    angle = np.deg2rad(rotation) + np.arctan2(east, north)
    header.wcs.cd = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ wcs.wcs.cd
    header.wcs.set()
    return header


def sky(rng, wcs, shape, n_stars, scale, missing=0.3, spurious=0.3):
    """Sources x, y, flux and their star (-1: none), and a refcat whose id is the star; centroids err by 0.1 pixel."""
    ny, nx = shape
    margin = 130 / scale
    n_all = int(n_stars * (nx + 2 * margin) * (ny + 2 * margin) / (nx * ny))
    x, y = rng.uniform(-margin, nx + margin, n_all), rng.uniform(-margin, ny + margin, n_all)
    ra, dec = wcs.all_pix2world(x, y, 0)
    mag = 22 - rng.exponential(1.5, n_all)
    star = np.flatnonzero((x > 0) & (x < nx - 1) & (y > 0) & (y < ny - 1))
    n_false = int(len(star) * spurious / (1 - spurious))
    x = np.append(x[star] + rng.normal(0, 0.1, len(star)), rng.uniform(0, nx - 1, n_false))
    y = np.append(y[star] + rng.normal(0, 0.1, len(star)), rng.uniform(0, ny - 1, n_false))
    flux = 10 ** (-0.4 * (mag[star] + rng.normal(0, 0.1, len(star))))
    flux = np.append(flux, rng.choice(flux, n_false))
    star = np.append(star, np.full(n_false, -1))
    mixed = rng.permutation(len(x))
    known = np.flatnonzero(rng.random(n_all) > missing)
    reference = tables.from_columns("refcat", id=known, ra=ra[known], dec=dec[known], mag=mag[known], star=True)
    return x[mixed], y[mixed], flux[mixed], star[mixed], reference


def separation(wcs, other, shape):
    """Largest distance between two WCS at the centre and corners [arcsec]."""
    ny, nx = shape
    x, y = np.array([[nx / 2, 0, nx, 0, nx], [ny / 2, 0, 0, ny, ny]])
    plane = [to_plane(*w.all_pix2world(x, y, 0), wcs.wcs.crval) for w in (wcs, other)]
    return np.hypot(*(plane[1] - plane[0]).T).max() * 3600
