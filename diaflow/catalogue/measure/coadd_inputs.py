"""What the coadd is at the place of a source: its inputs, their aperture correction, its depth for point sources."""

import numpy as np
from numba import njit

from diaflow.catalogue.measure.scene import Scene
from diaflow.jit import EXACT
from diaflow.units import magnitude

DEPTH_SNR = 5.0  # as of the depth of visits
# Pixels whose median variance is that of the sky about a source: every fourth out to this distance, of which a source
# that is not a nearby galaxy covers less than half.
SKY_REACH, SKY_STEP = 32, 4


def coadd_inputs(scene: Scene) -> dict[str, np.ndarray]:
    """Number of inputs, aperture correction and depth.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    dict of (n,) arrays
        inputCount: visits of which an image contains the position.  apCorr: flux of stars in the calibration aperture
        over their PSF flux, the mean over these images with their weights, and apCorrScatter, how it scatters among
        them; NaN where no input knows it.  psfDepth: magnitude of a point source of five errors, by the variance of
        the sky around [AB mag].
    """
    n = len(scene.x)
    ra, dec = scene.exposure.wcs.all_pix2world(scene.x, scene.y, 0)
    contained, sums = {}, np.zeros((3, n))  # sums of the weights, of the corrections and of their squares
    for source in scene.exposure.psf.inputs:
        rows = source.positions(ra[None], dec[None])[2]
        contained.setdefault(source.visit, np.zeros(n, bool))[rows] = True
        if np.isfinite(source.aperture_correction):
            sums[:, rows] += source.weight * source.aperture_correction ** np.arange(3.0)[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        correction = sums[1] / sums[0]
        scatter = np.sqrt(np.maximum(sums[2] / sums[0] - correction**2, 0))
        power = np.einsum("nji,nji->n", scene.stamps, scene.stamps)
        sky = np.full(n, np.nan)
        _median_around(scene.variance, scene.x, scene.y, sky)
        depth = magnitude(DEPTH_SNR * scene.exposure.noise.psf_flux_error(np.sqrt(sky / power)))
    return {
        "inputCount": np.sum([*contained.values(), np.zeros(n, bool)], axis=0, dtype=np.int32),
        "apCorr": correction,
        "apCorrScatter": scatter,
        "psfDepth": depth,
    }


@njit(**EXACT)
def _median_around(variance, x, y, out):
    """Set the median of the finite variances around positions (n,) on the image."""
    ny, nx = variance.shape
    values = np.empty((2 * (SKY_REACH // SKY_STEP) + 1) ** 2, np.float32)
    for n in range(len(x)):
        if not (-0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5):
            continue
        ix, iy, count = int(x[n] + 0.5), int(y[n] + 0.5), 0
        for j in range(max(iy - SKY_REACH, 0), min(iy + SKY_REACH, ny - 1) + 1, SKY_STEP):
            for i in range(max(ix - SKY_REACH, 0), min(ix + SKY_REACH, nx - 1) + 1, SKY_STEP):
                if 0 < variance[j, i] < np.inf:
                    values[count] = variance[j, i]
                    count += 1
        if count:
            out[n] = np.median(values[:count])
