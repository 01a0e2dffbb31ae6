"""Widths that outliers do not feel."""

import numpy as np

SIGMA_PER_IQR = 0.7413  # standard deviation over interquartile range of a normal distribution: 1 / (2 x 0.67449)
SIGMA_PER_MEDIAN = 1.4826  # the same over the median absolute deviation: 1 / 0.67449
# Of one coordinate of a normal distribution in two, over the median length (Rayleigh).
SIGMA_PER_MEDIAN_LENGTH = 1 / 1.1774
QUARTER_OF_NORMAL = 0.3186  # a quarter of a normal distribution is within this many standard deviations of its centre
CLIP = 5.0  # sigma of the values that enter a clipped standard deviation; 6e-7 of normal ones are lost
ROUNDS = 5  # of clipping, chosen
QUANTUM = 0.5  # least first guess of a scatter, where the median deviation may be 0: half a step of the values
COARSE = 5.0  # steps of the values below which a median jumps: at 5 a half step is 10 % of the width
MAX_CANDIDATES = 200  # values that are tried as the one that most agree with: enough to come within 1 % of a width


def robust_width(values: np.ndarray) -> float:
    """Standard deviation of a normal distribution with the same quartiles.

    Parameters
    ----------
    values : (n,) array
        At least one, all finite.

    Returns
    -------
    float
        In the unit of the values.
    """
    low, high = np.percentile(values, [25, 75])
    return float(SIGMA_PER_IQR * (high - low))


def median_width(deviations: np.ndarray) -> float:
    """Standard deviation of a normal distribution about zero with the same median absolute value.

    Parameters
    ----------
    deviations : array
        From where the centre is known to be.

    Returns
    -------
    float
        In the unit of the deviations.
    """
    return float(SIGMA_PER_MEDIAN * np.median(np.abs(deviations)))


def clipped_std(deviations: np.ndarray) -> float:
    """Standard deviation about the median without outliers; integers are no problem, even if most of them are equal.

    Parameters
    ----------
    deviations : array
        In steps of the values, where they have steps.

    Returns
    -------
    float
        Of the values within `CLIP` of it, in `ROUNDS` rounds.
    """
    deviation = np.abs(deviations - np.median(deviations)).ravel()
    # Half of all counts and more may be the median itself.
    sigma = max(median_width(deviation), QUANTUM)
    for _ in range(ROUNDS):
        sigma = np.sqrt(np.mean(deviation[deviation <= CLIP * sigma] ** 2))
    return float(sigma)


def excess_scatter(values: np.ndarray, errors: np.ndarray, least: float) -> float:
    """What the better half of the values scatters beyond its errors, or `least` where that is more.

    Parameters
    ----------
    values, errors : (n,) arrays
        Values of one quantity, and their standard errors.
    least : float
        In the unit of the values.

    Returns
    -------
    float
        Standard deviation, in the unit of the values.
    """
    better = errors <= np.median(errors)
    excess = robust_width(values[better]) ** 2 - np.median(errors[better]) ** 2
    return float(np.sqrt(max(excess, least**2)))


def agreeing(values: np.ndarray, errors: np.ndarray, among: np.ndarray, clip: float) -> np.ndarray:
    """Values that agree with the one that most agree with; up to half of the others may be anywhere.

    Parameters
    ----------
    values, errors : (n,) arrays
        Values of one quantity and their standard errors; not finite where there is none.
    among : (n,) bool array
        Those that decide what most agree with.
    clip : float
        Errors within which a value agrees; where those near the centre scatter by more than theirs, this many widths.

    Returns
    -------
    (n,) bool array
    """
    among = among & np.isfinite(values) & np.isfinite(errors)
    if not among.any():
        return among
    deciding, their_errors = values[among], errors[among]
    candidates = np.sort(deciding)[np.linspace(0, len(deciding) - 1, min(len(deciding), MAX_CANDIDATES)).astype(int)]
    near = np.abs(deciding - candidates[:, None]) < clip * their_errors
    # the middle of the candidates that most agree with, of which there may be several
    support = near.sum(1)
    centre = np.median(candidates[support == support.max()])
    with np.errstate(invalid="ignore"):
        pulls = np.abs(values - centre) / errors
    width = max(1.0, np.percentile(pulls[among], 25) / QUARTER_OF_NORMAL)
    return pulls < clip * width
