"""Coadds of maximum likelihood: the sky that explains all warps best, seen with a PSF that the method chooses.

In: warps, the artefacts in them, and a response (see `spectra`).  The patch is done in cells (see `cells`), which are
blended bilinearly.  Without missing pixels the solution is a filter.  Missing pixels (masks, gaps, edges) are filled
with the mean of the other warps, and that start is improved by conjugate gradients until what is left is small against
the noise: the PSF of the coadd does not change where an input ends.  Its PSF and its noise are worked out at the nodes.
"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy import fft

from diaflow.coadd import direct, spectra
from diaflow.coadd.cells import Node, Patch, cell_pixels
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.noise import Noise
from diaflow.image.planes import bits
from diaflow.psf.coadd import CoaddPsf
from diaflow.psf.grid import StampGrid

# Conjugate gradients stop when no pixel of the residual is above this fraction of the noise, or after this many steps:
# the first ones find what missing pixels do to stars, later ones amplify the noise where a sharp input is missing.
TOLERANCE = 0.1
MAX_STEPS = 3

NO_DATA = bits("NO_DATA")


def combine(
    warps: list[ExposureFile],
    matched: list[ExposureFile],
    choose: Callable[[Patch], spectra.Response],
    ridge: float = 0.0,
) -> Exposure:
    """Coadd of maximum likelihood.

    Parameters
    ----------
    warps, matched : lists of ExposureFile
        Direct and PSF-matched warps of the same visits, in the same order.
    choose : callable
        Gives the response of a patch: the PSF of its coadd.
    ridge : float
        Prior of the sky: its inverse power at the Nyquist frequency in units of S; it goes as frequency squared.

    Returns
    -------
    Exposure
        ``psf.grid`` is the PSF, ``psf.inputs`` the record of the inputs.  The variance plane is that of a pixel,
        and `noise` has both factors.

    Raises
    ------
    BadData
        When no warp has a PSF on the patch.
    """
    patch = Patch(warps)
    response = choose(patch)
    coadd, clipped = direct.clean_mean(warps, matched, psf_jumps=False)
    correlated = coadd.noise
    fill = np.where(np.isfinite(coadd.image), coadd.image, np.float32(0))
    image, weight, noise = (np.zeros(coadd.shape, np.float32) for _ in range(3))
    size = patch.stamps.shape[-1]
    stamps, factors = np.full((len(patch.y), len(patch.x), size, size), np.nan, np.float32), []
    for node in patch.nodes():
        box, taper = patch.box(node), patch.taper(node)
        psf, variance, weighted = _psf_and_noise(patch, node, response, ridge, correlated)
        stamps[node] = spectra.stamp(psf, size)
        factors.append((1 / variance, weighted / variance))
        image[box] += taper * _solved(patch, node, clipped, fill, response, ridge)
        noise[box] += taper * np.float32(correlated.covariance_factor * variance)
        weight[box] += taper
    has_data = ~coadd.flagged("NO_DATA") & (weight > 0)
    weight[~has_data] = 1
    coadd.image = np.where(has_data, image / weight, np.float32(np.nan))
    coadd.variance = np.where(has_data, coadd.variance, np.float32(np.inf))
    coadd.variance[has_data] *= (noise / weight)[has_data]
    coadd.mask[~has_data] |= NO_DATA
    coadd.noise = Noise(*np.mean(factors, axis=0).tolist())
    first, step = (float(patch.x[0]), float(patch.y[0])), patch.step
    weights = 1 / patch.variances
    inputs = [replace(source, weight=w) for warp, w in zip(warps, weights) for source in warp.psf.inputs]
    coadd.psf = CoaddPsf(inputs, coadd.wcs, StampGrid(stamps, first, step))
    # As far as the solution knows the inputs, it is exact where some of them are missing.
    coadd.mask &= ~bits("INEXACT_PSF")
    coadd.mask[coadd.flagged("NO_DATA", "SAT")] |= bits("INEXACT_PSF")
    return coadd


def solve(
    images: np.ndarray, used: np.ndarray, transforms: np.ndarray, variances: np.ndarray, ridge: float = 0.0
) -> np.ndarray:
    """The sky H that minimises sum |used (P_i H - Z_i)|^2 / C_i + S ridge |k H / pi|^2, almost.

    Parameters
    ----------
    images : (n, ny, nx) float32 array
        Where they are not used, a guess that the solution starts from.
    used : (n, ny, nx) bool array
    transforms : (n, ny, nx // 2 + 1) complex array
        Of the PSFs, periodic as the images are.
    variances : (n,) array
        C_i.
    ridge : float
        Prior as in `combine`.

    Returns
    -------
    (ny, nx // 2 + 1) complex64 array
        Transform of H, the noise of which is not bounded: apply a response to it.
    """
    shape = images.shape[1:]
    variances = np.asarray(variances, np.float32)[:, None, None]
    prior = spectra.roughness(shape) * np.float32(ridge * (1 / variances).sum())
    adjoint = transforms.conj() / variances
    phi = (adjoint * transforms).real
    partial = [i for i in range(len(images)) if not used[i].all()]
    complete = phi.sum(0) - phi[partial].sum(0) + prior
    # In the unknown H / whitening noise has unit variance, and the matrix is 1 where nothing is missing.
    whitening = 1 / np.sqrt(phi.sum(0) + prior)
    spectra_of = [fft.rfft2(image) for image in images]
    start = whitening * sum(a * z for a, z in zip(adjoint, spectra_of))
    if not partial:
        return whitening * start

    def normal(sky):
        out = complete * sky
        for i in partial:
            out += adjoint[i] * fft.rfft2(used[i] * fft.irfft2(transforms[i] * sky, shape))
        return out

    for i in partial:
        spectra_of[i] = fft.rfft2(used[i] * images[i])
    residual = whitening * (sum(a * z for a, z in zip(adjoint, spectra_of)) - normal(whitening * start))
    direction, found, norm = residual, start, _dot(residual, residual)
    for _ in range(MAX_STEPS):
        if np.abs(fft.irfft2(residual, shape)).max() < TOLERANCE:
            break
        product = whitening * normal(whitening * direction)
        length = norm / _dot(direction, product)
        found = found + length * direction
        residual = residual - length * product
        previous, norm = norm, _dot(residual, residual)
        direction = residual + norm / previous * direction
    return whitening * found


def _dot(a: np.ndarray, b: np.ndarray) -> np.float32:
    """Product of two images from half their transforms, up to a constant; the first column counts once."""
    product = (a.conj() * b).real
    return np.float32(2 * product.sum(dtype=float) - product[:, 0].sum(dtype=float))


def _solved(
    patch: Patch, node: Node, clipped: list[np.ndarray], fill: np.ndarray, response: spectra.Response, ridge: float
) -> np.ndarray:
    """The coadd in the box of a cell."""
    use = patch.present(node)
    images, used, inner = cell_pixels(patch, node, clipped, fill)
    shape = images.shape[1:]
    transforms = spectra.transform(spectra.floored(patch.stamps[node][use]), shape)
    sky = solve(images, used, transforms, patch.variances[use], ridge)
    power = spectra.information(transforms, patch.choice(node))
    return fft.irfft2(response(power, shape) * sky, shape)[inner]


def _psf_and_noise(
    patch: Patch, node: Node, response: spectra.Response, ridge: float, correlated: Noise
) -> tuple[np.ndarray, float, float]:
    """PSF transform of the coadd at a node, and two variances times S, which is what it is at low frequencies.

    The variance of a pixel, and that of white noise in which a PSF flux would have the same error.
    """
    shape = (spectra.GRID,) * 2
    wanted = response(patch.power(node), shape)
    power, passed = patch.mean_power(node)
    prior = ridge * spectra.roughness(shape)
    psf = wanted * passed / (power + prior)
    noise = spectra.noise_power(wanted, power, prior) * correlated.power(spectra.GRID)
    return psf, spectra.mean(noise, shape), spectra.psf_weighted(noise, psf, shape)
