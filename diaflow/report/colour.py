"""Colour pictures of the coadds of a tract (Lupton et al. 2004, PASP 116, 133): of each patch and of all, reduced.

Three bands, the reddest there are, are red, green and blue; of two, green is their mean.  Bands are brought to equal
noise and the stretch follows from it, the same for all patches of a tract.  Pixels without data in any of the bands are
black, saturated ones white.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from astropy.visualization import make_lupton_rgb
from matplotlib.figure import Figure

from diaflow.image.exposure_file import ExposureFile
from diaflow.image.planes import bits
from diaflow.sky.wcs import sky_to_pixel
from diaflow.statistics import SIGMA_PER_MEDIAN
from diaflow.store.files import replacing

WAVELENGTHS = "ubgvrizyjhk"  # of bands, by the first letter of their names, from blue to red
# Chosen: where a picture turns from linear to logarithmic [sigma of the mean of the bands], and how bright that is.
STRETCH, SOFTENING = 8.0, 8.0
LARGEST = 2000  # side of a picture [pixel], chosen: larger ones are reduced
QUALITY = 85  # of the JPEG files, chosen
DPI = 100  # any: pictures have as many pixels as they should
SAMPLED_ROWS = 8  # one row in so many tells the noise of a coadd, chosen
RING, RING_COLOURS = 6.0, {"isolated": "#39d353", "blended": "#ffb000"}  # of detections: radius [pixel]; chosen
POINTS_PER_INCH = 72


def bands_shown(bands: Sequence[str]) -> list[str]:
    """The bands of a picture.

    Parameters
    ----------
    bands : sequence of str
        All that there are.

    Returns
    -------
    list of str
        The reddest, three at most, from red to blue; bands of unknown colour count as blue.
    """
    return sorted(set(bands), key=lambda band: (-WAVELENGTHS.find(band[:1].lower()), band))[:3]


def write_tract(
    coadds: Mapping[str, Mapping[str, Path]], folder: str | Path, detections: Mapping[str, np.ndarray] = {}
) -> None:
    """Write the pictures of a tract.

    Parameters
    ----------
    coadds : dict of dicts of path
        By patch and band.
    folder : path
        Gets {patch}.jpg and tract.jpg, at most `LARGEST` pixels a side.
    detections : dict of structured arrays
        By patch: ra, dec [deg], parentObjectId and detect_isPrimary; those that are primary are ringed, children of
        blends in another colour.

    Raises
    ------
    InputError
        When a coadd is missing or unreadable; the message names it.
    """
    bands = bands_shown([band for paths in coadds.values() for band in paths])
    files = {patch: [_open(paths.get(band)) for band in bands] for patch, paths in coadds.items()}
    sigmas = [_sky_sigma(np.concatenate([_sample(own[k]) for own in files.values()])) for k in range(len(bands))]
    mosaic = _Mosaic([next(file for file in own if file) for own in files.values()], len(bands))
    marks = []
    for patch, own in files.items():
        known = next(file for file in own if file)
        planes = np.stack([_plane(file, "IMAGE", known.shape) for file in own])
        saturated = np.any([(_plane(file, "MASK", known.shape) & bits("SAT")) != 0 for file in own], axis=0)
        rings = _rings(detections[patch], known) if patch in detections else []
        mosaic.add(planes, saturated, known)
        marks += [(*mosaic.places(x, y, known), colour) for x, y, colour in rings]
        factor = _factor(known.shape)
        reduced = np.stack([_reduced(plane, factor) for plane in planes])
        white = _reduced(saturated.astype(float), factor) > 0
        rings = [(x / factor, y / factor, colour) for x, y, colour in rings]
        _save(image_of(reduced, np.divide(sigmas, factor), white), rings, Path(folder, f"{patch}.jpg"))
    planes, saturated, (left, below) = mosaic.trimmed()
    picture = image_of(planes, [_sky_sigma(plane.ravel()) for plane in planes], saturated)
    _save(picture, [(x - left, y - below, colour) for x, y, colour in marks], Path(folder, "tract.jpg"))


def image_of(planes: np.ndarray, sigmas: Sequence[float], saturated: np.ndarray) -> np.ndarray:
    """A colour picture.

    Parameters
    ----------
    planes : (n, ny, nx) array
        One to three bands from red to blue, NaN where there are no data.
    sigmas : sequence of n floats
        Noise of a pixel of each.
    saturated : (ny, nx) bool array

    Returns
    -------
    (ny, nx, 3) uint8 array
    """
    scaled = np.asarray(planes, float) / np.reshape(sigmas, (-1, 1, 1))
    missing = ~np.isfinite(scaled).all(axis=0)
    red, blue = scaled[0], scaled[-1]
    green = scaled[1] if len(scaled) == 3 else (red + blue) / 2
    channels = [np.where(missing, 0.0, channel) for channel in (red, green, blue)]
    # In units of the sigma of each: that of their mean is smaller.
    stretch = STRETCH / np.sqrt(len(scaled))
    with np.errstate(invalid="ignore", divide="ignore"):  # where the bands are zero
        picture = make_lupton_rgb(*channels, minimum=0, stretch=stretch, Q=SOFTENING)
    picture[missing] = 0
    picture[saturated] = 255
    return picture


class _Mosaic:
    """The patches of a tract at reduced size; where they overlap, their mean."""

    def __init__(self, files: Sequence[ExposureFile], n_bands: int):
        corners = np.array([_corner(file) for file in files])
        self.first = corners.min(axis=0)
        size = (corners + [file.shape[::-1] for file in files]).max(axis=0) - self.first
        self.factor = _factor(size)
        shape = tuple(-(-size[::-1] // self.factor) + 1)
        self.total, self.count = np.zeros((n_bands, *shape)), np.zeros((n_bands, *shape), int)
        self.saturated = np.zeros(shape, bool)

    def add(self, planes: np.ndarray, saturated: np.ndarray, file: ExposureFile) -> None:
        """Add a patch: its bands and saturated pixels."""
        (x, y), f = _corner(file) - self.first, self.factor
        before = ((y % f, 0), (x % f, 0))
        for k, plane in enumerate(planes):
            tile = _reduced(np.pad(plane, before, constant_values=np.nan), f)
            part = np.s_[y // f : y // f + tile.shape[0], x // f : x // f + tile.shape[1]]
            there = np.isfinite(tile)
            self.total[k][part] += np.where(there, tile, 0)
            self.count[k][part] += there
        self.saturated[part] |= _reduced(np.pad(saturated.astype(float), before), f) > 0

    def trimmed(self) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
        """The part with data: bands, NaN where there are none, saturated pixels, and x, y of its first pixel."""
        there = self.count.any(axis=0)
        (y0, y1), (x0, x1) = (_ends(there.any(axis=axis)) for axis in (1, 0))
        part = np.s_[y0:y1, x0:x1]
        with np.errstate(invalid="ignore"):
            planes = np.stack([total[part] / count[part] for total, count in zip(self.total, self.count)])
        return planes, self.saturated[part], (x0, y0)

    def places(self, x: np.ndarray, y: np.ndarray, file: ExposureFile) -> tuple[np.ndarray, np.ndarray]:
        """Where pixels of a patch are."""
        left, below = _corner(file) - self.first
        return (x + left) / self.factor, (y + below) / self.factor


def _ends(there: np.ndarray) -> tuple[int, int]:
    """First index with data, and the one after the last; all where there are none."""
    index = np.flatnonzero(there)
    return (int(index[0]), int(index[-1]) + 1) if len(index) else (0, len(there))


def _open(path: Path | None) -> ExposureFile | None:
    return None if path is None else ExposureFile(path)


def _plane(file: ExposureFile | None, name: str, shape: tuple[int, int]) -> np.ndarray:
    """A plane of a coadd; without data where there is none."""
    if file is None:
        return np.full(shape, np.nan) if name == "IMAGE" else np.zeros(shape, np.int32)
    return file.read_box(name, np.s_[:], np.s_[:])


def _sample(file: ExposureFile | None) -> np.ndarray:
    """Some of the pixels of a coadd."""
    return np.zeros(0) if file is None else file.read_box("IMAGE", np.s_[::SAMPLED_ROWS], np.s_[:]).ravel()


def _sky_sigma(pixels: np.ndarray) -> float:
    """Noise of the empty sky, which is at zero: from the pixels below, where no source is; 1 without any."""
    below = pixels[pixels < 0]
    return float(SIGMA_PER_MEDIAN * np.median(-below)) if len(below) else 1.0


def _corner(file: ExposureFile) -> np.ndarray:
    """x, y of the first pixel of a patch from the reference point that all patches of a tract share."""
    return -np.rint(file.wcs.wcs.crpix).astype(int)


def _factor(shape: Sequence[int]) -> int:
    """By how much a picture has to be reduced."""
    return -(-int(max(shape)) // LARGEST)


def _reduced(plane: np.ndarray, factor: int) -> np.ndarray:
    """Means of squares of pixels, of those that have data; NaN without any."""
    ny, nx = plane.shape
    padded = np.pad(plane, ((0, -ny % factor), (0, -nx % factor)), constant_values=np.nan)
    squares = padded.reshape(padded.shape[0] // factor, factor, -1, factor)
    there = np.isfinite(squares)
    with np.errstate(invalid="ignore"):
        return np.where(there, squares, 0).sum(axis=(1, 3)) / there.sum(axis=(1, 3))


def _rings(table: np.ndarray, file: ExposureFile) -> list[tuple[np.ndarray, np.ndarray, str]]:
    """Places x, y of detections [pixel] and the colour of each kind."""
    ny, nx = file.shape
    primary = table[table["detect_isPrimary"]]
    blended = primary["parentObjectId"] != 0
    return [
        (*sky_to_pixel(file.wcs, rows["ra"], rows["dec"], (0, 0, nx - 1, ny - 1)), RING_COLOURS[kind])
        for kind, rows in (("isolated", primary[~blended]), ("blended", primary[blended]))
    ]


def _save(picture: np.ndarray, rings: list[tuple[np.ndarray, np.ndarray, str]], path: Path) -> None:
    """Write a picture, pixel by pixel, north up where rows go north."""
    ny, nx, _ = picture.shape
    figure = Figure(figsize=(nx / DPI, ny / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(picture, origin="lower", interpolation="nearest", aspect="auto")
    for x, y, colour in rings:
        axes.scatter(x, y, s=(2 * RING * POINTS_PER_INCH / DPI) ** 2, facecolors="none", edgecolors=colour, lw=0.7)
    axes.set(xlim=(-0.5, nx - 0.5), ylim=(-0.5, ny - 0.5))
    axes.set_axis_off()
    with replacing(path) as part:
        figure.savefig(part, format="jpeg", dpi=DPI, pil_kwargs={"quality": QUALITY})
