"""A figure of the score of a run, with its error, and the statistics that most figures are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from diaflow.statistics import SIGMA_PER_MEDIAN, robust_width

# Standard errors of median, robust width (quartiles) and median absolute value of n normal deviates, times sqrt(n) and
# over their standard deviation: from the density of the normal distribution at the quantiles.
MEDIAN_ERROR, WIDTH_ERROR = 1.2533, 1.1664
FEWEST = 5  # values that a statistic needs, chosen


@dataclass(frozen=True)
class Figure:
    """One figure of a run.

    Attributes
    ----------
    name : str
        What it is; `diaflow.validate.bars` describes each.
    of : str
        The class of sources, places or images it is about; empty where there is one only.
    value, error : float
        NaN where there is nothing to judge, or where no error is known.
    n : int
        Number of sources, places or images.
    expected : float
        What theory says; NaN where it says nothing.
    """

    name: str
    of: str
    value: float
    error: float
    n: int
    expected: float = np.nan


def pulls(name: str, of: str, values: np.ndarray) -> list[Figure]:
    """Median and robust width of pulls.

    Parameters
    ----------
    name, of : str
        The figures are called {name}_median and {name}_width.
    values : (n,) array
        (measured - true) / error.

    Returns
    -------
    list of Figure
        Their errors are those of standard normal deviates, which pulls are where the errors of fluxes are right: with
        the width that is found, few pulls that are narrow by chance would have small errors.
    """
    n = len(values)
    median, width, error = (
        (float(np.median(values)), robust_width(values), n**-0.5) if n >= FEWEST else (np.nan, np.nan, np.nan)
    )
    return [
        Figure(f"{name}_median", of, median, MEDIAN_ERROR * error, n),
        Figure(f"{name}_width", of, width, WIDTH_ERROR * error, n),
    ]


def weighted_bias(name: str, of: str, ratio: np.ndarray, snr: np.ndarray) -> Figure:
    """Weighted mean of measured over true flux, minus 1.

    Parameters
    ----------
    name, of : str
    ratio, snr : (n,) arrays
        Measured over true flux; true S/N, whose squares are the weights.

    Returns
    -------
    Figure
        Its error is the larger of that from the weights and that from the scatter.
    """
    if not len(ratio):
        return Figure(name, of, np.nan, np.nan, 0)
    weight = snr**2
    value = np.sum(weight * (ratio - 1)) / weight.sum()
    scatter = np.sqrt(np.sum((weight * (ratio - 1 - value)) ** 2)) / weight.sum()
    return Figure(name, of, float(value), float(max(scatter, weight.sum() ** -0.5)), len(ratio))


def width_about_zero(name: str, of: str, values: np.ndarray) -> Figure:
    """Standard deviation about zero, from the median absolute value.

    Parameters
    ----------
    name, of : str
    values : (n,) array

    Returns
    -------
    Figure
    """
    n = len(values)
    value = float(SIGMA_PER_MEDIAN * np.median(np.abs(values))) if n >= FEWEST else np.nan
    return Figure(name, of, value, WIDTH_ERROR * value / np.sqrt(max(n, 1)), n)


def rms(name: str, of: str, values: Sequence[float], expected: float = np.nan) -> Figure:
    """Root mean square.

    Parameters
    ----------
    name, of : str
    values : sequence of n floats
    expected : float
        What theory says.

    Returns
    -------
    Figure
    """
    n = len(values)
    value = float(np.sqrt(np.mean(np.square(values)))) if n else np.nan
    return Figure(name, of, value, value / np.sqrt(2 * max(n, 1)), n, expected)


def fraction(name: str, of: str, count: int, total: int) -> Figure:
    """A fraction of a number, with its binomial error.

    Parameters
    ----------
    name, of : str
    count, total : int

    Returns
    -------
    Figure
        The error takes one more success and one more failure than there were, so that it is never zero.
    """
    p = (count + 1) / (total + 2)
    value = count / total if total else np.nan
    return Figure(name, of, value, float(np.sqrt(p * (1 - p) / total)) if total else np.nan, total)
