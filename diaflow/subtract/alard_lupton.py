"""Difference image by matching one PSF to the other with a fitted kernel (Alard & Lupton 1998), decorrelated.

In come science and template with honest variance planes and the positions of kernel stars; the sharper image is
convolved to match the other, the difference is taken in the photometric frame of the science image, and its
noise is made white (`decorrelate`), so that variance plane and PSF describe it completely.

In mode `preconvolve` the science image is smoothed with its own PSF first, so that the template, whichever of the two
is sharper and in whichever direction, is convolved and never deconvolved.  `decorrelate` undoes the smoothing as far as
the PSF has power, and `matchedfilter.smooth_snr` of the result is the score image of LSST's ip_diffim.
"""

from dataclasses import dataclass, replace

import numpy as np

from diaflow import polynomials
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.image.planes import bits
from diaflow.pixels.convolution import convolve, convolve_variance
from diaflow.pixels.growth import grow
from diaflow.psf.stampfield import StampField, fwhm, moments_sigma
from diaflow.psfmatch.basis import alard_lupton_basis, delta_basis
from diaflow.psfmatch.solution import KernelSolution, fit
from diaflow.subtract import decorrelate, masks, noise
from diaflow.subtract.photometric import match
from diaflow.subtract.result import Difference

OPTIONS = {
    "mode": {
        "enum": ["auto", "convolve_template", "convolve_science", "preconvolve"],
        "default": "auto",
        "description": "which image to convolve; auto convolves the sharper one, preconvolve smooths the science image "
        "with its PSF and convolves the template",
    },
    "basis": {
        "enum": ["gaussian", "delta"],
        "default": "gaussian",
        "description": "functions that the kernel is made of, Gaussians times polynomials or single pixels with a "
        "smoothness prior",
    },
    "kernel_order": {
        "type": "integer",
        "minimum": 0,
        "maximum": 4,
        "default": 2,
        "description": "polynomial order of the kernel in position",
    },
}

# By which frequencies are amplified after preconvolution; those that need more have 6 % of the power of a star.
MAX_SHARPENING = 4.0
MAX_GRAM = 25_000_000  # numbers in the Gram matrices of all stars of the fit: 200 MB
UNUSABLE = ("NO_DATA", "BAD", "SAT", "CR", "INTRP", "EDGE", "HIGH_VARIANCE", "SUSPECT")


