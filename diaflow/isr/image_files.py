"""Masters and detrended images on disk: exposures, or the reason why there is none.

A file of its own says the reason, so that a detector that could not be made has a product as any other.
"""

from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, InputError, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import write_fits
from diaflow.instruments.images import Pixels, read_image


def write_failed(error: BadData, path: str | Path) -> None:
    """Write a file that says why an image could not be made.

    Parameters
    ----------
    error : BadData
        Why.
    path : path

    Raises
    ------
    InputError
        When the file cannot be written.
    """
    reason = str(error).encode("ascii", "replace").decode()
    header = fits.Header({"STATUS": "failed", "REASON": reason, "KIND": str(error.kind)})
    write_fits([fits.PrimaryHDU(header=header)], path)


def read(path: str | Path) -> Exposure:
    """Read an exposure.

    Parameters
    ----------
    path : path

    Returns
    -------
    Exposure

    Raises
    ------
    BadData
        When the image could not be made, with the reason.
    InputError
        When there is no such file, or it is no exposure.
    """
    try:
        header = fits.getheader(path)
    except OSError as error:
        raise InputError(f"{path}: not a readable exposure ({error})") from error
    if header.get("STATUS") == "failed":
        raise BadData(header["REASON"], Kind(header["KIND"]))
    return Exposure.read(path)


def pixels(path: str | Path) -> Pixels:
    """A detrended image as `detrend.detrend` takes it.

    Parameters
    ----------
    path : path

    Returns
    -------
    Pixels

    Raises
    ------
    BadData, InputError
        As `read`.
    """
    exposure = read(path)
    planes = exposure.image, exposure.wcs.to_header(relax=True), exposure.variance, exposure.mask
    return Pixels(*planes, saturation=exposure.metadata.get("saturation"))


def read_pixels(row: np.void, instrument: str, detrended: str | None) -> Pixels:
    """The pixels of a row of the exposure table.

    Parameters
    ----------
    row : row of the "exposure" table
    instrument : str
        The map that made the row, as in `instruments.maps.load`.
    detrended : str or None
        Folder of detrended images, {visit}/{detector}.fits, whose pixels take the place of those of the row's file.

    Returns
    -------
    Pixels

    Raises
    ------
    BadData
        When the pixels cannot be read or could not be made.
    InputError
        When the map cannot be used, or the folder lacks the image.
    """
    if detrended:
        return pixels(f"{detrended}/{row['visit']}/{row['detector']}.fits")
    return read_image(row, instrument)
