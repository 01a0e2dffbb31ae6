"""The rows of the light curves: which flux, which are dropped and how many; every format writes the same ones.

The flux is that of forced photometry on the difference images, negative ones included.  A row without a finite flux and
a positive error has nothing to tell, and poisons fits: it is dropped.  A row with `pixelFlags` is kept where it can say
so, and dropped where it would pass for a good one; the configuration may decide otherwise.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diaflow.errors import InputError
from diaflow.store import ids, provenance, tables
from diaflow.units import NANOJANSKY_ZERO_POINT

COLUMNS = (
    "diaForcedSourceId", "diaObjectId", "ra", "dec", "visit", "detector", "band", "midpointMjdTai", "psfFlux",
    "psfFluxErr", "pixelFlags", "visitInTemplate",
)  # fmt: skip
IN_TEMPLATE, PIXEL_FLAGS = 1, 2  # bits of `flag_bits`
TIME_DIGITS = 8  # decimals of an MJD in a text: 1 ms


@dataclass(frozen=True)
class LightCurves:
    """The light curves of all DIAObjects.

    Attributes
    ----------
    objects : (n,) structured array
        Table "dia_object", by diaObjectId.
    points : structured array
        The columns `COLUMNS` of "dia_forced_source", by diaObjectId and time.
    first : (n + 1,) int array
        The points of object i are those from first[i] to before first[i + 1].
    without_flux, flagged : (n,) int arrays
        Rows of each object that were dropped: for lack of a flux, for their pixelFlags.
    flagged_are_dropped : bool
        Whether rows with pixelFlags are.
    """

    objects: np.ndarray
    points: np.ndarray
    first: np.ndarray
    without_flux: np.ndarray
    flagged: np.ndarray
    flagged_are_dropped: bool

    def __iter__(self) -> Iterator[tuple[np.void, np.ndarray, dict]]:
        """Row, points and metadata of each object that has points."""
        common = self._common_metadata()
        for i in np.flatnonzero(np.diff(self.first)):
            dropped = (self.without_flux[i], self.flagged[i])
            points = self.points[self.first[i] : self.first[i + 1]]
            yield self.objects[i], points, common | _counts(len(points), *dropped)

    def metadata(self) -> dict[str, str | int | float]:
        """What a file of all light curves says of them.

        Returns
        -------
        dict
            Flux, unit and zero point, time scale, what was dropped and how often, what made the file, and how many
            objects there are.
        """
        counts = _counts(len(self.points), self.without_flux.sum(), self.flagged.sum())
        empty = int((np.diff(self.first) == 0).sum())
        objects = {"objects": len(self.objects), "objects_without_points": empty}
        return self._common_metadata() | counts | objects

    def _common_metadata(self) -> dict[str, str | int | float]:
        return {
            "flux": "psfFlux of forced photometry on difference images",
            "flux_unit": "nJy",
            "zero_point": NANOJANSKY_ZERO_POINT,
            "magnitude_system": "AB",
            "time": "MJD of the middle of the exposure",
            "time_scale": "TAI",
            "dropped_flags": "psfFlux_flag, pixelFlags" if self.flagged_are_dropped else "psfFlux_flag",
        } | {keyword: value for keyword, value, _ in provenance.cards()}


def _counts(points: int, without_flux: int, flagged: int) -> dict[str, int]:
    return {"points": int(points), "dropped_without_flux": int(without_flux), "dropped_flagged": int(flagged)}


def read(dia_objects: str | Path, dia_forced_sources: str | Path, keep_flagged: bool) -> LightCurves:
    """The light curves in the tables of a run.

    Parameters
    ----------
    dia_objects, dia_forced_sources : paths
        The collected tables "dia_object" and "dia_forced_source".
    keep_flagged : bool
        Whether to keep rows with pixelFlags.

    Returns
    -------
    LightCurves

    Raises
    ------
    InputError
        When a table cannot be read, or an object is in the second one alone; the message names the file.
    """
    objects = tables.read("dia_object", dia_objects)
    objects = objects[np.argsort(objects["diaObjectId"])]
    rows = tables.read("dia_forced_source", dia_forced_sources, [*COLUMNS, "psfFlux_flag"])
    rows = rows[rows["diaObjectId"] != 0]  # without the user's positions
    rows = rows[np.lexsort((rows["diaForcedSourceId"], rows["midpointMjdTai"], rows["diaObjectId"]))]
    place = ids.rows_of(objects["diaObjectId"], rows["diaObjectId"])
    strange = place < 0
    if strange.any():
        raise InputError(f"{dia_forced_sources}: diaObjectId {rows['diaObjectId'][strange][0]} is not in {dia_objects}")

    measured = ~rows["psfFlux_flag"] & np.isfinite(rows["psfFlux"])
    measured &= np.isfinite(rows["psfFluxErr"]) & (rows["psfFluxErr"] > 0)
    flagged = measured & rows["pixelFlags"] & (not keep_flagged)
    without_flux, dropped = (np.bincount(place[which], minlength=len(objects)) for which in (~measured, flagged))
    kept = measured & ~flagged
    points = np.empty(kept.sum(), [(name, rows.dtype[name]) for name in COLUMNS])
    for name in COLUMNS:
        points[name] = rows[name][kept]
    first = np.searchsorted(place[kept], np.arange(len(objects) + 1))
    return LightCurves(objects, points, first, without_flux, dropped, not keep_flagged)


def flag_bits(points: np.ndarray) -> np.ndarray:
    """The flags of points in one number, for formats that have a place for one.

    Parameters
    ----------
    points : structured array
        As in `LightCurves`.

    Returns
    -------
    int array
        `IN_TEMPLATE` where the visit is part of the template, plus `PIXEL_FLAGS` where a pixel is bad.
    """
    return IN_TEMPLATE * points["visitInTemplate"] + PIXEL_FLAGS * points["pixelFlags"]
