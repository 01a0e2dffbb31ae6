"""Adaptive second moments of sources and of the PSF, and how much of what is seen of a source is another's light.

The weight is an elliptical Gaussian that is made to be as large as the source (Bernstein & Jarvis 2002; SdssShape of
LSST's meas_base).  With M the weighted moments and W those of the weight, Q**-1 = M**-1 - W**-1 is the next weight,
which is exact for Gaussians; it ends with M = W / 2.
"""

import math

import numpy as np
from numba import njit

from diaflow.catalogue.measure.scene import Scene, put_back, room, take_away
from diaflow.jit import EXACT

MAX_ROUNDS = 20  # of a weight; most need five
TOLERANCE = 1e-3  # relative change of the determinant at which a weight is found: a tenth of the noise at S/N 100
REACH = 4.0  # of the weight [sigma]
LARGEST_AXIS = 50.0  # sigma [pixel] beyond which a weight has run away into the noise: chosen
LEAST_VARIANCE = 0.5  # of a weight [pixel**2]: less is not sampled


def shapes(scene: Scene) -> dict[str, np.ndarray]:
    """Moments and blendedness.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    dict of (n,) arrays
        ixx, iyy, ixy about the reference position, ixxPSF, iyyPSF, ixyPSF [pixel**2]: NaN where noise leaves no
        ellipse, with shape_flag; blendedness: 1 - (own light) / (all light) within the weight, 0 for a source alone
        (Bosch et al. 2018, PASJ 70, S5, without their absolute values), NaN without a shape.
    """
    n = len(scene.x)
    moments, of_psf, blendedness = np.full((n, 3), np.nan), np.full((n, 3), np.nan), np.full(n, np.nan)
    start = scene.psf_sigma**2
    _moments_of_stamps(scene.stamps, start, of_psf)
    _moments(scene.rest, scene.image, *scene.pixels, scene.x, scene.y, scene.order, of_psf, moments, blendedness)
    names = ("ixx", "iyy", "ixy")
    out = {name: moments[:, k] for k, name in enumerate(names)}
    out |= {f"{name}PSF": of_psf[:, k] for k, name in enumerate(names)}
    return out | {"shape_flag": ~np.isfinite(moments).all(1), "blendedness": blendedness}


@njit(**EXACT)
def _moments_of_stamps(stamps, start, out):
    """Set xx, yy, xy (n, 3) of stamps (n, k, k)."""
    h, q = stamps.shape[1] // 2, np.empty(3)
    for n in range(len(stamps)):
        q[0], q[1], q[2] = start, start, 0.0
        if math.isfinite(stamps[n, h, h]) and _adapt(stamps[n], h, h, q):
            out[n] = q


@njit(**EXACT)
def _moments(rest, image, boxes, offsets, pixels, x, y, order, start, out, blendedness):
    """Set xx, yy, xy (n, 3) of sources and their blendedness (n,); weights start as the PSFs (n, 3)."""
    ny, nx = rest.shape
    saved, q = room(offsets), np.empty(3)
    for n in order:
        on_image = -0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5
        if not (on_image and math.isfinite(start[n, 0])):
            continue
        put_back(rest, boxes, offsets, pixels, n, saved)
        q[:] = start[n]
        if _adapt(rest, x[n], y[n], q):
            out[n] = q
            own, everything = _weighted(rest, x[n], y[n], q)[0], _weighted(image, x[n], y[n], q)[0]
            if everything > 0:
                blendedness[n] = min(max(1 - own / everything, 0.0), 1.0)
        take_away(rest, boxes, n, saved)


@njit(**EXACT)
def _weighted(image, x, y, q):
    """Sum of weight and image about a position, and the moments xx, yy, xy of it; pixels without data are nothing."""
    ny, nx = image.shape
    determinant = q[0] * q[1] - q[2] * q[2]
    axx = q[1] / determinant
    half_y = REACH * math.sqrt(q[1])
    total, mxx, myy, mxy = 0.0, 0.0, 0.0, 0.0
    bend = math.exp(-axx)
    for j in range(max(0, math.ceil(y - half_y)), min(ny - 1, math.floor(y + half_y)) + 1):
        dy = j - y
        middle, of_row = x + q[2] / q[1] * dy, dy * dy / q[1]
        half_x = math.sqrt(max(REACH * REACH - of_row, 0.0) / axx)
        first, last = max(0, math.ceil(middle - half_x)), min(nx - 1, math.floor(middle + half_x))
        # From pixel to pixel the weight changes by a factor that itself changes by a constant one.
        offset = first - middle
        weight, ratio = math.exp(-0.5 * (of_row + axx * offset * offset)), math.exp(-axx * (offset + 0.5))
        for i in range(first, last + 1):
            if math.isfinite(image[j, i]):
                dx, value = i - x, weight * image[j, i]
                total += value
                mxx += value * dx * dx
                myy += value * dy * dy
                mxy += value * dx * dy
            weight *= ratio
            ratio *= bend
    return total, mxx, myy, mxy


@njit(**EXACT)
def _adapt(image, x, y, q):
    """Make q (3,), xx, yy, xy of the weight, as large as the source; whether that was possible."""
    for _ in range(MAX_ROUNDS):
        total, mxx, myy, mxy = _weighted(image, x, y, q)
        if not total > 0:
            return False
        mxx, myy, mxy = mxx / total, myy / total, mxy / total
        m_determinant, q_determinant = mxx * myy - mxy * mxy, q[0] * q[1] - q[2] * q[2]
        if not (mxx > 0 and m_determinant > 0):
            return False
        axx = myy / m_determinant - q[1] / q_determinant
        ayy = mxx / m_determinant - q[0] / q_determinant
        axy = -mxy / m_determinant + q[2] / q_determinant
        determinant = axx * ayy - axy * axy
        if axx > 0 and determinant > 0:
            xx, yy, xy = ayy / determinant, axx / determinant, -axy / determinant
        else:  # far broader than the weight
            xx, yy, xy = 2 * q[0], 2 * q[1], 2 * q[2]
        xx, yy = max(xx, LEAST_VARIANCE), max(yy, LEAST_VARIANCE)
        if not (max(xx, yy) < LARGEST_AXIS * LARGEST_AXIS and xx * yy - xy * xy > 0):
            return False
        change = abs((xx * yy - xy * xy) / q_determinant - 1)
        q[0], q[1], q[2] = xx, yy, xy
        if change < TOLERANCE:
            return True
    return False
