"""Variance of every pixel: that of the smooth sky, plus photon noise of the counts above it where significant.

Elsewhere the noise of a pixel must not decide its own weight.  Gain and read noise are believed if they predict the
noise of the sky; else the sky decides.
"""

import logging
from dataclasses import dataclass

import numpy as np
from numba import njit

from diaflow.errors import BadData, Kind
from diaflow.image.planes import bits, in_planes, row_blocks
from diaflow.instruments.images import Pixels
from diaflow.isr import filled, flaws
from diaflow.isr.saturation import level_and_deviation
from diaflow.jit import EXACT
from diaflow.pixels import background
from diaflow.statistics import COARSE, clipped_std, median_width, step_of

_log = logging.getLogger(__name__)

SKY_MESH = 64  # mesh of the sky that the variance rests on [pixel], chosen
SIGNIFICANT = 3.0  # S/N of the 3 x 3 mean from which counts above the sky add photon noise, chosen
TRUSTED = 1.25  # predicted and measured sky variance may differ by this factor, chosen
SPARSE = 3  # the noise is measured on every third pixel of every third row, which saves time
MIN_QUIET = 1000  # pixels without sources that measure it to 5 %
# Variance in steps of the counts below which rounding hides the level of the sky: of noise of a third of a step, which
# leaves the mean of rounded values up to 0.1 of it off (exp(-2 pi**2 / 9) / pi steps), and of the rounding.
LEAST_IN_STEPS = 1 / 9 + 1 / 12
# Steps of single precision at the level of the counts, over their typical deviation: more adds 0.5 % to the noise.
COARSEST = 0.5
STILL_IN = 5.0  # sky, in sigma of a pixel, from which it cannot have been subtracted: chosen

Planes = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class NoiseModel:
    """variance = counts / gain + floor + flat counts**2.

    Attributes
    ----------
    gain : float or (ny, nx) array
        [electron/DN]
    floor : float or (ny, nx) array
        Read noise and the like [DN**2].
    source : str
        What they rest on: header, sky, estimated, delivered or predicted.
    flat : float or (ny, nx) array
        Relative variance of the flat field.
    """

    gain: float | np.ndarray
    floor: float | np.ndarray
    source: str
    flat: float | np.ndarray = 0.0


def from_counts(pixels: Pixels, row: np.void) -> tuple[*Planes, NoiseModel, float]:
    """What flat-fielded counts tell of their noise and flaws.

    Parameters
    ----------
    pixels : Pixels
    row : row of the "exposure" table
        gain, read_noise, saturation and bias may be NaN (unknown).

    Returns
    -------
    image, variance : (ny, nx) float32 arrays
        Without the soft bias [DN, DN**2]; unusable pixels hold the sky.
    mask : (ny, nx) int32 array
        The delivered one with what the counts show: BAD and SAT.
    sky : (ny, nx) float32 array
        Smooth [DN].
    model : NoiseModel
    saturation : float
        That of the row, or a lower one that stars show [DN, bias included]; NaN where nothing tells.

    Raises
    ------
    BadData
        When hardly any pixel is usable, or there is no noise.
    """
    counts, bias = np.array(pixels.image, np.float32), _known(row["bias"], 0.0)
    _require_precision(counts, bias)
    counts -= bias
    saturated = counts >= _known(row["saturation"], np.inf) - bias
    if pixels.mask is not None:
        saturated |= in_planes(pixels.mask, "SAT")
    mask, plateau = flaws.mask_of(counts, saturated, step=pixels.step)
    saturation = float(row["saturation"])
    if np.isfinite(plateau):
        saturation = plateau + bias
        told = row["visit"], row["detector"], saturation, row["saturation"]
        _log.info("visit %d detector %d: saturated from %.5g DN on, not %.5g: stars share that peak", *told)
    if pixels.mask is not None:
        mask |= pixels.mask
    sky = fill_with_sky(counts, mask, saturated)
    level, scatter, step = _level_and_scatter(counts, sky, mask)
    model = noise_model(level, scatter, float(row["gain"]), float(row["read_noise"]), step)
    return counts, variance_plane(counts, sky, model), mask, sky, model, saturation


