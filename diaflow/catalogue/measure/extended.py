"""Stars and galaxies, told twice: by the flux that a PSF does not catch, and by size.

`extendedness` compares the PSF flux of a source with its flux in a Gaussian aperture before the PSF (`gaap`), which for
a point source are equal; LSST compares it with that of a galaxy model.  `sizeExtendedness` compares moments with those
of the PSF.  Both are NaN where the source is too faint to decide.
"""

import numpy as np

from diaflow.measure.moments import DECIDABLE_SNR, SIZE_SIGMA, extendedness
from diaflow.units import MAG_PER_RELATIVE_ERROR

# Magnitudes by which the PSF flux of a galaxy is too faint: 0.985 in flux, as in DP1; and so many errors.
LEAST_EXCESS, EXCESS_SIGMA = 0.016, SIZE_SIGMA


def star_or_galaxy(
    shapes: dict[str, np.ndarray], psf: np.ndarray, psf_err: np.ndarray, wide: np.ndarray, wide_err: np.ndarray
) -> dict[str, np.ndarray]:
    """Whether sources are extended.

    Parameters
    ----------
    shapes : dict of (n,) arrays
        Of `diaflow.catalogue.measure.shapes.shapes`.
    psf, psf_err : (n,) arrays
        PSF flux of the source by itself, and its error [nJy].
    wide, wide_err : (n,) arrays
        Flux before the PSF in an aperture that is broader than it, and its error [nJy].

    Returns
    -------
    dict of (n,) arrays
        extendedness, sizeExtendedness: 1 for galaxies, 0 for stars, NaN undecided.

    Notes
    -----
    In white noise no unbiased flux of a point source has a smaller error than the PSF flux; the difference of another
    one to it then has the variance that is the difference of their variances (Hausman 1978, Econometrica 46, 1251).
    """
    moments, of_psf = (
        np.array([shapes[f"{name}{suffix}"] for name in ("ixx", "iyy", "ixy")]) for suffix in ("", "PSF")
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        snr = psf / psf_err
        excess = MAG_PER_RELATIVE_ERROR * np.log(wide / psf)
        excess_err = MAG_PER_RELATIVE_ERROR * np.sqrt(np.maximum(wide_err**2 - psf_err**2, 0)) / psf
        is_extended = excess > np.maximum(LEAST_EXCESS, EXCESS_SIGMA * excess_err)
        decided = (snr > DECIDABLE_SNR) & np.isfinite(excess)
    return {
        "extendedness": np.where(decided, is_extended, np.nan),
        "sizeExtendedness": extendedness(moments, of_psf, snr),
    }
