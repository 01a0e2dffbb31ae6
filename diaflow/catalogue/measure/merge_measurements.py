"""Measurements of all bands in one table, with the band that each source is best described in.

The rule is that of LSST's mergeMeasurements (pipe_tasks): the first band in the list of priorities that the source is
detected in, unless its PSF flux is faint there and another band has a far higher S/N.
"""

import numpy as np

from diaflow.catalogue.blends import Blends

DETECTED = 5.0  # S/N of the PSF flux from which a source is detected in a band
# S/N below which a band gives way to another that has this much more: `minSN` and `minSNDiff` of mergeMeasurements.
LEAST_SNR, BETTER_BY = 10.0, 3.0


def merge_measurements(by_band: dict[str, np.ndarray], blends: Blends, priority: list[str]) -> np.ndarray:
    """One row for each source with the columns of all bands.

    Parameters
    ----------
    by_band : dict of str to (n,) structured array
        Of `diaflow.catalogue.measure.measurement.measure`.
    blends : Blends
        The n sources.
    priority : list of str
        All bands, that of the reference first.

    Returns
    -------
    (n,) structured array
        refBand; refExtendedness and refSizeExtendedness, those of refBand; and {band}_psfFlux and all others in the
        order of priority.

    Raises
    ------
    ValueError
        When a band has no priority, or not a row for each source.
    """
    unlisted = sorted(by_band.keys() - set(priority))
    if unlisted:
        raise ValueError(f"no priority for the bands {unlisted}")
    n, bands = len(blends.x), [band for band in priority if band in by_band]
    for band in bands:
        if len(by_band[band]) != n:
            raise ValueError(f"{len(by_band[band])} measurements in {band} of {n} sources")
    chosen = reference(np.array([_snr(by_band[band]) for band in bands]).reshape(len(bands), n))
    names = [(f"{band}_{name}", by_band[band].dtype[name]) for band in bands for name in by_band[band].dtype.names]
    width = max(map(len, bands), default=1)
    out = np.empty(n, [("refBand", f"U{width}"), ("refExtendedness", "f4"), ("refSizeExtendedness", "f4"), *names])
    out["refBand"] = np.array(bands)[chosen] if bands else ""
    for kind in ("extendedness", "sizeExtendedness"):
        values = np.array([by_band[band][kind] for band in bands]).reshape(len(bands), n)
        out[f"ref{kind[0].upper()}{kind[1:]}"] = values[chosen, np.arange(n)] if bands else np.nan
    for band in bands:
        for name in by_band[band].dtype.names:
            out[f"{band}_{name}"] = by_band[band][name]
    return out


def reference(snr: np.ndarray) -> np.ndarray:
    """The band of reference.

    Parameters
    ----------
    snr : (m, n) array
        S/N of the PSF flux in m bands, in the order of priority; NaN where there is no flux.

    Returns
    -------
    (n,) int array
        The first band with a detection; the one of highest S/N where that has less than 10 and the other has 3 more,
        and where none has a detection.
    """
    snr = np.where(np.isfinite(snr), snr, -np.inf)
    if not len(snr):
        return np.zeros(snr.shape[1], int)
    first, best = (snr >= DETECTED).argmax(0), snr.argmax(0)
    of_first, of_best = (snr[band, np.arange(snr.shape[1])] for band in (first, best))
    gives_way = (of_first < LEAST_SNR) & ((of_best > of_first + BETTER_BY) | (of_first < DETECTED))
    return np.where(gives_way, best, first)


def _snr(measured: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return measured["psfFlux"] / measured["psfFluxErr"]
