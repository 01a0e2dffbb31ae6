"""The Lanczos-3 kernel, tabulated at 1/1024 pixel: `diaflow.warp` resamples with it, `diaflow.image.noise` knows it."""

import numpy as np

PHASE_BITS = 10

PHASES = 1 << PHASE_BITS

HALF_WIDTH = 3


def lanczos(t: np.ndarray, a: int = HALF_WIDTH) -> np.ndarray:
    """The Lanczos kernel sinc(t) sinc(t / a), zero where |t| >= a."""
    return np.where(np.abs(t) < a, np.sinc(t) * np.sinc(t / a), 0.0)


def kernel_table() -> np.ndarray:
    """Kernel values of the six pixels around a position, of unit sum, for each sub-pixel phase: (1024, 6) float32."""
    phase = np.arange(PHASES) / PHASES
    taps = lanczos(np.arange(1 - HALF_WIDTH, 1 + HALF_WIDTH) - phase[:, None])
    return (taps / taps.sum(1, keepdims=True)).astype(np.float32)
