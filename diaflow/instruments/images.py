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

# Scatter of pixels whose fourth powers, and those of values a thousand times smaller or larger, fit single precision.
SMALLEST, LARGEST = 1e-6, 1e6
SPARSE = 7  # every seventh pixel of every seventh row tells the scatter, which saves time


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
    unit : float
        DN of the file in a DN of `image` and `variance`: 1, unless single precision could not hold the squares of the
        file's numbers.
    saturation : float or None
        Pixel value from which those of SAT in the mask are saturated [DN]; None where that of the row is.
    step : float
        By how much pixels that were equal may differ, since a lossy compression rounded them [DN].
    """

    image: np.ndarray
    header: fits.Header = field(default_factory=fits.Header)
    variance: np.ndarray | None = None
    mask: np.ndarray | None = None
    unit: float = 1.0
    saturation: float | None = None
    step: float = 0.0

    def row(self, row: np.void) -> np.void:
        """A row of the exposure table in the unit of the pixels.

        Parameters
        ----------
        row : row of the "exposure" table

        Returns
        -------
        row of the "exposure" table
            The row itself where the unit is 1.
        """
        if self.unit == 1:
            return row
        row = row.copy()
        row["gain"] *= self.unit
        row["saturation"] /= self.unit
        row["bias"] /= self.unit
        row["zero_point"] -= self.magnitude
        return row

    @property
    def magnitude(self) -> float:
        """What the zero point in the unit of the file is more than the one in that of the pixels [mag]."""
        return 2.5 * np.log10(self.unit)


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
        stored, undefined = fits_files.pixels(hdus[number])
        step = fits_files.step(hdus[number])
        unit = _unit(stored, undefined)
        image = np.array(stored if unit == 1 else stored / unit, np.float32)
    image[undefined] = np.nan
    if image.shape != (row["ny"], row["nx"]):
        raise BadData(
            f"unreadable image {path}: {image.shape} pixels where {row['ny']} x {row['nx']} should be", Kind.FILE
        )
    place = path, header, number, image.shape
    variance = delivered.variance(recipe["variance"], *place, unit) if recipe["variance"] else None
    mask = delivered.mask(recipe["masks"], *place) if recipe["masks"] else None
    return Pixels(image, header, variance, mask, unit, step=step / unit)


def _unit(stored: np.ndarray, undefined: np.ndarray) -> float:
    """The power of two near the typical distance of pixels from their median, or 1 where that is not far off."""
    sample = stored[::SPARSE, ::SPARSE][~undefined[::SPARSE, ::SPARSE]].astype(float)
    if stored.dtype.kind != "f" or not sample.size:
        return 1.0
    deviations = np.abs(sample - np.median(sample))
    typical = np.median(deviations[deviations > 0]) if deviations.any() else 1.0
    return 1.0 if SMALLEST < typical < LARGEST else float(2.0 ** np.round(np.log2(typical)))


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
