"""Which pixels of a difference are affected by the flaws of the two images, as far as kernels carry them."""

import numpy as np

from diaflow.exposure import Exposure, bits
from diaflow.psfmatch import core_radius, grow
from diaflow.stampfield import StampField

# Planes of the template that the difference inherits; its saturation goes to a plane of its own.
INHERITED = ("NO_DATA", "BAD", "HIGH_VARIANCE", "SUSPECT")
SATURATED = ("SAT", "SAT_TEMPLATE")


def combined(
    science: Exposure,
    template: Exposure,
    science_kernel: StampField | None = None,
    template_kernel: StampField | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the difference, and the pixels that have no value in it.

    Parameters
    ----------
    science, template : Exposure
    science_kernel, template_kernel : StampField, optional
        What each image was convolved with, if it was.

    Returns
    -------
    mask : (ny, nx) int32 array
        Planes of a convolved image reach as far as the core of its kernel, saturation in either as far as the larger
        kernel: what fills a saturated core, or what is left of it in a mean without its saturated inputs, is far from
        the star's flux, and even the tail of a kernel carries it.  EDGE is within a kernel of missing data or the
        border.
    lost : (ny, nx) bool array
    """
    inherited = template.mask & bits(*INHERITED)
    inherited |= (template.mask & bits("SAT")) * (bits("SAT_TEMPLATE") // bits("SAT"))
    own = science.mask & ~bits("DETECTED", "DETECTED_NEGATIVE")
    reach = max(kernel.size // 2 for kernel in (science_kernel, template_kernel) if kernel)
    mask = grow((own | inherited) & bits(*SATURATED), reach)
    lost = np.zeros(mask.shape, bool)
    for planes, kernel in ((own, science_kernel), (inherited, template_kernel)):
        if kernel is None:
            mask |= planes
            continue
        mask |= grow(planes & ~bits("NO_DATA"), core_radius(kernel.centre())) | (planes & bits("NO_DATA"))
        lost |= grow((planes & bits("NO_DATA")) != 0, kernel.size // 2, border=True)
    mask[lost] |= bits("EDGE")
    return mask, lost | ((mask & bits("NO_DATA")) != 0)
