"""Units: magnitudes of the AB system against nanojansky, small angles, and what a night is."""

import numpy as np

NANOJANSKY_ZERO_POINT = 31.4  # AB magnitude of 1 nJy, as LSST rounds 2.5 log10(3631e9) (Oke & Gunn 1983)
ARCSEC = np.pi / 180 / 3600  # [rad]
NIGHT = 0.5  # visits that follow each other within this time are of one night [d]
MAG_PER_RELATIVE_ERROR = 2.5 / np.log(10)  # error of a magnitude over the relative error of its flux


def magnitude(flux: np.ndarray) -> np.ndarray:
    """AB magnitude of a flux.

    Parameters
    ----------
    flux : array or float
        [nJy]; NaN and infinity as numpy's logarithm has them.

    Returns
    -------
    array or float
        [mag]
    """
    return NANOJANSKY_ZERO_POINT - 2.5 * np.log10(flux)


def nanojansky(magnitude: np.ndarray) -> np.ndarray:
    """Flux of an AB magnitude; of a zero point, that of 1 DN.

    Parameters
    ----------
    magnitude : array or float
        [mag]

    Returns
    -------
    array or float
        [nJy]
    """
    return 10 ** ((NANOJANSKY_ZERO_POINT - magnitude) / 2.5)
