"""Widths that outliers do not feel."""

import numpy as np

SIGMA_PER_IQR = 0.7413  # of a normal distribution


def robust_width(values: np.ndarray) -> float:
    """Standard deviation of a normal distribution with the same quartiles."""
    low, high = np.percentile(values, [25, 75])
    return float(SIGMA_PER_IQR * (high - low))
