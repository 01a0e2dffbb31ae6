"""What a run consists of, known before any pixel is read: visits, patches, overlaps and the planned template.

Everything follows from the exposure table (image headers) and the configuration.  The look-ups that the workflow
needs for each job are dictionaries, built once.
"""

import functools
import glob
import hashlib
import json
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from os.path import exists, islink
from pathlib import Path

import numpy as np

from diaflow.errors import InputError, Kind
from diaflow.instruments import maps
from diaflow.instruments.ingest import all_images, leave_out
from diaflow.run import methods, select, visitlist
from diaflow.simulate import pointing
from diaflow.sky import sphere
from diaflow.sky.overlaps import lay_out
from diaflow.sky.skymap.maps import SkyMap, strays
from diaflow.store import files, tables
from diaflow.units import NIGHT

# Pointing errors and header WCS may move an image by this much against where its header says it is.
MARGIN_ARCSEC = 30.0

Patch = tuple[int, str]


@dataclass(frozen=True)
class Plan:
    """The exposures of a run and where they fall.

    Attributes
    ----------
    exposures : "exposure" table
        All images, usable or not, and calibration frames.
    skymap : SkyMap
    overlaps : "overlap" table
    selection : "selection" table
        Template visits as `seeing` tells; final when the selection does not ask for the seeing.
    template : dict
        Planned visits of each (tract, patch, band) that has any by list and date; empty where the seeing excludes all.
    science : list of int
        Visits to difference.
    seeing : str
        What the selection was planned with: "measured" where every visit is, "header" where some are known from
        headers, "none" where all visits are planned because the seeing of some is unknown, "" where none is asked for.
    deep : dict
        As `template`, of the deep coadds; empty where no objects are asked for.
    deep_seeing : str
        As `seeing`, of the deep coadds.
    """

    exposures: np.ndarray
    skymap: SkyMap
    overlaps: np.ndarray
    selection: np.ndarray
    template: dict[tuple[int, str, str], list[int]]
    science: list[int]
    seeing: str = ""
    deep: dict[tuple[int, str, str], list[int]] = field(default_factory=dict)
    deep_seeing: str = ""

    @functools.cached_property
    def usable(self) -> np.ndarray:
        """Rows of the exposure table: the usable images."""
        return self.exposures[self.exposures["status"] == "ok"]

    @property
    def files(self) -> list[str]:
        """Paths of all images; a link that leads nowhere is no file, though it has a row of the table."""
        return sorted(path for path in set(self.exposures["path"].tolist()) if exists(path) or not islink(path))

    @functools.cached_property
    def images(self) -> dict[int, list[str]]:
        """Paths of the usable images of each visit; a file that holds several detectors counts once."""
        return _unique(_tuples(self.usable, "visit", "path"))

    @functools.cached_property
    def calibrations(self) -> dict[tuple[str, str], list[str]]:
        """Paths of the calibration frames of each (imagetype, band); bias and dark have no band."""
        frames = self.exposures[self.exposures["status"] == "calibration"]
        rows = _tuples(frames, "imagetype", "band", "path")
        return _unique(((imagetype, band), path) for imagetype, band, path in rows)

    @functools.cached_property
    def bands(self) -> dict[int, str]:
        """The band of each visit."""
        return dict(_tuples(self.usable, "visit", "band"))

    @functools.cached_property
    def dates(self) -> dict[int, float]:
        """MJD of each visit, TAI."""
        return dict(_tuples(self.usable, "visit", "mjd"))

    @functools.cached_property
    def patches(self) -> dict[int, list[Patch]]:
        """(tract, patch) that each visit touches."""
        overlaps = _tuples(self.overlaps, "tract", "patch", "visit")
        touched = _unique((visit, (tract, patch)) for tract, patch, visit in overlaps)
        return {visit: touched.get(visit, []) for visit in self.images}

    @functools.cached_property
    def science_visits(self) -> dict[Patch, list[int]]:
        """Visits to difference of each (tract, patch) that has any."""
        visits = defaultdict(list)
        for visit in self.science:
            for patch in self.patches[visit]:
                visits[patch].append(visit)
        return dict(visits)

    @functools.cached_property
    def nights(self) -> dict[int, list[int]]:
        """Visits to difference of each night, in order of their dates, by the first of them."""
        ordered = sorted(self.science, key=lambda visit: (self.dates[visit], visit))
        late = [self.dates[visit] - self.dates[before] >= NIGHT for before, visit in zip(ordered, ordered[1:])]
        starts = [0, *(k for k, new in enumerate(late, 1) if new), len(ordered)]
        return {ordered[start]: ordered[start:end] for start, end in zip(starts, starts[1:])}

    @functools.cached_property
    def reference_visits(self) -> dict[int, int | None]:
        """The visit that each is aligned to without a catalogue."""
        return select.reference_visits(self.bands, dict(_tuples(self.usable, "visit", "exptime")))

    @functools.cached_property
    def visits(self) -> list[int]:
        """All visits with at least one usable image."""
        return sorted(self.images)

    @functools.cached_property
    def detectors(self) -> list[int]:
        """All detectors with at least one usable image."""
        return np.unique(self.usable["detector"]).tolist()

    @functools.cached_property
    def _rows(self) -> dict[int, list[tuple]]:
        rows = defaultdict(list)
        for visit, row in zip(self.usable["visit"].tolist(), self.usable.tolist()):
            rows[visit].append(row)
        return dict(rows)

    def rows(self, *visits: int) -> list[tuple]:
        """Rows of the exposure table for `tables.from_rows`: the usable images of some visits in their order."""
        return [row for visit in visits for row in self._rows[visit]]

    def calibration_rows(self, imagetype: str, band: str = "") -> list[tuple]:
        """Rows of the exposure table: the calibration frames of a kind.

        Parameters
        ----------
        imagetype : str
            "bias", "dark" or "flat".
        band : str
            Of a flat; bias and dark have none.

        Returns
        -------
        list of tuple
        """
        table = self.exposures
        of_kind = (table["status"] == "calibration") & (table["imagetype"] == imagetype) & (table["band"] == band)
        return table[of_kind].tolist()

    def sky_around(self, *around: int) -> dict:
        """The sky map, as `SkyMap.from_dict` takes it, without the tracts that reach no position of some tracts."""
        every, centres = self.skymap.columns, self._centres
        rows = [np.flatnonzero(every.id == tract)[0] for tract in around]
        apart = np.min([sphere.separation(centres, centres[row]) for row in rows], axis=0)
        near = every.id[apart <= 2 * np.arctan(every.half_diagonal.max())].tolist()
        return replace(self.skymap, tracts={number: self.skymap.tracts[number] for number in near}).to_dict()

    @functools.cached_property
    def _centres(self) -> np.ndarray:
        """Unit vectors of the centres of all tracts."""
        return sphere.unit_vectors(self.skymap.columns.ra, self.skymap.columns.dec)

    def joint_visits(self, number: int) -> list[int]:
        """The first visits of each band, in order of the visits.

        Parameters
        ----------
        number : int
            Of visits of each band; a band that has fewer gives them all.

        Returns
        -------
        list of int
        """
        of_band = defaultdict(list)
        for visit in self.visits:
            of_band[self.bands[visit]].append(visit)
        return sorted(visit for visits in of_band.values() for visit in visits[:number])

    def template_patches(self, visit: int) -> list[tuple[int, str, str]]:
        """(tract, patch, band) of the template coadds that a visit needs."""
        band = self.bands[visit]
        return [(tract, patch, band) for tract, patch in self.patches[visit] if (tract, patch, band) in self.template]

    def science_patches(self) -> list[Patch]:
        """(tract, patch) that visits to difference touch."""
        return sorted(self.science_visits)

    @functools.cached_property
    def deep_bands(self) -> dict[Patch, list[str]]:
        """Bands of the deep coadds of each (tract, patch) that has any, in alphabetical order."""
        return _unique(((tract, patch), band) for tract, patch, band in sorted(self.deep))

    @functools.cached_property
    def template_bands(self) -> dict[Patch, list[str]]:
        """Bands of the templates of each (tract, patch) that has any, in alphabetical order."""
        return _unique(((tract, patch), band) for tract, patch, band in sorted(self.template))


