"""GAaP fluxes: the light in a Gaussian aperture on the sky before the PSF, the same part of a galaxy in every band.

Gaussian Aperture and PSF photometry (Kuijken 2008, A&A 482, 1053; Kuijken et al. 2015, MNRAS 454, 3500) convolves an
image until its PSF is a Gaussian of some sigma_p and sums it with the weight
w = s**2 / (s**2 - sigma_p**2) exp(-r**2 / (2 (s**2 - sigma_p**2))), which is the flux of the source before the PSF
within exp(-r**2 / (2 s**2)).  sigma_p drops out: with the transforms I, P of the pixels and of the PSF about the source
it is F = mean over frequencies of I / P times 2 pi s**2 exp(-k**2 s**2 / 2), and so it is computed here.  A point
source has exactly its flux.  The variance is the mean of the square of the latter over |P|, times the power of the
noise.
"""

import math

import numpy as np
from numba import njit
from scipy import fft

from diaflow.catalogue.measure.scene import Scene, put_back, room, take_away
from diaflow.image.noise import N_FREQUENCIES, Noise
from diaflow.jit import EXACT, FAST
from diaflow.measure.kernels import LARGEST

SIGMAS = {"0p7": 0.7, "1p0": 1.0, "1p5": 1.5, "2p5": 2.5}  # of the apertures [arcsec], as in DP1
# Least aperture over sigma of the PSF: Gaussianised PSFs of DP1 are 1.15 times as broad as the seeing.
LEAST_RATIO = 1.15
# Aperture that tells galaxies from stars, over sigma of the PSF: chosen, as galaxies of half the seeing then have 1.2
# times their PSF flux, for 1.15 times its error.
WIDE = 2.0
CUT = math.sqrt(2 * 14)  # highest frequency times sigma: apertures have fallen to 1e-6 there
MEAN_REACH = 2.5  # of the mean of the variance, and of pixels that have to be there [sigma of the squared weight]
REACH = 4.0  # of the pixels that are summed [sigma of the aperture]
# Transform of the PSF below which frequencies fade out: an aperture of the least size has 1e-4 of its peak there.
LOWEST = 1e-3
BATCH = 64  # sources whose pixels are transformed together: they stay in the processor's cache


