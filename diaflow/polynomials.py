"""Polynomials in the position on a detector."""

import numpy as np


def polynomial_terms(u: np.ndarray, v: np.ndarray, order: int) -> np.ndarray:
    """Monomials 1, u, v, u**2, uv, v**2, ... up to total degree `order`, shape (n_terms, ...)."""
    u, v = np.asarray(u, float), np.asarray(v, float)
    return np.stack([u ** (degree - j) * v**j for degree in range(order + 1) for j in range(degree + 1)])


def scaled(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions from the centre of a detector (ny, nx), in units of half its longer side."""
    ny, nx = shape
    half = max(nx, ny) / 2
    return (np.asarray(x, float) - (nx - 1) / 2) / half, (np.asarray(y, float) - (ny - 1) / 2) / half


def degree(coefficients: np.ndarray) -> int:
    """Degree of the polynomial in two variables with that many coefficients (n, ...)."""
    return round((np.sqrt(8 * len(coefficients) + 1) - 3) / 2)