def as_delivered(pixels: Pixels, row: np.void) -> tuple[*Planes, NoiseModel, float]:
    """The same as `from_counts` for an image that has its variance.

    Parameters
    ----------
    pixels : Pixels
        With a variance; pixels without a positive one are BAD.
    row : row of the "exposure" table
        gain and saturation may be NaN (unknown).

    Returns
    -------
    image, variance, mask, sky, model, saturation
        As of `from_counts`; the saturation is that of the pixels or of the row, and the gain infinite where it is
        unknown or 0.

    Raises
    ------
    BadData
        When hardly any pixel is usable, or there is no noise.
    """
    image, variance = np.array(pixels.image, np.float32), np.array(pixels.variance, np.float32)
    _require_precision(image, 0.0)
    mask = np.zeros(image.shape, np.int32) if pixels.mask is None else np.array(pixels.mask, np.int32)
    told = variance > 0
    typical = np.median(sparse(variance)[sparse(told)]) if sparse(told).any() else np.inf
    mask[~(told & (variance < flaws.ABSURD * typical)) | flaws.absurd(image)] |= bits("BAD")
    mask[flaws.constant(image, unusable(mask), pixels.step)] |= bits("BAD")
    mask[filled.pixels(image, unusable(mask))] |= bits("BAD")
    saturated = in_planes(mask, "SAT")
    flaws.require_good(mask, saturated)
    sky, sigma = smooth_sky(image, unusable(mask))
    flaws.mask_dead(image, sky, sigma, mask)
    flaws.require_good(mask, saturated)
    bad = unusable(mask)
    image[bad], variance[bad] = sky[bad], np.median(variance[~bad])
    model = NoiseModel(float(row["gain"]) if row["gain"] > 0 else np.inf, 0.0, "delivered")
    saturation = float(row["saturation"]) if pixels.saturation is None else pixels.saturation
    return image, variance, mask, sky, model, saturation


def _require_precision(counts: np.ndarray, bias: float) -> None:
    """Refuse counts that single precision rounds too coarsely, before or after the bias is subtracted."""
    level, scatter = level_and_deviation(counts)
    if np.spacing(np.float32(max(abs(level), abs(level - bias)))) > COARSEST * scatter:
        raise BadData(f"counts of {level:g} DN, bias {bias:g} DN: too far from 0 for their noise", Kind.PIXELS)


def unusable(mask: np.ndarray) -> np.ndarray:
    """Pixels that tell nothing of the sky.

    Parameters
    ----------
    mask : (ny, nx) int32 array

    Returns
    -------
    (ny, nx) bool array
    """
    return in_planes(mask, *flaws.UNUSABLE)


def smooth_sky(counts: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, float]:
    """Sky on a coarse mesh.

    Parameters
    ----------
    counts : (ny, nx) float32 array
    bad : (ny, nx) bool array
        Pixels that do not count.

    Returns
    -------
    sky : (ny, nx) float32 array
    sigma : float
        Its noise, as the image has it.

    Raises
    ------
    BadData
        When there is no noise: not an image of the sky; or it cannot be measured.
    """
    sky, sigma = background.first_mesh(counts, bad, SKY_MESH)
    if not sigma > 0:
        raise BadData("the sky has no noise: constant image", Kind.PIXELS)
    return sky, sigma


def fill_with_sky(counts: np.ndarray, mask: np.ndarray, saturated: np.ndarray) -> np.ndarray:
    """Mark dead and unlit pixels in the mask and put the sky in place of all unusable ones.

    Parameters
    ----------
    counts : (ny, nx) float32 array
        Changed in place.
    mask : (ny, nx) int32 array
        Changed in place.
    saturated : (ny, nx) bool array

    Returns
    -------
    (ny, nx) float32 array
        The smooth sky.

    Raises
    ------
    BadData
        When hardly any pixel is usable, or there is no noise.
    """
    flaws.require_good(mask, saturated)
    sky, sigma = smooth_sky(counts, unusable(mask))
    if flaws.mask_unlit(counts, float(np.median(sparse(sky))), sigma, mask):
        flaws.require_good(mask, saturated)
        sky, sigma = smooth_sky(counts, unusable(mask))
    flaws.mask_dead(counts, sky, sigma, mask)
    flaws.require_good(mask, saturated)
    bad = unusable(mask)
    counts[bad] = sky[bad]
    return sky


def noise_model(sky: float, sky_variance: float, gain: float, read_noise: float, step: float = 0.0) -> NoiseModel:
    """Gain and constant variance that agree with the measured noise of the sky.

    Parameters
    ----------
    sky, sky_variance : float
        Median sky [DN] and its variance per pixel [DN**2], measured.
    gain, read_noise : float
        [electron/DN], [electron]; NaN where unknown.
    step : float
        Between values that the image can have [DN]: rounding to them adds a variance of step**2 / 12.

    Returns
    -------
    NoiseModel
        `source` is header where both predict the noise of the sky; sky where the gain does not contradict it;
        estimated where the sky decides all.

    Raises
    ------
    BadData
        When the sky has no noise.
    """
    if not sky_variance > 0:
        raise BadData("the sky has no noise: constant image", Kind.PIXELS)
    if gain > 0:
        photons = max(sky, 0) / gain
        if read_noise >= 0:
            floor = (read_noise / gain) ** 2 + step**2 / 12
            if 1 / TRUSTED < (photons + floor) / sky_variance < TRUSTED:
                return NoiseModel(gain, floor, "header")
        if photons < sky_variance * TRUSTED:
            return NoiseModel(gain, max(sky_variance - photons, 0.0), "sky")
    # With the sky still in, its photons make the noise; without it, nothing tells the gain.
    if sky > STILL_IN * np.sqrt(sky_variance):
        return NoiseModel(sky / sky_variance, 0.0, "estimated")
    return NoiseModel(np.inf, sky_variance, "estimated")


