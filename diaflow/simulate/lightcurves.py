"""Light curves of the objects that vary: supernovae, pulsating stars and active nuclei.

Times are days; results are a factor on the flux or an offset in magnitude.
"""

import numpy as np

RISE = 20.0  # from explosion to peak [d]


def supernova(days: np.ndarray, decline: float | np.ndarray) -> np.ndarray:
    """Flux over peak flux of a supernova `days` after its peak; zero before the explosion.

    Rises as the square of time at first (expanding fireball) and turns smoothly into an exponential
    decline of e-folding time `decline` [d].
    """
    rise = np.sin(np.pi / 2 * np.clip(1 + days / RISE, 0, 1)) ** 2
    after = np.maximum(days, 0) / decline
    return rise * np.exp(0.2 - np.hypot(0.2, after))


def sinusoid(phase: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Magnitude offset of a pulsating star; phase in cycles, amplitude peak to peak [mag]."""
    return amplitude / 2 * np.sin(2 * np.pi * phase)


def rr_lyrae(phase: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Magnitude offset of an RR Lyrae star: brightens within 15 % of its period, fades in the rest."""
    cycle = phase % 1
    return amplitude * (np.where(cycle < 0.15, 1 - cycle / 0.15, (cycle - 0.15) / 0.85) - 0.5)


def damped_walk(mjd: np.ndarray, sigma: float, timescale: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude offset of an active nucleus at ascending times (damped random walk, Kelly et al. 2009)."""
    offset = np.empty(len(mjd))
    offset[0] = rng.normal(0, sigma)
    for i, decay in enumerate(np.exp(-np.diff(mjd) / timescale), start=1):
        offset[i] = decay * offset[i - 1] + rng.normal(0, sigma * np.sqrt(1 - decay**2))
    return offset
