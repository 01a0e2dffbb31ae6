"""Light curves of the objects that vary: supernovae, pulsating stars and active nuclei.

Times are days; results are a factor on the flux or an offset in magnitude.
"""

import numpy as np

RISE = 20.0  # from explosion to peak [d], chosen
PEAK_WIDTH = 0.2  # of the round top, in e-folding times of the decline, chosen
RR_LYRAE_RISE = 0.15  # fraction of its period in which an RR Lyrae star brightens, chosen


def supernova(days: np.ndarray, decline: float | np.ndarray) -> np.ndarray:
    """Flux of a supernova over its peak flux.

    It rises as the square of time at first (expanding fireball) and turns smoothly into an exponential decline.

    Parameters
    ----------
    days : (n,) array
        Time after the peak [d].
    decline : float or (n,) array
        e-folding time of the decline [d].

    Returns
    -------
    (n,) array
        From 0, before the explosion, to 1.
    """
    rise = np.sin(np.pi / 2 * np.clip(1 + days / RISE, 0, 1)) ** 2
    after = np.maximum(days, 0) / decline
    return rise * np.exp(PEAK_WIDTH - np.hypot(PEAK_WIDTH, after))


def sinusoid(phase: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Magnitude offset of a pulsating star.

    Parameters
    ----------
    phase, amplitude : arrays of shapes that broadcast
        [cycle]; from peak to peak [mag].

    Returns
    -------
    array
        About zero [mag].
    """
    return amplitude / 2 * np.sin(2 * np.pi * phase)


def rr_lyrae(phase: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Magnitude offset of an RR Lyrae star: it brightens in a short part of its period and fades in the rest.

    Parameters
    ----------
    phase, amplitude : arrays of shapes that broadcast
        [cycle]; from peak to peak [mag].

    Returns
    -------
    array
        About zero [mag].
    """
    cycle, rise = phase % 1, RR_LYRAE_RISE
    return amplitude * (np.where(cycle < rise, 1 - cycle / rise, (cycle - rise) / (1 - rise)) - 0.5)


def damped_walk(mjd: np.ndarray, sigma: float, timescale: float, rng: np.random.Generator) -> np.ndarray:
    """Magnitude offset of an active nucleus: a damped random walk (Kelly et al. 2009, ApJ 698, 895).

    Parameters
    ----------
    mjd : (n,) array
        Ascending times, n > 0 [d].
    sigma : float
        Standard deviation in the long run [mag].
    timescale : float
        In which the walk forgets [d].
    rng : numpy.random.Generator

    Returns
    -------
    (n,) array
        About zero [mag].
    """
    offset = np.empty(len(mjd))
    offset[0] = rng.normal(0, sigma)
    for i, decay in enumerate(np.exp(-np.diff(mjd) / timescale), start=1):
        offset[i] = decay * offset[i - 1] + rng.normal(0, sigma * np.sqrt(1 - decay**2))
    return offset
