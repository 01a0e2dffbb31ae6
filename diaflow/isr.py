"""Instrument signature of one detector: counts to an exposure with variance, mask and repaired pixels, in DN.

In come raw counts and a row of the exposure table, out goes an `Exposure`.  The variance is that of the smooth sky,
plus photon noise of the counts above it where they are significant: elsewhere the noise of a pixel must not decide
its own weight.  Gain and read noise are believed if they predict the sky noise; else the sky noise decides.
"""

from dataclasses import dataclass

import numpy as np
import sep
from numba import njit

from diaflow import background, cosmicrays
from diaflow.errors import BadData
from diaflow.exposure import Exposure, bits

MIN_GOOD = 0.05  # smallest usable fraction of a detector
IMPOSSIBLE = 15.0  # pixels this many sigma below the sky are dead
SKY_MESH = 64  # mesh of the sky that the variance rests on [pixel]
SIGNIFICANT = 3.0  # S/N of the 3 x 3 mean from which counts above the sky add photon noise
TRUSTED = 1.25  # predicted and measured sky variance may differ by this factor
SPARSE = 3  # the noise is measured on every third pixel of every third row
MIN_QUIET = 1000  # pixels without sources that measure it to 5 %; else all pixels do
HOT = 0.9  # saturated fraction of a row or column from which it is a defect
REPAIR_PASSES = 16  # width of the rim of a masked region that is interpolated, in steps of the 5 x 5 stencil


@dataclass(frozen=True)
class NoiseModel:
    """variance = counts / gain + floor, with gain [electron/DN], floor [DN**2] and what they rest on."""

    gain: float
    floor: float
    source: str


def detrend(
    image: np.ndarray, row: np.void, edge: int = 5, cosmic_rays: bool = True, psf_fwhm_guess: float | None = None
) -> Exposure:
    """Make an exposure in DN of raw or flat-fielded counts.

    Parameters
    ----------
    image : (ny, nx) array
        Counts including sky and soft bias [DN].
    row : row of the "exposure" table
        gain, read_noise, saturation and bias may be NaN (unknown).
    edge : int
        Width of the border masked as EDGE [pixel].
    cosmic_rays : bool
        Look for cosmic rays.
    psf_fwhm_guess : float, optional
        FWHM of the PSF [pixel]; below 2 pixels stars and cosmic rays look alike and the search is left out.

    Returns
    -------
    Exposure
        Without WCS and PSF.  Planes BAD, SAT, CR, EDGE; the first three are interpolated and INTRP.  metadata holds
        visit, detector, band, mjd, exptime, gain [electron/DN] and noise_model: header, sky (gain and read noise
        do not predict the sky noise) or estimated (gain unknown).

    Raises
    ------
    BadData
        When hardly any pixel is usable.
    """
    counts = np.array(image, np.float32)
    counts -= _known(row["bias"], 0.0)
    saturated = counts >= _known(row["saturation"], np.inf) - _known(row["bias"], 0.0)
    mask = _defects(counts, saturated)
    bad = (mask & bits("BAD", "SAT")) != 0
    _require_good(bad, saturated)
    sep_sky = sep.Background(np.where(bad, 0, counts), mask=bad, bw=SKY_MESH, bh=SKY_MESH)
    sky, sigma = sep_sky.back(dtype=np.float32), float(sep_sky.globalrms)
    if not sigma > 0:
        raise BadData("the sky has no noise: constant image")
    dead = ~bad & (counts < sky - IMPOSSIBLE * sigma)
    mask[dead] |= bits("BAD")
    bad |= dead
    _require_good(bad, saturated)
    counts[bad] = sky[bad]
    noise = noise_model(*_quiet_sky(counts, sky, bad), float(row["gain"]), float(row["read_noise"]))
    variance = variance_plane(counts, sky, noise)
    if cosmic_rays and not (psf_fwhm_guess is not None and psf_fwhm_guess < 2):
        hit = cosmicrays.find(counts, variance, bad)
        mask[hit] |= bits("CR")
        bad |= hit
    interpolate(counts, bad, sky)
    variance[bad] = _variance(np.maximum(counts[bad], sky[bad]), noise)
    mask[bad] |= bits("INTRP")
    if edge:
        border = np.ones(mask.shape, bool)
        border[edge:-edge, edge:-edge] = False
        mask[border] |= bits("EDGE")
    metadata = {name: row[name].item() for name in ("visit", "detector", "mjd", "exptime")}
    metadata |= {"band": row["band"], "gain": noise.gain, "noise_model": noise.source}
    return Exposure(counts, variance, mask, wcs=None, metadata=metadata)


def noise_model(sky: float, sky_variance: float, gain: float, read_noise: float) -> NoiseModel:
    """Gain and constant variance that agree with the measured noise of the sky.

    Parameters
    ----------
    sky, sky_variance : float
        Median sky [DN] and its variance per pixel [DN**2], measured.
    gain, read_noise : float
        [electron/DN], [electron]; NaN where unknown.
    """
    if gain > 0:
        photons = max(sky, 0) / gain
        if read_noise >= 0:
            floor = (read_noise / gain) ** 2
            if 1 / TRUSTED < (photons + floor) / sky_variance < TRUSTED:
                return NoiseModel(gain, floor, "header")
        if photons < sky_variance * TRUSTED:
            return NoiseModel(gain, max(sky_variance - photons, 0.0), "sky")
    # With the sky still in, its photons make the noise; without it, nothing tells the gain.
    if sky > 5 * np.sqrt(sky_variance):
        return NoiseModel(sky / sky_variance, 0.0, "estimated")
    return NoiseModel(np.inf, sky_variance, "estimated")


