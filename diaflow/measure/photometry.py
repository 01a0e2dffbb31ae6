"""Fluxes and positions of sources on an image: PSF fits, apertures, the mask planes around a position.

In come an image, its variance, a PSF callable and arrays of positions; out go arrays, one value per position and
NaN with a flag where nothing can be measured.  A PSF stamp is evaluated at each position and moved to its
sub-pixel phase by windowed-sinc interpolation.  The flux is the least-squares amplitude with equal pixel weights,
sum(P I) / sum(P**2), as in LSST's PsfFlux: weights 1/V from noisy pixels would favour those that fluctuate low
and bias the flux, so V enters the error only.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import sep

from diaflow.image.exposure import Exposure
from diaflow.image.planes import bits
from diaflow.measure import kernels
from diaflow.psf.stampfield import moments_sigma

# Pixels without information about the sky or the difference: no weight in filters and fits.
UNUSABLE = ("BAD", "SAT", "CR", "EDGE", "NO_DATA", "SAT_TEMPLATE")

CENTRE_RADIUS = 1.5  # [pixel]: the central 3 x 3 in `planes_within`

BATCH = 2000  # sources whose PSF stamps are in memory at once: 16 MB of 31 x 31 pixels

Psf = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class PsfFlux:
    """PSF fluxes of n positions.

    Attributes
    ----------
    flux, err : (n,) float64 arrays
        Amplitude of the PSF and its standard error [unit of the image]; NaN where not measurable.
    chi2 : (n,) float64 array
        Sum of (I - flux P)**2 / V over the used pixels.
    n_data : (n,) int64 array
        Pixels used.
    flag_edge, flag_no_good_pixels : (n,) bool arrays
        The stamp leaves the image; (almost) none of the PSF is on usable pixels, flux and err are NaN.
    """

    flux: np.ndarray
    err: np.ndarray
    chi2: np.ndarray
    n_data: np.ndarray
    flag_edge: np.ndarray
    flag_no_good_pixels: np.ndarray

    @property
    def flag(self) -> np.ndarray:
        """True where there is no flux."""
        return ~np.isfinite(self.flux)


def psf_flux(
    image: np.ndarray, variance: np.ndarray, good: np.ndarray, psf: Psf, x: np.ndarray, y: np.ndarray
) -> PsfFlux:
    """PSF flux at fixed positions, without a local background.

    Parameters
    ----------
    image, variance : (ny, nx) arrays
        Pixels and their variances; pixels that are not finite, or have no positive variance, are not used.
    good : (ny, nx) bool array
        Pixels that may be used.
    psf : callable
        ``psf(x, y)`` gives stamps (n, k, k), k odd; NaN stamps where the PSF is not known.
    x, y : (n,) arrays
        Positions [pixel]; any may be outside the image or NaN.

    Returns
    -------
    PsfFlux

    Notes
    -----
    With P the stamp moved to the position, flux = sum(P I) / sum(P**2) and err**2 = sum(P**2 V) / sum(P**2)**2
    over the usable pixels (LSST meas_base PsfFlux).  A masked pixel drops out of both sums, so the flux stays
    unbiased.  The error is right for noise that is not correlated between pixels.
    """
    image, variance, good = as_pixels(image), as_pixels(variance), np.ascontiguousarray(good, bool)
    x, y = as_positions(x, y)
    n = len(x)
    out = PsfFlux(*np.full((3, n), np.nan), np.zeros(n, np.int64), *np.zeros((2, n), bool))
    for rows, stamps in _stamps(psf, x, y):
        kernels.psf_flux(
            image, variance, good, stamps, rows, x, y, out.flux, out.err, out.chi2, out.n_data, out.flag_edge
        )
    out.flag_no_good_pixels[:] = out.flag
    return out


def exposure_flux(exposure: Exposure, x: np.ndarray, y: np.ndarray) -> PsfFlux:
    """PSF flux on an exposure, its `UNUSABLE` pixels left out.

    The error knows how the noise of the exposure is correlated, and what of it is no noise.

    Parameters
    ----------
    exposure : Exposure
        With its PSF.
    x, y : (n,) arrays
        Positions [pixel]; any may be outside the image or NaN.

    Returns
    -------
    PsfFlux
    """
    good = ~exposure.flagged(*UNUSABLE)
    fit = psf_flux(exposure.image, exposure.variance, good, exposure.psf, x, y)
    return replace(fit, err=with_flux_error(exposure, exposure.noise.psf_flux_error(fit.err), x, y))


def with_flux_error(exposure: Exposure, err: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Errors of fluxes on an exposure with what of them is no noise of its pixels.

    Parameters
    ----------
    exposure : Exposure
    err : (n,) array
        That of the noise [unit of the image].
    x, y : (n,) arrays
        Positions [pixel].

    Returns
    -------
    (n,) array
        [unit of the image]
    """
    return err if exposure.flux_error is None else np.hypot(err, exposure.flux_error.at(x, y))


