"""Proper image subtraction (Zackay, Ofek & Gal-Yam 2016, ApJ 830, 27; notation of DMTN-179), varying over the detector.

Each image is convolved with a kernel made of the PSF of the other and of the noise of both:

    D = k_n (x) N - k_r (x) R,   k_n = P_r W,  k_r = P_n W,   W**2 = (v_n + v_r) / (v_r |P_n a_r|**2 + v_n |P_r a_n|**2)

with N the science image, R the template in its photometric scale and v, a the variance and the colour of their
noise.  D has white noise of variance v_n + v_r, the scale of the science image and the unit-sum PSF
P_D = k_n (x) P_n.  The kernels are computed in cells of a grid, cut to compact stamps, so that a flaw of an image
reaches no farther than they do, and applied as polynomial fields in overlapping tiles (`convolution.convolve`).

The score S = P_D (x) D and its corrected form S_corr are not stored: `matchedfilter.smooth_snr` of D is S_corr, because
the variance plane of D holds the noise of the sources, as a PSF fit feels it, and `star_errors` what the registration
leaves.
"""

from dataclasses import replace

import numpy as np
import scipy.fft
from scipy.fft import irfft2, rfft2

from diaflow import polynomials
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.image.planes import bits
from diaflow.pixels.convolution import convolve, convolve_variance
from diaflow.psf.stampfield import StampField, fit_stamps, fwhm, moments_sigma, resized
from diaflow.subtract import decorrelate, masks, noise
from diaflow.subtract.photometric import PhotometricMatch, match
from diaflow.subtract.result import Difference

OPTIONS = {}

UNUSABLE = ("NO_DATA", "BAD", "SAT", "CR", "EDGE")
# What is replaced by the pixels of the other image, because it would ring.
REPLACED = ("NO_DATA", "BAD", "SAT", "CR")
MAX_ORDER = 3  # of the kernels as polynomials in position
SIDE = 160  # of the transforms, at least: more than twice the largest kernel [pixel]
MAX_AMPLIFICATION = 12.0  # of any frequency by either kernel
# Cut of the kernels: rms amplitude that may be lost, largest side [pixel], and the outer part that is tapered.
TRUNCATION, MAX_SIZE, TAPER = 5e-4, 61, 0.4
# Amplitude of the transform of a PSF below which it is noise: at least, at most, and frequencies that tell [1/pixel].
FLOOR, MAX_FLOOR, NOISE_FREQUENCY = 1e-3, 5e-3, 0.4


def subtract(
    science: Exposure, template: Exposure, smooth_psf: StampField, stars: np.ndarray, sky: np.ndarray, config: dict
) -> Difference:
    """Difference of one detector image.

    The flux ratio of the two images comes from stars of the science image, the background from the sky.

    Parameters
    ----------
    science, template : Exposure
        On one grid, finite everywhere; the PSF of the science image is a `StampField`.  Each variance plane is that of
        the pixels; `noise` tells its correlation.
    smooth_psf : StampField
        The PSF that most of the template has; its own may be another where an input ends.
    stars : (2, n) array
        x and y of the stars that may tell the flux ratio, best first [pixel].
    sky : (ny, nx) bool array
        Pixels without sources in both images, which tell the noise.
    config : dict
        Section `subtract` of the configuration.

    Returns
    -------
    Difference
        The matched template is k_r (x) R; the figure `mode` is "both", because both images are convolved.

    Raises
    ------
    BadData
        When a PSF has no width or fewer than three stars can be used.
    """
    if not np.isfinite(moments_sigma(science.psf.centre()) + moments_sigma(smooth_psf.centre())):
        raise BadData("a PSF without a finite width", Kind.PSF)
    science, template = (exposure.with_low_frequency_variance() for exposure in (science, template))
    bad = science.flagged(*UNUSABLE) | template.flagged(*UNUSABLE)
    found = match(science, template, *stars, bad, config["scale_order"])
    template = replace(template, psf=smooth_psf)
    template = _on_science_scale(science, template, found, sky, config["background_order"])
    kernels = kernel_fields(science, template, sky)
    difference, matched = difference_pair(science, template, kernels)
    figures = {
        "mode": "both",
        "science_fwhm": fwhm(science.psf.centre()),
        "template_fwhm": fwhm(template.psf.centre()),
        "kernel_sum": found.scale,
        "kernel_sum_scatter": found.scatter,
        "n_kernel_stars": int(found.used.sum()),
        "template_noise": 1.0,  # the variance plane of the template is what it has in the difference
    }
    return Difference(difference, matched, stars[:, found.used], figures)


