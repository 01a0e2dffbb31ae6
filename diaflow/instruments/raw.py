"""Raw frames: where the amplifiers of a detector are in its file, and what is known of each.

The section `raw` of an instrument map lists them.  Sections of pixels are written as in FITS headers, [x1:x2,y1:y2],
from 1 and with both ends; a target section that is written backwards flips.  In come a file and its map, out go the
counts of the amplifiers as they were read (`Raw`), or the header that the assembled image has.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from astropy.io import fits

from diaflow.errors import BadData, InputError, Kind
from diaflow.instruments import fits_files, translate
from diaflow.instruments.columns import as_number, checked

_FIELDS = {"amplifiers", "crosstalk", "linearity", "defects", "mask"}
_SECTIONS = ("data", "overscan", "target")
_LEVELS = ("gain", "read_noise", "saturation")
_AMPLIFIER = {*_SECTIONS, *_LEVELS, "hdu", "corner", "linearity"}
CORNERS = ("ll", "lr", "ul", "ur")


@dataclass(frozen=True)
class Span:
    """A span of pixels along an axis.

    Attributes
    ----------
    start, stop : int
        The first pixel, from 0, and the one after the last.
    flipped : bool
        Whether it is written backwards.
    """

    start: int
    stop: int
    flipped: bool = False

    @property
    def slice(self) -> slice:
        """The pixels in increasing order."""
        return slice(self.start, self.stop)

    def __len__(self) -> int:
        return self.stop - self.start


Section = tuple[Span, Span]  # along y and x


@dataclass(frozen=True)
class Amplifier:
    """One read-out channel.

    Attributes
    ----------
    counts, overscan : (ny, nx) and (ny, n) arrays
        As they are in the file [DN]; n is 0 where there is no overscan.
    target : (Span, Span)
        Where the counts go on the assembled image, along y and x.
    gain, read_noise, saturation : float
        [electron/DN], [electron], [DN, bias included].
    corner : str
        Where in the section the first pixel was read: ll, lr, ul or ur (lower or upper, left or right).
    linearity : list or dict or None
        See `diaflow.isr.assemble.linearized`.
    """

    counts: np.ndarray
    overscan: np.ndarray
    target: Section
    gain: float
    read_noise: float
    saturation: float
    corner: str = "ll"
    linearity: list | dict | None = None


@dataclass(frozen=True)
class Raw:
    """A raw frame: the amplifiers of one detector and what concerns them all.

    Attributes
    ----------
    amplifiers : list of Amplifier
    defects : (ny, nx) bool array
        Pixels of the assembled image that are never any good.
    crosstalk : (n, n) array or None
        Fraction of the signal of amplifier j that appears in amplifier i, at [i, j].
    """

    amplifiers: list[Amplifier]
    defects: np.ndarray
    crosstalk: np.ndarray | None = None


def check(raw: object) -> None:
    """Refuse a section `raw` of an instrument map that is not well formed.

    Parameters
    ----------
    raw : object
        As YAML has it.

    Raises
    ------
    ValueError, TypeError
        With the fault.
    """
    raw = _mapping(raw, _FIELDS, "raw")
    entries = raw.get("amplifiers", [{}])
    if not isinstance(entries, list) or not entries:
        raise ValueError("amplifiers must be a list")
    for entry in entries:
        _check_amplifier(_mapping(entry, _AMPLIFIER, "an amplifier"))
        if len(entries) > 1 and "target" not in entry:
            raise ValueError("each of several amplifiers needs a target")
    _check_linearity(raw.get("linearity"))
    n = len(entries)
    crosstalk = np.array(raw.get("crosstalk", np.zeros((n, n))), float)
    if crosstalk.shape != (n, n) or np.diag(crosstalk).any():
        raise ValueError(f"crosstalk must be a matrix of {n} x {n} with zeros on its diagonal")
    for text in raw.get("defects", []):
        section(text)


def section(text: object) -> Section:
    """A section of pixels as FITS headers write it.

    Parameters
    ----------
    text : str
        ``[x1:x2,y1:y2]``, counted from 1 and with both ends.

    Returns
    -------
    (Span, Span)
        Along y and x.

    Raises
    ------
    ValueError
        When the text is no such section.
    """
    match = re.fullmatch(r"\s*\[\s*(\d+)\s*:\s*(\d+)\s*,\s*(\d+)\s*:\s*(\d+)\s*\]\s*", str(text))
    x1, x2, y1, y2 = (int(number) for number in match.groups()) if match else (0, 0, 0, 0)
    if min(x1, x2, y1, y2) < 1:
        raise ValueError(f"'{text}' is not a section [x1:x2,y1:y2] that counts from 1")
    return tuple(Span(min(a, b) - 1, max(a, b), a > b) for a, b in ((y1, y2), (x1, x2)))


def assembled_header(path: Path, header: fits.Header, raw: dict) -> fits.Header:
    """The header of the assembled image: its shape, and the WCS moved along with the pixels of the first amplifier.

    Parameters
    ----------
    path : Path
    header : fits.Header
        Of the HDU with the amplifiers that do not say where they are.
    raw : dict
        Section of the instrument map.

    Returns
    -------
    fits.Header
        A copy.

    Raises
    ------
    BadData
        When the file does not have the sections that the map names.
    OSError, KeyError
        When it lacks an HDU that the map names.
    """
    entries = raw.get("amplifiers", [{}])
    if any("hdu" in entry for entry in entries):
        with fits_files.opened(path) as hdus:
            headers = [hdus[entry["hdu"]].header if "hdu" in entry else header for entry in entries]
    else:
        headers = [header] * len(entries)
    layout = _layout(entries, headers)
    new = header.copy()
    new["NAXIS2"], new["NAXIS1"] = _shape(layout)
    data, _, target = layout[0]
    for axis, old, placed in zip((2, 1), data, target):
        if f"CRPIX{axis}" in header:
            distance = header[f"CRPIX{axis}"] - 1 - old.start
            first = placed.stop - 1 if placed.flipped else placed.start
            new[f"CRPIX{axis}"] = first + 1 + (-distance if placed.flipped else distance)
        if placed.flipped:
            matrix = [key for key in (f"CD1_{axis}", f"CD2_{axis}", f"PC1_{axis}", f"PC2_{axis}") if key in header]
            for key in matrix or [f"CDELT{axis}"]:
                new[key] = -header.get(key, 1.0)
    return new


def read(path: Path, hdu: int, raw: dict, columns: dict, folder: Path) -> Raw:
    """Read the amplifiers of a raw frame.

    Parameters
    ----------
    path : Path
    hdu : int
        Number of the HDU that holds the amplifiers that do not say where they are.
    raw : dict
        Section of the instrument map.
    columns : dict
        Row of the exposure table; its gain, read_noise and saturation are those of amplifiers without their own.
    folder : Path
        Where the file of the mask is.

    Returns
    -------
    Raw

    Raises
    ------
    BadData
        When the file does not have what the map says.
    OSError, KeyError, ...
        Whatever astropy raises of an unreadable file.
    InputError
        When the mask cannot be used.
    """
    entries = raw.get("amplifiers", [{}])
    with fits_files.opened(path) as hdus:
        images = [hdus[entry.get("hdu", hdu)] for entry in entries]
        layout = _layout(entries, [image.header for image in images])
        amplifiers, counts_of = [], cache(_counts)
        for entry, image, (data, overscan, target) in zip(entries, images, layout):
            view = translate.Image(path, translate.header_lookup(image.header, hdus[0].header), columns=columns)
            rules = {name: entry.get(name, columns[name]) for name in _LEVELS}
            levels = {name: checked(name, translate.evaluate(rules[name], name, view)) for name in _LEVELS}
            levels = {name: as_number(value, name) for name, value in levels.items()}
            counts = counts_of(image)
            amplifiers.append(
                Amplifier(
                    _cut(counts, data),
                    _cut(counts, overscan),
                    target,
                    corner=entry.get("corner", "ll"),
                    linearity=entry.get("linearity", raw.get("linearity")),
                    **levels,
                )
            )
    defects = _defects(raw, _shape(layout), folder, columns["detector"])
    return Raw(amplifiers, defects, np.array(raw["crosstalk"], float) if "crosstalk" in raw else None)


def _layout(entries: Sequence[dict], headers: Sequence[fits.Header]) -> list[tuple[Section, Section, Section]]:
    """Data, overscan and target section of each amplifier; the targets together start at pixel (0, 0)."""
    layout = []
    for number, (entry, header) in enumerate(zip(entries, headers), 1):
        whole = f"[1:{header['NAXIS1']},1:{header['NAXIS2']}]"
        data = _section_of(entry.get("data", whole), header)
        overscan = _section_of(entry["overscan"], header) if "overscan" in entry else (data[0], Span(0, 0))
        target = _section_of(entry["target"], header) if "target" in entry else data
        if [len(span) for span in target] != [len(span) for span in data]:
            raise BadData(f"amplifier {number}: target and data are not of the same size", Kind.HEADER)
        if overscan[0].start > data[0].start or overscan[0].stop < data[0].stop:
            raise BadData(f"amplifier {number}: the overscan does not have the rows of the data", Kind.HEADER)
        if max(data[0].stop, overscan[0].stop) > header["NAXIS2"] or (
            max(data[1].stop, overscan[1].stop) > header["NAXIS1"]
        ):
            raise BadData(f"amplifier {number}: its sections are not within the image {whole}", Kind.HEADER)
        layout.append((data, (data[0], overscan[1]), target))
    starts = [min(target[axis].start for _, _, target in layout) for axis in (0, 1)]
    return [
        (data, overscan, tuple(replace(s, start=s.start - o, stop=s.stop - o) for s, o in zip(target, starts)))
        for data, overscan, target in layout
    ]


def _section_of(rule: str | dict, header: fits.Header) -> Section:
    """The section that a rule writes down, or that a header key holds."""
    if isinstance(rule, str):
        return section(rule)
    keys = [rule["key"]] if isinstance(rule["key"], str) else rule["key"]
    key = next((key for key in keys if key in header), None)
    if key is None:
        raise BadData(f"header has no {' or '.join(keys)}", Kind.HEADER)
    try:
        return section(header[key])
    except ValueError as fault:
        raise BadData(f"{key} {fault}", Kind.HEADER) from None


def _shape(layout: Sequence[tuple[Section, Section, Section]]) -> tuple[int, int]:
    """(ny, nx) of the assembled image."""
    return tuple(max(target[axis].stop for _, _, target in layout) for axis in (0, 1))


def _counts(image: fits.ImageHDU) -> np.ndarray:
    """The counts of a frame; undefined ones are at the lower end of their type, which no measurement is."""
    counts, undefined = fits_files.pixels(image)
    if undefined.any():
        counts[undefined] = np.nan if counts.dtype.kind == "f" else np.iinfo(counts.dtype).min
    return counts


def _cut(pixels: np.ndarray, where: Section) -> np.ndarray:
    return pixels[where[0].slice, where[1].slice]


def _defects(raw: dict, shape: tuple[int, int], folder: Path, detector: int) -> np.ndarray:
    """Pixels of the assembled image that the sections and the mask of the map call bad."""
    bad = np.zeros(shape, bool)
    for text in raw.get("defects", []):
        y, x = section(text)
        bad[y.slice, x.slice] = True
    if "mask" in raw:
        path = folder / raw["mask"].format(detector=detector)
        try:
            with fits_files.readable(f"unreadable mask {path}"):
                mask = fits.getdata(path)
        except BadData as problem:
            raise InputError(str(problem)) from problem
        if mask.shape != shape:
            raise InputError(f"mask {path} has {mask.shape} pixels and the image {shape}")
        bad |= mask != 0
    return bad


def _mapping(value: object, fields: set[str], what: str) -> dict:
    if not isinstance(value, dict):
        raise ValueError(f"{what} must be a mapping")
    unknown = set(value) - fields
    if unknown:
        raise ValueError(f"unknown key {', '.join(map(str, unknown))} in {what} (known: {', '.join(sorted(fields))})")
    return value


def _check_amplifier(entry: dict) -> None:
    for name in set(_SECTIONS) & set(entry):
        if isinstance(entry[name], dict):
            _mapping(entry[name], {"key"}, name)
        else:
            section(entry[name])
    for name in _LEVELS:
        translate.check_rule(entry.get(name), name)
    if entry.get("corner", "ll") not in CORNERS:
        raise ValueError(f"unknown corner {entry['corner']} (known: {', '.join(CORNERS)})")
    _check_linearity(entry.get("linearity"))


def _check_linearity(linearity: object) -> None:
    if isinstance(linearity, dict):
        _mapping(linearity, {"measured", "true"}, "linearity")
        measured, true = (np.array(linearity.get(name, []), float) for name in ("measured", "true"))
        if len(measured) != len(true) or len(true) < 2 or (np.diff(measured) <= 0).any():
            raise ValueError("linearity needs as many increasing counts `measured` as `true` ones")
    elif linearity is not None:
        np.array(linearity, float).reshape(-1, 1)