def aperture_flux(
    image: np.ndarray, variance: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sum of the pixels in a circle, with the exact overlap of the circle and each pixel.

    Parameters
    ----------
    image, variance : (ny, nx) arrays
        Pixels and their variances.
    x, y : (n,) arrays
        Centres [pixel].
    radius : float
        Of the circle [pixel].

    Returns
    -------
    flux, err : (n,) arrays
        Sum and its error [unit of the image]; NaN where the centre is off the image or a pixel is NaN.
    truncated : (n,) bool array
        The circle leaves the image; the flux is that of the part inside.
    """
    image, variance = as_pixels(image), as_pixels(variance)
    x, y = as_positions(x, y)
    inside = is_inside(image.shape, x, y)
    flux, err, truncated = np.full(len(x), np.nan), np.full(len(x), np.nan), ~inside
    if inside.any():
        flux[inside], err[inside], flags = sep.sum_circle(image, x[inside], y[inside], radius, var=variance, subpix=0)
        truncated[inside] = (flags & sep.APER_TRUNC) != 0
    return flux, err, truncated


def psf_centroid(
    image: np.ndarray,
    variance: np.ndarray,
    psf: Psf,
    x: np.ndarray,
    y: np.ndarray,
    good: np.ndarray | None = None,
    max_shift: float = 5.0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Position of a point source by a Gauss-Newton fit of flux, x and y; the flux may have either sign.

    The position is where what the fit leaves over has neither a flux nor slopes in a Gaussian window as broad as the
    PSF.  For a Gaussian PSF that is least squares, and it stays within a few per cent of it for others; the slopes of
    the PSF itself would weigh its noise and the border of its stamp.

    Parameters
    ----------
    image, variance : (ny, nx) arrays
        Pixels and their variances.
    psf : callable
        ``psf(x, y)`` gives stamps (n, k, k), k odd.
    x, y : (n,) arrays
        Where the fit starts [pixel].
    good : (ny, nx) bool array, optional
        Pixels that may be used (default: all with a finite value and a positive variance).
    max_shift : float
        Distance from the start at which the fit has failed [pixel].

    Returns
    -------
    x, y : (n,) arrays
        Fitted position, or the start where the fit failed.
    x_err, y_err : (n,) arrays
        Standard errors, from the pixel variances propagated through the fit; NaN where it failed.
    failed : (n,) bool array
        Moved too far, did not converge or had too few pixels.
    """
    image, variance = as_pixels(image), as_pixels(variance)
    good = np.ones(image.shape, bool) if good is None else np.ascontiguousarray(good, bool)
    x, y = as_positions(x, y)
    x_fit, y_fit, failed = x.copy(), y.copy(), np.ones(len(x), bool)
    x_err, y_err = np.full((2, len(x)), np.nan)
    for rows, stamps in _stamps(psf, x, y):
        known = np.isfinite(stamps).all((1, 2))
        sigma = moments_sigma(stamps[known].mean(0)) if known.any() else np.nan
        fits = x_fit, y_fit, x_err, y_err, failed
        kernels.psf_centroid(image, variance, good, stamps, rows, sigma, float(max_shift), *fits)
    return x_fit, y_fit, x_err, y_err, failed


def planes_within(mask: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """All mask bits set near positions.

    Parameters
    ----------
    mask : (ny, nx) int32 array
    x, y : (n,) arrays
        Positions [pixel]; any may be outside the image or NaN.
    radius : float
        Distance of pixel centres from that of the pixel of a position [pixel]; 1.5 is the central 3 x 3.

    Returns
    -------
    (n,) int32 array
        0 off the image.
    """
    x, y = as_positions(x, y)
    out = np.zeros(len(x), np.int32)
    kernels.planes_within(np.ascontiguousarray(mask, np.int32), x, y, float(radius), out)
    return out


def cutouts(image: np.ndarray, x: np.ndarray, y: np.ndarray, half: int) -> np.ndarray:
    """Boxes around whole-pixel positions.

    Parameters
    ----------
    image : (ny, nx) array
    x, y : (n,) int arrays
        Centres [pixel].
    half : int
        Half of the side: m = 2 half + 1 [pixel].

    Returns
    -------
    (n, m, m) array
        Of the type of the image; 0 outside it.
    """
    t = np.arange(-half, half + 1)
    rows, columns = np.asarray(y)[:, None, None] + t[:, None], np.asarray(x)[:, None, None] + t
    inside = is_inside(image.shape, columns, rows)
    ny, nx = image.shape
    return np.where(inside, image[rows.clip(0, ny - 1), columns.clip(0, nx - 1)], 0)


def is_usable(exposure: Exposure, x: np.ndarray, y: np.ndarray, radius: float) -> np.ndarray:
    """Whether positions are on an exposure, without `UNUSABLE` pixels near.

    Parameters
    ----------
    exposure : Exposure
    x, y : (n,) arrays
        Positions [pixel].
    radius : float
        See `planes_within` [pixel].

    Returns
    -------
    (n,) bool array
    """
    planes = planes_within(exposure.mask, x, y, radius)
    return is_inside(exposure.shape, x, y) & ((planes & bits(*UNUSABLE)) == 0)


def is_inside(shape: tuple[int, int], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Whether positions are on the pixels of an image: -0.5 <= x < nx - 0.5.

    Parameters
    ----------
    shape : (ny, nx)
    x, y : arrays
        Positions [pixel].

    Returns
    -------
    bool array
        Of the shape of the positions; False for NaN.
    """
    return (x >= -0.5) & (x < shape[1] - 0.5) & (y >= -0.5) & (y < shape[0] - 0.5)


def as_pixels(array: np.ndarray) -> np.ndarray:
    """An image as the compiled loops want it.

    Parameters
    ----------
    array : (ny, nx) array

    Returns
    -------
    (ny, nx) float32 array
        Contiguous; the same where it is so already.
    """
    return np.ascontiguousarray(array, np.float32)


def as_positions(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions as the compiled loops want them.

    Parameters
    ----------
    x, y : float or (n,) arrays
        Broadcast against each other.

    Returns
    -------
    x, y : (n,) float64 arrays
        Contiguous.
    """
    x, y = np.broadcast_arrays(np.atleast_1d(np.asarray(x, float)), np.atleast_1d(np.asarray(y, float)))
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _stamps(psf: Psf, x: np.ndarray, y: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of rows with their stamps, in the order of y: neighbours find their pixels in the processor's cache."""
    order = np.argsort(y, kind="stable")
    for start in range(0, len(x), BATCH):
        rows = order[start : start + BATCH]
        yield rows, np.ascontiguousarray(psf(x[rows], y[rows]), float)
