"""Parts of exposure files: header, PSF and any rows, so that a stack needs no whole image in memory.

An `ExposureFile` checks the file once when it is opened and keeps only where its pixels begin; rows are then read
straight into the caller's arrays.
"""

import os
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import InputError
from diaflow.exposure import header_metadata, read_wcs, stampfield_from_hdu
from diaflow.psf.coadd import CoaddPsf

# The planes and the only pixel type in which `Exposure.write` stores each.
PLANES = {"IMAGE": -32, "VARIANCE": -32, "MASK": 32}

# Further images of the same shape, which a coadd may have, are read as the image is; their names begin with this.
SUBBAND = "SUBBAND_"


class ExposureFile:
    """An exposure on disk.

    Attributes
    ----------
    path : Path
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
                if any(hdus[name].header["BITPIX"] != bitpix for name, bitpix in PLANES.items()):
                    raise ValueError("pixels of another type")
                self.shape = hdus["IMAGE"].shape
                names = [*PLANES, *(hdu.name for hdu in hdus if hdu.name.startswith(SUBBAND))]
                self.offsets = {name: hdus[name].fileinfo()["datLoc"] for name in names}
                if os.path.getsize(path) < max(hdu.fileinfo()["datLoc"] + hdu.fileinfo()["datSpan"] for hdu in hdus):
                    raise ValueError("truncated")
                self.metadata = header_metadata(hdus[0].header)
                self.wcs = read_wcs(hdus["IMAGE"].header)
                self.psf = _psf(hdus, self.wcs)
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path}: not a readable exposure ({error})") from error

    def read_rows(self, plane: str, first: int, out: np.ndarray) -> None:
        """Fill `out` (n, nx), contiguous and of four bytes a pixel, with the rows first ... first + n - 1."""
        with open(self.path, "rb", buffering=0) as file:
            file.seek(self.offsets[plane] + first * self.shape[1] * out.itemsize)
            file.readinto(memoryview(out).cast("B"))
        out.byteswap(inplace=True)

    def read_box(self, plane: str, rows: slice, columns: slice) -> np.ndarray:
        """Some rows and columns, in a new array of the machine's byte order."""
        dtype = np.dtype(">i4" if plane == "MASK" else ">f4")
        pixels = np.memmap(self.path, dtype, "r", self.offsets[plane], self.shape)[rows, columns]
        return pixels.astype(dtype.newbyteorder("="))

    def array(self, name: str) -> np.ndarray:
        """A small HDU as a whole."""
        with fits.open(self.path, memmap=False) as hdus:
            data = hdus[name].data
            return data.astype(data.dtype.newbyteorder("="))


def _psf(hdus: fits.HDUList, wcs):
    names = {hdu.name for hdu in hdus}
    if "INPUTS" in names:
        return CoaddPsf.from_hdus(hdus, wcs)
    return stampfield_from_hdu(hdus["PSF"]) if "PSF" in names else None