def make(config: dict, exposures_path: str | Path, summary_path: str | Path = "") -> Plan:
    """Plan a run from a validated configuration.

    Parameters
    ----------
    config : dict
        The whole configuration.
    exposures_path : path
        Exposure table of an earlier ingest; used when it is still that of the same files, else headers are read.
    summary_path : path
        Table "visit_summary" of an earlier run: the measured seeing, where the template selection asks for it.

    Returns
    -------
    Plan

    Raises
    ------
    InputError
        When no image can be used; the message names the glob or the file.
    """
    exposures = exposure_table(config, exposures_path)
    exposures = exposures[exposures["imagetype"] != "other"]
    kind_of_map = methods.load("sky.skymap", config["skymap"]["type"])
    sky, overlaps = lay_out(config["skymap"], exposures, kind_of_map, MARGIN_ARCSEC)
    science = select.science_visits(exposures[exposures["status"] == "ok"], config["science"])
    selection, template, seeing = select.planned("template", config, exposures, overlaps, summary_path, science)
    deep, deep_seeing = {}, ""
    if config["objects"]:
        _, deep, deep_seeing = select.planned("deep", config, exposures, overlaps, summary_path)
    return Plan(exposures, sky, overlaps, selection, template, science, seeing, deep, deep_seeing)


