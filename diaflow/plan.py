"""What a run consists of, known before any pixel is read: visits, patches, overlaps and the planned template.

Everything follows from the exposure table (image headers) and the configuration.  The look-ups that the workflow
needs for each job are dictionaries, built once.
"""

import glob
import hashlib
import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diaflow import geometry, instruments, select, simulate, skymap, tables
from diaflow.errors import InputError
from diaflow.skymap import SkyMap

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
    calibrations : dict
        Paths of the calibration frames of each (imagetype, band); bias and dark have no band.
    skymap : SkyMap
    overlaps : "overlap" table
    selection : "selection" table
        Template visits by header seeing; final when the selection does not ask for the measured one.
    science : list of int
        Visits to difference.
    """

    exposures: np.ndarray
    skymap: SkyMap
    overlaps: np.ndarray
    selection: np.ndarray
    science: list[int]

    def __post_init__(self):
        usable = self.exposures[self.exposures["status"] == "ok"]
        images, bands, exptimes, patches = defaultdict(dict), {}, {}, defaultdict(dict)
        for row in usable:
            images[int(row["visit"])][str(row["path"])] = None
            bands[int(row["visit"])], exptimes[int(row["visit"])] = str(row["band"]), float(row["exptime"])
        for tract, patch, visit in zip(*(self.overlaps[c].tolist() for c in ("tract", "patch", "visit"))):
            patches[visit][tract, patch] = None
        calibrations = defaultdict(dict)
        for row in self.exposures[self.exposures["status"] == "calibration"]:
            calibrations[str(row["imagetype"]), str(row["band"])][str(row["path"])] = None
        # A file that holds several detectors counts once.
        for name, paths in (("images", images), ("calibrations", calibrations)):
            object.__setattr__(self, name, {key: list(unique) for key, unique in paths.items()})
        object.__setattr__(self, "bands", bands)
        object.__setattr__(self, "patches", {visit: list(patches[visit]) for visit in images})
        object.__setattr__(self, "template", template_visits(self.selection))
        object.__setattr__(self, "reference_visits", _reference_visits(bands, exptimes))

    @property
    def visits(self) -> list[int]:
        """All visits with at least one usable image."""
        return sorted(self.images)

    def joint_visits(self, number: int) -> list[int]:
        """The first `number` visits of each band, in order of the visits."""
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
        return sorted({patch for visit in self.science for patch in self.patches[visit]})

    def science_visits(self, tract: int, patch: str) -> list[int]:
        """Visits to difference that touch a patch."""
        return [visit for visit in self.science if (tract, patch) in self.patches[visit]]


def make(config: dict, exposures_path: str | Path) -> Plan:
    """Plan a run from a validated configuration.

    Parameters
    ----------
    config : dict
        The whole configuration.
    exposures_path : path
        Exposure table of an earlier ingest; used when it is still that of the same files, else headers are read.

    Raises
    ------
    InputError
        When no image can be used; the message names the glob or the file.
    """
    exposures = exposure_table(config, exposures_path)
    sky = skymap.make(config["skymap"], exposures)
    overlaps = geometry.overlaps(exposures, sky, MARGIN_ARCSEC)
    usable = exposures[exposures["status"] == "ok"]
    candidates = select.candidates(overlaps, exposures, select.header_fwhm(exposures))
    planned = dict(config["template"])
    if not np.isfinite(candidates["fwhm"]).all():
        planned |= dict.fromkeys(select.SEEING_RULES)
    science = select.science_visits(usable, config["science"])
    selection = select.template_visits(candidates, planned, science)
    return Plan(exposures, sky, overlaps, selection, science)


def exposure_table(config: dict, path: str | Path) -> np.ndarray:
    """The exposure table: simulated, from an earlier ingest of the same files, or from the headers."""
    if config["images"] == "simulated":
        planned = simulate.plan(config["simulate"])
        for column, wanted in (("band", config["bands"]), ("detector", config["detectors"])):
            planned = (
                planned[np.isin(planned[column].astype(str), [str(value) for value in wanted])] if wanted else planned
            )
        return planned
    digest = ingest_digest(config)
    if os.path.exists(path) and tables.note(path) == digest:
        return tables.read("exposure", path)
    return ingest(config)


def ingest(config: dict) -> np.ndarray:
    """The exposure table from the headers of the configured images."""
    return instruments.ingest(
        image_globs(config), config["instrument"], config["metadata"], config["bands"], config["detectors"]
    )


def image_globs(config: dict) -> list[str]:
    """The glob patterns of the images of a run."""
    if config["images"] == "simulated":
        return [glob.escape(path) for path in simulate.plan(config["simulate"])["path"]]
    return [config["images"]] if isinstance(config["images"], str) else list(config["images"])


def ingest_digest(config: dict) -> str:
    """Fingerprint of everything that the exposure table depends on: files (name, size, time) and instrument."""
    files = sorted({path for pattern in image_globs(config) for path in glob.glob(pattern, recursive=True)})
    stats = [(path, os.stat(path).st_size, os.stat(path).st_mtime_ns) for path in files]
    keys = {key: config[key] for key in ("metadata", "bands", "detectors")}
    made_by = instruments.load(config["instrument"]), list(tables.schema("exposure"))
    content = json.dumps([keys, made_by, stats], sort_keys=True, default=str)
    return hashlib.sha1(content.encode()).hexdigest()


def template_visits(selection: np.ndarray) -> dict[tuple[int, str, str], list[int]]:
    """Selected visits of every (tract, patch, band) that has a candidate."""
    chosen: dict[tuple[int, str, str], list[int]] = {}
    for row in selection:
        key = (int(row["tract"]), str(row["patch"]), str(row["band"]))
        visits = chosen.setdefault(key, [])
        if row["selected"]:
            visits.append(int(row["visit"]))
    return {key: visits for key, visits in chosen.items() if visits}


def _reference_visits(bands: dict[int, str], exptimes: dict[int, float]) -> dict[int, int | None]:
    """The visit that each is aligned to without a catalogue: the leader of its band, and for that the leader of all.

    Leaders are the longest exposures, the first of them: their stars are the most and the best measured.
    """
    ranked = sorted(bands, key=lambda visit: (-exptimes[visit], visit))
    leaders: dict[str, int] = {}
    for visit in ranked:
        leaders.setdefault(bands[visit], visit)
    reference = {}
    for visit, band in bands.items():
        leader = leaders[band]
        reference[visit] = leader if visit != leader else (ranked[0] if visit != ranked[0] else None)
    return reference


def check_selection(plan: Plan) -> None:
    """Raise an InputError when nothing is left to difference or to build a template from."""
    if not plan.science:
        raise InputError("config: science: no visit is left to difference")
    if not plan.template:
        raise InputError("config: template: no visit is left to build a template from")
