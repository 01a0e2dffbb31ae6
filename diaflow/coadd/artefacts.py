"""Satellites, cosmic rays and moving objects in warps, found by comparing PSF-matched warps with their clipped mean.

Unmatched warps must not be clipped pixel by pixel: the cores of stars differ with the seeing.  In PSF-matched warps
they agree, so a region that deviates in few epochs is an artefact and one that deviates in many is a variable or a
badly matched source, which stays (AlSayyad 2019, DMTN-080; LSST's CompareWarp).

Five things are not as in CompareWarp.  What looks like the source in its place is a star that varies, and stays however
bright it becomes in however few epochs: a part of it would be clipped, and what is left has no PSF.  What is left out,
such as a transient where the other epochs have no source, is left out whole, wings included.  Few is decided for each
pixel, because inputs end within regions.  Of two epochs the brighter one is wrong: what moves and what hits add light.
And what is there in one night alone is in few epochs, even if that night has many visits.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit

from diaflow.coadd import means, stack
from diaflow.coadd.regions import Regions, grown, region_numbers, regions_of
from diaflow.image.exposure_file import ExposureFile
from diaflow.image.planes import bits
from diaflow.jit import FAST
from diaflow.psf.stampfield import moments_sigma
from diaflow.units import NIGHT

# The clip of the mean, the least region, the growths and the fraction are those of CompareWarpAssembleCoaddTask
# (drp_tasks), whose deviations count from 5 sigma and whose bright sources from 50.
MODEL_N_SIGMA = 2.5  # pixels further from the median than this are left out of the mean [sigma]
THRESHOLD = 7.5  # deviation of a pixel from the mean from which it counts [sigma]
MIN_PIXELS = 4  # that hang together in a region
GROW_SIGMA = 0.4  # by which regions are grown [sigma of the PSF]

# A region is an artefact when more than this fraction of it deviates in few epochs ...
MIN_TRANSIENT_FRACTION = 0.5
# ... unless it lies within pixels of the mean that are this bright [sigma], grown by this [sigma of the PSF] ...
BRIGHT_N_SIGMA = 300.0
BRIGHT_GROW_SIGMA = 2.4
# ... or is, but for noise and the fraction `UNLIKE` of its power, a number times a source of the mean: what cosmic
# rays and asteroids do to a star is narrower or beside it.  Sources are above `SOURCE_N_SIGMA`; on their pixels the
# fraction `WEAK` of the threshold is enough, so that the wings of the change are seen too.
SOURCE_N_SIGMA = 5.0
UNLIKE = 0.1
WEAK = 1 / 3

# An artefact is left out as far as the wings of a point source reach that is at the threshold where the region ends:
# to where they are this much of the noise of the warp, so that no mean shows them.
WING_N_SIGMA = 1.0

# Of n epochs an artefact may appear in FEW_LOW n, but in no more than FEW + FEW_HIGH n (maxFractionEpochsLow,
# maxNumEpochs and maxFractionEpochsHigh of the same task).
FEW_LOW, FEW, FEW_HIGH = 0.4, 2, 0.03


EDGE, NO_DATA, SENSOR_EDGE = (bits(name) for name in ("EDGE", "NO_DATA", "SENSOR_EDGE"))
TINY = np.finfo(np.float32).tiny  # least noise [unit of the image], so that nothing is divided by zero


@dataclass
class Deviations:
    """Pixels of one warp that deviate, some of them weakly.

    Attributes
    ----------
    pixels : (n,) int array
        Flat indices, sorted.
    strong : (n,) bool array
    residual, mean : (n,) arrays
        Warp minus mean, and the mean, over the noise of the former.
    mean_variance : (n,) array
        Of this mean.
    """

    pixels: np.ndarray
    strong: np.ndarray
    residual: np.ndarray
    mean: np.ndarray
    mean_variance: np.ndarray


def max_epochs(n: np.ndarray) -> np.ndarray:
    """Largest number of epochs in which an artefact may appear: 0, 1, 1, 1, 2 and 2 + 0.03 n from n = 5.

    Parameters
    ----------
    n : array
        Epochs with data.

    Returns
    -------
    int array
    """
    return np.where(n == means.MIN_CLEAN, 1, np.minimum(FEW_LOW * n, FEW + FEW_HIGH * n)).astype(int)


def nights(files: list[ExposureFile]) -> np.ndarray:
    """Which visits are of one night.

    Parameters
    ----------
    files : list of ExposureFile
        One without a date is of a night of its own.

    Returns
    -------
    (n,) int array
        Number of the night of each, from 0.
    """
    mjd = np.array([file.metadata.get("mjd", np.nan) for file in files], float)
    order = np.argsort(mjd)
    night = np.empty(len(files), np.int64)
    night[order] = np.cumsum(np.append(False, ~(np.diff(mjd[order]) < NIGHT)))
    return night


def find(matched: list[ExposureFile], weights: np.ndarray, bright: float = BRIGHT_N_SIGMA) -> list[np.ndarray]:
    """Pixels of each warp that belong to artefacts.

    Parameters
    ----------
    matched : list of ExposureFile
        PSF-matched warps of one patch; their `psf` is the common model.
    weights : (n,) array
    bright : float
        Pixels of the mean that are brighter than this many sigma belong to sources whose image may change.

    Returns
    -------
    list of int arrays
        Sorted flat indices, one array per warp; all empty when there is one warp.  No pixel is in the
        arrays of all warps that have data there.
    """
    if max_epochs(len(matched)) < 1:
        return [np.empty(0, np.int64) for _ in matched]
    ny, nx = shape = matched[0].shape
    stamp, night = matched[0].psf.centre(), nights(matched)
    sigma = moments_sigma(stamp)
    deviations, coverage, sources = _deviations(matched, weights, night, bright)
    radius = max(1, round(GROW_SIGMA * sigma))
    regions = [regions_of(some.pixels[some.strong], shape, MIN_PIXELS, radius) for some in deviations]
    epochs = _epochs(regions, night, ny * nx)
    near_bright = grown(sources, shape, round(BRIGHT_GROW_SIGMA * sigma))
    reach, faint, found = _wing_radius(stamp), ~near_bright, []
    for region, some, file in zip(regions, deviations, matched):
        vary = _vary(region, some, shape, file.noise.covariance_factor)
        pixels = _artefacts(region, epochs, coverage, near_bright, vary)
        found.append(_with_wings(pixels, shape, reach, faint))
    return _without_last(found, coverage[0])


def _deviations(matched: list[ExposureFile], weights: np.ndarray, night: np.ndarray, bright: float):
    """`Deviations` of each warp, number of visits and of nights at each pixel (2, n), pixels of bright sources."""
    ny, nx = matched[0].shape
    noise = stack.noise_scale(matched, weights)
    found = [[] for _ in matched]
    sources = []
    coverage = np.zeros((2, ny, nx), np.int16)
    by_night = np.argsort(night, kind="stable")
    for first, image, variance, mask in stack.blocks(matched):
        deviates = np.zeros(image.shape, np.bool_)
        rows = coverage[:, first : first + image.shape[1]]
        _survey(mask, by_night, night, rows)
        means.mark_outliers(image, variance, mask, noise, MODEL_N_SIGMA)
        model, model_variance, _ = means.mean_of(image, variance, mask, weights)
        _take_fainter(image, variance, mask, rows[0] == means.MIN_CLEAN, model, model_variance)
        on_source = model**2 > SOURCE_N_SIGMA**2 * model_variance
        n_sigma = np.where(on_source, WEAK * THRESHOLD, THRESHOLD).astype(np.float32)
        _mark_deviations(image, variance, mask, model, model_variance, noise.astype(np.float32), n_sigma, deviates)
        for k, parts in enumerate(found):
            at = np.flatnonzero(deviates[k])
            mean, error2 = model.ravel()[at], model_variance.ravel()[at]
            square = np.maximum(noise[k] ** 2 * (variance[k].ravel()[at] + error2), TINY)
            residual = (image[k].ravel()[at] - mean) / np.sqrt(square)
            parts.append(
                (at + first * nx, np.abs(residual) > THRESHOLD, residual, mean / np.sqrt(square), error2 / square)
            )
        sources.append(np.flatnonzero(model**2 > bright**2 * model_variance) + first * nx)
    deviations = [Deviations(*map(np.concatenate, zip(*parts))) for parts in found]
    return deviations, coverage.reshape(2, -1), np.concatenate(sources)


def _take_fainter(
    image: np.ndarray,
    variance: np.ndarray,
    mask: np.ndarray,
    two: np.ndarray,
    model: np.ndarray,
    model_variance: np.ndarray,
) -> None:
    """Make the model the fainter of two images where they are alone.

    Near the edge of a sensor the fainter one may lack light of a star, and the other is left out for nothing: both have
    the star's flux where they are not matched.

    Parameters
    ----------
    image, variance, mask : (n, ny, nx) arrays
    two : (ny, nx) bool array
        Where two images have data.
    model, model_variance : (ny, nx) arrays
        Changed in place.
    """
    if not two.any():
        return
    clean = (mask[:, two] & (NO_DATA | means.INTERPOLATED)) == 0
    values = np.where(clean, image[:, two], np.inf)
    fainter = values.argmin(0)[None]
    both = clean.sum(0) == means.MIN_CLEAN
    for plane, of_input in ((model, values), (model_variance, variance[:, two])):
        plane[two] = np.where(both, np.take_along_axis(of_input, fainter, 0)[0], plane[two])


@njit(**FAST)
def _survey(mask, by_night, night, coverage):
    """Count visits and nights with data, and use the edges of sensors where they are needed.

    Matched warps lack light near their edges, but few other things.  So an edge counts as clean, and is marked by
    SENSOR_EDGE, where too few inputs are clean to tell which one is wrong.

    Parameters
    ----------
    mask : (n, ny, nx) int32 array
        Changed in place.
    by_night : (n,) int array
        The images in an order in which those of a night follow each other.
    night : (n,) int array
        Of each image.
    coverage : (2, ny, nx) int array
        Filled: number of images, and of nights, with data.
    """
    n, ny, nx = mask.shape
    clean, visits, nights = np.empty(nx, np.int32), np.empty(nx, np.int32), np.empty(nx, np.int32)
    missing = np.empty(nx, np.int32)
    for j in range(ny):
        clean[:], visits[:], nights[:] = 0, 0, 0
        for t in range(n):
            k = by_night[t]
            if t == 0 or night[k] != night[by_night[t - 1]]:
                missing[:] = NO_DATA
            for i in range(nx):
                m = mask[k, j, i]
                clean[i] += 1 if (m & means.NOT_CLEAN) == 0 else 0
                visits[i] += 1 if (m & NO_DATA) == 0 else 0
                missing[i] &= m
            if t == n - 1 or night[k] != night[by_night[t + 1]]:
                for i in range(nx):
                    nights[i] += 1 if missing[i] == 0 else 0
        coverage[0, j], coverage[1, j] = visits, nights
        if clean.min() < means.MIN_CHECKED:
            for k in range(n):
                for i in range(nx):
                    m = mask[k, j, i]
                    used = (clean[i] < means.MIN_CHECKED) & ((m & EDGE) != 0)
                    mask[k, j, i] = (m & ~EDGE) | SENSOR_EDGE if used else m


@njit(**FAST)
def _mark_deviations(image, variance, mask, model, model_variance, noise, n_sigma, deviates):
    """Find deviations of images from their mean; at the edge of a sensor, where light is missing, only excesses.

    Parameters
    ----------
    image, variance, mask : (n, ny, nx) arrays
    model, model_variance : (ny, nx) arrays
        The mean, without the pixels that were clipped.
    noise : (n,) float32 array
        Noise of each image over the square root of its variance plane.
    n_sigma : (ny, nx) float32 array
        Deviation that counts, in units of the noise of image and mean together.
    deviates : (n, ny, nx) bool array
        Filled.
    """
    n, ny, nx = image.shape
    for k in range(n):
        for j in range(ny):
            for i in range(nx):
                m = mask[k, j, i]
                residual = image[k, j, i] - model[j, i]
                may = ((m & NO_DATA) == 0) & (((m & (EDGE | SENSOR_EDGE)) == 0) | (residual > 0))
                limit = n_sigma[j, i] * noise[k]
                square = limit * limit * (variance[k, j, i] + model_variance[j, i])
                deviates[k, j, i] = may & (residual * residual > square)


def _epochs(regions: list[Regions], night: np.ndarray, n_pixels: int) -> np.ndarray:
    """In how many visits, and in how many nights, each pixel is part of a region: (2, n_pixels) array."""
    counts = np.zeros((2, n_pixels), np.int16)
    for one in range(night.max() + 1):
        of_night = [regions[k].pixels for k in np.flatnonzero(night == one)]
        for pixels in of_night:
            counts[0, pixels] += 1
        counts[1, np.unique(np.concatenate(of_night))] += 1
    return counts


def _vary(regions: Regions, deviations: Deviations, shape: tuple[int, int], covariance_factor: float) -> np.ndarray:
    """Whether each region is a source that has become brighter or fainter.

    The residual r is a number times the mean m when (sum r m)^2 is (sum r^2) (sum m^2), from which the expected
    noise of both is taken off: that of r is 1 in each pixel.  And of this shape, the mean must have a source.
    """
    if not len(regions.pixels):
        return np.zeros(0, bool)
    label = region_numbers(deviations.pixels, shape)
    residual, mean, variance = deviations.residual, deviations.mean, deviations.mean_variance
    sums = (residual * mean, mean**2, residual**2, variance, residual**2 * variance)
    product, power, total, noise, error2 = (np.bincount(label, v) for v in sums)
    n = np.bincount(label)
    unlike = total * power - product**2 - n * power - noise * total + n * noise
    is_like = unlike < UNLIKE * (total - n) * (power - noise)
    varies = is_like & (product**2 > SOURCE_N_SIGMA**2 * covariance_factor * error2)
    pixels, varies = deviations.pixels[deviations.strong], varies[label[deviations.strong]]
    at = np.minimum(np.searchsorted(regions.pixels, pixels), len(regions.pixels) - 1)
    inside = regions.pixels[at] == pixels
    of_region = regions.labels[at[inside]]
    return np.bincount(of_region, varies[inside]) == np.bincount(of_region)


def _artefacts(
    regions: Regions, epochs: np.ndarray, coverage: np.ndarray, near_bright: np.ndarray, vary: np.ndarray
) -> np.ndarray:
    """Pixels of the regions that deviate in few epochs and are not part of a bright source or a source that varies.

    Where too few inputs have data to tell which one is wrong, that follows from the other pixels of the region.
    """
    if not len(regions.pixels):
        return regions.pixels
    allowed = max_epochs(coverage[:, regions.pixels])
    few = (epochs[:, regions.pixels] <= allowed).any(0)
    transient = regions.mean(few) > MIN_TRANSIENT_FRACTION * regions.mean(allowed[0] > 0)
    in_bright_source = regions.mean(near_bright[regions.pixels]) == 1
    return regions.pixels[(transient & ~in_bright_source & ~vary)[regions.labels]]


def _wing_radius(stamp: np.ndarray) -> int:
    """How far from a pixel at the threshold a point source may have light that counts [pixel]."""
    profile = stamp[len(stamp) // 2, len(stamp) // 2 :] / stamp.max()
    return int((profile > WING_N_SIGMA / THRESHOLD).sum())


def _with_wings(pixels: np.ndarray, shape: tuple[int, int], reach: int, faint: np.ndarray) -> np.ndarray:
    """Artefacts and what is within reach of them, but for bright sources, of which a missing epoch leaves more."""
    if not len(pixels):
        return pixels
    wings = grown(pixels, shape, reach)
    wings &= faint
    wings[pixels] = True
    return np.flatnonzero(wings)


def _without_last(found: list[np.ndarray], coverage: np.ndarray) -> list[np.ndarray]:
    """The pixels of each warp but for those that no warp would be left at."""
    lost = np.zeros(len(coverage), np.int16)
    for pixels in found:
        lost[pixels] += 1
    return [pixels[lost[pixels] < coverage[pixels]] for pixels in found]
