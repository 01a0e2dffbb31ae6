"""How well the magnitude of a star repeats: scatter over the visits against magnitude, and the model of its noise.

The model is that of Ivezic et al. (2008, eq. 4 and 5), sigma**2 = floor**2 + (0.04 - gamma) x + gamma x**2 with
x = 10**(0.4 (m - m5)): a floor that photons do not lower, the photons of the star, and those of the sky.  At m5 its
sigma is 0.2 mag; a star of S/N 5 has 1.0857 / 5, so that the 5 sigma depth is 0.09 mag fainter.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.optimize import least_squares

from diaflow.associate import simple
from diaflow.measure.sources import unflagged
from diaflow.store import tables
from diaflow.units import MAG_PER_RELATIVE_ERROR, magnitude

COLUMNS = ("visit", "band", "ra", "dec", "raErr", "decErr", "psfFlux", "psfFluxErr", "extendedness")
MAX_ROWS = 1_000_000  # of sources that are read, chosen: of larger tables, cells of the sky are taken at random
CELLS_PER_DEGREE = 60  # along right ascension and declination, chosen
RADIUS = 0.5  # within which sources are of one star [arcsec]: many times the error of any WCS, as in `validate`
MIN_VISITS = 3  # of a star: fewer do not tell its scatter
STEADY_SNR, OUTLIER = 200.0, 0.015  # of the stars of PA1 and PF1, and of PF1 [mag]: LSST's, as in analysis_tools
# Of the fit: width of a bin [mag], how far from the depth the faintest bin ends, where the choice of what is detected
# narrows the scatter [mag], and the fewest bins; chosen.
BIN, ABOVE_LIMIT, FEWEST_BINS = 0.5, 0.5, 3
GAMMA, GAMMA_OF_BAND = 0.039, {"u": 0.038}  # Ivezic et al. (2008), table 2
MAX_FLOOR, REACH = 0.1, 5.0  # largest floor, and how far from the limit m5 is looked for [mag]


@dataclass(frozen=True)
class Model:
    """The noise of a band.

    Attributes
    ----------
    floor : float
        [mag]
    m5 : float
        Where sigma is 0.2 mag without the floor [mag].
    gamma : float
    """

    floor: float
    m5: float
    gamma: float

    @property
    def depth(self) -> float:
        """Magnitude of a star of S/N 5."""
        linear, target = 0.04 - self.gamma, (MAG_PER_RELATIVE_ERROR / 5) ** 2
        x = (np.sqrt(linear**2 + 4 * self.gamma * target) - linear) / (2 * self.gamma)
        return self.m5 + 2.5 * float(np.log10(x))

    def sigma(self, mag: np.ndarray) -> np.ndarray:
        """The scatter of stars.

        Parameters
        ----------
        mag : (n,) array

        Returns
        -------
        (n,) array
            [mag]
        """
        x = 10 ** (0.4 * (np.asarray(mag) - self.m5))
        return np.sqrt(self.floor**2 + (0.04 - self.gamma) * x + self.gamma * x**2)


@dataclass(frozen=True)
class Stars:
    """Stars of a band that were seen in `MIN_VISITS` visits or more.

    Attributes
    ----------
    mag, scatter, snr : (n,) arrays
        Mean and standard deviation of the magnitudes of each [mag]; median S/N.
    outliers : (n,) array
        Fraction of the magnitudes of each that are farther than `OUTLIER` from their mean.
    """

    mag: np.ndarray
    scatter: np.ndarray
    snr: np.ndarray
    outliers: np.ndarray

    def __len__(self) -> int:
        return len(self.mag)

    @property
    def pa1(self) -> float:
        """Median scatter of the stars of S/N 200 or more [mag]; NaN without any."""
        steady = self.scatter[self.snr >= STEADY_SNR]
        return float(np.median(steady)) if len(steady) else np.nan

    @property
    def pf1(self) -> float:
        """Fraction of the magnitudes of these stars that are outliers; NaN without any."""
        steady = self.outliers[self.snr >= STEADY_SNR]
        return float(np.mean(steady)) if len(steady) else np.nan


def read_sources(path: str | Path) -> np.ndarray:
    """Unflagged point sources of a run, in a part of the sky where there are very many.

    Parameters
    ----------
    path : path
        Table "source".

    Returns
    -------
    "source" table
        The columns that `stars` uses are filled.

    Raises
    ------
    InputError
        When the table is missing or unreadable.
    """
    flags = [name for name in tables.schema("source") if name.startswith("pixelFlags_")]
    tables.read("source", path, only=["visit"])  # names an unreadable file
    file, parts = pq.ParquetFile(path), []
    share = min(1.0, MAX_ROWS / max(file.metadata.num_rows, 1))
    for group in range(file.num_row_groups):
        data = file.read_row_group(group, [*COLUMNS, *flags])
        part = tables.from_columns("source", **{column: data[column].to_numpy() for column in data.column_names})
        kept = unflagged(part) & (part["extendedness"] == 0) & (part["psfFlux"] > 0)
        parts.append(part[kept & _chosen(part["ra"], part["dec"], share)])
    return tables.concatenate("source", parts)


def _chosen(ra: np.ndarray, dec: np.ndarray, share: float) -> np.ndarray:
    """Positions in a share of the cells of the sky, the same cells for all visits."""
    if share == 1:
        return np.ones(len(ra), bool)
    row, column = (np.floor(axis * CELLS_PER_DEGREE).astype(np.int64) for axis in (dec, ra))
    number = row * 360 * CELLS_PER_DEGREE + column
    cells, index = np.unique(number, return_inverse=True)
    # Multiplicative hashing (Knuth, vol. 3, 6.4): fractional parts of multiples of the golden ratio are uniform.
    return ((cells * 0.6180339887498949) % 1 < share)[index]


def stars(sources: np.ndarray) -> dict[str, Stars]:
    """The stars of each band.

    Parameters
    ----------
    sources : "source" table
        Unflagged point sources.

    Returns
    -------
    dict of str to Stars
        By band, those with stars.
    """
    result = {}
    for band in sorted(set(sources["band"])):
        rows = np.flatnonzero(sources["band"] == band)
        rows = rows[np.argsort(sources["visit"][rows], kind="stable")]
        found = _statistics(simple.associate(sources, rows, {"radius": RADIUS}), sources[rows])
        if len(found):
            result[band] = found
    return result


def _statistics(star: np.ndarray, sources: np.ndarray) -> Stars:
    """Mean, scatter and S/N of the stars with enough sources; `star` has the number of that of each source."""
    mag = magnitude(sources["psfFlux"].astype(float))
    snr = (sources["psfFlux"] / sources["psfFluxErr"]).astype(float)
    count = np.bincount(star)
    mean = np.bincount(star, mag) / np.maximum(count, 1)
    off = mag - mean[star]
    with np.errstate(invalid="ignore", divide="ignore"):
        scatter = np.sqrt(np.bincount(star, off**2) / (count - 1))
        outliers = np.bincount(star, np.abs(off) > OUTLIER) / count
    order = np.lexsort((snr, star))
    middle = snr[order][np.cumsum(count) - count + count // 2] if len(star) else snr
    seen = count >= MIN_VISITS
    return Stars(mean[seen], scatter[seen], middle[seen], outliers[seen])


def bins(found: Stars, limit: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Medians of the scatter in bins of magnitude.

    Parameters
    ----------
    found : Stars
    limit : float
        Magnitude of the faintest stars that are detected.

    Returns
    -------
    mag, scatter, count : (n,) arrays
        Medians of the stars in each bin that ends `ABOVE_LIMIT` above the limit or earlier [mag], and their number.
    """
    number = np.floor(found.mag / BIN).astype(int)
    own = [number == k for k in np.unique(number) if (k + 1) * BIN <= limit - ABOVE_LIMIT]
    medians = [[np.median(values[mine]) for mine in own] for values in (found.mag, found.scatter)]
    return np.array(medians[0]), np.array(medians[1]), np.array([mine.sum() for mine in own])


def fit(found: Stars, band: str, limit: float) -> Model | None:
    """The model of the noise: least squares in the logarithm of the bins' scatter, weighted with their numbers.

    gamma is not fitted: a floor of some mmag and gamma cannot be told from each other.

    Parameters
    ----------
    found : Stars
    band : str
        For its gamma.
    limit : float
        Magnitude of the faintest stars that are detected.

    Returns
    -------
    Model or None
        None where there are too few bins.
    """
    mag, scatter, count = bins(found, limit)
    if len(mag) < FEWEST_BINS:
        return None
    gamma = GAMMA_OF_BAND.get(band, GAMMA)

    def off(parameters: np.ndarray) -> np.ndarray:
        return np.sqrt(count) * np.log(Model(*parameters, gamma).sigma(mag) / scatter)

    start, bounds = (min(scatter.min(), MAX_FLOOR / 2), limit), ((0, limit - REACH), (MAX_FLOOR, limit + REACH))
    floor, m5 = least_squares(off, start, bounds=bounds, x_scale=(1e-3, 1)).x
    return Model(float(floor), float(m5), gamma)
