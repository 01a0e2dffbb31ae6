"""PSF matching: the kernel K(x, y) that turns one image's PSF into another's (Alard & Lupton 1998; Alard 2000).

In come two images of one scene on one pixel grid, or one image and a model PSF; out comes a `StampField` kernel and
its application to pixels, variances and masks.  `basis` holds the functions the kernel is made of, `solution` the
least-squares fit, `convolution` the spatially varying convolution, `homogeneous` the matching to a model PSF.
"""

from diaflow.psfmatch.basis import alard_lupton_basis, alard_lupton_widths, delta_basis
from diaflow.psfmatch.convolution import convolve, convolve_variance
from diaflow.psfmatch.growth import core_radius, grow
from diaflow.psfmatch.homogeneous import homogenise, model_psf, sample_psf
from diaflow.psfmatch.solution import KernelSolution, fit, polynomial_image

__all__ = [
    "KernelSolution",
    "alard_lupton_basis",
    "alard_lupton_widths",
    "convolve",
    "convolve_variance",
    "core_radius",
    "delta_basis",
    "fit",
    "grow",
    "homogenise",
    "model_psf",
    "polynomial_image",
    "sample_psf",
]
