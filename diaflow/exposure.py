"""Exposure: image, variance, mask, WCS, PSF and metadata of one detector, warp, coadd or difference.

Pixel (0, 0) is the centre of the first pixel; the FITS convention lives in headers only.  On disk an exposure
is a FITS file with the metadata in the primary header and the HDUs IMAGE, MASK (planes named by MP_* keywords,
as DS9, Firefly and the LSST stack read them), VARIANCE, and PSF or INPUTS (see `diaflow.psf.coadd`).
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.compressed import DITHER_SEED_CHECKSUM, SUBTRACTIVE_DITHER_1
from astropy.wcs import WCS, FITSFixedWarning

from diaflow.errors import InputError
from diaflow.files import replacing
from diaflow.psf.coadd import CoaddPsf
from diaflow.stampfield import StampField

# Bit of each mask plane; the first nine are those of the LSST stack.
PLANES = {
    "BAD": 0,
    "SAT": 1,
    "INTRP": 2,
    "CR": 3,
    "EDGE": 4,
    "DETECTED": 5,
    "DETECTED_NEGATIVE": 6,
    "SUSPECT": 7,
    "NO_DATA": 8,
    "CLIPPED": 9,
    "REJECTED": 10,
    "SENSOR_EDGE": 11,
    "INEXACT_PSF": 12,
    "HIGH_VARIANCE": 13,
    "SAT_TEMPLATE": 14,
    "STREAK": 15,
}

# Of compressed planes: quantisation steps per standard deviation of the noise, and rows of a tile.
STEPS = 16
TILE_ROWS = 64


BAND_ROWS = 256  # the pixels of so many rows stay in the processor's cache


def bits(*planes: str) -> int:
    """The mask value with the named planes set, e.g. ``bits("SAT", "CR")``."""
    return sum(1 << PLANES[name] for name in planes)


def bands(n_rows: int) -> Iterator[slice]:
    """Slices of `BAND_ROWS` rows that cover an image: arithmetic on whole images costs memory, and time to get it."""
    for first in range(0, n_rows, BAND_ROWS):
        yield slice(first, min(first + BAND_ROWS, n_rows))


def in_planes(mask: np.ndarray, *planes: str) -> np.ndarray:
    """Pixels of a mask (ny, nx) that have any of the named planes set, (ny, nx) bool."""
    out = np.empty(mask.shape, bool)
    for rows in bands(len(mask)):
        np.not_equal(mask[rows] & bits(*planes), 0, out=out[rows])
    return out


def pixels_where(condition: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the true pixels of an image, in a tenth of the time of `np.nonzero` in two dimensions."""
    return np.divmod(np.flatnonzero(condition), condition.shape[1])


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
    metadata : dict
        Scalars by lower-case name: visit, detector, band, mjd, exptime, ...
    extra : dict
        Further arrays that are written by HDU name; `diaflow.coadd.files.ExposureFile` reads them.
    """

    image: np.ndarray
    variance: np.ndarray
    mask: np.ndarray
    wcs: WCS
    psf: StampField | CoaddPsf | None = None
    metadata: dict = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(ny, nx)."""
        return self.image.shape

    def flagged(self, *planes: str) -> np.ndarray:
        """Boolean image of the pixels that have any of the named planes set."""
        return in_planes(self.mask, *planes)

    def write(self, path: str | Path, compress: bool = False) -> None:
        """Write the exposure to a FITS file, which appears under its name only when it is complete.

        With `compress` the planes are tile-compressed (RICE, FITS standard 4.0, section 10): the mask without loss,
        image and variance in steps of 1/`STEPS` of the noise with subtractive dither, which `read` undoes.  Infinities
        become NaN.
        """
        wcs_header = self.wcs.to_header(relax=True)
        plane = _compressed_hdu if compress else fits.ImageHDU
        hdus = [
            fits.PrimaryHDU(header=_metadata_header(self.metadata)),
            plane(self.image.astype(np.float32, copy=False), wcs_header, name="IMAGE"),
            plane(self.mask.astype(np.int32, copy=False), wcs_header, name="MASK"),
            plane(self.variance.astype(np.float32, copy=False), wcs_header, name="VARIANCE"),
        ]
        for name, bit in PLANES.items():
            hdus[2].header[_keyword(f"MP_{name}")] = bit
        if isinstance(self.psf, CoaddPsf):
            hdus += self.psf.to_hdus()
        elif self.psf is not None:
            hdus.append(stampfield_to_hdu(self.psf))
        hdus += [fits.ImageHDU(array, name=name) for name, array in self.extra.items()]
        write_fits(hdus, path)

    @classmethod
    def read(cls, path: str | Path) -> "Exposure":
        """Read a FITS file made by `write`.

        Raises
        ------
        InputError
            When the file is missing, truncated or not an exposure; the message names it.
        """
        try:
            with fits.open(path, memmap=False) as hdus:
                names = {hdu.name for hdu in hdus}
                wcs = read_wcs(hdus["IMAGE"].header)
                if "INPUTS" in names:
                    psf = CoaddPsf.from_hdus(hdus, wcs)
                else:
                    psf = stampfield_from_hdu(hdus["PSF"]) if "PSF" in names else None
                return cls(
                    image=_native(hdus["IMAGE"].data, np.float32),
                    variance=_native(hdus["VARIANCE"].data, np.float32),
                    mask=_standard_planes(_native(hdus["MASK"].data, np.int32), hdus["MASK"].header),
                    wcs=wcs,
                    psf=psf,
                    metadata=header_metadata(hdus[0].header),
                )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a readable exposure ({error})") from error