def kernel_fields(science: Exposure, template: Exposure, sky: np.ndarray) -> tuple[StampField, StampField, StampField]:
    """Kernels k_n and k_r and the PSF P_D of two images of one photometric scale.

    Parameters
    ----------
    science, template : Exposure
        With variance planes of the noise at low frequencies.
    sky : (ny, nx) bool array
        Pixels that tell the variances.

    Returns
    -------
    k_n, k_r, P_D : StampField
        Of unit sum everywhere.
    """
    v_n, v_r = (noise.cell_variance(exposure.variance, sky) for exposure in (science, template))
    if not np.isfinite(v_n + v_r).any():
        v_n, v_r = (noise.typical(exposure.variance, sky) for exposure in (science, template))
    x, y, v_n, v_r = decorrelate.known_cells(science.shape, v_n, v_r)
    colours = (exposure.noise.kernel(exposure.shape).centre() for exposure in (science, template))
    stamps = kernel_stamps(science.psf(x, y), template.psf(x, y), v_n, v_r, *colours)
    order = max(science.psf.order, template.psf.order)
    order = polynomials.affordable(min(order + 1, MAX_ORDER), len(x), per_term=1)
    fields = [fit_stamps(_cut(s), x, y, order, science.shape) for s in stamps[:2]]
    size = max(science.psf.size, template.psf.size)
    psf = fit_stamps(resized(stamps[2], size), x, y, order, science.shape).normalised()
    return *fields, psf


def kernel_stamps(
    science_psf: np.ndarray,
    template_psf: np.ndarray,
    science_variance: np.ndarray,
    template_variance: np.ndarray,
    science_colour: np.ndarray = decorrelate.WHITE,
    template_colour: np.ndarray = decorrelate.WHITE,
) -> np.ndarray:
    """Stamps of k_n, k_r and P_D.

    Where the transforms of both PSFs are no more than their noise, their ratio is meaningless, and both are set to
    the same small number: D is N - R there.  (DMTN-179 sets constants where the denominator underflows, which is far
    below the noise of a measured PSF.)  An image without noise is given some, lest its deconvolution be unlimited.

    Parameters
    ----------
    science_psf, template_psf : (n, k, k) arrays
        Unit-sum stamps, k odd.
    science_variance, template_variance : (n,) arrays
        Variance of the noise at low frequencies [nJy**2].
    science_colour, template_colour : (m, m) arrays, optional
        Unit-sum stamps that made the noise of each image from white noise.

    Returns
    -------
    (3, n, side, side) array
        Of unit sum.
    """
    side = scipy.fft.next_fast_len(SIDE, True) | 1
    p_n, p_r, a_n, a_r = (
        rfft2(scipy.fft.ifftshift(resized(np.asarray(s, float), side), (-2, -1)))
        for s in (science_psf, template_psf, science_colour, template_colour)
    )
    v_n, v_r = (np.asarray(v, float)[:, None, None] for v in (science_variance, template_variance))
    floor = _noise_floor(p_n, p_r)
    filling = floor * np.exp(-(np.abs(p_n) ** 2 + np.abs(p_r) ** 2) / (2 * floor**2))
    q_n, q_r = p_n + filling, p_r + filling
    least = (v_n + v_r) / MAX_AMPLIFICATION**2
    power = np.maximum(v_r, least) * np.abs(q_n * a_r) ** 2 + np.maximum(v_n, least) * np.abs(q_r * a_n) ** 2
    whitening = np.sqrt(power[:, :1, :1] / power)
    stamps = np.stack([q_r * whitening, q_n * whitening, p_n * q_r * whitening])
    stamps = scipy.fft.fftshift(irfft2(stamps, (side, side)), axes=(-2, -1))
    return stamps / stamps.sum((-2, -1), keepdims=True)


