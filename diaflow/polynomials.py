"""Polynomials in the position on a detector: f(u, v) = sum_m c_m u^i v^j with i + j <= order.

Positions are scaled first, so that terms are of order one.  `spanned` maps the detector to [-1, 1] along each axis, as
fields of stamps, kernels and backgrounds take it; `centred` has one unit for both axes, as distortions need it, whose
coefficients would otherwise depend on the shape of the detector (and the SIP convention knows one pixel size only).
Coefficients are in the order of `terms`: 1, u, v, u**2, uv, v**2, ...
"""

from collections.abc import Iterable
from math import comb

import numpy as np

from diaflow.errors import data_may_fail
from diaflow.statistics import robust_width

MAX_ROUNDS = 10  # of a fit that leaves values out: a set that has not settled by then goes back and forth
# Of `fit_most`: rounds, gain in log likelihood that ends them, half width of the distribution of values
# that do not belong [error], about what is just detected, and their share, at least and at most.
MOST_ROUNDS, SETTLED, OUTLIER_WIDTH, OUTLIERS = 30, 1e-3, 5.0, (0.02, 0.5)
WIDER = (16, 8, 4, 2, 1)  # times their errors: narrow ones from the start would find some of the values that are off


def n_terms(order: int) -> int:
    """Number of terms of a polynomial.

    Parameters
    ----------
    order : int
        Highest total degree.

    Returns
    -------
    int
    """
    return (order + 1) * (order + 2) // 2


def order_of(coefficients: np.ndarray) -> int:
    """The inverse of `n_terms`.

    Parameters
    ----------
    coefficients : (n_terms, ...) array

    Returns
    -------
    int
        Total degree of the polynomial that has them.
    """
    return round((np.sqrt(8 * len(coefficients) + 1) - 3) / 2)


def exponents(order: int) -> list[tuple[int, int]]:
    """Powers of u and v in each term.

    Parameters
    ----------
    order : int
        Highest total degree.

    Returns
    -------
    list of (i, j)
        In the order of the coefficients.
    """
    return [(degree - j, j) for degree in range(order + 1) for j in range(degree + 1)]


def terms(u: np.ndarray, v: np.ndarray, order: int) -> np.ndarray:
    """Monomials u^i v^j at scaled positions.

    Parameters
    ----------
    u, v : arrays of one shape
        Scaled positions.
    order : int
        Highest total degree.

    Returns
    -------
    (n_terms, ...) float64 array
    """
    u, v = np.asarray(u, float), np.asarray(v, float)
    return np.stack([u**i * v**j for i, j in exponents(order)])


def half_length(n: int) -> float:
    """What is 1 in a `spanned` position: half the way from the first pixel to the last of an axis.

    Parameters
    ----------
    n : int
        Pixels along the axis.

    Returns
    -------
    float
        [pixel]
    """
    return max(n - 1, 1) / 2


