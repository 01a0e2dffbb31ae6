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
STEP_SAMPLE = 10_000  # values that tell their step: many more than coarse ones have different ones
FEWEST_DECIDING = 5  # values that tell a scatter, chosen
DEGREES_OF_FREEDOM = 3.0  # of Student's t-distribution, chosen: of stars, some of which have neighbours
STUDENT_ROUNDS = 40  # of its weights, which settle in half as many
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
    """Standard deviation without outliers; integers are no problem, even if most of them are equal.

    Parameters
    ----------
    deviations : array
        In steps of the values, where they have steps.

    Returns
    -------
    float
        Of the values within `CLIP` of it from their mean, in `ROUNDS` rounds.
    """
    values = np.ravel(deviations)
    centre = np.median(values)
    # Half of all counts and more may be the median itself, which is up to half a step from their mean.
    sigma = max(median_width(values - centre), QUANTUM)
    for _ in range(ROUNDS):
        within = values[np.abs(values - centre) <= CLIP * sigma]
        centre, sigma = np.mean(within), np.std(within)
    return float(sigma)


def step_of(values: np.ndarray) -> float:
    """The smallest difference of values that are not equal.

    Parameters
    ----------
    values : (n,) array
        All finite; some of them are enough.

    Returns
    -------
    float
        In the unit of the values; 0 where all are equal, and nearly 0 where they have no step.
    """
    different = np.unique(values[:: 1 + len(values) // STEP_SAMPLE])
    return float(np.diff(different).min()) if len(different) > 1 else 0.0


def weighted_median(values: np.ndarray, weights: np.ndarray) -> float:
    """The value below which half of the weight is.

    Parameters
    ----------
    values, weights : (n,) arrays
        At least one; weights that are not negative, in any unit.

    Returns
    -------
    float
        In the unit of the values; the first that brings the sum of the weights to a half.
    """
    order = np.argsort(values, kind="stable")
    cumulative = np.cumsum(weights[order])
    return float(values[order[np.searchsorted(cumulative, cumulative[-1] / 2)]])


def student_mean(values: np.ndarray, errors: np.ndarray) -> tuple[float, float]:
    """Where the likelihood of values is highest whose deviations follow Student's t-distribution, in units of errors.

    Near its centre it is a weighted mean; what is further out counts by its own deviation (Lange, Little & Taylor
    1989, J. Am. Stat. Assoc. 84, 881).

    Parameters
    ----------
    values, errors : (n,) arrays
        Two values at least, with their scales.

    Returns
    -------
    mean, error : float
        In the unit of the values; the error is that which deviations as they are give (Huber 1981, Robust Statistics,
        6.4), for one value less.
    """
    mean = weighted_median(values, errors**-2)
    for _ in range(STUDENT_ROUNDS):
        weights = 1 / (errors**2 + (values - mean) ** 2 / DEGREES_OF_FREEDOM)
        mean = float(weights @ values / weights.sum())
    deviations = values - mean
    weights = 1 / (errors**2 + deviations**2 / DEGREES_OF_FREEDOM)
    slope = np.sum((errors**2 - deviations**2 / DEGREES_OF_FREEDOM) * weights**2)
    influence = np.sqrt(np.sum((weights * deviations) ** 2))
    return mean, float(influence / slope * len(values) / (len(values) - 1)) if slope > 0 else np.inf


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
    return _excess(values, errors, errors <= np.median(errors), least)


def excess_of_deciding(values: np.ndarray, errors: np.ndarray, least: float) -> float:
    """`excess_scatter` of the values that hold half of the weight, but of five at least.

    Parameters
    ----------
    values, errors, least
        As `excess_scatter` takes them.

    Returns
    -------
    float
        As it gives it.
    """
    limit = max(weighted_median(errors, errors**-2), np.sort(errors)[:FEWEST_DECIDING][-1])
    return _excess(values, errors, errors <= limit, least)


def _excess(values: np.ndarray, errors: np.ndarray, among: np.ndarray, least: float) -> float:
    excess = robust_width(values[among]) ** 2 - np.median(errors[among]) ** 2
    return float(np.sqrt(max(excess, least**2)))


def effective_number(errors: np.ndarray) -> float:
    """How many values of one error would tell their mean as these do, of which a few may be known far better.

    Parameters
    ----------
    errors : (n,) array
        Standard errors, none of them zero.

    Returns
    -------
    float
        The squared sum of the weights over the sum of their squares; 0 without values.
    """
    weights = np.asarray(errors, float) ** -2.0
    return float(weights.sum() ** 2 / (weights**2).sum()) if len(weights) else 0.0


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
