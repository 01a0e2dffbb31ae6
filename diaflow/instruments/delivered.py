"""Mask and variance that come with an image, in its own file or in one beside it.

The sections `masks` and `variance` of an instrument map say where they are and how to read them: in come the path and
header of an image, out go the mask in the planes of `diaflow.image.planes` and the variance of every pixel.
Without the file there is a warning, and the counts decide.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, Kind
from diaflow.instruments import companions, translate
from diaflow.instruments.fits_files import opened, pixels, readable

_log = logging.getLogger(__name__)
IGNORE = "ignore"  # the plane of what is not masked
_TABLE = 2**20  # masks whose values are below this are looked up in a table of all values: 20 bits, 8 MB
# Variance of stored values; a pixel of no weight tells nothing.
_VARIANCES = {
    "variance": lambda stored: stored,
    "sigma": np.square,
    "inverse_variance": lambda stored: np.where(stored > 0, 1 / stored, np.inf),
}


def check_masks(section: object) -> None:
    """Refuse a section `masks` of an instrument map that is not well formed.

    Parameters
    ----------
    section : object
        As YAML has it.

    Raises
    ------
    ValueError
        With the fault.
    """
    _check(section, {"file", "pattern", "hdu", "format", "planes"}, _MASKS)
    planes = section.get("planes", {} if section["format"] == "lsst" else None)
    if not isinstance(planes, dict):
        raise ValueError("needs a mapping named planes")
    known = [*_plane_bits(), IGNORE]
    unknown = set(planes) - set(known)
    if unknown:
        raise ValueError(f"unknown plane {', '.join(map(str, unknown))} (known: {', '.join(known)})")
    kind = str if section["format"] == "lsst" else int
    if not all(isinstance(name, kind) and not isinstance(name, bool) for name in _names(planes)):
        raise ValueError(f"planes must hold lists of {'names' if kind is str else 'integers'}")


def check_variance(section: object) -> None:
    """Refuse a section `variance` of an instrument map that is not well formed.

    Parameters
    ----------
    section : object
        As YAML has it.

    Raises
    ------
    ValueError
        With the fault.
    """
    _check(section, {"file", "pattern", "hdu", "format"}, _VARIANCES)


def mask(section: dict, path: Path, header: fits.Header, number: int, shape: tuple[int, int]) -> np.ndarray | None:
    """The mask of an image in the planes of diaflow.

    Parameters
    ----------
    section : dict
        Section `masks` of the instrument map.
    path, header : Path, fits.Header
        Of the image; its keys fill the braces in the name of the mask file.
    number : int
        HDU of the image.
    shape : (ny, nx)

    Returns
    -------
    (ny, nx) int32 array, or None without the file.

    Raises
    ------
    BadData
        When the mask cannot be read.
    """
    planes = {plane: [names] if isinstance(names, int | str) else names for plane, names in _planes(section).items()}
    return _read(section, path, header, number, shape, lambda *hdu: _MASKS[section["format"]](*hdu, planes, shape))


def variance(
    section: dict, path: Path, header: fits.Header, number: int, shape: tuple[int, int], unit: float = 1.0
) -> np.ndarray | None:
    """The variance of every pixel of an image.

    Parameters
    ----------
    section : dict
        Section `variance` of the instrument map.
    path, header, number, shape
        As in `mask`.
    unit : float
        DN of the file in a DN of the result.

    Returns
    -------
    (ny, nx) float32 array, or None without the file.
        Not positive or infinite where a pixel has none.

    Raises
    ------
    BadData
        When it cannot be read.
    """

    def convert(hdus: fits.HDUList, key: int | str) -> np.ndarray:
        stored = pixels(hdus[key])[0].astype(np.float32 if unit == 1 else np.float64)
        with np.errstate(divide="ignore"):
            return (_VARIANCES[section.get("format", "variance")](stored) / np.square(unit)).astype(np.float32)

    return _read(section, path, header, number, shape, convert)


def _read(section: dict, path: Path, header: fits.Header, number: int, shape: tuple[int, int], convert) -> object:
    """What `convert` makes of the HDU of a section, or None without the file."""
    try:
        delivered = _file(section, path, header)
    except BadData as problem:
        _log.warning("%s: %s; bad pixels and noise are as the counts tell", path, problem)
        return None
    # Where files have one HDU for each detector, its name is safer than its number.
    key = section.get("hdu", header.get("EXTNAME", number))
    with readable(f"unreadable mask or variance {delivered.name}"):
        with opened(delivered) as hdus:
            plane = convert(hdus, key)
        if plane.shape != shape:
            raise ValueError(f"{plane.shape} pixels where the image has {shape}")
    return plane


def _file(section: dict, path: Path, header: fits.Header) -> Path:
    """The file that a section names: that of the image, one named as in a rule, or one of a similar name."""
    rule = section.get("file")
    if rule is None:
        return path
    if isinstance(rule, str):
        return companions.path(section, translate.Image(path, translate.header_lookup(header)))
    name = path.name
    for old, new in rule.items():
        name = name.replace(old, new)
    if name == path.name or not path.with_name(name).is_file():
        raise BadData(f"no file {name if name != path.name else rule} beside the image", Kind.FILE)
    return path.with_name(name)


def _planes(section: dict) -> dict:
    """What each plane is called in the file; of LSST masks the planes of the same name too, unless they are ignored."""
    planes = section.get("planes", {})
    if section["format"] != "lsst":
        return planes
    ignored = np.atleast_1d(planes.get(IGNORE, []))
    own = {plane: [plane] for plane in _plane_bits() if plane not in ignored}
    return own | {plane: [plane, *np.atleast_1d(names)] for plane, names in planes.items() if plane != IGNORE}


def _lsst(hdus: fits.HDUList, key: int | str, planes: dict, shape: tuple[int, int]) -> np.ndarray:
    """Planes of an LSST mask, whose header says which bit (MP_*) is which plane; unknown ones are not read."""
    numbers = {name[3:]: value for name, value in hdus[key].header.items() if name.startswith("MP_")}
    stored = {plane: [numbers[name] for name in names if name in numbers] for plane, names in planes.items()}
    return _bits(hdus, key, stored, shape)


def _bits(hdus: fits.HDUList, key: int | str, planes: dict, shape: tuple[int, int]) -> np.ndarray:
    """Planes of a mask whose bits, counted from 0, mean something each."""
    values, index = _values(pixels(hdus[key])[0])
    wanted = {plane: sum(1 << number for number in numbers) for plane, numbers in planes.items()}
    return _merged(wanted, values.shape, lambda bits: (values & bits) != 0)[index]


def _codes(hdus: fits.HDUList, key: int | str, planes: dict, shape: tuple[int, int]) -> np.ndarray:
    """Planes of a mask whose values mean one thing each; 0 is a good pixel, and others that the map does not know
    are an error: it is the map of another kind of mask.
    """
    values, index = _values(pixels(hdus[key])[0])
    known = np.isin(values, [0, *_names(planes)])
    if not known[index].all():
        unknown = np.unique(index[~known[index]])
        raise ValueError(f"codes {', '.join(map(str, values[unknown]))} are not in the instrument map")
    return _merged(planes, values.shape, lambda codes: np.isin(values, codes))[index]


def _values(stored: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values that a mask may have, and which of them each pixel has: what they mean is looked up once for each."""
    if stored.dtype.kind not in "iu":
        raise ValueError("the mask does not hold integers")
    top = int(stored.max(initial=0))
    if stored.min(initial=0) >= 0 and top < _TABLE:
        return np.arange(top + 1), stored
    values, index = np.unique(stored, return_inverse=True)
    return values.astype(np.int64), index


