"""A simulated raw camera: four amplifiers, two above two, mirrored as real ones are, with every classic signature."""

import numpy as np
from builders import exposure_row

from diaflow.instruments.raw import Amplifier, Raw, Span

NY, NX, N_OVERSCAN = 128, 128, 64  # of an amplifier
SHAPE = (2 * NY, 2 * NX)
GAIN = 1.6  # of the assembled image [electron/DN]
GAINS = (1.5, 1.7, 1.6, 1.9)
READ_NOISE = (5.0, 6.0, 7.0, 8.0)  # [electron]
LEVELS = (1000.0, 1200.0, 900.0, 1100.0)  # bias [DN]
CORNERS = ("ll", "lr", "ul", "ur")
LINEARITY = [2.0e-7]  # true = measured + c measured**2 [DN]
CROSSTALK = np.array([[0, 2e-4, 1e-4, 0], [3e-4, 0, 0, 1e-4], [0, 1e-4, 0, 2e-4], [1e-4, 0, 2e-4, 0]])
DARK = 0.5  # [electron/s]
TARGETS = [(Span(y, y + NY), Span(x, x + NX)) for y in (0, NY) for x in (0, NX)]


def row(exptime: float = 30.0, **values) -> np.void:
    """Row of the exposure table."""
    known = {"gain": GAIN, "read_noise": 3.0, "saturation": 65000.0, "bias": 0.0, "exptime": exptime}
    return exposure_row(SHAPE, **(known | values))


def bias_structure() -> np.ndarray:
    """What the bias of every pixel is above the overscan [DN]."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return 5 * np.sin(x / 15) + 3 * np.exp(-y / 20)


def flat_field() -> np.ndarray:
    """Response of every pixel, 0.9 in the corners and 1 % from pixel to pixel, of median 1."""
    y, x = (np.mgrid[: SHAPE[0], : SHAPE[1]] - 127.5) / 128
    response = (1 - 0.05 * (x**2 + y**2)) * np.random.default_rng(11).normal(1, 0.01, SHAPE)
    return response / np.median(response)


def expose(electrons: np.ndarray | float, exptime: float, seed: int | None, drift: float = 20.0) -> Raw:
    """Read expected electrons out [electron per pixel of the detector], dark current added; no noise without seed."""
    rng = np.random.default_rng(seed)
    expected = np.broadcast_to(electrons, SHAPE) + DARK * exptime
    collected = rng.poisson(expected) if seed is not None else expected
    signals = [collected[_slices(target)] for target in TARGETS]
    # Crosstalk is between pixels that are read at the same time.
    read = [signal[_turn(corner)] for signal, corner in zip(signals, CORNERS)]
    mixed = np.tensordot(np.eye(4) + CROSSTALK, np.stack(read), 1)
    amplifiers = []
    for n, target in enumerate(TARGETS):
        true = mixed[n][_turn(CORNERS[n])] / GAINS[n]
        measured = (np.sqrt(1 + 4 * LINEARITY[0] * true) - 1) / (2 * LINEARITY[0])
        level = LEVELS[n] + drift * np.sin(np.arange(NY) / 30)[:, None]
        counts = measured + bias_structure()[_slices(target)] + level
        overscan = np.broadcast_to(level, (NY, N_OVERSCAN))
        if seed is not None:
            counts = counts + rng.normal(0, READ_NOISE[n] / GAINS[n], counts.shape)
            overscan = overscan + rng.normal(0, READ_NOISE[n] / GAINS[n], overscan.shape)
            counts, overscan = (np.clip(np.rint(a), 0, 65535).astype(np.uint16) for a in (counts, overscan))
        amplifiers.append(Amplifier(counts, overscan, target, GAINS[n], 3.0, 65000.0, CORNERS[n], LINEARITY))
    return Raw(amplifiers, np.zeros(SHAPE, bool), CROSSTALK)


def _slices(target: tuple[Span, Span]) -> tuple[slice, slice]:
    return tuple(span.slice for span in target)


def _turn(corner: str) -> tuple[slice, slice]:
    return slice(None, None, -1 if corner[0] == "u" else 1), slice(None, None, -1 if corner[1] == "r" else 1)
