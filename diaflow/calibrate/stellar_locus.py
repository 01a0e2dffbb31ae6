"""The stellar locus: which of many sources have the size that stars have at their place on the detector.

In come sizes, S/N and positions of isolated sources; out goes who is a star.  Stars share one size, a polynomial in
position, to within a scatter of their own and the noise, which narrows with brightness.  All else (galaxies, pairs that
the seeing hides) is spread over a range many times as broad.  Both are fitted together, by the likelihood of the sizes,
so that what is broad does not widen what is taken for stars, however much of it there is.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import erf, rel_entr

from diaflow import polynomials
from diaflow.errors import data_may_fail
from diaflow.statistics import effective_number, median_width

REACH = 0.15  # half-width in ln(size) of what is looked at: sizes of stars vary over a detector
# Of the windows in ln(size) that find clumps: of a PSF that varies, and among galaxies; chosen.
CLUMP_WIDTHS = (0.1, 0.03)
CLUMPS = 3  # of the narrow ones, that many are tried: that of stars need not be the densest; chosen
# In the clump a star counts by log10(S/N) over that of the faintest, up to this; the faintest count a bit: chosen.
WEIGHT_SNR, WEIGHT_FLOOR = 1000.0, 0.1
ORDER = 2  # of the polynomial in position that sizes of stars follow
STARS_PER_TERM = 3  # of it; fewer would let it follow galaxies
ROUNDS, SETTLED = 100, 1e-4  # of the fit, at most, and the change of scatter and share of stars that ends it
LEAST_SCATTER = 0.007  # of stars in ln(size) about the polynomial, chosen: they have 0.005 where the PSF is smooth
# Largest such scatter: galaxies of no preferred size have 0.087 within reach, stars 0.03 where the focal plane is bent.
MAX_SCATTER = 0.06
LEAST_PROBABILITY = 1e-3  # of a star, below which a source has no part in the polynomial
STEPS = 30  # within reach, at which a distribution without stars may have its edge, chosen: 0.01 apart
LEAST_FREEDOM = 0.1  # share of the values that the polynomial leaves free, at least: one star has no scatter
TRIALS = (1 + CLUMPS) * (1 + ORDER)  # fits, of which one may be the best by chance
LEAST_STARS = 5  # that show a common size, chosen: fewer agree by chance
LARGEST_SHARE = 0.99  # of stars within reach, chosen: anything can lie there
MEMBER = 0.5  # least probability of a star
CLIP = 3.0  # errors from the locus beyond which no source is a star
# Sources from which their scatter in size tells stars from galaxies; of fewer it is too uncertain.  The brightest are
# asked again where all scatter: among faint ones are galaxies that the seeing makes nearly as small as stars.
DECIDING = 20
HIDDEN = 0.5  # share of the gain that stars are expected to have, which they do have for certain, chosen
SCATTER_ERROR = 0.26  # relative standard error of the scatter of that many (1.17 over their root, by the median)


@dataclass(frozen=True)
class Locus:
    """The sources on the stellar locus.

    Attributes
    ----------
    star : (n,) bool array
        Which of the sources are on it.
    gain : float
        ln of the likelihood of the sizes within reach of the locus, over that of sizes spread evenly, with a step.
    shown : bool
        Whether the sizes show one: a clump that does not come about by chance.
    exists : bool
        Whether there is one, as far as can be told: fewer than `DECIDING` sources within reach tell nothing.
    """

    star: np.ndarray
    gain: float
    shown: bool
    exists: bool


def find(size_log: np.ndarray, snr: np.ndarray, x: np.ndarray, y: np.ndarray, shape: tuple[int, int]) -> Locus:
    """Find the stars among sources by their sizes.

    Parameters
    ----------
    size_log : (n,) array
        Natural logarithm of the size, n > 0.
    snr : (n,) array
        Signal to noise of the flux, whose inverse is the error of `size_log`.
    x, y : (n,) arrays
        Positions [pixel], of which the size of stars is a smooth function.
    shape : (ny, nx)
        Of the image.

    Returns
    -------
    Locus

    Notes
    -----
    A mixture of a normal distribution about a polynomial and an even one within `REACH` of it, fitted by expectation
    maximization (Dempster, Laird & Rubin 1977, JRSS B 39, 1) from several clumps.  All else is even below the locus and
    above it, for the sizes of galaxies begin at that of stars.  A locus is shown where the likelihood gains more than
    its parameters cost by the criterion of Schwarz (1978, Ann. Statist. 6, 461) and the number of trials by chance.
    Else one is taken to exist where all within reach scatters as little as stars and noise may hide the rest.
    """
    design = polynomials.terms(*polynomials.spanned(x, y, shape), ORDER)
    fits = [
        _fitted(size_log, 1 / snr, design, *start, order)
        for start in _starts(size_log, snr)
        for order in range(ORDER, -1, -1)
    ]
    fit = max(fits, key=lambda fit: (fit.star.sum() >= LEAST_STARS) * (fit.gain - fit.cost))
    shown = fit.gain > fit.cost and fit.star.sum() >= LEAST_STARS
    if not shown:
        fit = fits[0]
    within = size_log[fit.near], snr[fit.near], design[:, fit.near]
    hidden = HIDDEN * _expected_gain(1 / within[1]) < min(fit.cost for fit in fits[: 1 + ORDER])
    exists = shown or fit.near.sum() < DECIDING or (hidden and _share_a_size(*within))
    return Locus(fit.star, fit.gain, bool(shown), bool(exists))


def clump(values: np.ndarray, weights: np.ndarray, width: float) -> float:
    """Centre of the window of a width that holds most weight; the lower one of equals.

    Parameters
    ----------
    values, weights : (n,) arrays
    width : float
        In the unit of the values.

    Returns
    -------
    float
        The median of the values in it.
    """
    order = np.argsort(values, kind="stable")
    values, cumulative = values[order], np.concatenate([[0], np.cumsum(weights[order])])
    end = np.searchsorted(values, values + width, "right")
    first = int(np.argmax(cumulative[end] - cumulative[:-1]))
    return float(np.median(values[first : end[first]]))


@dataclass(frozen=True)
class _Fit:
    """Who is a star, who is within reach of the locus, what it gains and what its parameters cost."""

    star: np.ndarray
    near: np.ndarray
    gain: float
    cost: float


def _starts(size_log: np.ndarray, snr: np.ndarray) -> Iterator[tuple[float, float]]:
    """Centres and half-widths of what is first taken for stars."""
    # Among bright sources stars prevail, hence the weight.
    weight = np.log10(np.clip(snr / snr.min(), 1, WEIGHT_SNR)) + WEIGHT_FLOOR
    wide, narrow = CLUMP_WIDTHS
    yield clump(size_log, weight, wide), REACH
    left = np.ones(len(size_log), bool)
    for _ in range(CLUMPS):
        if not left.any():
            break
        centre = clump(size_log[left], weight[left], narrow)
        left &= np.abs(size_log - centre) > REACH
        yield centre, narrow


def _fitted(
    size_log: np.ndarray,
    error: np.ndarray,
    design: np.ndarray,
    centre: float,
    half: float,
    highest: int,
) -> _Fit:
    """The locus that begins with what is within `half` of `centre`; its polynomial is of order `highest` at most."""
    probability = (np.abs(size_log - centre) < half).astype(float)
    scatter, share = half / np.sqrt(3), MEMBER
    for _ in range(ROUNDS):
        before = scatter, share
        residual, n_terms, freedom = _about_polynomial(
            size_log, probability / (scatter**2 + error**2), probability, design, highest
        )
        near = np.abs(residual) < REACH
        scatter = _scatter(residual, error, scatter, probability * near, freedom)
        bell = _bell(residual, np.hypot(scatter, error))
        others = _others(residual, near * (1 - probability))
        probability = near * share * bell / (share * bell + (1 - share) * others)
        share = min(probability.sum() / max(near.sum(), 1), LARGEST_SHARE)
        if probability.max() < MEMBER:  # all have left it
            break
        if np.abs(np.subtract((scatter, share), before)).max() < SETTLED:
            break
    gain = np.log(2 * REACH * (share * bell + (1 - share) * others)[near]).sum() - _gain_of_step(residual[near])
    star = (probability > MEMBER) & (np.abs(residual) < CLIP * np.hypot(scatter, error))
    cost = (n_terms + 3) / 2 * np.log(max(near.sum(), 1)) + np.log(TRIALS)  # of polynomial, scatter and shares
    return _Fit(star, near, float(gain), float(cost))


def _about_polynomial(
    size_log: np.ndarray, weight: np.ndarray, probability: np.ndarray, design: np.ndarray, highest: int
) -> tuple[np.ndarray, int, float]:
    """Sizes less the polynomial through those that count, number of terms, share of them that it leaves free."""
    weight = weight * (probability > LEAST_PROBABILITY)
    number = effective_number(weight[weight > 0] ** -0.5)
    design = design[: polynomials.n_terms(polynomials.affordable(highest, number, STARS_PER_TERM))]
    weighted = design * weight
    with data_may_fail("fit of the sizes of stars"):
        coefficients = np.linalg.lstsq(weighted @ design.T, weighted @ size_log)[0]
    return size_log - coefficients @ design, len(design), max(1 - len(design) / max(number, 1), LEAST_FREEDOM)


def _scatter(residual: np.ndarray, error: np.ndarray, scatter: float, probability: np.ndarray, freedom: float) -> float:
    """What the residuals scatter beyond their errors; sources count by how well they tell it, as `scatter` has it."""
    weight = probability / (scatter**2 + error**2) ** 2
    total = weight.sum()
    if not total > 0:
        return scatter
    excess = float(weight @ (residual**2 / freedom - error**2) / total)
    return min(max(excess, LEAST_SCATTER**2), MAX_SCATTER**2) ** 0.5


def _bell(residual: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Density of stars: a normal distribution that is cut at the reach."""
    normal = np.exp(-0.5 * (residual / width) ** 2) / (np.sqrt(2 * np.pi) * width)
    return normal / erf(REACH / (np.sqrt(2) * width))


