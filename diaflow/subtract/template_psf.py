"""The PSF of a template as a smooth field over the image, and where it is none because an input begins or ends.

Kernels are polynomials in position and cannot follow a step of the PSF; so they are made from the field that most of
the template has, and stars beyond the step leave a part of their flux, which this file tells.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.fft import irfft2, rfft2

from diaflow import polynomials
from diaflow.errors import BadData, Kind
from diaflow.psf.stampfield import StampField, fit_stamps, resized

N_CELLS = 30  # along each axis of the image, at whose corners the PSF is compared with the smooth field
# The smooth field: its degree, and how often it is fitted without the samples that are CLIP times the median error from
# it, or from the median PSF at first; that error is USUAL_ERROR at least, so that rounding is no outlier.
FIELD_ORDER, N_ITERATIONS, CLIP, USUAL_ERROR = 2, 3, 3.0, 1e-3
MEDIAN_STRIDE = 5  # the median PSF, a first guess, is that of every fifth sample
NOTHING = 1e-3  # amplitude of the transform of a PSF that is noise


@dataclass(frozen=True)
class TemplatePsf:
    """The PSF of a template.

    Attributes
    ----------
    field : StampField
        What most of the image has.
    samples : (961, k, k) array or None
        The PSF at the corners of 30 x 30 cells, row by row, NaN where it is undefined; None where it is the field.
    """

    field: StampField
    samples: np.ndarray | None

    @classmethod
    def of(cls, psf: Callable | None, shape: tuple[int, int]) -> "TemplatePsf":
        """Sample a PSF, and fit the field.

        Parameters
        ----------
        psf : callable
            ``psf(x, y)`` gives stamps (n, k, k), of unit sum; None where there is none.
        shape : (ny, nx)
            Of the image.

        Returns
        -------
        TemplatePsf

        Raises
        ------
        BadData
            When there is no PSF, or none anywhere in the image.
        """
        if psf is None:
            raise BadData("no PSF", Kind.PSF)
        if isinstance(psf, StampField):
            return cls(psf, None)
        x, y = _corners(shape)
        samples = psf(x, y)
        defined = np.isfinite(samples).all((1, 2))
        if not defined.any():
            raise BadData("the PSF is defined nowhere in the image", Kind.PSF)
        return cls(_smooth_field(samples[defined], x[defined], y[defined], shape), samples)

    def jumps(self, seen: np.ndarray) -> np.ndarray:
        """Part of its flux that a star leaves on a difference because the PSF is not the smooth field.

        Parameters
        ----------
        seen : (m, m) array
            PSF of the difference, to which the kernel takes the field.

        Returns
        -------
        (30, 30) array
            In cells of the image, the largest at the four corners of each, so that no jump falls between.  Where the
            PSF is undefined, the largest in the image: coverage is ragged there.
        """
        if self.samples is None:
            return np.zeros((N_CELLS, N_CELLS))
        error = np.abs(_left(self.samples - self.field(*_corners(self.field.shape)), self.field.centre(), seen))
        corners = np.where(np.isfinite(error), error, np.nanmax(error)).reshape(N_CELLS + 1, N_CELLS + 1)
        return np.maximum.reduce([corners[:-1, :-1], corners[:-1, 1:], corners[1:, :-1], corners[1:, 1:]])


def _corners(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Corners of cells; half a pixel inside, because an input that ends at the border may end before by rounding."""
    x, y = np.meshgrid(*(np.linspace(0.5, n - 1.5, N_CELLS + 1) for n in shape[::-1]))
    return x.ravel(), y.ravel()


def _smooth_field(samples: np.ndarray, x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> StampField:
    """The field through most of the samples (n, k, k)."""
    order = polynomials.affordable(FIELD_ORDER, len(x), per_term=1)
    model = np.median(samples[::MEDIAN_STRIDE], axis=0, keepdims=True)
    for _ in range(N_ITERATIONS):
        middle = model.mean(0)
        error = np.abs(_left(samples - model, middle, middle))
        usual = error <= CLIP * max(np.median(error), USUAL_ERROR)
        field = fit_stamps(samples[usual], x[usual], y[usual], order, shape)
        model = field(x, y)
    return field.normalised()


def _left(excess: np.ndarray, model: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Flux that fits of the PSF `seen` find in what the kernel from `model` to it makes of some stamps (n, k, k).

    In frequency, the kernel is seen / model, and its response to the fit one stamp of weights.
    """
    size = max(model.shape[-1], seen.shape[-1])
    model, seen = (rfft2(resized(stamp, size)) for stamp in (model, seen))
    weights = irfft2(np.abs(seen) ** 2 * model / (np.abs(model) ** 2 + NOTHING**2), (size, size))
    power = irfft2(np.abs(seen) ** 2, (size, size))[0, 0]
    return (excess * resized(weights, excess.shape[-1])).sum((1, 2)) / power
