"""The pixels of one detector: of an image with mask and variance where its camera delivers them, or of a raw frame.

In comes a row of the exposure table with the name of the instrument map that made it; out go `Pixels`, or the
amplifiers of a raw frame (`raw.Raw`).
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, Kind
from diaflow.instruments import delivered, fits_files, headers, raw
from diaflow.instruments.maps import load


@dataclass(frozen=True)
class Pixels:
    """One detector image as its file has it.

    Attributes
    ----------
    image : (ny, nx) float32 array
        Counts [DN]; NaN where undefined.
    header : fits.Header
        With a celestial WCS of the image.
    variance : (ny, nx) float32 array or None
        [DN**2]; None where the file does not tell.
    mask : (ny, nx) int32 array or None
        Bits of `diaflow.image.planes.PLANES`; None where the file does not tell.
    """

    image: np.ndarray
    header: fits.Header = field(default_factory=fits.Header)
    variance: np.ndarray | None = None
    mask: np.ndarray | None = None


def read_image(row: np.void, instrument: str = "generic") -> Pixels:
    """The pixels and header of one row of the exposure table.

    Parameters
    ----------
    row : row of the "exposure" table
    instrument : str
        The map that made the row, as in `maps.load`; it may say where the mask and the variance are.

    Returns
    -------
    Pixels

    Raises
    ------
    BadData
        When the pixels, their mask or their variance cannot be read, e.g. from a file that is cut short.
    InputError
        When the map cannot be used.
    """
    recipe, path, number = load(instrument), Path(row["path"]), int(row["hdu"])
    with fits_files.readable(f"unreadable image {path}"), fits_files.opened(path) as hdus:
        header = headers.located(path, hdus[number].header, hdus[0].header, recipe)
        image, undefined = fits_files.pixels(hdus[number])
        image = np.array(image, np.float32)
    image[undefined] = np.nan
    if image.shape != (row["ny"], row["nx"]):
        raise BadData(
            f"unreadable image {path}: {image.shape} pixels where {row['ny']} x {row['nx']} should be", Kind.FILE
        )
    place = path, header, number, image.shape
    variance = delivered.variance(recipe["variance"], *place) if recipe["variance"] else None
    mask = delivered.mask(recipe["masks"], *place) if recipe["masks"] else None
    return Pixels(image, header, variance, mask)


def read_raw(row: np.void, instrument: str) -> raw.Raw:
    """The amplifiers of one row of the exposure table.

    Parameters
    ----------
    row : row of the "exposure" table
    instrument : str
        The map that made the row, as in `maps.load`, with a section `raw`.

    Returns
    -------
    Raw

    Raises
    ------
    BadData
        When the file cannot be read or does not have what the map says.
    InputError
        When the map, or the mask that it names, cannot be used.
    """
    recipe = load(instrument)
    columns = {name: row[name].item() if isinstance(row[name], np.generic) else row[name] for name in row.dtype.names}
    with fits_files.readable(f"unreadable image {row['path']}"):
        return raw.read(Path(row["path"]), int(row["hdu"]), recipe["raw"], columns, Path(recipe["folder"]))
