"""Exposure: image, variance, mask, WCS, PSF and metadata of one detector, warp, coadd or difference.

Pixel (0, 0) is the centre of the first pixel; the FITS convention lives in headers only.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from diaflow.errors import InputError
from diaflow.image.exposure_file import from_hdus, to_hdus, write_fits
from diaflow.image.flux_error import FluxError
from diaflow.image.noise import WHITE, Noise
from diaflow.image.planes import bits, in_planes
from diaflow.psf.coadd import CoaddPsf
from diaflow.psf.stampfield import StampField


@dataclass
class Exposure:
    """Pixels and everything that is needed to use them.

    Attributes
    ----------
    image, variance : (ny, nx) float32 arrays
        Flux per pixel and its variance [nJy, nJy**2 once calibrated; DN before].
    mask : (ny, nx) int32 array
        Bits of `PLANES`.
    wcs : astropy.wcs.WCS
    psf : StampField or CoaddPsf or None
        Called with pixel positions x, y of shape (n,), gives unit-sum stamps (n, k, k).
    noise : Noise
        What the variance plane does not tell of the noise; has to be said.
    flux_error : FluxError or None
        Of PSF fluxes, what is not noise of the pixels; a difference has it.
    metadata : dict
        Scalars by lower-case name: visit, detector, band, mjd, exptime, ...
    extra : dict
        Further arrays that are written by HDU name; `diaflow.image.exposure_file.ExposureFile` reads them.
    """

    image: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    wcs: WCS
    psf: StampField | CoaddPsf | None = None
    noise: Noise = field(kw_only=True)
    flux_error: FluxError | None = field(default=None, kw_only=True)
    metadata: dict = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @classmethod
    def empty(cls, wcs: WCS, shape: tuple[int, int]) -> "Exposure":
        """An exposure without data.

        Parameters
        ----------
        wcs : astropy.wcs.WCS
        shape : (ny, nx)

        Returns
        -------
        Exposure
            NaN, infinite variance and NO_DATA in all pixels, no PSF, no metadata, white noise.
        """
        return cls(
            image=np.full(shape, np.nan, np.float32),
            variance=np.full(shape, np.inf, np.float32),
            mask=np.full(shape, bits("NO_DATA"), np.int32),
            wcs=wcs,
            noise=WHITE,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.image.shape

    def with_low_frequency_variance(self) -> "Exposure":
        """The exposure with the variance that its noise has at low frequencies in the place of the variance plane.

        Returns
        -------
        Exposure
            That shares all other attributes; its `noise` still tells the correlation.
        """
        return replace(self, variance=self.noise.low_frequency_variance(self.variance))

    def flagged(self, *planes: str) -> np.ndarray:
        """Pixels that have any of the named planes set.

        Parameters
        ----------
        *planes : str
            Keys of `diaflow.image.planes.PLANES`.

        Returns
        -------
        (ny, nx) bool array
        """
        return in_planes(self.mask, *planes)

    def write(self, path: str | Path, compress: bool = False) -> None:
        """Write the exposure to a FITS file, which appears under its name only when it is complete.

        Parameters
        ----------
        path : path
        compress : bool
            Tile-compress the planes (see `diaflow.image.exposure_file.to_hdus`).
        """
        write_fits(to_hdus(self, compress), path)

    @classmethod
    def read(cls, path: str | Path) -> "Exposure":
        """Read a FITS file made by `write`.

        Parameters
        ----------
        path : path

        Returns
        -------
        Exposure
            Without `extra`, which stays in the file.

        Raises
        ------
        InputError
            When the file is missing, truncated or not an exposure; the message names it.
        """
        try:
            with fits.open(path, memmap=False) as hdus:
                return cls(**from_hdus(hdus))
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a readable exposure ({error})") from error
