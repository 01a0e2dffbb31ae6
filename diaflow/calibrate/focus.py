"""Whether an image is out of focus: its stars are rings, the pupil with the shadow of the secondary mirror.

What then goes wrong first (no common size, no PSF, one that does not fit its own stars) depends on how far, and names
a cause that is none.  Small rings are PSFs like others and are calibrated; this is asked where that has failed.
"""

import numpy as np

from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.measure.extraction import PYRAMID, extract
from diaflow.statistics import median_width

DETECT_SIGMA = 5.0  # per filtered pixel, chosen: bright sources suffice
MIN_AREA = 20  # least pixels of a source, chosen: a ring that could not be calibrated has many times as many
N_SOURCES, MIN_SOURCES = 50, 3  # brightest sources whose profile is looked at, and the fewest that show it
REACH = 40  # radius of the profile [pixel], chosen: half of the largest PSF stamp, and a little more
RING = 2  # width of the rings that the profile is told in [pixel]
MIN_SIGMAS = 5.0  # standard errors by which a ring is brighter than the middle, chosen


def explained(exposure: Exposure, reason: str) -> str:
    """Why an image has no PSF.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted.
    reason : str
        What went wrong.

    Returns
    -------
    str
        That the image is out of focus where it is, else the reason.
    """
    radius = ring_radius(exposure)
    return f"out of focus: the stars are rings of {radius:.0f} pixel radius" if radius else reason


def ring_radius(exposure: Exposure) -> float:
    """Radius of the ring that the bright sources of an image are.

    Parameters
    ----------
    exposure : Exposure
        Background-subtracted.

    Returns
    -------
    float
        Where their median profile is brightest [pixel]; 0 where that is their middle, or there are fewer than three.
    """
    hidden = exposure.flagged("BAD", "NO_DATA", "CR")
    try:
        # Without deblending, which would take the parts of a ring for sources.
        options = {"var": exposure.variance, "mask": hidden, "minarea": MIN_AREA, "deblend_cont": 1.0}
        found = extract(exposure.image, DETECT_SIGMA, PYRAMID, **options)
    except BadData:
        return 0.0
    profiles = _profiles(exposure, *(found[np.argsort(-found["flux"])][name] for name in ("x", "y")))
    if len(profiles) < MIN_SOURCES:
        return 0.0
    brightest = int(np.argmax(np.median(profiles, axis=0)))
    excess = profiles[:, brightest] - profiles[:, 0]
    error = median_width(excess - np.median(excess)) / np.sqrt(len(excess))
    return (brightest + 0.5) * RING if np.median(excess) > MIN_SIGMAS * error else 0.0


def _profiles(exposure: Exposure, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Mean brightness in rings about the first sources without a flawed or missing pixel, relative to the largest."""
    ny, nx = exposure.shape
    t = np.arange(-REACH, REACH + 1)
    ix, iy = np.rint(x).astype(int), np.rint(y).astype(int)
    inside = (np.minimum(ix, iy) >= REACH) & (ix < nx - REACH) & (iy < ny - REACH)
    flawed = exposure.flagged("BAD", "SAT", "CR", "INTRP", "NO_DATA")
    yy, xx = iy[inside, None, None] + t[:, None], ix[inside, None, None] + t
    clean = np.flatnonzero(~flawed[yy, xx].any((1, 2)))[:N_SOURCES]
    yy, xx = yy[clean], xx[clean]
    radius = np.hypot(xx - x[inside][clean, None, None], yy - y[inside][clean, None, None])
    n = REACH // RING
    ring = np.minimum(radius / RING, n).astype(int) + (n + 1) * np.arange(len(clean))[:, None, None]
    sums = np.bincount(ring.ravel(), exposure.image[yy, xx].ravel(), (n + 1) * len(clean))
    pixels = np.bincount(ring.ravel(), minlength=(n + 1) * len(clean))
    mean = (sums / np.maximum(pixels, 1)).reshape(-1, n + 1)[:, :n]
    return mean / np.maximum(mean.max(1, keepdims=True), np.finfo(float).tiny)
