"""The Lanczos-3 kernel, tabulated at 1/1024 pixel: `diaflow.warp` resamples with it, `diaflow.image.noise` knows it."""

import numpy as np

HALF_WIDTH = 3  # of the kernel [pixel]
PHASE_BITS = 10
PHASES = 1 << PHASE_BITS  # sub-pixel positions of the table, per pixel


def lanczos(t: np.ndarray, a: int = HALF_WIDTH) -> np.ndarray:
    """The Lanczos kernel sinc(t) sinc(t / a), zero where |t| >= a.

    Parameters
    ----------
    t : array
        Distance from the centre [pixel].
    a : int
        Half-width [pixel].

    Returns
    -------
    array
    """
    return np.where(np.abs(t) < a, np.sinc(t) * np.sinc(t / a), 0.0)


def kernel_table() -> np.ndarray:
    """Kernel values of the pixels around a position, of unit sum, for each sub-pixel phase.

    Returns
    -------
    (1024, 6) float32 array
        Row k belongs to a position k / 1024 pixel after the third of the six pixels.
    """
    phase = np.arange(PHASES) / PHASES
    taps = lanczos(np.arange(1 - HALF_WIDTH, 1 + HALF_WIDTH) - phase[:, None])
    return (taps / taps.sum(1, keepdims=True)).astype(np.float32)
