"""The objects of a patch, from its coadds in all bands to rows of table "object"."""

import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from diaflow.catalogue import deblend, detection, neighbours, sky
from diaflow.catalogue.blends import Blends
from diaflow.catalogue.measure.measurement import measure
from diaflow.catalogue.measure.merge_measurements import merge_measurements
from diaflow.catalogue.measure.positions import refined, with_neighbours
from diaflow.catalogue.merge import GROWTH, Peaks, merge
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.image.noise import Noise
from diaflow.psf.stampfield import moments_sigma
from diaflow.sky.skymap.maps import SkyMap
from diaflow.sky.wcs import central_pixel_scale
from diaflow.store import ids, tables

NAME = "object"
_log = logging.getLogger(__name__)


def ranked(bands: list[str], priority: list[str]) -> list[str]:
    """Bands in the order in which they tell the place of an object.

    Parameters
    ----------
    bands, priority : lists of str

    Returns
    -------
    list of str
        Those of the list of priorities in its order, then the others in alphabetical order.
    """
    return [band for band in priority if band in bands] + sorted(set(bands) - set(priority))


def patch_objects(
    coadds: dict[str, str | Path],
    skymap: SkyMap,
    tract: int,
    patch: str,
    refcat: str | Path | None = None,
    mjd: float = np.nan,
) -> np.ndarray:
    """Detect, merge, deblend and measure the objects of a patch.

    Parameters
    ----------
    coadds : dict of str to path
        By band, in the order in which bands tell the place of an object.
    skymap : SkyMap
        With the tracts around.
    tract, patch : int, str
        The patch.
    refcat : path, optional
        Reference catalogue of the run.
    mjd : float
        Date at which its stars are looked for, TAI [d].

    Returns
    -------
    table "object"
        With columns of all bands, empty and flagged for a band whose coadd failed; parents before their children.
    """
    noises, found, wcs, missing = {}, [], None, True
    for band, path in coadds.items():
        try:
            exposure = _usable(path)
            stamp = detection.typical_stamp(exposure)
        except BadData as error:
            _log.warning("%s: no objects in band %s: %s", path, band, error)
            continue
        exposure, sources = detection.checked(exposure, stamp)
        noises[band], wcs = exposure.noise, exposure.wcs
        # What is seen is above the sky that is left beyond the band's own sources.
        exposure.image -= np.float32(sky.level(exposure, sources, 2 * GROWTH * moments_sigma(stamp)))
        found.append(detection.detect(exposure, stamp))
        missing = missing & exposure.flagged("NO_DATA")
    if not found:
        return tables.empty(NAME, 0, list(coadds))
    bands = list(noises)
    peaks = merge(found, central_pixel_scale(wcs, found[0].snr.shape))
    widths = [each.sigma for each in found]
    del found
    # As far from footprints as these are from what is above the threshold.
    levels = {band: sky.level(_usable(coadds[band]), peaks.footprint > 0, GROWTH * max(widths)) for band in bands}
    read = _reader(coadds, noises, levels)
    peaks = _at_their_places(peaks, lambda k: read(bands[k]), widths)
    tree = deblend.tree(peaks, missing)
    deblender = deblend.Deblender(peaks, tree, lambda k: read(bands[k]), widths)
    measured, areas = {}, {}
    for band in bands:
        exposure = read(band)
        blends = deblender.blends(exposure)
        measured[band], areas[band] = measure(exposure, blends), _areas(blends)
    table = _table(merge_measurements(measured, blends, bands), areas, list(coadds))
    for k, band in enumerate(bands):
        table[f"{band}_sky"] = levels[band]
        table[f"{band}_merge_peak"] = np.where(tree.peak >= 0, peaks.seen[tree.peak, k], False)
    _set_tree(table, tree, tract, patch)
    _set_sky(table, *wcs.all_pix2world(deblender.x, deblender.y, 0), skymap, tract, patch)
    if refcat is not None:
        neighbours.set_columns(table, refcat, bands, mjd)
    return table


def _usable(path: str | Path) -> Exposure:
    exposure = Exposure.read(path)
    if exposure.metadata.get("status") == "failed":
        raise BadData(exposure.metadata["reason"], Kind.TEMPLATE)
    return exposure


def _reader(
    coadds: dict[str, str | Path], noises: dict[str, Noise], levels: dict[str, float]
) -> Callable[[str], Exposure]:
    """Reads the coadd of a band without the level of its sky, with the noise that it has; the last stays in memory."""

    @functools.lru_cache(maxsize=1)
    def read(band: str) -> Exposure:
        exposure = replace(Exposure.read(coadds[band]), noise=noises[band])
        exposure.image -= np.float32(levels[band])
        return exposure

    return read


def _at_their_places(peaks: Peaks, read: Callable[[int], Exposure], widths: list[float]) -> Peaks:
    """The peaks where fits of PSFs are best in the band that tells their place, before they share out their pixels."""
    x, y = peaks.x.copy(), peaks.y.copy()
    for band in np.unique(peaks.reference).tolist():
        wanted = peaks.reference == band
        some = with_neighbours(x, y, wanted, widths[band])
        x[some], y[some] = refined(read(band), x[some], y[some], wanted[some])
    return replace(peaks, x=x, y=y)


def _areas(blends: Blends) -> np.ndarray:
    """Pixels of the footprint of each."""
    counted = np.concatenate([[0], np.cumsum(blends.footprint)])
    return np.diff(counted[blends.offsets])


def _table(merged: np.ndarray, areas: dict[str, np.ndarray], bands: list[str]) -> np.ndarray:
    """Table "object" with what was measured; flags are set in a band that was not."""
    table = tables.empty(NAME, len(merged), bands)
    for column in table.dtype.names:
        if column in merged.dtype.names:
            table[column] = merged[column]
        elif column.endswith("_flag"):
            table[column] = True
    for band, area in areas.items():
        mine = merged["refBand"] == band
        table["footprintArea"][mine] = area[mine]
    return table


def _set_tree(table: np.ndarray, tree: deblend.Tree, tract: int, patch: str) -> None:
    table["objectId"] = ids.object_ids(tract, patch, len(table))
    table["tract"], table["patch"] = tract, patch
    has_parent = tree.parent >= 0
    table["parentObjectId"] = np.where(has_parent, table["objectId"][tree.parent], 0)
    table["deblend_nChild"], table["deblend_nPeaks"] = tree.n_child, tree.n_peaks
    table["deblend_skipped"] = tree.skipped
    table["detect_fromBlend"] = has_parent
    table["detect_isIsolated"] = ~has_parent & (tree.n_child == 0)


def _set_sky(table: np.ndarray, ra: np.ndarray, dec: np.ndarray, skymap: SkyMap, tract: int, patch: str) -> None:
    """Positions, and which patch and tract they belong to: of overlapping ones, one has an object as a primary one."""
    table["ra"], table["dec"] = ra, dec
    table["detect_isPatchInner"] = skymap.tracts[tract].find_patch(ra, dec) == patch
    table["detect_isTractInner"] = skymap.find_tract(ra, dec) == tract
    inner = table["detect_isPatchInner"] & table["detect_isTractInner"]
    table["detect_isPrimary"] = inner & (table["deblend_nChild"] == 0)
