"""Widths that outliers do not feel."""

import numpy as np

SIGMA_PER_IQR = 0.7413  # of a normal distribution


def robust_width(values: np.ndarray) -> float:
    """Standard deviation of a normal distribution with the same quartiles."""
    low, high = np.percentile(values, [25, 75])
    return float(SIGMA_PER_IQR * (high - low))


def excess_scatter(values: np.ndarray, errors: np.ndarray, least: float) -> float:
    """What the better half of the values scatters beyond its errors, or `least` where that is more."""
    better = errors <= np.median(errors)
    excess = robust_width(values[better]) ** 2 - np.median(errors[better]) ** 2
    return float(np.sqrt(max(excess, least**2)))
