"""Kron fluxes: the sum in an ellipse of 2.5 first moments of the light (Kron 1980, ApJS 43, 305).

The ellipse has the axis ratio and the direction of the adaptive moments.  Lengths are those of circles of the same
area: `kronRad` is sqrt(a b).  Neighbours have been taken out of the image, by deblending, so that they cannot blow it
up.
"""

import math

import numpy as np
from numba import njit

from diaflow.catalogue.measure.apertures import RADII, noise_factor
from diaflow.catalogue.measure.scene import Scene, put_back, room, take_away
from diaflow.jit import EXACT

KRON_FACTOR = 2.5  # of the Kron radius to that of the ellipse, as SExtractor and LSST have it
# Within how many sigma of the source the first moment is taken, as SExtractor and LSST have it; and within as many Kron
# radii, as far as its footprint reaches, in so many rounds at most: of galaxies with a cusp, sigma is that of the cusp.
MOMENT_REACH, MAX_ROUNDS = 6.0, 6
GAUSSIAN = math.sqrt(math.pi / 2)  # Kron radius over sigma of a Gaussian: no source has a smaller one than the PSF's
UNIFORM = 2 / 3  # Kron radius over the reach where there is noise alone: a source has a smaller one
SUBPIXELS = 5  # along each side of a pixel that the ellipse cuts, as SExtractor has it


def kron_fluxes(scene: Scene, shapes: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Kron radii and fluxes.

    Parameters
    ----------
    scene : Scene
    shapes : dict of (n,) arrays
        Of `diaflow.catalogue.measure.shapes.shapes`; a source without a shape is taken for a point.

    Returns
    -------
    dict of (n,) arrays
        kronFlux, kronFluxErr [nJy], kronRad [pixel], kronFlux_flag: no flux, as where a pixel has no data, no radius
        of its own (none smaller than that of noise), or an ellipse that leaves the image.
    """
    moments = np.column_stack([shapes[name] for name in ("ixx", "iyy", "ixy")])
    of_psf = np.column_stack([shapes[f"{name}PSF"] for name in ("ixx", "iyy", "ixy")])
    q = np.where(shapes["shape_flag"][:, None], of_psf, moments)
    with np.errstate(invalid="ignore"):
        least = GAUSSIAN * (of_psf[:, 0] * of_psf[:, 1] - of_psf[:, 2] ** 2) ** 0.25
    radius, flux, variance = np.full((3, len(scene.x)), np.nan)
    flag = np.ones(len(scene.x), bool)
    places, ellipses = (scene.x, scene.y, scene.order), (np.ascontiguousarray(q), least)
    _kron(scene.rest, scene.variance, *scene.pixels, *places, *ellipses, radius, flux, variance, flag)
    factor = np.interp(KRON_FACTOR * radius, RADII, [noise_factor(scene.exposure.noise, r) for r in RADII])
    return {
        "kronFlux": flux,
        "kronFluxErr": np.sqrt(variance * factor),
        "kronRad": radius,
        "kronFlux_flag": flag | shapes["shape_flag"] | ~np.isfinite(flux),
    }


@njit(**EXACT)
def _kron(rest, variance, boxes, offsets, pixels, x, y, order, q, least, radius, flux, noise, flag):
    """Set radius, flux and variance (n,) of sources of moments q (n, 3); the flag stays where they are doubtful."""
    ny, nx = rest.shape
    saved = room(offsets)
    for n in order:
        if not (-0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5 and math.isfinite(q[n, 0])):
            continue
        put_back(rest, boxes, offsets, pixels, n, saved)
        root = math.sqrt(q[n, 0] * q[n, 1] - q[n, 2] * q[n, 2])
        reach = MOMENT_REACH * math.sqrt(root)
        largest = max(reach, x[n] - boxes[n, 0], boxes[n, 2] - x[n], y[n] - boxes[n, 1], boxes[n, 3] - y[n])
        found = math.nan
        for _ in range(MAX_ROUNDS):
            total, first, _, whole = _within(rest, variance, x[n], y[n], q[n], root, reach, True)
            found = first / total if total > 0 else math.nan
            wider = min(MOMENT_REACH * found, largest)
            if not wider > reach:
                break
            reach = wider
        sensible = 0 < found < UNIFORM * reach
        radius[n] = max(found, least[n]) if sensible else least[n]
        reach = KRON_FACTOR * radius[n]
        flux[n], _, noise[n], whole = _within(rest, variance, x[n], y[n], q[n], root, reach, False)
        flag[n] = not (sensible and whole)
        take_away(rest, boxes, n, saved)


@njit(**EXACT)
def _within(rest, variance, x, y, q, root, reach, moment):
    """Sums of pixels, of pixels times radius and of variances in an ellipse, and whether it is on the image."""
    ny, nx = rest.shape
    axx, ayy, axy = q[1] / root, q[0] / root, -q[2] / root
    half_x, half_y = reach * math.sqrt(q[0] / root), reach * math.sqrt(q[1] / root)
    x0, x1 = math.ceil(x - half_x - 0.5), math.floor(x + half_x + 0.5)
    y0, y1 = math.ceil(y - half_y - 0.5), math.floor(y + half_y + 0.5)
    whole = x0 >= 0 and y0 >= 0 and x1 < nx and y1 < ny
    # By how much the radius changes over half of the diagonal of a pixel, at most: along the minor axis.
    minor2 = 0.5 * (q[0] + q[1]) - math.hypot(0.5 * (q[0] - q[1]), q[2])
    slack = math.sqrt(0.5 * root / minor2)
    inner, outer = max(reach - slack, 0.0) ** 2, (reach + slack) ** 2
    total, first, noise = 0.0, 0.0, 0.0
    for j in range(max(0, y0), min(ny - 1, y1) + 1):
        dy = j - y
        for i in range(max(0, x0), min(nx - 1, x1) + 1):
            dx = i - x
            r2 = axx * dx * dx + ayy * dy * dy + 2 * axy * dx * dy
            if r2 >= outer:
                continue
            if not math.isfinite(rest[j, i]):
                return math.nan, math.nan, math.nan, False
            share = 1.0
            if r2 > inner:
                share = _share(dx, dy, axx, ayy, axy, reach * reach)
            total += share * rest[j, i]
            noise += share * share * variance[j, i]
            if moment:
                first += share * rest[j, i] * math.sqrt(r2)
    return total, first, noise, whole


@njit(**EXACT)
def _share(dx, dy, axx, ayy, axy, reach2):
    """Part of a pixel that is inside an ellipse."""
    count = 0
    for b in range(SUBPIXELS):
        v = dy + (b + 0.5) / SUBPIXELS - 0.5
        for a in range(SUBPIXELS):
            u = dx + (a + 0.5) / SUBPIXELS - 0.5
            if axx * u * u + ayy * v * v + 2 * axy * u * v < reach2:
                count += 1
    return count / SUBPIXELS**2
