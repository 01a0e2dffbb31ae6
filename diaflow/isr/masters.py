"""Master bias, dark and flat of one detector from its calibration frames.

In come assembled frames, out goes an `Exposure`: their mean, its variance and BAD pixels.  The mean is clipped about a
centre, the median of a few frames, as the frames stream through: memory does not grow with their number.  The variance
of a pixel that decides its weight is predicted from the centre, not from its own noise.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, islice

import numpy as np
from astropy.wcs import WCS

from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.noise import WHITE
from diaflow.image.planes import bits
from diaflow.instruments.images import read_raw
from diaflow.isr.assemble import Frame, assemble
from diaflow.isr.noise import unusable
from diaflow.statistics import clipped_std

_log = logging.getLogger(__name__)
SAMPLE = 5  # frames whose median is the centre; two of them may be wrong
MIN_RESPONSE = 0.2  # of a pixel relative to the typical one; less is BAD in a flat: chosen
MIN_SNR = 10.0  # of a typical pixel of a flat frame over its read noise, chosen
MIN_FILLED = 0.5  # usable fraction of a flat frame, chosen
PECULIAR = 5.0  # sigma from which a pixel is not a typical one, chosen
ROWS = 256  # of the frames that are sorted at a time

# A frame over its scale (exposure time or level), NaN where bad; the variance of its read noise; and the scale.
Scaled = tuple[np.ndarray, np.ndarray, float]


def read(rows: np.ndarray, instrument: str, overscan_order: int | None, read_noise: list[float]) -> Iterator[Frame]:
    """The assembled frames of rows of the exposure table, one at a time.

    Parameters
    ----------
    rows : "exposure" table
    instrument : str
        The map that made the rows, as in `instruments.maps.load`.
    overscan_order, read_noise
        As in `assemble`.

    Yields
    ------
    Frame
        Those that cannot be read are named in a warning.

    Raises
    ------
    InputError
        When the map cannot be used.
    """
    for row in rows:
        try:
            yield assemble(read_raw(row, instrument), row, overscan_order, read_noise)
        except BadData as error:
            _log.warning("%s is left out: %s", row["path"], error)


def make(
    imagetype: str, frames: Iterable[Frame], reject: float, bias: Exposure | None = None, dark: Exposure | None = None
) -> Exposure:
    """Combine calibration frames of one kind.

    Parameters
    ----------
    imagetype : str
        bias; dark, which is scaled to an exposure of 1 s; flat, which is scaled to a median of 1.
    frames : iterable of Frame
    reject : float
        Pixels this many sigma from the centre do not count.
    bias, dark : Exposure, optional
        Masters to subtract from the frames.

    Returns
    -------
    Exposure
        Without a WCS on the sky.  metadata: imagetype, n_frames; of a bias from two frames or more read_noise_1, ...
        of the amplifiers [electron], from the differences of frames; of a dark inverse_exptime [1/s], the mean over its
        frames.  The variance of a dark is without that of the bias: see `signature.remove`.

    Raises
    ------
    BadData
        When no frame can be used.
    """
    frames = iter(frames)
    first = list(islice(frames, SAMPLE))
    if not first:
        raise BadData(f"no usable {imagetype} frame", Kind.CALIBRATION)
    noise = measured_read_noise(first) if imagetype == "bias" and len(first) > 1 else []
    frames = (replace(frame, read_noise=noise or frame.read_noise) for frame in chain(first, frames))
    scaled = {"bias": _biases, "dark": _darks, "flat": _flats}[imagetype](frames, bias, dark)
    master, inverse_scale = _combined(scaled, np.inf if imagetype == "bias" else first[0].gain, reject)
    master.metadata |= {"imagetype": imagetype} | {f"read_noise_{n}": value for n, value in enumerate(noise, 1)}
    if imagetype == "dark":
        master.metadata["inverse_exptime"] = inverse_scale
    if imagetype == "flat":
        _normalise(master)
    return master


def known_read_noise(bias: Exposure | None) -> list[float]:
    """Read noise of the amplifiers that a master bias knows.

    Parameters
    ----------
    bias : Exposure or None

    Returns
    -------
    list of float
        [electron]; empty where it was not measured.
    """
    metadata = bias.metadata if bias else {}
    return [value for name, value in metadata.items() if name.startswith("read_noise_")]


def measured_read_noise(frames: list[Frame]) -> list[float]:
    """Read noise of each amplifier from the differences of successive bias frames, clipped.

    Parameters
    ----------
    frames : list of Frame
        Two or more.

    Returns
    -------
    list of float
        [electron]
    """
    noises = []
    for place, share in zip(frames[0].places, frames[0].shares):
        pairs = [after.image[place] - before.image[place] for before, after in zip(frames, frames[1:])]
        variances = [clipped_std(pair[np.isfinite(pair)]) ** 2 / (2 * (1 + share)) for pair in pairs]
        noises.append(float(np.sqrt(np.mean(variances))) * frames[0].gain)
    return noises


def _biases(frames: Iterable[Frame], bias: None, dark: None) -> Iterator[Scaled]:
    for frame in frames:
        frame.image[unusable(frame.mask)] = np.nan
        yield frame.image, frame.floor(), 1.0


def _darks(frames: Iterable[Frame], bias: Exposure | None, dark: None) -> Iterator[Scaled]:
    for frame in frames:
        subtract(frame, bias, None)
        frame.image[unusable(frame.mask)] = np.nan
        yield frame.image / frame.exptime, frame.floor() / frame.exptime**2, frame.exptime


def _flats(frames: Iterable[Frame], bias: Exposure | None, dark: Exposure | None) -> Iterator[Scaled]:
    for frame in frames:
        floor = frame.floor() + subtract(frame, bias, dark)
        good = ~unusable(frame.mask)
        level = float(np.median(frame.image[good])) if good.any() else 0.0
        if good.mean() < MIN_FILLED or not level > MIN_SNR * np.sqrt(np.median(floor)):
            _log.warning("a flat frame is left out: %.0f %% usable, level %.0f DN", 100 * good.mean(), level)
            continue
        frame.image[~good] = np.nan
        yield frame.image / level, floor / level**2, level


def subtract(frame: Frame, bias: Exposure | None, dark: Exposure | None) -> np.ndarray | float:
    """Take master bias and dark off a frame.

    The bias is in the dark too.  What is taken off in all is b (1 - t / t_dark) + t d, where d is the dark with its
    own noise only and 1 / t_dark the mean inverse exposure time of the dark frames.

    Parameters
    ----------
    frame : Frame
        Changed in place: its image and, by the BAD pixels of the masters, its mask.
    bias, dark : Exposure or None
        The dark is that of 1 s.

    Returns
    -------
    (ny, nx) float32 array or 0.0
        Variance that the masters and the photons of the dark current add [DN**2].
    """
    added, time = 0.0, frame.exptime
    if bias:
        cancelled = time * dark.metadata["inverse_exptime"] if dark else 0.0
        frame.image -= bias.image
        frame.mask |= bias.mask
        added = bias.variance * np.float32((1 - cancelled) ** 2)
    if dark:
        frame.image -= np.float32(time) * dark.image
        frame.mask |= dark.mask
        rate = _expected(dark.image, np.median(dark.image), dark.variance)
        added = added + np.float32(time / frame.gain) * rate + np.float32(time**2) * dark.variance
    return added


def _combined(frames: Iterator[Scaled], gain: float, reject: float) -> tuple[Exposure, float]:
    """Weighted mean of scaled frames without what is `reject` sigma from the median of the first, and of 1 / scale.

    `gain` [electron/DN] tells their photon noise.
    """
    sample = list(islice(frames, SAMPLE))
    if not sample:
        raise BadData("no usable frame", Kind.CALIBRATION)
    centre = _centre([image for image, _, _ in sample])
    typical, (_, floor, scale) = np.mean([np.nanmedian(image) for image, _, _ in sample]), sample[0]
    expected = _expected(centre, typical, max(typical, 0) / np.float32(gain * scale) + floor)
    # The centre has an error of its own.
    reach = reject * np.sqrt(1 + 1 / len(sample))
    total, weights = np.zeros((2, *centre.shape), np.float32)
    inverse = []
    for image, floor, scale in chain(sample, frames):
        variance = expected / np.float32(gain * scale) + floor
        good = np.abs(image - centre) <= reach * np.sqrt(variance)
        weight = np.where(good, 1 / variance, 0)
        total += np.where(good, weight * image, 0)
        weights += weight
        inverse.append((1 / scale, np.median(weight)))
    bad = weights == 0
    mean, variance = total / np.where(bad, 1, weights), 1 / np.where(bad, 1, weights)
    mask = np.where(bad, bits("BAD"), 0).astype(np.int32)
    master = Exposure(mean, variance, mask, WCS(naxis=2), noise=WHITE, metadata={"n_frames": len(inverse)})
    values, weight = np.array(inverse).T
    return master, float(np.average(values, weights=weight))


def _centre(images: list[np.ndarray]) -> np.ndarray:
    """Lower median of images without their NaN: of two it is the smaller, which has no cosmic ray."""
    centre = np.empty_like(images[0])
    for start in range(0, len(centre), ROWS):
        rows = np.sort([image[start : start + ROWS] for image in images], axis=0)
        middle = (np.isfinite(rows).sum(axis=0) - 1) // 2
        centre[start : start + ROWS] = np.take_along_axis(rows, np.maximum(middle, 0)[None], 0)[0]
    return centre


def _expected(image: np.ndarray, typical: float, variance: np.ndarray) -> np.ndarray:
    """The signal that decides a variance: that of the typical pixel, but in pixels that are clearly none, and >= 0."""
    peculiar = np.abs(image - typical) > PECULIAR * np.sqrt(variance)
    return np.maximum(np.where(peculiar, image, typical), 0).astype(np.float32)


def _normalise(flat: Exposure) -> None:
    """Scale a flat to a median of 1 and mark what hardly responds to light as BAD."""
    good = ~unusable(flat.mask)
    level = np.median(flat.image[good])
    flat.image /= level
    flat.variance /= level**2
    flat.mask[flat.image < MIN_RESPONSE] |= bits("BAD")
    flat.image[unusable(flat.mask)] = 1.0