def _others(residual: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Density of all that are no stars, with the probability `probability`: even above the locus and even below."""
    below = residual < 0
    share_below = (probability[below].sum() + 0.5) / (probability.sum() + 1)
    return np.where(below, share_below, 1 - share_below) / REACH


def _gain_of_step(residual: np.ndarray) -> float:
    """Gain of a distribution of two even parts, as galaxies have at the edge of theirs, over one that is even."""
    if not len(residual):
        return 0.0
    edges = np.linspace(-REACH, REACH, STEPS + 1)[1:-1]
    below = np.searchsorted(np.sort(residual), edges) / len(residual)
    expected = (edges + REACH) / (2 * REACH)
    gain = len(residual) * (rel_entr(below, expected) + rel_entr(1 - below, 1 - expected)).max()
    return float(gain - np.log(len(residual)))  # place and height of the step are two parameters


def _expected_gain(error: np.ndarray) -> float:
    """Gain that stars of half the `MAX_SCATTER` have on average, by the width of their distribution."""
    width = np.hypot(MAX_SCATTER / 2, error)
    return float(np.log(2 * REACH / (np.sqrt(2 * np.pi * np.e) * width)).clip(0).sum())


def _share_a_size(size_log: np.ndarray, snr: np.ndarray, design: np.ndarray) -> bool:
    """Whether at least `DECIDING` sources, or the brightest of them, scatter in size as little as stars."""
    residual, *_ = _about_polynomial(size_log, np.ones(len(size_log)), np.ones(len(size_log)), design, ORDER)
    brightest = np.argsort(-snr, kind="stable")[:DECIDING]
    residual_of_brightest = residual[brightest] - np.median(residual[brightest])
    return _excess(residual, snr) < MAX_SCATTER or _excess(residual_of_brightest, snr[brightest]) < MAX_SCATTER / (
        1 + SCATTER_ERROR
    )


def _excess(residual: np.ndarray, snr: np.ndarray) -> float:
    """Scatter of ln(size) beyond noise: that of a star of S/N n is known to 1 / n."""
    return np.sqrt(max(median_width(residual) ** 2 - np.median(1 / snr) ** 2, 0.0))
