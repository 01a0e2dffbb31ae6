"""Amplifiers of a raw frame to one image: overscan, linearity, gain, crosstalk, and the place of every pixel.

The counts of all amplifiers are brought to one unit, DN at the gain of the exposure table (electrons where that is 1).
Order of the steps: overscan, linearity, gain, crosstalk, assembly, as in LSST's ISR (each amplifier is linearised with
coefficients in its own DN).
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diaflow.errors import BadData, Kind, data_may_fail
from diaflow.instruments.raw import Amplifier, Raw
from diaflow.isr import flaws
from diaflow.statistics import CLIP, ROUNDS, clipped_std, median_width

_log = logging.getLogger(__name__)
LEAST_SCATTER = 1.0  # of overscan pixels when they are clipped [DN]: counts are integers
LEAST_RESIDUAL = 1e-6  # of the rows' levels about their polynomial [DN]: perfect rows must not clip each other


@dataclass
class Frame:
    """An assembled image.

    Attributes
    ----------
    image : (ny, nx) float32 array
        Counts above the overscan [DN].
    mask : (ny, nx) int32 array
        BAD and SAT.
    gain, exptime : float
        Of the image [electron/DN], [s].
    places : list of (slice, slice)
        Of the amplifiers on the image.
    read_noise : list of float
        Of the amplifiers [electron].
    shares : list of float
        Variance that the level of the overscan adds to each amplifier, in units of that of its read noise.
    saturation : float
        That of the exposure table, or a lower one that stars show, for the mean bias [DN, bias included]; NaN where
        nothing tells.
    """

    image: np.ndarray
    mask: np.ndarray
    gain: float
    exptime: float
    places: list[tuple[slice, slice]]
    read_noise: list[float]
    shares: list[float]
    saturation: float

    def floor(self) -> np.ndarray:
        """Variance of read noise and overscan.

        Returns
        -------
        (ny, nx) float32 array
            [DN**2]
        """
        plane = np.zeros(self.image.shape, np.float32)
        for place, noise, share in zip(self.places, self.read_noise, self.shares):
            plane[place] = (noise / self.gain) ** 2 * (1 + share)
        return plane


def assemble(raw: Raw, row: np.void, overscan_order: int | None = None, read_noise: Sequence[float] = ()) -> Frame:
    """One image of the amplifiers of a raw frame.

    Parameters
    ----------
    raw : Raw
    row : row of the "exposure" table
        gain of the image to make [electron/DN], bias of amplifiers without overscan [DN], exptime.
    overscan_order : int, optional
        Order of the polynomial along the overscan; None for the mean of every row.
    read_noise : sequence of float
        Measured noise of the amplifiers [electron]; if empty, that of the overscan, or what the map says.

    Returns
    -------
    Frame
        Counts at an end of the range of their integer type are no measurement: BAD at the lower, SAT at the upper.

    Raises
    ------
    BadData
        When there is crosstalk to correct and the amplifiers are not of one size, or an overscan has no level.
    """
    gain, bias = float(row["gain"]), float(row["bias"])
    signals, levels, noises, shares = [], [], [], []
    saturated, equal = np.zeros((2, *raw.defects.shape), bool)
    for amplifier in raw.amplifiers:
        level, noise, share = bias, amplifier.read_noise, 0.0
        if amplifier.overscan.shape[1] > 1:
            level, noise, share = overscan_level(amplifier.overscan, overscan_order)
            noise *= amplifier.gain
        low, high = _limits(amplifier.counts.dtype)
        saturated[_place(amplifier)] = _turned(amplifier.counts >= min(high, amplifier.saturation), amplifier)
        counts = amplifier.counts.astype(np.float32) - np.asarray(level, np.float32)
        signal = linearized(counts, amplifier.linearity) * np.float32(amplifier.gain / gain)
        signal[amplifier.counts <= low] = np.nan
        equal[_place(amplifier)] = _turned(flaws.constant(amplifier.counts, amplifier.counts >= high), amplifier)
        signals.append(signal)
        levels.append(np.mean(level))
        noises.append(float(noise))
        shares.append(share)
    if raw.crosstalk is not None:
        signals = without_crosstalk(signals, raw.crosstalk, [amplifier.corner for amplifier in raw.amplifiers])
    image = np.full(saturated.shape, np.nan, np.float32)
    for signal, amplifier in zip(signals, raw.amplifiers):
        image[_place(amplifier)] = _turned(signal, amplifier)
    image[raw.defects] = np.nan
    saturated &= np.isfinite(image)
    mask, plateau = flaws.mask_of(image, saturated, equal)
    image[equal & ~saturated] = np.nan
    saturation = float(row["saturation"])
    if np.isfinite(plateau):
        saturation = plateau + float(np.mean(levels))
        told = row["path"], saturation, row["saturation"]
        _log.info("%s: saturated from %.5g DN on, not %.5g: stars share that peak", *told)
    places = [_place(amplifier) for amplifier in raw.amplifiers]
    noises = list(read_noise) or noises
    return Frame(image, mask, gain, float(row["exptime"]), places, noises, shares, saturation)


def overscan_level(overscan: np.ndarray, order: int | None) -> tuple[np.ndarray, float, float]:
    """Bias level of the rows of an amplifier, from the clipped means of their overscan pixels.

    Parameters
    ----------
    overscan : (ny, n) array
        [DN], n > 1.
    order : int or None
        Of the polynomial fitted to the means with rejection of outliers; None for the means themselves.

    Returns
    -------
    level : (ny, 1) array
        [DN].
    noise : float
        Standard deviation of the overscan pixels of a row [DN].
    share : float
        Variance of the level in units of that of a pixel.

    Raises
    ------
    BadData
        When no polynomial can be fitted.
    """
    pixels = overscan.astype(float)
    (ny, n), middle = pixels.shape, np.median(pixels, axis=1, keepdims=True)
    good = np.abs(pixels - middle) <= CLIP * max(clipped_std(pixels - middle), LEAST_SCATTER)
    level = np.mean(pixels, axis=1, where=good, keepdims=True)
    noise = np.sqrt(np.mean((pixels - level)[good] ** 2) * n / (n - 1))
    if order is None:
        return level, float(noise), 1 / n
    y, used = np.linspace(-1, 1, ny), np.ones(ny, bool)
    for _ in range(ROUNDS):
        with data_may_fail("fit of the overscan"):
            smooth = np.polynomial.legendre.legval(y, np.polynomial.legendre.legfit(y[used], level[used, 0], order))
        residual = np.abs(level[:, 0] - smooth)
        used = residual <= CLIP * max(median_width(residual), LEAST_RESIDUAL)
    return smooth[:, None], float(noise), (order + 1) / (n * ny)


def linearized(counts: np.ndarray, linearity: list | dict | None) -> np.ndarray:
    """Counts above the bias [DN] that a linear amplifier would have given.

    Parameters
    ----------
    counts : array
    linearity : list, dict or None
        Coefficients c2, c3, ... of counts + c2 counts**2 + c3 counts**3 + ...; or a table, lists `measured` and `true`,
        between whose entries the correction is interpolated and beyond whose ends it stays the same.

    Returns
    -------
    array
        The counts themselves where `linearity` is None.
    """
    if linearity is None:
        return counts
    if isinstance(linearity, dict):
        measured, true = (np.array(linearity[name], float) for name in ("measured", "true"))
        return counts + np.interp(counts, measured, true - measured).astype(np.float32)
    return counts * np.polynomial.polynomial.polyval(counts, np.array([1.0, *linearity], np.float32))


def without_crosstalk(signals: list[np.ndarray], crosstalk: np.ndarray, corners: list[str]) -> list[np.ndarray]:
    """Signals of the amplifiers without what each has of the others.

    Parameters
    ----------
    signals : list of (ny, nx) float32 arrays
        [electron, or one DN for all]; NaN where lost.
    crosstalk : (n, n) array
        [i, j]: fraction of the signal of amplifier j seen in amplifier i, in pixels that are read at the same moment.
    corners : list of str
        Where in its signal the first pixel of each was read: ll, lr, ul or ur.

    Returns
    -------
    list of (ny, nx) float32 arrays

    Raises
    ------
    BadData
        When the amplifiers are not of one size.
    """
    if len({signal.shape for signal in signals}) > 1:
        raise BadData("crosstalk between amplifiers of different sizes cannot be corrected", Kind.CALIBRATION)
    turn = [(slice(None, None, -1 if c[0] == "u" else 1), slice(None, None, -1 if c[1] == "r" else 1)) for c in corners]
    read = np.stack([signal[flip] for signal, flip in zip(signals, turn)])
    lost = ~np.isfinite(read)
    read[lost] = 0
    true = np.tensordot(np.linalg.inv(np.eye(len(read)) + crosstalk).astype(np.float32), read, 1)
    true[lost] = np.nan
    return [signal[flip] for signal, flip in zip(true, turn)]


def _limits(dtype: np.dtype) -> tuple[float, float]:
    """Lowest and highest count that the type of the file can hold."""
    if np.issubdtype(dtype, np.integer):
        return np.iinfo(dtype).min, np.iinfo(dtype).max
    return -np.inf, np.inf


def _place(amplifier: Amplifier) -> tuple[slice, slice]:
    """Rows and columns of an amplifier on the assembled image."""
    return tuple(span.slice for span in amplifier.target)


def _turned(pixels: np.ndarray, amplifier: Amplifier) -> np.ndarray:
    """Pixels of an amplifier in the orientation of the assembled image."""
    return pixels[tuple(slice(None, None, -1 if span.flipped else 1) for span in amplifier.target)]