def _sdss_fpm(hdus: fits.HDUList, key: int | str, planes: dict, shape: tuple[int, int]) -> np.ndarray:
    """Planes of an SDSS fpM file, each an HDU: spans (row, first column, last column) as big-endian int16."""

    def painted(numbers: Sequence[int]) -> np.ndarray:
        marked = np.zeros(shape, bool)
        for row in (row for number in numbers for row in hdus[number].data):
            spans = np.asarray(row["s"], np.uint8)[: 6 * row["nspan"]].view(">i2").reshape(-1, 3)
            for y, first, last in spans:
                marked[y, first : last + 1] = True
        return marked

    return _merged(planes, shape, painted)


def _merged(planes: dict, shape: tuple[int, int], marked) -> np.ndarray:
    """The mask with each plane set where `marked` says so of what the plane is called in the file."""
    merged = np.zeros(shape, np.int32)
    for plane, names in planes.items():
        if plane != IGNORE and names:
            merged[marked(names)] |= 1 << _plane_bits()[plane]
    return merged


_MASKS = {"lsst": _lsst, "bits": _bits, "codes": _codes, "sdss_fpm": _sdss_fpm}


def _check(section: object, fields: set[str], formats: dict) -> None:
    """ValueError where a section has unknown fields or an unknown format, or names no place."""
    if not isinstance(section, dict):
        raise ValueError("must be a mapping")
    unknown = set(section) - fields
    if unknown:
        raise ValueError(f"unknown field {', '.join(map(str, unknown))} (known: {', '.join(sorted(fields))})")
    if section.get("format", "variance") not in formats:
        raise ValueError(f"unknown format {section.get('format')} (known: {', '.join(formats)})")
    if not {"file", "hdu"} & set(section):
        raise ValueError("needs a file, an hdu, or both")
    if not isinstance(section.get("file", ""), str | dict):
        raise ValueError("file must be a name, or a mapping of what to replace in the name of the image")
    if "pattern" in section and not isinstance(section.get("file"), str):
        raise ValueError("a pattern belongs to the name of a file")
    companions.check(section)


def _plane_bits() -> dict[str, int]:
    # Imported late: exposures need scipy, headers do not.
    from diaflow.image.planes import PLANES

    return PLANES


def _names(planes: dict) -> list:
    """What all planes are called in the file."""
    return [name for names in planes.values() for name in np.atleast_1d(np.array(names, object)).tolist()]
