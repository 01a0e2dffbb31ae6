"""Fluxes in circles of fixed radii, those of LSST's DP1, which are not corrected to total fluxes."""

import math

import numpy as np
from numba import njit

from diaflow.catalogue.measure.scene import Scene, put_back, room, take_away
from diaflow.image.noise import Noise
from diaflow.jit import EXACT, FAST

RADII = (3.0, 6.0, 9.0, 12.0, 17.0, 25.0, 35.0, 50.0, 70.0)  # columns apFlux of the Object table of DP1 [pixel]


def column_of(radius: float) -> str:
    """The column of a radius.

    Parameters
    ----------
    radius : float
        [pixel]

    Returns
    -------
    str
        Like ap03Flux.
    """
    return f"ap{radius:02.0f}Flux"


def aperture_fluxes(scene: Scene) -> dict[str, np.ndarray]:
    """Sums of pixels in circles, with the exact overlap of a circle and each pixel.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    dict of (n,) arrays
        ap03Flux ... ap70Flux with Err and flag [nJy].  NaN where a pixel has no data; flagged, too, where the circle
        leaves the image and the flux is that of the part inside.
    """
    n = len(scene.x)
    radii = np.array(RADII)
    flux, variance, truncated = np.zeros((n, len(radii))), np.zeros((n, len(radii))), np.zeros((n, len(radii)), bool)
    order = scene.order
    _sum(scene.rest, scene.variance, *scene.pixels, scene.x, scene.y, order, radii, flux, variance, truncated)
    flux[~np.isfinite(flux)] = np.nan
    out = {}
    for at, radius in enumerate(RADII):
        name = column_of(radius)
        factor = noise_factor(scene.exposure.noise, radius)
        out[name] = flux[:, at]
        out[f"{name}Err"] = np.where(np.isfinite(flux[:, at]), np.sqrt(variance[:, at] * factor), np.nan)
        out[f"{name}_flag"] = truncated[:, at] | ~np.isfinite(flux[:, at])
    return out


def noise_factor(noise: Noise, radius: float) -> float:
    """Variance of the sum of the pixels in a circle, over that of independent pixels.

    Parameters
    ----------
    noise : Noise
    radius : float
        Of the circle [pixel].

    Returns
    -------
    float
    """
    t = np.arange(-math.ceil(radius), math.ceil(radius) + 1)
    return noise.sum_factor((t[:, None] ** 2 + t**2 < radius**2).astype(float))


@njit(**EXACT)
def _arcs(first, radii, out):
    """Set twice the area under circles (m,) about 0, from 0 to the edges of pixels (k,), the first one at `first`."""
    for k in range(len(radii)):
        r = radii[k]
        for edge in range(out.shape[1]):
            u = min(abs(first + edge), r)
            out[k, edge] = u * math.sqrt(r * r - u * u) + r * r * math.asin(u / r) if u < r else 0.5 * math.pi * r * r


@njit(inline="always", **EXACT)
def _corner(x, y, arc_x, arc_y, r):
    """Signed area common to the rectangle from the centre of a circle to (x, y), and the circle."""
    u, v = min(abs(x), r), min(abs(y), r)
    area = u * v if u * u + v * v <= r * r else 0.5 * (arc_x + arc_y - 0.5 * math.pi * r * r)
    return area if (x < 0) == (y < 0) else -area


@njit(**EXACT)
def _sum(rest, variance, boxes, offsets, pixels, x, y, order, radii, flux, noise, truncated):
    """Set the sums (n, m) of pixels and of variances in circles, and where they leave the image."""
    ny, nx = rest.shape
    saved = room(offsets)
    half = math.ceil(radii[-1]) + 1  # pixels on both sides that a circle may touch
    arcs_x, arcs_y = np.empty((len(radii), 2 * half + 2)), np.empty((len(radii), 2 * half + 2))
    for n in order:
        if not (-0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5):
            flux[n], truncated[n] = math.nan, True
            continue
        put_back(rest, boxes, offsets, pixels, n, saved)
        for k in range(len(radii)):
            r = radii[k]
            truncated[n, k] = x[n] - r < -0.5 or x[n] + r > nx - 0.5 or y[n] - r < -0.5 or y[n] + r > ny - 0.5
        left, low = math.floor(x[n] + 0.5) - half, math.floor(y[n] + 0.5) - half
        _arcs(left - 0.5 - x[n], radii, arcs_x)
        _arcs(low - 0.5 - y[n], radii, arcs_y)
        for j in range(max(0, low), min(ny, low + 2 * half + 1)):
            arcs = arcs_x, arcs_y[:, j - low : j - low + 2]
            _sum_row(rest[j], variance[j], x[n], j - y[n], left, radii, arcs, flux[n], noise[n])
        take_away(rest, boxes, n, saved)


@njit(**EXACT)
def _sum_row(values, variances, x, dy, left, radii, arcs, flux, noise):
    """Add what one row has within each of the growing circles; pixels inside of several are looked at once."""
    low, high = 1, 0  # the run of pixels that the circles so far hold as a whole
    inner, inner_noise = 0.0, 0.0
    near, far = max(abs(dy) - 0.5, 0.0), abs(dy) + 0.5
    for k in range(len(radii)):
        r2 = radii[k] * radii[k]
        if near >= radii[k]:
            continue
        reach = math.sqrt(r2 - near * near)
        first, last = max(0, math.ceil(x - reach - 0.5)), min(len(values) - 1, math.floor(x + reach + 0.5))
        whole = math.sqrt(r2 - far * far) - 0.5 if far < radii[k] else -1.0
        a, b = max(0, math.ceil(x - whole)), min(len(values) - 1, math.floor(x + whole))
        if whole < 0 or a > b:
            a, b = last + 1, last
        else:
            if low > high:
                low, high = a, a - 1
            inner += _total(values[a:low]) + _total(values[high + 1 : b + 1])
            inner_noise += _total(variances[a:low]) + _total(variances[high + 1 : b + 1])
            low, high = a, b
        flux[k] += inner
        noise[k] += inner_noise
        for start, stop in ((first, a), (b + 1, last + 1)):
            _sum_cut(values, variances, x, dy, left, start, stop, radii[k], k, arcs, flux, noise)


@njit(**FAST)
def _total(values):
    total = 0.0
    for i in range(len(values)):
        total += values[i]
    return total


@njit(**EXACT)
def _sum_cut(values, variances, x, dy, left, start, stop, radius, k, arcs, flux, noise):
    """Add the parts of the pixels from `start` on of a row that are inside a circle, to the sums of number k."""
    arcs_x, arcs_y = arcs
    before = 0.0
    for i in range(start, stop + 1):
        edge, arc = i - 0.5 - x, arcs_x[k, i - left]
        until = _corner(edge, dy + 0.5, arc, arcs_y[k, 1], radius) - _corner(edge, dy - 0.5, arc, arcs_y[k, 0], radius)
        if i > start:
            share = until - before
            flux[k] += share * values[i - 1]
            noise[k] += share * share * variances[i - 1]
        before = until