def _quiet_sky(counts: np.ndarray, sky: np.ndarray, bad: np.ndarray) -> tuple[float, float]:
    """Median level [DN] and robust variance per pixel [DN**2] away from sources."""
    residual = counts - sky
    blocks = background.sources(residual, bad)
    y, x = (np.arange(0, n, SPARSE) // background.BLOCK for n in counts.shape)
    good = ~bad[::SPARSE, ::SPARSE]
    quiet = good & ~blocks[np.ix_(y, x)]
    if quiet.sum() < MIN_QUIET:
        quiet = good
    residual = residual[::SPARSE, ::SPARSE][quiet]
    sigma = 1.4826 * np.median(np.abs(residual - np.median(residual)))
    return float(np.median(counts[::SPARSE, ::SPARSE][quiet])), float(sigma**2)


def variance_plane(counts: np.ndarray, sky: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Variance per pixel [DN**2] of bias-subtracted counts [DN] over a smooth sky [DN], (ny, nx) float32."""
    variance = _variance(sky, noise)
    if np.isfinite(noise.gain):
        _add_photon_noise(counts - sky, noise.gain, variance)
    return variance


@njit(cache=True, error_model="numpy")
def _add_photon_noise(above, gain, variance):
    """Add the photon noise of counts above the sky where the mean of the 3 x 3 around is significant."""
    ny, nx = above.shape
    columns = np.empty(nx + 2, np.float32)
    for y in range(ny):
        down, up = max(y - 1, 0), min(y + 1, ny - 1)
        for x in range(nx):
            columns[x + 1] = above[down, x] + above[y, x] + above[up, x]
        columns[0], columns[nx + 1] = columns[1], columns[nx]
        for x in range(nx):
            total = columns[x] + columns[x + 1] + columns[x + 2]
            if above[y, x] > 0 and total > 0 and total * total > (3 * SIGNIFICANT) ** 2 * variance[y, x]:
                variance[y, x] += above[y, x] / gain


def _variance(counts: np.ndarray, noise: NoiseModel) -> np.ndarray:
    return np.maximum(counts, 0) / np.float32(noise.gain) + np.float32(noise.floor)


def _defects(counts: np.ndarray, saturated: np.ndarray) -> np.ndarray:
    """Mask plane of saturated pixels with their neighbours, of non-finite pixels and of dead and hot rows and columns.

    A hot row or column is saturated (nearly) from end to end, unlike a bleed trail; it holds no starlight, so it is
    BAD only.
    """
    mask = np.zeros(counts.shape, np.int32)
    mask[~np.isfinite(counts)] = bits("BAD")
    for lines, axis in ((mask.T, 0), (mask, 1)):
        hot = saturated.mean(axis) > HOT
        lines[hot | (np.ptp(counts, axis=axis) == 0)] = bits("BAD")
    y, x = np.nonzero(saturated & (mask == 0))
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            mask[np.clip(y + dy, 0, len(mask) - 1), np.clip(x + dx, 0, mask.shape[1] - 1)] |= bits("SAT")
    return mask


def _require_good(bad: np.ndarray, saturated: np.ndarray) -> None:
    good = 1 - bad.mean()
    if good < MIN_GOOD:
        raise BadData(f"only {good:.0%} of the pixels are usable ({saturated.mean():.0%} are saturated)")


def _known(value: float, default: float) -> float:
    return float(value) if np.isfinite(value) else default


def interpolate(image: np.ndarray, bad: np.ndarray, sky: np.ndarray) -> None:
    """Replace bad pixels in place by Gaussian-weighted means of good ones nearby, from the rim inwards.

    What is too far from any good pixel becomes sky.
    """
    pixels, good = np.argwhere(bad), ~bad
    for _ in range(REPAIR_PASSES):
        if not len(pixels):
            return
        values = _local_means(image, good, pixels)
        done = np.isfinite(values)
        if not done.any():
            break
        y, x = pixels[done].T
        image[y, x], good[y, x] = values[done], True
        pixels = pixels[~done]
    y, x = pixels.T
    image[y, x] = sky[y, x]


@njit(cache=True, error_model="numpy")
def _local_means(image, good, pixels):
    """Means of the good pixels of the 5 x 5 around each pixel with Gaussian weights of sigma 1 pixel, NaN for none."""
    out = np.full(len(pixels), np.nan)
    for n in range(len(pixels)):
        j, i = pixels[n]
        total, weight = 0.0, 0.0
        for y in range(max(0, j - 2), min(image.shape[0], j + 3)):
            for x in range(max(0, i - 2), min(image.shape[1], i + 3)):
                if good[y, x]:
                    w = np.exp(-0.5 * ((y - j) ** 2 + (x - i) ** 2))
                    total += w * image[y, x]
                    weight += w
        if weight > 0:
            out[n] = total / weight
    return out