def exposure_table(config: dict, path: str | Path) -> np.ndarray:
    """The exposure table: simulated, of a list of visits, from an earlier ingest of the same files, or from headers.

    Parameters
    ----------
    config : dict
        The whole configuration.
    path : path
        Exposure table of an earlier ingest, which need not exist.

    Returns
    -------
    table "exposure"

    Raises
    ------
    InputError
        When no image can be used; the message names the glob or the file.
    """
    if config["images"] == "simulated":
        table = pointing.plan(config["simulate"])
        for column, values in (("band", config["bands"]), ("detector", config["detectors"])):
            table = table[np.isin(table[column].astype(str), [str(value) for value in values])] if values else table
        return table
    if visitlist.is_list(config["images"]):
        return visitlist.exposures(config["images"], config["camera"], config["bands"], config["detectors"])
    digest = ingest_digest(config)
    if exists(path) and tables.note(path) == digest:
        return tables.read("exposure", path)
    return ingest(config)


def ingest(config: dict) -> np.ndarray:
    """The exposure table from the headers of the configured images.

    Parameters
    ----------
    config : dict
        The whole configuration, or its sections images, instrument, metadata, bands, detectors, simulate and skymap.

    Returns
    -------
    table "exposure", with the images that are left out and why

    Raises
    ------
    InputError
        When there is no usable image, or only a list of visits to plan with.
    """
    if visitlist.is_list(config["images"]):
        raise InputError(f"images: {config['images']} lists visits; it can be planned but has no pixels to process")
    keys = ("instrument", "metadata", "bands", "detectors")
    table = all_images(image_globs(config), *(config[key] for key in keys))
    kind_of_map = methods.load("sky.skymap", config["skymap"]["type"])
    leave_out(table, *strays(config["skymap"], table, kind_of_map), Kind.ELSEWHERE)
    return table


def image_globs(config: dict) -> list[str]:
    """The glob patterns of the images of a run.

    Parameters
    ----------
    config : dict
        Sections images and simulate of the configuration.

    Returns
    -------
    list of str
    """
    if config["images"] == "simulated":
        return [glob.escape(path) for path in pointing.plan(config["simulate"])["path"]]
    return [config["images"]] if isinstance(config["images"], str) else list(config["images"])


def ingest_digest(config: dict) -> str:
    """Fingerprint of everything that the exposure table depends on: files (name, size, time) and instrument.

    Parameters
    ----------
    config : dict
        As for `ingest`.

    Returns
    -------
    str
        SHA-1 in hexadecimal digits.
    """
    images = sorted({path for pattern in image_globs(config) for path in files.matching(pattern)})
    stats = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in images if exists(path)]
    keys = {key: config[key] for key in ("metadata", "bands", "detectors", "skymap")}
    reader = maps.load(config["instrument"]), list(tables.schema("exposure"))
    content = json.dumps([keys, reader, images, stats], sort_keys=True, default=str)
    return hashlib.sha1(content.encode()).hexdigest()


def check_selection(plan: Plan, objects: bool = False) -> None:
    """Refuse a plan in which nothing is left to difference, or to build a template or a deep coadd from.

    Parameters
    ----------
    plan : Plan
    objects : bool
        Whether deep coadds are asked for.

    Raises
    ------
    InputError
        Names the section of the configuration that leaves nothing.
    """
    if not plan.science:
        raise InputError("config: science: no visit is left to difference")
    if not any(plan.template.values()):
        raise InputError("config: template: no visit is left to build a template from")
    if objects and not any(plan.deep.values()):
        raise InputError("config: deep: no visit is left to build a deep coadd from")


def _unique(pairs: Iterable[tuple[Hashable, Hashable]]) -> dict:
    """The different values of each key, both in the order in which they come first."""
    values = defaultdict(dict)
    for key, value in pairs:
        values[key][value] = None
    return {key: list(unique) for key, unique in values.items()}


def _tuples(table: np.ndarray, *columns: str) -> Iterator[tuple]:
    """Rows as tuples of Python values, which are much faster to loop over than rows of numpy."""
    return zip(*(table[column].tolist() for column in columns))