def quiet_pixels(residual: np.ndarray, bad: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where an image has no sources.

    Parameters
    ----------
    residual : (ny, nx) array
        Without its sky.
    bad : (ny, nx) bool array

    Returns
    -------
    y, x : (n,) int arrays
        Of every `SPARSE`-th pixel of every such row, of all where those are fewer than `MIN_QUIET`, and of those with
        sources too where these are.
    """
    blocks = background.sources(residual, bad)
    for stride in (SPARSE, 1):
        rows, columns = (np.arange(0, n, stride) for n in residual.shape)
        hidden = blocks[np.ix_(rows // background.BLOCK, columns // background.BLOCK)]
        y, x = np.nonzero(~bad[::stride, ::stride] & ~hidden)
        if len(y) >= MIN_QUIET:
            return stride * y, stride * x
    return np.nonzero(~bad)


def sparse(image: np.ndarray) -> np.ndarray:
    """Every `SPARSE`-th pixel of every `SPARSE`-th row.

    Parameters
    ----------
    image : (ny, nx) array

    Returns
    -------
    array
        A view.
    """
    return image[::SPARSE, ::SPARSE]


def robust_variance(values: np.ndarray) -> float:
    """Variance of a normal distribution of the same median absolute deviation.

    Parameters
    ----------
    values : array

    Returns
    -------
    float
    """
    return median_width(values - np.median(values)) ** 2


def variance_plane(counts: np.ndarray, sky: np.ndarray, noise: NoiseModel) -> np.ndarray:
    """Variance of every pixel: of the sky, and of the counts above it where they are significant.

    Parameters
    ----------
    counts, sky : (ny, nx) float32 arrays
        Without bias; the sky is smooth [DN].
    noise : NoiseModel

    Returns
    -------
    (ny, nx) float32 array
        [DN**2]
    """
    variance = np.empty(sky.shape, np.float32)
    parts = [np.broadcast_to(np.float32(value), sky.shape) for value in (noise.gain, noise.floor, noise.flat)]
    for rows in row_blocks(len(sky)):
        gain, floor, flat = (part[rows] for part in parts)
        of_sky, of_counts = (
            level / gain + floor + flat * level**2 for level in (np.maximum(sky[rows], 0), np.maximum(counts[rows], 0))
        )
        variance[rows] = of_sky
        _add_photon_noise(counts, sky, rows.start, of_counts - of_sky, variance)
    return variance


@njit(**EXACT)
def _add_photon_noise(counts, sky, first, photons, variance):
    """Add the photon noise of counts above the sky where the mean of the 3 x 3 around is significant.

    Parameters
    ----------
    counts, sky, variance : (ny, nx) float32 arrays
        [DN, DN, DN**2]; the variance is that of the sky, changed in place.
    first : int
        Row of the image that `photons` begins with.
    photons : (n, nx) float32 array
        Variance of the counts above that of the sky [DN**2].
    """
    ny, nx = counts.shape
    columns = np.empty(nx + 2, np.float32)
    for y in range(first, first + len(photons)):
        down, up = max(y - 1, 0), min(y + 1, ny - 1)
        for x in range(nx):
            above = counts[y, x] - sky[y, x]
            columns[x + 1] = (counts[down, x] - sky[down, x]) + above + (counts[up, x] - sky[up, x])
        columns[0], columns[nx + 1] = columns[1], columns[nx]
        for x in range(nx):
            total = columns[x] + columns[x + 1] + columns[x + 2]
            above = counts[y, x] > sky[y, x]
            if above and total > 0 and total * total > (3 * SIGNIFICANT) ** 2 * variance[y, x]:
                variance[y, x] += photons[y - first, x]


def _level_and_scatter(counts: np.ndarray, sky: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    """Of pixels without sources: level [DN], variance about the smooth sky [DN**2], and step of the values [DN].

    Of few values the median is one of them, and the sky that rests on it is moved to the mean.
    """
    residual = counts - sky
    quiet = quiet_pixels(residual, unusable(mask))
    levels, deviations = counts[quiet], residual[quiet]
    step = step_of(levels)
    variance = robust_variance(deviations)
    if variance < (COARSE * step) ** 2:
        sky += np.mean(deviations)
        variance = clipped_std(deviations / step) ** 2
        if variance < LEAST_IN_STEPS:
            told = f"the sky scatters by {np.sqrt(variance):.2g} of their step of {step:.4g} DN"
            raise BadData(f"the counts are too coarse: {told}", Kind.PIXELS)
        return float(np.mean(levels)), variance * step**2, step
    return float(np.median(levels)), variance, step


def _known(value: float, default: float) -> float:
    """The value, or a default where it is not finite."""
    return float(value) if np.isfinite(value) else default