def gaap_fluxes(scene: Scene, shapes: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Fluxes in Gaussian apertures.

    Parameters
    ----------
    scene : Scene
    shapes : dict of (n,) arrays
        With the moments of the PSF.

    Returns
    -------
    columns : dict of (n,) arrays
        gaap0p7Flux ... gaap2p5Flux with Err and flag [nJy]; NaN where the PSF is too broad for the aperture or a pixel
        within about 2 sigma of it has no data.
    wide, wide_err : (n,) arrays
        The flux in an aperture that goes with the PSF of the place, and its error [nJy].
    """
    area = shapes["ixxPSF"] * shapes["iyyPSF"] - shapes["ixyPSF"] ** 2
    psf_sigma = np.where(np.isfinite(area), area, 0) ** 0.25
    fixed = np.array([*SIGMAS.values()]) / scene.pixel_scale
    flux, variance = _fluxes(scene, fixed, psf_sigma)
    flux[:-1][fixed[:, None] < LEAST_RATIO * psf_sigma] = np.nan
    flux[~np.isfinite(variance)] = np.nan
    err = np.where(np.isfinite(flux), np.sqrt(variance), np.nan)
    columns = {}
    for name, f, e in zip(SIGMAS, flux, err):
        columns |= {f"gaap{name}Flux": f, f"gaap{name}FluxErr": e, f"gaap{name}Flux_flag": ~np.isfinite(f)}
    return columns, flux[-1], err[-1]


def _fluxes(scene: Scene, fixed: np.ndarray, psf_sigma: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fluxes and variances (m + 1, n) in m apertures and in the wide one [pixel], of sources with a PSF."""
    sigma = np.vstack([np.broadcast_to(fixed[:, None], (len(fixed), len(psf_sigma))), WIDE * psf_sigma])
    flux, variance = np.full((2, *sigma.shape), np.nan)
    rows = scene.order[psf_sigma[scene.order] > 0]
    if not len(rows):
        return flux, variance
    side = fft.next_fast_len(max(2 * math.ceil(REACH * sigma[:, rows].max()), scene.stamps.shape[-1]), True)
    side += side % 2
    grid = _Frequencies(side, float(sigma[:, rows].min()), scene.exposure.noise)
    apertures = np.column_stack([grid.aperture(s2) for s2 in fixed**2])
    squares = apertures**2 * (grid.share * grid.noise)[:, None]
    apertures *= grid.share[:, None]
    offset = side // 2 - scene.stamps.shape[-1] // 2
    for first in range(0, len(rows), BATCH):
        some = rows[first : first + BATCH]
        pixels, mean_variance = _cutouts(scene, some, side, sigma, psf_sigma)
        spectrum, psf = grid.transforms(pixels), grid.transforms(scene.stamps[some])
        psf *= grid.shifts(offset + _phase(scene.x[some]), offset + _phase(scene.y[some])).conj()
        strength = psf.real**2 + psf.imag**2
        damped = strength + np.float32(LOWEST**2)
        before_psf = (spectrum.real * psf.real + spectrum.imag * psf.imag) / damped
        strength /= damped**2
        wide = grid.aperture((sigma[-1, some, None] ** 2).astype(np.float32))
        flux[:-1, some] = (before_psf @ apertures).T
        flux[-1, some] = np.einsum("nk,nk,k->n", before_psf, wide, grid.share)
        variance[:-1, some] = (strength @ squares).T * mean_variance[:-1]
        wide *= wide
        variance[-1, some] = np.einsum("nk,nk,k->n", strength, wide, grid.share * grid.noise) * mean_variance[-1]
    return flux, variance


def _phase(position: np.ndarray) -> np.ndarray:
    """Distance from the centre of the pixel."""
    return position - np.floor(position + 0.5)


class _Frequencies:
    """The frequencies of squares of `side` pixels that apertures no smaller than `sigma` let pass, k of them.

    `share` is what each counts in a mean over all, `noise` the power of the noise over the variance plane.
    """

    def __init__(self, side: int, sigma: float, noise: Noise):
        self.side = side
        self.highest = min(math.ceil(CUT / sigma * side / (2 * np.pi)), side // 2 - 1)
        self.ky = (2 * np.pi / side * np.arange(-self.highest, self.highest + 1)).astype(np.float32)
        self.kx = self.ky[self.highest :]
        self.k2 = (self.ky[:, None] ** 2 + self.kx**2).ravel()
        # Half of the frequencies are not there, as pixels are real.
        self.share = np.tile(np.where(self.kx > 0, 2, 1) / np.float32(side**2), len(self.ky)).astype(np.float32)
        half = noise.power(N_FREQUENCIES)[0]
        py, px = (np.interp(np.abs(k), np.linspace(0, np.pi, len(half)), half) for k in (self.ky, self.kx))
        self.noise = (noise.covariance_factor * np.outer(py, px)).ravel().astype(np.float32)

    def transforms(self, pixels: np.ndarray) -> np.ndarray:
        """Transforms (n, k) complex64 of squares no larger than `side`, about their first pixel."""
        columns = fft.rfft(pixels, self.side, axis=2)[:, :, : self.highest + 1]
        rows = fft.fft(columns, self.side, axis=1)
        kept = np.concatenate([rows[:, -self.highest :], rows[:, : self.highest + 1]], axis=1)
        return kept.reshape(len(pixels), -1)

    def shifts(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Phases (n, k) complex64 that bring what is at positions x, y (n,) to 0."""
        along_x, along_y = (np.exp(1j * p[:, None] * k).astype(np.complex64) for p, k in ((x, self.kx), (y, self.ky)))
        return (along_y[:, :, None] * along_x[:, None, :]).reshape(len(x), -1)

    def aperture(self, s2: np.ndarray) -> np.ndarray:
        """Transform (..., k) of a Gaussian of unit peak and of the variance s2, (...,) or (n, 1)."""
        return 2 * np.pi * s2 * np.exp(-0.5 * s2 * self.k2)


def _cutouts(
    scene: Scene, rows: np.ndarray, side: int, sigma: np.ndarray, psf_sigma: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Squares of pixels about some sources, and the mean variance (m, len(rows)) that each aperture feels."""
    pixels = np.zeros((len(rows), side, side), np.float32)
    mean = np.full((len(sigma), len(rows)), np.nan)
    # Of the squared weight.
    width2 = np.ascontiguousarray((sigma[:, rows] ** 2 - psf_sigma[rows] ** 2) / 2)
    _cut(scene.rest, scene.variance, *scene.pixels, scene.x, scene.y, rows, width2, pixels, mean)
    return pixels, mean


@njit(**EXACT)
def _cut(rest, variance, boxes, offsets, values, x, y, rows, width2, pixels, mean):
    """Fill squares (m, side, side) about the sources with their pixels, and the means of the variance."""
    ny, nx = rest.shape
    side = pixels.shape[1]
    saved = room(offsets)
    for at in range(len(rows)):
        n = rows[at]
        if not (-0.5 <= x[n] < nx - 0.5 and -0.5 <= y[n] < ny - 0.5):
            continue
        put_back(rest, boxes, offsets, values, n, saved)
        left, low = math.floor(x[n] + 0.5) - side // 2, math.floor(y[n] + 0.5) - side // 2
        first, last = max(0, left), min(nx, left + side)
        for j in range(max(0, -low), min(side, ny - low)):
            _copy_known(rest[low + j, first:last], pixels[at, j, first - left : last - left])
        for a in range(len(width2)):
            if width2[a, at] > 0:
                mean[a, at] = _mean(rest, variance, x[n], y[n], width2[a, at])
        take_away(rest, boxes, n, saved)


@njit(**FAST)
def _copy_known(values, out):
    """Copy the pixels of a row that are finite."""
    for i in range(len(values)):
        out[i] = values[i] if abs(values[i]) < LARGEST else 0.0


@njit(**EXACT)
def _mean(rest, variance, x, y, width2):
    """Mean variance with a Gaussian weight of a variance; NaN where a pixel within its reach has no data."""
    ny, nx = rest.shape
    half = MEAN_REACH * math.sqrt(width2)
    x0, x1, y0, y1 = math.ceil(x - half), math.floor(x + half), math.ceil(y - half), math.floor(y + half)
    if x0 < 0 or y0 < 0 or x1 >= nx or y1 >= ny:
        return math.nan
    line = np.empty(x1 - x0 + 1, np.float32)
    for i in range(len(line)):
        line[i] = math.exp(-0.5 * (x0 + i - x) ** 2 / width2)
    total, weight = 0.0, 0.0
    for j in range(y0, y1 + 1):
        of_row = math.exp(-0.5 * (j - y) ** 2 / width2)
        known, row_total, row_weight = _weighted_row(rest[j, x0 : x1 + 1], variance[j, x0 : x1 + 1], line)
        if known < len(line):
            return math.nan
        total += of_row * row_total
        weight += of_row * row_weight
    return total / weight


@njit(**FAST)
def _weighted_row(values, variances, line):
    """How many pixels of a row have data, and the sums of the weighted variances and of the weights."""
    known, total, weight = 0, np.float32(0), np.float32(0)
    for i in range(len(line)):
        known += (abs(values[i]) < LARGEST) & (variances[i] < LARGEST)
        total += line[i] * variances[i]
        weight += line[i]
    return known, total, weight
