"""Masters and detrended images on disk: exposures, or the reason why there is none."""

from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, InputError
from diaflow.image.exposure import Exposure
from diaflow.image.exposure_file import write_fits
from diaflow.instruments.images import Pixels, read_image


def write_failed(reason: str, path: str | Path) -> None:
    """Write a file that says why an image could not be made."""
    header = fits.Header({"STATUS": "failed", "REASON": reason.encode("ascii", "replace").decode()})
    write_fits([fits.PrimaryHDU(header=header)], path)


def read(path: str | Path) -> Exposure:
    """Read an exposure; BadData with the reason where it could not be made, InputError where there is no such file."""
    try:
        header = fits.getheader(path)
    except OSError as error:
        raise InputError(f"{path}: not a readable exposure ({error})") from error
    if header.get("STATUS") == "failed":
        raise BadData(header["REASON"])
    return Exposure.read(path)


def pixels(path: str | Path) -> Pixels:
    """A detrended image as `detrend.detrend` takes it."""
    exposure = read(path)
    return Pixels(exposure.image, exposure.wcs.to_header(relax=True), exposure.variance, exposure.mask)


def read_pixels(row: np.void, instrument: str, detrended: str | None) -> Pixels:
    """The pixels of a row of the exposure table: of its file, or those that the rule isr put into a folder."""
    if detrended:
        return pixels(f"{detrended}/{row['visit']}/{row['detector']}.fits")
    return read_image(row, instrument)