def spanned(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions with the first pixel of each axis at -1 and the last at 1.

    Parameters
    ----------
    x, y : arrays
        Positions [pixel].
    shape : (ny, nx)
        Of the detector.

    Returns
    -------
    u, v : arrays
    """
    ny, nx = shape
    return np.asarray(x, float) / half_length(nx) - 1, np.asarray(y, float) / half_length(ny) - 1


def centred(x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixel positions from the centre of a detector, in units of half its longer side.

    Parameters
    ----------
    x, y : arrays
        Positions [pixel].
    shape : (ny, nx)
        Of the detector.

    Returns
    -------
    u, v : arrays
    """
    ny, nx = shape
    half = max(nx, ny) / 2
    return (np.asarray(x, float) - (nx - 1) / 2) / half, (np.asarray(y, float) - (ny - 1) / 2) / half


def affordable(order: int, n_values: float, per_term: float, lowest: int = 0) -> int:
    """The highest order that a number of values can carry.

    Parameters
    ----------
    order : int
        The order that is wanted; not exceeded.
    n_values : float
        Stars, positions or cells that the polynomial is fitted to; `statistics.effective_number` of them where they
        differ much.
    per_term : float
        Values that there must be for each term.  One is enough for values without noise; the more each is worth on its
        own, the more of them a term takes.
    lowest : int
        The order where even that has too few.

    Returns
    -------
    int
    """
    return max([o for o in range(lowest, order + 1) if per_term * n_terms(o) <= n_values], default=lowest)


def fit(
    design: np.ndarray,
    values: np.ndarray,
    errors: np.ndarray | float = 1.0,
    clip: float | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares, without the values that do not belong.

    Parameters
    ----------
    design : (n_terms, n) array
        `terms` at the positions of the values.
    values : (n,) array
    errors : (n,) array or float
        Standard errors of the values.
    clip : float, optional
        Values further from the polynomial than this many errors are left out and the rest is fitted again, until the
        set no longer changes; where the rest scatters by more than its errors, this many robust widths.  The first fit
        takes the values that are so near to their median.  None keeps all.

    Returns
    -------
    coefficients : (n_terms,) array
    kept : (n,) bool array
        The values that they rest on.

    Raises
    ------
    BadData
        When the positions or the errors are not finite, or an error is zero.
    """
    errors = np.broadcast_to(np.asarray(errors, float), values.shape)
    kept = np.ones(values.shape, bool)
    if clip is not None:
        kept = _within(clip, (values - np.median(values)) / errors, kept)
    for _ in range(MAX_ROUNDS):
        used = kept
        with data_may_fail("fit of a polynomial"):
            coefficients = np.linalg.lstsq((design[:, used] / errors[used]).T, values[used] / errors[used])[0]
        if clip is None:
            break
        kept = _within(clip, (values - coefficients @ design) / errors, used)
        if (kept == used).all():
            break
    return coefficients, used


def fit_most(
    design: np.ndarray, values: np.ndarray, errors: np.ndarray, scatters: Iterable[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares where many values may not belong, all to one side: each counts as it probably belongs.

    Clipped fits follow them: what is a little off stays in, and makes what is farther off look usual.  Here a value is
    either normal about the polynomial, with its error and a scatter that all have, or is of a Cauchy distribution of
    `OUTLIER_WIDTH` times that; the share of the latter is fitted as well (expectation maximisation; Dempster, Laird &
    Rubin 1977), and the scatter is the likeliest.

    Parameters
    ----------
    design : (n_terms, n) array
        `terms` at the positions of the values.
    values, errors : (n,) arrays
    scatters : iterable of float
        Those that are tried, with the unit of the values.

    Returns
    -------
    coefficients : (n_terms,) array
    belongs : (n,) array
        Probability that a value does.

    Raises
    ------
    BadData
        When the positions or the errors are not finite, or an error is zero.
    """
    fits = [_maximised(design, values, np.hypot(errors, scatter)) for scatter in scatters]
    _, coefficients, belongs = max(fits, key=lambda fit: fit[0])
    return coefficients, belongs


def _maximised(design: np.ndarray, values: np.ndarray, errors: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Log of the likelihood, coefficients and probabilities to belong, of `fit_most` with known errors."""
    belongs, share = np.ones(values.shape), OUTLIERS[1]
    for wider in WIDER:
        error, before = wider * errors, -np.inf
        for _ in range(MOST_ROUNDS):
            weight = np.sqrt(belongs) / error
            with data_may_fail("fit of a polynomial"):
                coefficients = np.linalg.lstsq((design * weight).T, values * weight)[0]
            pulls2 = ((values - coefficients @ design) / error) ** 2
            normal = (1 - share) * np.exp(-pulls2 / 2) / np.sqrt(2 * np.pi)
            either = normal + share * OUTLIER_WIDTH / np.pi / (OUTLIER_WIDTH**2 + pulls2)
            likelihood = np.log(either / error).sum()
            belongs = normal / either
            share = np.clip(1 - belongs.mean(), *OUTLIERS)
            if likelihood - before < SETTLED:
                break
            before = likelihood
    return likelihood, coefficients, belongs


def likeliest(
    u: np.ndarray, v: np.ndarray, values: np.ndarray, errors: np.ndarray, orders: Iterable[int], clip: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares by the order that Akaike's criterion prefers: with each term the misfit falls by two.

    Parameters
    ----------
    u, v : (n,) arrays
        Scaled positions.
    values, errors : (..., n) arrays
        Values, of one quantity or several that share the order, and their standard errors.
    orders : iterable of int
        Those that are tried, one at least.
    clip : float
        As of `fit`; a value that is left out counts as one at the limit.

    Returns
    -------
    coefficients : (..., n_terms) array
    kept : (..., n) bool array
        The values that they rest on.

    Raises
    ------
    BadData
        As `fit`.
    """
    flat = values.reshape(-1, values.shape[-1]), errors.reshape(-1, values.shape[-1])
    best = None
    for order in orders:
        design = terms(u, v, order)
        fits = [fit(design, value, error, clip) for value, error in zip(*flat)]
        coefficients, kept = (np.array(part) for part in zip(*fits))
        misfit = np.minimum(((flat[0] - coefficients @ design) / flat[1]) ** 2, clip**2).sum()
        criterion = misfit + 2 * coefficients.size
        if best is None or criterion < best[0]:
            best = criterion, coefficients, kept
    return best[1].reshape(*values.shape[:-1], -1), best[2].reshape(values.shape)


def _within(clip: float, pulls: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Deviations [errors] below `clip` times the robust width of some of them, or below `clip` where that is more."""
    return np.abs(pulls) < clip * max(1.0, robust_width(pulls[among]))


def evaluated(coefficients: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The polynomial at scaled positions.

    Parameters
    ----------
    coefficients : (n_terms, ...) array
        One polynomial, or several in the further axes.
    u, v : (n, ...) arrays
        Scaled positions.

    Returns
    -------
    array
        Of the further axes of the coefficients, then the shape of the positions.
    """
    return np.tensordot(coefficients, terms(u, v, order_of(coefficients)), (0, 0))


def image(coefficients: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The polynomial of the `spanned` position in every pixel of an image.

    Parameters
    ----------
    coefficients : (n_terms,) array
    shape : (ny, nx)

    Returns
    -------
    (ny, nx) float32 array
    """
    order = order_of(coefficients)
    matrix = np.zeros((order + 1,) * 2)
    matrix[tuple(np.transpose(exponents(order)))] = coefficients
    u, v = ((np.arange(n) / half_length(n) - 1) ** np.arange(order + 1)[:, None] for n in shape[::-1])
    return (v.T @ matrix.T).astype(np.float32) @ u.astype(np.float32)


def derivative_terms(u: np.ndarray, v: float, i: int, j: int, order: int) -> np.ndarray:
    """What each term contributes to (x - u)^i (y - v)^j when the polynomial in x, y is expanded about u, v.

    That is its derivative of order i in u and j in v, over i! j! (Taylor).

    Parameters
    ----------
    u : (n,) array
    v : float
        Where it is expanded: positions that share one v.
    i, j : int
        Powers of the distances from there.
    order : int
        Of the polynomial.

    Returns
    -------
    (n, n_terms) float32 array
    """
    columns = [
        comb(k, i) * comb(m, j) * u ** (k - i) * v ** (m - j) if k >= i and m >= j else np.zeros(len(u))
        for k, m in exponents(order)
    ]
    return np.stack(columns, axis=1).astype(np.float32)
