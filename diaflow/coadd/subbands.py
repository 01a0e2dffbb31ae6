"""Sub-band images of a coadd, and the template they make for the refraction of one science image.

The image of a coadd is the sum of its sub-bands with no refraction between them.  At another zenith distance each
sub-band is shifted; that of the middle one is the reference, so only the others change the image.  Shifts are done in
Fourier space: no interpolation blurs or correlates, and a shift back undoes a shift exactly.
"""

import numpy as np
from scipy import fft

from diaflow.coadd import spectra
from diaflow.errors import BadData, Kind
from diaflow.image.exposure_file import SUBBAND, ExposureFile
from diaflow.sky.refraction import Subbands

# Rows and columns around a part of an image that a shift needs [pixel].
MARGIN = 32
# HDU of the covariance of the solution, see `noise_factor`.
COVARIANCE = "DCR_COVARIANCE"


def phases(offset: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Transform of a shift.

    Parameters
    ----------
    offset : (x, y)
        [pixel]
    shape : (ny, nx)

    Returns
    -------
    (ny, nx // 2 + 1) complex array
        At the frequencies of `scipy.fft.rfft2`; the Nyquist frequency, of which a real image holds no phase, is not
        shifted.
    """
    x, y = offset
    ny, nx = shape
    down, across = fft.fftfreq(ny), fft.rfftfreq(nx)
    for frequencies, n in ((down, ny), (across, nx)):
        frequencies[n // 2] *= n % 2
    return np.exp(-2j * np.pi * y * down)[:, None] * np.exp(-2j * np.pi * x * across)


def shifted(image: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """A periodic image shifted.

    Parameters
    ----------
    image : (ny, nx) array
    offset : (x, y)
        [pixel]

    Returns
    -------
    (ny, nx) array
    """
    return fft.irfft2(fft.rfft2(image) * phases(offset, image.shape), image.shape)


def terms(offsets: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """What the sum and each sub-band but the middle one are multiplied with to make the image of one geometry.

    Parameters
    ----------
    offsets : (n, 2) array
        Of all sub-bands, see `diaflow.sky.refraction.Subbands.offsets`.
    shape : (ny, nx)

    Returns
    -------
    (n, ny, nx // 2 + 1) complex64 array
        First 1, then shift - 1 of each.
    """
    others = [phases(offset, shape) - 1 for offset in without_middle(offsets)]
    return np.array([np.ones_like(others[0]), *others], np.complex64)


def without_middle(items):
    """A sequence without the item in its middle.

    Parameters
    ----------
    items : sequence
        Of odd length.

    Returns
    -------
    list
    """
    middle = len(items) // 2
    return [item for k, item in enumerate(items) if k != middle]


def noise_factor(covariance: np.ndarray, offsets: np.ndarray) -> float:
    """Variance of a PSF flux on the image of one geometry over that on the sum of the sub-bands.

    Parameters
    ----------
    covariance : (2, n, n, g, g // 2 + 1) array
        Real and imaginary part of the covariance of the `terms` at each frequency, times the power of the PSF.
    offsets : (n, 2) array
        Of all sub-bands [pixel].

    Returns
    -------
    float
    """
    real, imaginary = covariance.astype(float)
    size = real.shape[2]
    t = terms(offsets, (size, size))
    power = np.einsum("a...,b...,ab...->...", t, t.conj(), real + 1j * imaginary).real
    return spectra.mean(power, (size, size)) / spectra.mean(real[0, 0], (size, size))


def refract(patch: ExposureFile, first: int, image: np.ndarray, variance: np.ndarray, mjd: float | None) -> None:
    """Turn rows of a coadd into those for the zenith distance and parallactic angle at a date, in place.

    Parameters
    ----------
    patch : ExposureFile
        Coadd; one without sub-bands stays as it is.
    first : int
        Its row in which the arrays begin.
    image, variance : (n, nx) arrays
    mjd : float or None
        Date of the science image, TAI [d].

    Raises
    ------
    BadData
        When the date is not known.
    InputError
        When the field is not above the horizon then.
    """
    model = Subbands.from_metadata(patch.metadata)
    if model is None:
        return
    if mjd is None:
        raise BadData("no MJD, which the refraction of a dcr template depends on", Kind.TEMPLATE)
    (n_rows, nx), low = image.shape, max(0, first - MARGIN)
    high, inner = min(patch.shape[0], first + n_rows + MARGIN), np.s_[first - low : first - low + n_rows, :nx]
    shape = tuple(fft.next_fast_len(n + MARGIN, True) for n in (high - low, nx))
    offsets = model.offsets(mjd, patch.wcs, patch.shape)
    change, touched = np.zeros((shape[0], shape[1] // 2 + 1), np.complex64), np.zeros(image.shape, bool)
    for name, term in zip(without_middle(names(model.n)), terms(offsets, shape)[1:]):
        plane = np.zeros(shape, np.float32)
        plane[: high - low, :nx] = patch.read_box(name, slice(low, high), slice(None))
        touched |= plane[inner] != 0
        change += term * fft.rfft2(plane)
    if touched.any():
        image += fft.irfft2(change, shape)[inner]
        variance[touched] *= np.float32(noise_factor(patch.array(COVARIANCE), offsets))


def names(n: int) -> list[str]:
    """Names of the HDUs of sub-bands.

    Parameters
    ----------
    n : int
        Of sub-bands.

    Returns
    -------
    list of str
        From blue to red.
    """
    return [f"{SUBBAND}{k}" for k in range(n)]
