"""Exposure table of visits that are only a list yet: where the CCDs of a camera would fall.

A list of visits (CSV: visit, band, mjd, ra, dec, rotation, seeing) and the layout of a camera give the rows that the
headers of the images would give, so that a survey can be planned before it is observed.  The CCDs form a grid around
the boresight; with no rotation x points west and y north (Calabretta & Greisen 2002 for the projection).
"""

import csv
import re

import numpy as np

from diaflow.errors import InputError
from diaflow.sky import sphere
from diaflow.store import tables
from diaflow.store.files import existing

MANY = 10  # visits whose positions are all as small as radians by no chance, chosen


def _visit(text: str) -> int:
    if not re.fullmatch(r"[0-9]+", text.strip(), re.ASCII):
        raise ValueError(f"the visit '{text}' is no whole number")
    return int(text)


def _number(text: str) -> float:
    value = float(text)
    if not np.isfinite(value) or "_" in text:
        raise ValueError(f"'{text}' is no number")
    return value


def _declination(text: str) -> float:
    value = _number(text)
    if abs(value) > 90:
        raise ValueError(f"the declination {text} is beyond a pole")
    return value


COLUMNS = {
    "visit": _visit,
    "band": str.strip,
    "mjd": _number,
    "ra": _number,
    "dec": _declination,
    "rotation": _number,
    "seeing": _number,
}


def is_list(images: str | list[str]) -> bool:
    """Whether the configured images are lists of visits: all of them CSV files."""
    patterns = [images] if isinstance(images, str) else images
    return all(pattern.endswith(".csv") for pattern in patterns)


def exposures(images: str | list[str], camera: dict, bands: list[str], detectors: list[int]) -> np.ndarray:
    """The exposure table of lists of visits.

    Parameters
    ----------
    images : str or list of str
        Paths or glob patterns of CSV files with the columns `COLUMNS`: mjd [d, TAI], ra, dec and rotation of the
        camera [deg], seeing [arcsec].
    camera : dict
        Section `camera` of the configuration.
    bands, detectors : list
        Keep these only; empty for all.

    Returns
    -------
    table "exposure", sorted by visit and detector.  Every path is that of the list.

    Raises
    ------
    InputError
        When no file matches, a file lacks a column, a line has more or fewer, a value is no number, a visit is listed
        twice, no visit is left, or the positions of many visits look like radians.
    """
    patterns = [images] if isinstance(images, str) else images
    listed = [row for pattern in patterns for path in existing(pattern, "images") for row in _read(path)]
    visits = sorted((row for row in listed if not bands or row["band"] in bands), key=lambda row: row["visit"])
    if not visits:
        raise InputError(f"images: no visit in {', '.join(patterns)}")
    for one, other in zip(visits, visits[1:]):
        if one["visit"] == other["visit"]:
            raise InputError(f"images: visit {one['visit']} is listed twice ({one['path']}, {other['path']})")
    _refuse_radians(visits)
    columns, rows = camera["detectors"]
    numbers = [number for number in range(columns * rows) if not detectors or number in detectors]
    sky = _corners(visits, camera, np.array(numbers))
    per_image = {name: np.repeat([row[name] for row in visits], len(numbers)) for name in ("visit", "mjd", "seeing")}
    return tables.from_columns(
        "exposure",
        **per_image,
        **sky,
        imagetype="science",
        detector=np.tile(numbers, len(visits)),
        band=[row["band"] for row in visits for _ in numbers],
        path=[row["path"] for row in visits for _ in numbers],
        exptime=camera["exptime"],
        nx=camera["size"][0],
        ny=camera["size"][1],
        pixel_scale=camera["pixel_scale"],
        status="ok",
    )


def _refuse_radians(visits: list[dict]) -> None:
    """Not guessed: a field within 6.3 deg of RA 0 and 1.6 deg of the equator looks the same."""
    if len(visits) >= MANY and all(abs(v["ra"]) <= 2 * np.pi and abs(v["dec"]) <= np.pi / 2 for v in visits):
        raise InputError(
            f"images: the positions in {visits[0]['path']} look like radians and must be degrees; if they are degrees, "
            "add 360 to ra"
        )


def _read(path: str) -> list[dict]:
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            missing = COLUMNS.keys() - set(reader.fieldnames or ())
            if missing:
                raise InputError(f"{path}: a list of visits needs the columns {', '.join(COLUMNS)}")
            return [_row(row, f"{path}: line {reader.line_num}") | {"path": path} for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable list of visits ({error})") from error


def _row(row: dict, place: str) -> dict:
    if None in row or None in row.values():
        raise InputError(f"{place}: has not one value for each column")
    try:
        return {name: kind(row[name]) for name, kind in COLUMNS.items()}
    except ValueError as error:
        raise InputError(f"{place}: {error}") from None


def _corners(visits: list[dict], camera: dict, numbers: np.ndarray) -> dict[str, np.ndarray]:
    """Columns ra, dec, ra_1 ... dec_4 [deg] of every CCD of every visit."""
    (columns, rows), size = camera["detectors"], np.array(camera["size"])
    grid = np.stack([numbers % columns - (columns - 1) / 2, numbers // columns - (rows - 1) / 2], axis=-1)
    points = np.array([[0, 0], [-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) * size
    pixels = (grid * (size + camera["gap"]))[:, None, :] + points
    x, y = np.moveaxis(np.radians(camera["pixel_scale"] / 3600) * pixels, -1, 0)
    ra_0, dec_0, angle = (np.array([row[name] for row in visits])[:, None, None] for name in ("ra", "dec", "rotation"))
    cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    ra, dec = sphere.from_gnomonic(-cosine * x + sine * y, sine * x + cosine * y, ra_0, dec_0)
    names = ["", "_1", "_2", "_3", "_4"]
    return {
        axis + name: values[:, :, k].ravel()
        for axis, values in (("ra", ra), ("dec", dec))
        for k, name in enumerate(names)
    }
