"""FITS files of anyone: what is an image in them, its pixels, and any damage as `BadData`.

An image has two axes, and further ones of length 1 where it was cut out of a cube.  Integers that the header calls
undefined (BLANK) are found whatever the type: astropy leaves those of unsigned integers as they are.
"""

import bz2
import gzip
import lzma
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.utils.exceptions import AstropyWarning

from diaflow.errors import BadData, InputError, Kind
from diaflow.sky.wcs_cards import only_value

_BLOCK = 2880  # bytes, of which FITS files consist
_COMPRESSIONS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ": lzma.open}  # by how their files begin


@contextmanager
def readable(what: str) -> Iterator[None]:
    """A context for the reading of a FITS file in which astropy says nothing about what it repairs.

    Parameters
    ----------
    what : str
        Begins the reason, e.g. "unreadable header".

    Yields
    ------
    None

    Raises
    ------
    BadData
        When the file is not FITS, is cut short, has an impossible header or damaged pixels; the reason is one line.
        Each library for a compression has errors of its own, so that any but a lack of memory is such a damage.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AstropyWarning)
            yield
    except (BadData, InputError, MemoryError):
        raise
    except Exception as error:
        raise BadData(f"{what}: {' '.join(str(error).split()) or type(error).__name__}", Kind.FILE) from error


def is_image(header: fits.Header) -> bool:
    """Whether an HDU with pixels holds one image.

    Parameters
    ----------
    header : fits.Header

    Returns
    -------
    bool
        Further axes must be of length 1.
    """
    n_axes = header.get("NAXIS", 0)
    return n_axes >= 2 and all(header[f"NAXIS{axis}"] == 1 for axis in range(3, n_axes + 1))


def size_of_pixels(header: fits.Header) -> int:
    """How many bytes of a file the pixels of an image take.

    Parameters
    ----------
    header : fits.Header

    Returns
    -------
    int
        In whole blocks of FITS.
    """
    size = abs(header["BITPIX"]) // 8 * header["NAXIS1"] * header["NAXIS2"]
    return -(-size // _BLOCK) * _BLOCK


def decompressed_size(path: str | Path) -> int:
    """How many bytes a gzip file is when decompressed, as its end says; no byte of it is decompressed.

    Parameters
    ----------
    path : path

    Returns
    -------
    int
        Modulo 2**32, and of its last part where a file consists of several.

    Raises
    ------
    OSError
        When it is shorter than that number.
    """
    with open(path, "rb") as file:
        file.seek(-4, os.SEEK_END)
        return int.from_bytes(file.read(), "little")


def opened(path: str | Path) -> fits.HDUList:
    """A file whose pixels `pixels` reads.

    Parameters
    ----------
    path : path
        What is compressed as a whole is read to its end, where checksums are that tell of damage.

    Returns
    -------
    fits.HDUList
        Of stored numbers, not scaled ones.

    Raises
    ------
    Exception
        Whatever astropy or a compression raises; to be called in a context `readable`.
    """
    with open(path, "rb") as file:
        start = file.read(max(map(len, _COMPRESSIONS)))
    decompress = next((opener for magic, opener in _COMPRESSIONS.items() if start.startswith(magic)), None)
    if decompress:
        with decompress(path) as file:
            path = BytesIO(file.read())
    return fits.open(path, memmap=False, do_not_scale_image_data=True)


def pixels(hdu: fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of an image, and which of them are undefined.

    Parameters
    ----------
    hdu : HDU of `opened`

    Returns
    -------
    pixels : (ny, nx) array
        Integers where they are stored as such, signed or unsigned, without a scale; else floating-point numbers.
    undefined : (ny, nx) bool array
        Not finite, or the BLANK of the header.

    Raises
    ------
    BadData
        When BLANK, BSCALE or BZERO is no number.
    Exception
        Whatever astropy raises; to be called in a context `readable`.
    """
    scale, zero = _number(hdu.header, "BSCALE", 1), _number(hdu.header, "BZERO", 0)
    stored = hdu.data.reshape(hdu.data.shape[-2:])
    if stored.dtype.kind == "f":
        return (stored if (scale, zero) == (1, 0) else stored * scale + zero), ~np.isfinite(stored)
    blank = _number(hdu.header, "BLANK", np.nan)
    undefined = stored == blank if np.isfinite(blank) else np.zeros(stored.shape, bool)
    if scale != 1 or zero not in (0, _other_zero(stored.dtype)):
        return stored * float(scale) + float(zero), undefined  # integers of the type that is stored would overflow
    stored = stored.astype(stored.dtype.newbyteorder("="), copy=False)
    return (_other_sign(stored) if zero else stored), undefined


def step(hdu: fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU) -> float:
    """By how much pixels that were equal may differ, since a lossy compression rounded them.

    Parameters
    ----------
    hdu : HDU of `opened`

    Returns
    -------
    float
        The coarsest step of its tiles, with or without dither (Pence et al. 2010, PASP 122, 1065); 0 where none
        was rounded.
    """
    table = hdu.compressed_data if isinstance(hdu, fits.CompImageHDU) else None
    if table is None or "ZSCALE" not in table.names or hdu.data.dtype.kind != "f":
        return 0.0
    return float(np.max(np.abs(np.nan_to_num(table["ZSCALE"])), initial=0.0))


def _number(header: fits.Header, key: str, default: float) -> float:
    """A card that says what the stored numbers mean."""
    value = only_value(header, key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadData(f"{key} '{value}' is not a number", Kind.FILE)
    return value


def _other_zero(dtype: np.dtype) -> int:
    """BZERO of integers that are unsigned where FITS has signed ones, or signed for bytes."""
    half = 2 ** (8 * dtype.itemsize - 1)
    return half if dtype.kind == "i" else -half


def _other_sign(stored: np.ndarray) -> np.ndarray:
    """Integers with `_other_zero` added, without a wider type in between: it flips the highest bit."""
    unsigned, signed = (f"{kind}{stored.dtype.itemsize}" for kind in "ui")
    flipped = stored.view(unsigned) ^ np.array(abs(_other_zero(stored.dtype)), unsigned)
    return flipped if stored.dtype.kind == "i" else flipped.view(signed)