def subtract(
    science: Exposure, template: Exposure, smooth_psf: StampField, stars: np.ndarray, sky: np.ndarray, config: dict
) -> Difference:
    """Difference of one detector image.

    Parameters
    ----------
    science, template : Exposure
        On one grid, finite everywhere; the PSF of the science image is a `StampField`.  Each variance plane is that of
        the pixels; `noise` tells its correlation.
    smooth_psf : StampField
        The PSF that most of the template has; its own may be another where an input ends.
    stars : (2, n) array
        x and y of candidates for kernel stars, best first [pixel].
    sky : (ny, nx) bool array
        Pixels without sources in both images, which tell the noise.
    config : dict
        Section `subtract` of the configuration.

    Returns
    -------
    Difference
        Its variance plane is that of the noise; what stars show beyond it has not been measured.

    Raises
    ------
    BadData
        When a PSF has no width or fewer than three kernel stars can be used.
    """
    science_sigma, template_sigma = (moments_sigma(psf.centre()) for psf in (science.psf, smooth_psf))
    if not np.isfinite(science_sigma + template_sigma):
        raise BadData("a PSF without a finite width", Kind.PSF)
    mode = config["mode"]
    if mode == "auto":
        mode = "convolve_template" if template_sigma <= science_sigma else "convolve_science"
    science, template = (e.with_low_frequency_variance() for e in (science, template))
    unsmoothed = (template, science) if mode == "convolve_science" else (science, template)
    unusable = science.flagged(*UNUSABLE) | template.flagged(*UNUSABLE)
    ratio = match(*unsmoothed, *stars, unusable, config["scale_order"])
    template = replace(template, psf=smooth_psf)
    smoothing = _identity(science.shape)
    if mode == "convolve_science":
        image, target, sigmas = science, template, (template_sigma, science_sigma)
    elif mode == "convolve_template":
        image, target, sigmas = template, science, (science_sigma, template_sigma)
    else:
        smoothing = StampField(science.psf.centre()[None, ::-1, ::-1], 0, science.shape)
        image, target, sigmas = template, _smoothed(science, smoothing), (np.sqrt(2) * science_sigma, template_sigma)
    basis, penalty = delta_basis(*sigmas) if config["basis"] == "delta" else (alard_lupton_basis(*sigmas), None)
    bad = grow(image.flagged(*UNUSABLE), basis.shape[-1] // 4) | target.flagged(*UNUSABLE)
    stars = stars[:, : MAX_GRAM // len(basis) ** 2]
    # pixels of a smoothed image scatter less than its low frequencies
    scatter = replace(target, variance=target.variance * np.float32((smoothing.terms[0] ** 2).sum()))
    orders = config["kernel_order"], config["background_order"]
    solution = fit(image, scatter, *stars, basis, ratio.terms, *orders, bad=bad, penalty=penalty)
    pair = MatchedPair.matched(image, target, solution, smoothing, sky, 1 if mode == "convolve_science" else -1)
    figures = {
        "mode": mode,
        "science_fwhm": fwhm(science.psf.centre()),
        "template_fwhm": fwhm(template.psf.centre()),
        "kernel_sum": ratio.scale,
        "kernel_sum_scatter": solution.kernel_sum_scatter,
        "n_kernel_stars": int(solution.used.sum()),
    }
    difference, template, figures["template_noise"] = pair.decorrelated(sky)
    return Difference(difference, template, stars[:, solution.used], figures)


@dataclass
class MatchedPair:
    """Two images of equal PSF and photometric scale, one of them convolved.

    Attributes
    ----------
    convolved, other : Exposure
        Convolved with `kernel` and with `other_kernel`.
    kernel, other_kernel : StampField
    convolved_variance : (ny, nx) array
        Of the convolved image before its convolution.
    sign : int
        +1 when the convolved one is the science image, -1 when it is the template.
    mask : (ny, nx) int32 array
        Of the difference.
    lost : (ny, nx) bool array
        Pixels that have no value in the difference.
    """

    convolved: Exposure
    other: Exposure
    kernel: StampField
    other_kernel: StampField
    convolved_variance: np.ndarray
    sign: int
    mask: np.ndarray
    lost: np.ndarray

    @classmethod
    def matched(
        cls,
        image: Exposure,
        target: Exposure,
        solution: KernelSolution,
        target_kernel: StampField,
        sky: np.ndarray,
        sign: int,
    ) -> "MatchedPair":
        """Apply kernel and background and bring both images to the scale of the science image.

        The background is fitted again to all sky pixels: in the few around the stars it is hard to tell from the
        wings of the kernel.

        Parameters
        ----------
        image, target : Exposure
            The image to convolve and the one that it is to match, finite everywhere.
        solution : KernelSolution
            Takes the PSF of `image` to that of `target`.
        target_kernel : StampField
            What `target` has been convolved with.
        sky : (ny, nx) bool array
            Pixels without sources in both images.
        sign : int
            +1 when `image` is the science image, -1 when it is the template.

        Returns
        -------
        MatchedPair
        """
        kernels = (image, solution.kernel), (target, target_kernel)
        mask, lost = masks.combined(*kernels[::sign])
        pixels = convolve(image.image, solution.kernel)
        fitted = noise.background(target.image - pixels, sky & ~lost, polynomials.order_of(solution.background))
        if fitted is not None:
            solution = replace(solution, background=fitted)
        background = solution.background_image()
        if sign < 0:
            pixels += background
            convolved = replace(image, image=pixels)
            return cls(convolved, target, solution.kernel, target_kernel, image.variance, sign, mask, lost)
        scale = 1 / solution.sum_image()
        pixels *= scale
        other = replace(target, image=(target.image - background) * scale, variance=target.variance * scale**2)
        convolved = replace(image, image=pixels)
        return cls(convolved, other, solution.unit_kernel(), target_kernel, image.variance, sign, mask, lost)

    def decorrelated(self, sky: np.ndarray) -> tuple[Exposure, Exposure, float]:
        """The difference, its noise made white.

        Parameters
        ----------
        sky : (ny, nx) bool array
            Pixels without sources in both images, which tell the noise.

        Returns
        -------
        difference, matched_template : Exposure
        template_noise : float
            Variance that the template has in PSF fluxes on the difference over that of its variance plane.
        """
        v_c, v_o = (noise.cell_variance(v, sky) for v in (self.convolved_variance, self.other.variance))
        if not np.isfinite(v_c + v_o).any():
            v_c, v_o = (noise.typical(v, sky) for v in (self.convolved_variance, self.other.variance))
        noise_kernel, other_colour = (
            kernel.convolved(colour, kernel.size + colour.size - 1)
            for kernel, colour in (
                (self.kernel, self.convolved.noise.kernel(self.convolved.shape)),
                (self.other_kernel, self.other.noise.kernel(self.other.shape)),
            )
        )
        limit = MAX_SHARPENING if self.other_kernel.size > 1 else decorrelate.MAX_AMPLIFICATION
        whitening = decorrelate.kernel_field(noise_kernel, v_c, v_o, other_colour.centre(), limit)
        mask, lost = self.mask, self.lost
        science, template = (self.convolved, self.other) if self.sign > 0 else (self.other, self.convolved)
        residual = science.image - template.image
        # saturated cores and what lacks data would ring through the filter
        saturated = (mask & bits("SAT", "SAT_TEMPLATE")) != 0
        image = convolve(residual, whitening, lost | saturated)
        image[saturated] = residual[saturated]
        image[lost] = 0
        psf = self._science_psf().convolved(whitening, max(science.psf.size, template.psf.size)).normalised()
        variances = (
            convolve_variance(self.convolved_variance, noise_kernel, whitening, psf=psf),
            convolve_variance(self.other.variance, other_colour, whitening, psf=psf),
        )
        variance = variances[0] + variances[1]
        variance[lost] = noise.typical(variance, ~lost)
        metadata = science.metadata | {"psf_fwhm": fwhm(psf.centre())}
        difference = Exposure(image, variance, mask, science.wcs, psf, noise=WHITE, metadata=metadata)
        of_template = variances[1] if self.sign > 0 else variances[0]
        template_noise = noise.typical(of_template, ~lost) / noise.typical(template.variance, ~lost)
        return difference, self._matched_template(template, science, mask), template_noise

    def _science_psf(self) -> StampField:
        """PSF, before whitening, of what is in the science image alone."""
        if self.sign < 0:
            return self.other.psf
        return self.convolved.psf.convolved(self.kernel, self.other.psf.size)

    def _matched_template(self, template: Exposure, science: Exposure, mask: np.ndarray) -> Exposure:
        """The template as it was subtracted.

        Its noise is correlated; the variance plane is that of white noise with the same power at low frequencies, so
        that the errors of PSF fluxes are right or somewhat large.
        """
        psf = template.psf if self.sign > 0 else science.psf
        return replace(template, mask=mask.copy(), psf=psf, noise=WHITE)


def _identity(shape: tuple[int, int]) -> StampField:
    """The kernel that changes nothing."""
    return StampField(np.ones((1, 1, 1)), 0, shape)


def _smoothed(exposure: Exposure, kernel: StampField) -> Exposure:
    """Image and PSF convolved with a kernel of unit sum; the variance plane, at low frequencies, stays."""
    psf = exposure.psf.convolved(kernel, exposure.psf.size + kernel.size - 1)
    return replace(exposure, image=convolve(exposure.image, kernel), psf=psf)