def write_fits(hdus: list, path: str | Path) -> None:
    """Write HDUs to `path` through a temporary file beside it, so that no half-written file has the name."""
    with replacing(path) as part:
        fits.HDUList(hdus).writeto(part, overwrite=True)


def _compressed_hdu(data: np.ndarray, header: fits.Header, name: str) -> fits.CompImageHDU:
    """A tile-compressed image; the dither follows from the pixels, so that equal exposures are equal files."""
    return fits.CompImageHDU(
        data if data.dtype.kind == "i" else np.where(np.isfinite(data), data, np.float32(np.nan)),
        header,
        name,
        compression_type="RICE_1",
        tile_shape=(TILE_ROWS, data.shape[1]),
        quantize_level=STEPS,
        quantize_method=SUBTRACTIVE_DITHER_1,
        dither_seed=DITHER_SEED_CHECKSUM,
    )


def read_wcs(header: fits.Header) -> WCS:
    """The celestial WCS of a header, silent about keywords that astropy repairs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FITSFixedWarning)
        return WCS(header)


def stampfield_to_hdu(psf: StampField, name: str = "PSF") -> fits.ImageHDU:
    """An image HDU (n_terms, k, k) with the order and the detector's shape in its header."""
    hdu = fits.ImageHDU(psf.terms.astype(np.float32), name=name)
    hdu.header["ORDER"] = (psf.order, "total degree of the polynomial in position")
    hdu.header["DETNX"] = (psf.shape[1], "width of the detector [pixel]")
    hdu.header["DETNY"] = (psf.shape[0], "height of the detector [pixel]")
    return hdu


def stampfield_from_hdu(hdu: fits.ImageHDU) -> StampField:
    """The inverse of `stampfield_to_hdu`."""
    header = hdu.header
    return StampField(_native(hdu.data, np.float32), header["ORDER"], (header["DETNY"], header["DETNX"]))


def _native(data: np.ndarray, dtype: type) -> np.ndarray:
    """Pixels as read from a file, in the byte order of the machine: in place where no more than that is to be done."""
    if data.dtype == np.dtype(dtype).newbyteorder() and data.flags.c_contiguous and data.flags.writeable:
        return data.byteswap(inplace=True).view(dtype)
    return np.ascontiguousarray(data, dtype=dtype)


def _metadata_header(metadata: dict) -> fits.Header:
    header = fits.Header()
    for key, value in metadata.items():
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, float) and not np.isfinite(value):
            continue
        header[_keyword(key.upper())] = value
    return header


def _keyword(name: str) -> str:
    return name if len(name) <= 8 else f"HIERARCH {name}"


def header_metadata(header: fits.Header) -> dict:
    """The scalars of a primary header by lower-case name."""
    structural = {"SIMPLE", "BITPIX", "NAXIS", "EXTEND", "COMMENT", "HISTORY", ""}
    return {key.lower(): value for key, value in header.items() if key not in structural}


def _standard_planes(mask: np.ndarray, header: fits.Header) -> np.ndarray:
    stored = {key[3:]: value for key, value in header.items() if key.startswith("MP_")}
    if all(PLANES.get(name) == bit for name, bit in stored.items()):
        return mask
    out = np.zeros_like(mask)
    for name, bit in stored.items():
        if name in PLANES:
            out |= ((mask >> bit) & 1) << PLANES[name]
    return out