def _noise_floor(*transforms: np.ndarray) -> np.ndarray:
    """Twice the rms of transforms of PSFs (n, side, side // 2 + 1) at high frequencies, within limits, (n, 1, 1)."""
    side = transforms[0].shape[-2]
    high = np.ix_(np.abs(np.fft.fftfreq(side)) > NOISE_FREQUENCY, np.fft.rfftfreq(side) > NOISE_FREQUENCY)
    rms = [np.sqrt((np.abs(t[:, *high]) ** 2).mean((1, 2))) for t in transforms]
    return np.clip(2 * np.max(rms, axis=0), FLOOR, MAX_FLOOR)[:, None, None]


def _cut(stamps: np.ndarray) -> np.ndarray:
    """Compact stamps of unit sum, which go to zero smoothly: a sharp end would leave rings of bright stars."""
    size = decorrelate.sufficient_size(stamps, TRUNCATION, MAX_SIZE)
    distance = np.abs(np.arange(size) - size // 2) / (size // 2 + 1)
    profile = np.cos(np.pi / 2 * np.clip((distance - (1 - TAPER)) / TAPER, 0, 1)) ** 2
    cut = resized(stamps, size) * np.outer(profile, profile)
    return cut / cut.sum((1, 2), keepdims=True)


def _on_science_scale(
    science: Exposure, template: Exposure, found: PhotometricMatch, sky: np.ndarray, background_order: int
) -> Exposure:
    """The template times the flux ratio, plus the background that the science image has more."""
    scale = found.scale_image(science.shape)
    image = template.image * scale
    fitted = noise.background(science.image - image, sky, background_order)
    if fitted is not None:
        image += polynomials.image(fitted, science.shape)
    return replace(template, image=image, variance=template.variance * scale**2)


def difference_pair(
    science: Exposure,
    template: Exposure,
    kernels: tuple[StampField, StampField, StampField],
) -> tuple[Exposure, Exposure]:
    """D and k_r (x) R, with their variances.

    Parameters
    ----------
    science, template : Exposure
        Of one photometric scale.
    kernels : (StampField, StampField, StampField)
        Those of `kernel_fields`.

    Returns
    -------
    difference, subtracted : Exposure
    """
    k_n, k_r, psf = kernels
    mask, lost = masks.combined((science, k_n), (template, k_r))
    pixels = _replaced(science, template)
    subtracted = convolve(pixels[1], k_r)
    image = convolve(pixels[0], k_n) - subtracted
    saturated = (mask & bits("SAT", "SAT_TEMPLATE")) != 0
    image[saturated] = (science.image - template.image)[saturated]
    image[lost] = 0
    colours = (exposure.noise.kernel(exposure.shape) for exposure in (science, template))
    variances = [
        convolve_variance(exposure.variance, a, k, psf=psf)
        for exposure, a, k in zip((science, template), colours, (k_n, k_r))
    ]
    variance = variances[0] + variances[1]
    variance[lost] = noise.typical(variance, ~lost)
    metadata = science.metadata | {"psf_fwhm": fwhm(psf.centre())}
    difference = Exposure(image, variance, mask, science.wcs, psf, noise=WHITE, metadata=metadata)
    matched = replace(template, image=subtracted, variance=variances[1], mask=mask.copy(), psf=psf, noise=WHITE)
    return difference, matched


def _replaced(science: Exposure, template: Exposure) -> tuple[np.ndarray, np.ndarray]:
    """Both images with the pixels that one has lost taken from the other, and zero where none has them."""
    bad = [exposure.flagged(*REPLACED) for exposure in (science, template)]
    filled = [np.where(lost, np.float32(0), exposure.image) for exposure, lost in zip((science, template), bad)]
    return np.where(bad[0], filled[1], science.image), np.where(bad[1], filled[0], template.image)
