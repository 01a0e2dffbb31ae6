"""Statistics of the fluxes of each object that are options of DIAObjects (`diaCalculationPlugins` of LSST's meas_base).

In: fluxes, their errors and times, and the object of each; all of them finite, errors positive.  Out: one value per
object, NaN where an object has too few fluxes.  Sums run over all objects together.
"""

import warnings
from dataclasses import dataclass

import numpy as np

PERCENTILES = (5, 25, 50, 75, 95)
# Of the iterative mean of Stetson's J: shape of the weights, most iterations, and the change at which it ends.
STETSON_ALPHA, STETSON_BETA = 2.0, 2.0
STETSON_ITERATIONS, STETSON_CHANGE = 20, 1e-6
# Of the periodogram: fewest fluxes, frequencies per peak, and highest frequency [mean Nyquist frequency].
LEAST_DETECTIONS, OVERSAMPLING, NYQUIST_FACTOR = 5, 5, 100
FINER = 100  # steps of the frequency about the highest peak, of one before


@dataclass(frozen=True)
class Fluxes:
    """Fluxes of many objects.

    Attributes
    ----------
    index : (n,) int array
        Object of each flux.
    flux, error, mjd : (n,) arrays
        Finite, errors positive [nJy, nJy, d].
    n_objects : int
    """

    index: np.ndarray
    flux: np.ndarray
    error: np.ndarray
    mjd: np.ndarray
    n_objects: int

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Sum over the fluxes of each object.

        Parameters
        ----------
        values : (n,) array

        Returns
        -------
        (n_objects,) array
        """
        return np.bincount(self.index, values, self.n_objects).astype(float)  # bincount of nothing would be integer

    def at_least(self, number: int) -> np.ndarray:
        """Number of fluxes of each object.

        Parameters
        ----------
        number : int

        Returns
        -------
        (n_objects,) array
            NaN where it has less than `number`.
        """
        count = np.bincount(self.index, minlength=self.n_objects)
        return np.where(count >= number, count, np.nan)


def quantiles(fluxes: Fluxes, values: np.ndarray, fractions: np.ndarray) -> np.ndarray:
    """Quantiles of the values of each object, linear between neighbours as `numpy.quantile` has them.

    Parameters
    ----------
    fluxes : Fluxes
    values : (n,) array
        One for each flux.
    fractions : (m,) array

    Returns
    -------
    (m, n_objects) array
    """
    count = fluxes.at_least(1)
    out = np.full((len(fractions), fluxes.n_objects), np.nan)
    has = np.flatnonzero(count > 0)
    ordered = values[np.lexsort((values, fluxes.index))]
    number = count[has].astype(int)
    start = np.cumsum(number) - number
    for row, fraction in zip(out, fractions):
        place = fraction * (number - 1)
        below = np.floor(place).astype(int)
        low, high = ordered[start + below], ordered[start + np.minimum(below + 1, number - 1)]
        row[has] = low + (high - low) * (place - below)
    return out


def percentiles(fluxes: Fluxes) -> dict[str, np.ndarray]:
    """Percentiles of the fluxes.

    Parameters
    ----------
    fluxes : Fluxes

    Returns
    -------
    dict of (n_objects,) arrays
        psfFluxPercentile05 and so on [nJy].
    """
    values = quantiles(fluxes, fluxes.flux, np.array(PERCENTILES) / 100)
    return {f"psfFluxPercentile{percent:02d}": row for percent, row in zip(PERCENTILES, values)}


def median_absolute_deviation(fluxes: Fluxes) -> dict[str, np.ndarray]:
    """Median distance of the fluxes from their median.

    Parameters
    ----------
    fluxes : Fluxes

    Returns
    -------
    dict of (n_objects,) arrays
        psfFluxMAD [nJy].
    """
    (median,) = quantiles(fluxes, fluxes.flux, [0.5])
    return {"psfFluxMAD": quantiles(fluxes, np.abs(fluxes.flux - median[fluxes.index]), [0.5])[0]}


def skewness(fluxes: Fluxes) -> dict[str, np.ndarray]:
    """Skewness of the fluxes with the correction for the bias of few: G1, as pandas has it.

    Parameters
    ----------
    fluxes : Fluxes

    Returns
    -------
    dict of (n_objects,) arrays
        psfFluxSkew; NaN for less than three fluxes, 0 for equal ones.
    """
    count = fluxes.at_least(3)
    deviation = fluxes.flux - (fluxes.sums(fluxes.flux) / count)[fluxes.index]
    variance, third = fluxes.sums(deviation**2) / count, fluxes.sums(deviation**3) / count
    g1 = np.divide(third, variance**1.5, out=np.where(np.isnan(count), np.nan, 0.0), where=variance > 0)
    return {"psfFluxSkew": np.sqrt(count * (count - 1)) / (count - 2) * g1}


def linear_fit(fluxes: Fluxes) -> dict[str, np.ndarray]:
    """Straight line of least chi-squared through the fluxes.

    Parameters
    ----------
    fluxes : Fluxes

    Returns
    -------
    dict of (n_objects,) arrays
        psfFluxLinearSlope [nJy/d] and psfFluxLinearIntercept, at MJD 0 [nJy]; NaN without two different times.
    """
    weight = 1 / fluxes.error**2
    total = np.where(np.isnan(fluxes.at_least(2)), np.nan, fluxes.sums(weight))
    mean_time, mean_flux = (fluxes.sums(weight * values) / total for values in (fluxes.mjd, fluxes.flux))
    time = fluxes.mjd - mean_time[fluxes.index]
    lever = fluxes.sums(weight * time**2)
    slope = fluxes.sums(weight * time * fluxes.flux) / np.where(lever > 0, lever, np.nan)
    return {"psfFluxLinearSlope": slope, "psfFluxLinearIntercept": mean_flux - slope * mean_time}


def stetson_j(fluxes: Fluxes) -> dict[str, np.ndarray]:
    """Stetson's J about his iterative mean (1996, PASP 108, 851), every flux by itself.

    Parameters
    ----------
    fluxes : Fluxes

    Returns
    -------
    dict of (n_objects,) arrays
        psfFluxStetsonJ; NaN for less than two fluxes.
    """
    count, weight = fluxes.at_least(2), 1 / fluxes.error**2
    scale = np.sqrt(count / (count - 1))[fluxes.index] / fluxes.error
    mean = fluxes.sums(weight * fluxes.flux) / np.where(np.isnan(count), np.nan, fluxes.sums(weight))
    moving = np.isfinite(mean)
    for _ in range(STETSON_ITERATIONS):
        delta = np.abs(scale * (fluxes.flux - mean[fluxes.index]))
        robust = weight / (1 + (delta / STETSON_ALPHA) ** STETSON_BETA)
        new = fluxes.sums(robust * fluxes.flux) / np.where(moving, fluxes.sums(robust), np.nan)
        change = np.abs(new - mean)
        mean = np.where(moving, new, mean)
        moving &= ~((change < STETSON_CHANGE * np.abs(new)) & (change < STETSON_CHANGE))
        if not moving.any():
            break
    excess = (scale * (fluxes.flux - mean[fluxes.index])) ** 2 - 1
    return {"psfFluxStetsonJ": fluxes.sums(np.sign(excess) * np.sqrt(np.abs(excess))) / count}


def lomb_scargle(fluxes: Fluxes) -> dict[str, np.ndarray]:
    """Highest peak of the Lomb-Scargle periodogram, one object after the other by astropy.

    Parameters
    ----------
    fluxes : Fluxes

    Returns
    -------
    dict of (n_objects,) arrays
        psfFluxPeriod [d] and psfFluxPower; NaN for less than five fluxes, or where all are of one time.
    """
    from astropy.timeseries import LombScargle  # a second of imports that other aggregates do not need

    period, power = np.full((2, fluxes.n_objects), np.nan)
    order = np.argsort(fluxes.index, kind="stable")
    edges = np.searchsorted(fluxes.index[order], np.arange(fluxes.n_objects + 1))
    for k in np.flatnonzero(fluxes.at_least(LEAST_DETECTIONS) > 0):
        own = order[edges[k] : edges[k + 1]]
        if np.ptp(fluxes.mjd[own]) > 0:
            periodogram = LombScargle(fluxes.mjd[own], fluxes.flux[own], fluxes.error[own])
            with warnings.catch_warnings(action="ignore"):  # no power where all fluxes are equal
                frequency, powers = periodogram.autopower(samples_per_peak=OVERSAMPLING, nyquist_factor=NYQUIST_FACTOR)
                best, step = frequency[np.argmax(powers)], frequency[1] - frequency[0]
                frequency = np.linspace(max(best - step, frequency[0]), best + step, 2 * FINER + 1)
                powers = periodogram.power(frequency)
            period[k], power[k] = 1 / frequency[np.argmax(powers)], powers.max()
    return {"psfFluxPeriod": period, "psfFluxPower": power}


# By the option that the configuration names.
STATISTICS = {
    "Percentile": percentiles,
    "MAD": median_absolute_deviation,
    "Skew": skewness,
    "LinearFit": linear_fit,
    "StetsonJ": stetson_j,
    "LombScargle": lomb_scargle,
}
