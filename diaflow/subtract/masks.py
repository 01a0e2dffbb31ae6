"""Which pixels of a difference are affected by the flaws of the two images, as far as kernels carry them."""

import numpy as np

from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits, row_blocks
from diaflow.pixels import cosmicrays
from diaflow.pixels.growth import core_radius, grow
from diaflow.psf.stampfield import StampField, fwhm

# Planes of a difference whose pixels say nothing about how well the images match.
WITHOUT_MATCH = ("NO_DATA", "EDGE", "BAD", "SAT", "SAT_TEMPLATE")
MIN_CR_FWHM = 2.0  # of the PSF, below which stars look like cosmic rays [pixel]
# Planes of the template that the difference inherits; its saturation goes to a plane of its own.
INHERITED = ("NO_DATA", "BAD", "HIGH_VARIANCE", "SUSPECT", "SENSOR_EDGE", "INEXACT_PSF")
SATURATED = ("SAT", "SAT_TEMPLATE")


def combined(
    science: tuple[Exposure, StampField], template: tuple[Exposure, StampField]
) -> tuple[np.ndarray, np.ndarray]:
    """Mask of the difference, and the pixels that have no value in it.

    Parameters
    ----------
    science, template : (Exposure, StampField)
        Each image, and the kernel that it was convolved with.

    Returns
    -------
    mask : (ny, nx) int32 array
        Planes of an image reach as far as the core of its kernel, saturation in either as far as the larger
        kernel: what fills a saturated core, or what is left of it in a mean without its saturated inputs, is far from
        the star's flux, and even the tail of a kernel carries it.  EDGE is within a kernel of missing data or the
        border.
    lost : (ny, nx) bool array
    """
    shape = science[0].shape
    mask, lost = np.empty(shape, np.int32), np.empty(shape, bool)
    reach = max(kernel.size // 2 for _, kernel in (science, template))
    for rows in row_blocks(shape[0]):
        first, window = max(0, rows.start - reach), slice(max(0, rows.start - reach), rows.stop + reach)
        planes = [exposure.mask[window] for exposure, _ in (science, template)]
        own = slice(rows.start - first, rows.stop - first)
        mask[rows], lost[rows] = (of_window[own] for of_window in _combined(planes, (science[1], template[1]), reach))
    return mask, lost


def _combined(
    masks: list[np.ndarray], kernels: tuple[StampField, StampField], reach: int
) -> tuple[np.ndarray, np.ndarray]:
    """The same for the masks of some rows; those within `reach` of rows that are not given are wrong."""
    saturated = (masks[1] & bits("SAT")) * (bits("SAT_TEMPLATE") // bits("SAT"))
    planes = masks[0] & ~bits("DETECTED", "DETECTED_NEGATIVE"), masks[1] & bits(*INHERITED) | saturated
    mask = grow((planes[0] | planes[1]) & bits(*SATURATED), reach)
    lost = np.zeros(mask.shape, bool)
    for own, kernel in zip(planes, kernels):
        missing = own & bits("NO_DATA")
        mask |= grow(own & ~bits("NO_DATA"), core_radius(kernel.centre())) | missing
        lost |= grow(missing != 0, kernel.size // 2, border=kernel.size > 1)
    mask[lost] |= bits("EDGE")
    return mask, lost


def flag_cosmic_rays(difference: Exposure) -> None:
    """Set CR where a difference is steeper than its PSF: without stars, hits stand out that hid beside one.

    Parameters
    ----------
    difference : Exposure
        Its mask is changed in place.
    """
    if fwhm(difference.psf.centre()) > MIN_CR_FWHM:
        hit = cosmicrays.find(difference.image, difference.variance, difference.flagged(*WITHOUT_MATCH))
        difference.mask |= hit * np.int32(bits("CR"))
