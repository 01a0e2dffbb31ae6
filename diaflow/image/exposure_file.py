"""Exposures on disk: FITS files that DS9, Firefly and the LSST stack read, as a whole or in parts.

The metadata are in the primary header; the HDUs are IMAGE, MASK (planes named by MP_* keywords), VARIANCE, PSF or
INPUTS (see `diaflow.psf.coadd`), and FLUX_ERROR (`diaflow.image.flux_error`, in bins of 2 x 2 pixels).  An
`ExposureFile` checks a file once when it is opened and keeps only where its pixels begin; rows are then read straight
into the caller's arrays, so that a stack needs no whole image in memory.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.io import fits
from astropy.io.fits.hdu.compressed import DITHER_SEED_CHECKSUM, SUBTRACTIVE_DITHER_1
from astropy.wcs import WCS

from diaflow.errors import InputError
from diaflow.image.flux_error import FluxError
from diaflow.image.noise import Noise
from diaflow.image.planes import PLANES
from diaflow.psf.coadd import CoaddPsf
from diaflow.psf.stampfield import StampField
from diaflow.sky.wcs import read_wcs
from diaflow.store import provenance
from diaflow.store.files import replacing

if TYPE_CHECKING:
    from diaflow.image.exposure import Exposure

# The planes that every exposure file has, and the only pixel type (BITPIX) in which `Exposure.write` stores each.
PIXEL_TYPES = {"IMAGE": -32, "VARIANCE": -32, "MASK": 32}

# Further images of the same shape, which a coadd may have, are read as the image is; their names begin with this.
SUBBAND = "SUBBAND_"
FLUX_ERROR = "FLUX_ERROR"  # HDU of the errors of PSF fluxes

# Of compressed planes: quantisation steps per standard deviation of the noise, and rows of a tile.
STEPS = 16
TILE_ROWS = 64


def write_fits(hdus: list, path: str | Path) -> None:
    """Write a FITS file through a temporary file beside it, so that no half-written file has the name.

    Parameters
    ----------
    hdus : list of HDUs
        The first gets the cards of `diaflow.store.provenance`.
    path : path
    """
    hdus[0].header.extend(provenance.cards())
    with replacing(path) as part:
        fits.HDUList(hdus).writeto(part, overwrite=True)


def to_hdus(exposure: "Exposure", compress: bool = False) -> list:
    """The HDUs of an exposure.

    Parameters
    ----------
    exposure : Exposure
    compress : bool
        Tile-compress the planes (RICE, FITS standard 4.0, section 10): the mask without loss, image and variance in
        steps of 1/`STEPS` of the noise with subtractive dither, which reading undoes.  Infinities become NaN.

    Returns
    -------
    list of HDUs
    """
    wcs_header = exposure.wcs.to_header(relax=True)
    plane = _compressed_hdu if compress else fits.ImageHDU
    mask = plane(exposure.mask.astype(np.int32, copy=False), wcs_header, name="MASK")
    for name, bit in PLANES.items():
        mask.header[_keyword(f"MP_{name}")] = bit
    hdus = [
        fits.PrimaryHDU(header=_metadata_header(exposure.metadata | exposure.noise.to_metadata())),
        plane(exposure.image.astype(np.float32, copy=False), wcs_header, name="IMAGE"),
        mask,
        plane(exposure.variance.astype(np.float32, copy=False), wcs_header, name="VARIANCE"),
    ]
    if isinstance(exposure.psf, CoaddPsf):
        hdus += exposure.psf.to_hdus()
    elif exposure.psf is not None:
        hdus.append(stampfield_to_hdu(exposure.psf))
    if exposure.flux_error is not None:
        hdus.append(fits.ImageHDU(exposure.flux_error.bins, name=FLUX_ERROR))
    return hdus + [fits.ImageHDU(array, name=name) for name, array in exposure.extra.items()]


def from_hdus(hdus: fits.HDUList) -> dict:
    """The attributes of the exposure that is stored in the HDUs of `to_hdus`, but for `extra`.

    Parameters
    ----------
    hdus : fits.HDUList
        Read without memory mapping, since pixels are put into native byte order in place.

    Returns
    -------
    dict
        Keyword arguments of `Exposure`.

    Raises
    ------
    KeyError
        When an HDU is missing, or the header does not tell the noise.
    """
    wcs, metadata = read_wcs(hdus["IMAGE"].header), header_metadata(hdus[0].header)
    return {
        "image": _native(hdus["IMAGE"].data, np.float32),
        "variance": _native(hdus["VARIANCE"].data, np.float32),
        "mask": _standard_planes(_native(hdus["MASK"].data, np.int32), hdus["MASK"].header),
        "wcs": wcs,
        "psf": _read_psf(hdus, wcs),
        "noise": Noise.from_metadata(metadata),
        "flux_error": FluxError(_native(hdus[FLUX_ERROR].data, np.float32)) if FLUX_ERROR in hdus else None,
        "metadata": metadata,
    }


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


def stampfield_to_hdu(psf: StampField, name: str = "PSF") -> fits.ImageHDU:
    """A field of stamps as an HDU.

    Parameters
    ----------
    psf : StampField
    name : str
        Of the HDU.

    Returns
    -------
    fits.ImageHDU
        (n_terms, k, k) float32, with the order and the detector's shape in its header.
    """
    hdu = fits.ImageHDU(psf.terms.astype(np.float32), name=name)
    hdu.header["ORDER"] = (psf.order, "total degree of the polynomial in position")
    hdu.header["DETNX"] = (psf.shape[1], "width of the detector [pixel]")
    hdu.header["DETNY"] = (psf.shape[0], "height of the detector [pixel]")
    return hdu


def stampfield_from_hdu(hdu: fits.ImageHDU) -> StampField:
    """The inverse of `stampfield_to_hdu`.

    Parameters
    ----------
    hdu : fits.ImageHDU

    Returns
    -------
    StampField

    Raises
    ------
    KeyError
        When its header is not that of a field of stamps.
    """
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
    """The scalars of a primary header.

    Parameters
    ----------
    header : fits.Header

    Returns
    -------
    dict
        By lower-case name, without the keywords that say how the file is laid out and what made it.
    """
    structural = {"SIMPLE", "BITPIX", "NAXIS", "EXTEND", "COMMENT", "HISTORY", ""}
    return {
        key.lower(): value for key, value in header.items() if key not in structural and not provenance.is_card(key)
    }


def _standard_planes(mask: np.ndarray, header: fits.Header) -> np.ndarray:
    stored = {key[3:]: value for key, value in header.items() if key.startswith("MP_")}
    if all(PLANES.get(name) == bit for name, bit in stored.items()):
        return mask
    out = np.zeros_like(mask)
    for name, bit in stored.items():
        if name in PLANES:
            out |= ((mask >> bit) & 1) << PLANES[name]
    return out


def _read_psf(hdus: fits.HDUList, wcs: WCS) -> StampField | CoaddPsf | None:
    names = {hdu.name for hdu in hdus}
    if "INPUTS" in names:
        return CoaddPsf.from_hdus(hdus, wcs)
    return stampfield_from_hdu(hdus["PSF"]) if "PSF" in names else None


class ExposureFile:
    """An exposure on disk.

    Attributes
    ----------
    path : Path
    noise : Noise
    metadata : dict
    wcs : astropy.wcs.WCS
    psf : StampField or CoaddPsf or None
    shape : (ny, nx)

    Raises
    ------
    InputError
        When the file is missing, truncated or not an exposure; the message names it.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            with fits.open(path, memmap=False) as hdus:
                if any(hdus[name].header["BITPIX"] != bitpix for name, bitpix in PIXEL_TYPES.items()):
                    raise ValueError("pixels of another type")
                self.shape = hdus["IMAGE"].shape
                names = [*PIXEL_TYPES, *(hdu.name for hdu in hdus if hdu.name.startswith(SUBBAND))]
                self.offsets = {name: hdus[name].fileinfo()["datLoc"] for name in names}
                if os.path.getsize(path) < max(hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"] for hdu in hdus):
                    raise ValueError("truncated")
                self.metadata = header_metadata(hdus[0].header)
                self.noise = Noise.from_metadata(self.metadata)
                self.wcs = read_wcs(hdus["IMAGE"].header)
                self.psf = _read_psf(hdus, self.wcs)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a readable exposure ({error})") from error

    def read_rows(self, plane: str, first: int, out: np.ndarray) -> None:
        """Read some rows of a plane into an array.

        Parameters
        ----------
        plane : str
            IMAGE, VARIANCE, MASK or a sub-band.
        first : int
        out : (n, nx) float32 or int32 array
            Contiguous; filled with the rows first ... first + n - 1.
        """
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offsets[plane] + first * self.shape[1] * out.itemsize)
            file.readinto(memoryview(out).cast("B"))
        out.byteswap(inplace=True)

    def read_box(self, plane: str, rows: slice, columns: slice) -> np.ndarray:
        """Read a part of a plane.

        Parameters
        ----------
        plane : str
            As in `read_rows`.
        rows, columns : slice

        Returns
        -------
        (n, m) float32 or int32 array
            New, of the machine's byte order.
        """
        dtype = np.dtype(">i4" if plane == "MASK" else ">f4")
        pixels = np.memmap(self.path, dtype, "r", self.offsets[plane], self.shape)[rows, columns]
        return pixels.astype(dtype.newbyteorder("="))

    def array(self, name: str) -> np.ndarray:
        """Read a small HDU as a whole.

        Parameters
        ----------
        name : str

        Returns
        -------
        array
            Of the machine's byte order.

        Raises
        ------
        KeyError
            When there is no such HDU.
        """
        with fits.open(self.path, memmap=False) as hdus:
            data = hdus[name].data
            return data.astype(data.dtype.newbyteorder("="))
