"""Mask planes of a source: those of any pixel of its footprint, and those of its centre."""

import numpy as np
from numba import njit

from diaflow.catalogue.measure.scene import Scene
from diaflow.image.planes import bits
from diaflow.jit import EXACT
from diaflow.measure import photometry

# Column of each flag and the planes that set it.  Those of coadds: pixels of inputs were left out as artefacts
# (clipped) or for their flaws (rejected), an input ends (sensor_edge), the image of a star is not that of the PSF
# (inexact_psf).
FLAGS = {
    "pixelFlags_edge": ("EDGE", "NO_DATA"),
    "pixelFlags_bad": ("BAD",),
    "pixelFlags_saturated": ("SAT",),
    "pixelFlags_cr": ("CR",),
    "pixelFlags_interpolated": ("INTRP",),
    "pixelFlags_suspect": ("SUSPECT",),
    "pixelFlags_streak": ("STREAK",),
    "pixelFlags_clipped": ("CLIPPED",),
    "pixelFlags_rejected": ("REJECTED",),
    "pixelFlags_sensor_edge": ("SENSOR_EDGE",),
    "pixelFlags_inexact_psf": ("INEXACT_PSF",),
}


def pixel_flags(scene: Scene) -> dict[str, np.ndarray]:
    """The flags.

    Parameters
    ----------
    scene : Scene

    Returns
    -------
    dict of (n,) bool arrays
        pixelFlags_edge ... of the footprint and the central 3 x 3, and pixelFlags_edgeCenter ... of the latter alone;
        pixelFlags_offimage: the position is not on the coadd.
    """
    mask = np.ascontiguousarray(scene.exposure.mask, np.int32)
    centre = photometry.planes_within(mask, scene.x, scene.y, photometry.CENTRE_RADIUS)
    boxes, offsets, _ = scene.pixels
    anywhere = centre.copy()
    _planes_of(mask, boxes, offsets, np.ascontiguousarray(scene.blends.footprint, bool), anywhere)
    out = {"pixelFlags_offimage": ~photometry.is_inside(mask.shape, scene.x, scene.y)}
    for column, planes in FLAGS.items():
        out[column] = (anywhere & bits(*planes)) != 0
        out[f"{column}Center"] = (centre & bits(*planes)) != 0
    return out


@njit(**EXACT)
def _planes_of(mask, boxes, offsets, footprint, out):
    """Add the mask bits of the pixels of footprints to those of sources (n,)."""
    for n in range(len(boxes)):
        x0, y0, x1, y1 = boxes[n]
        at = offsets[n]
        for j in range(y0, y1 + 1):
            for i in range(x0, x1 + 1):
                if footprint[at]:
                    out[n] |= mask[j, i]
                at += 1
