# Data IDs, paths and the input functions of all rules.

import functools
import os
from dataclasses import asdict

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from diaflow import plan as planning
from diaflow import instruments, refcat, refraction, select, tables
from diaflow.config import validated
from diaflow.errors import InputError


def product(path):
    """The path of a product of this run."""
    return f"results/{config['run']}/{path}"


def log_of(path):
    """The path of a job's log."""
    return f"logs/{config['run']}/{path}.log"


TABLES = ["visit", "source", "dia_source", "dia_object", "dia_forced_source"]

try:
    config = validated(config)
    plan = planning.make(config, product("exposures.parquet"))
    planning.check_selection(plan)
    refraction.check(config["template"], plan.bands.values())
    if config["refcat"]:
        refcat.check(config["refcat"], plan.bands.values())
        path = config["refcat"]["path"]
        CATALOGUE = path if config["images"] == "simulated" else refcat.paths(path)
except InputError as error:
    raise WorkflowError(str(error))

SIMULATED = config["images"] == "simulated"
SELECTION = ["visits", "mjd", "guard", "fwhm", "seeing", "best", "quantile", "min_visits"]
MEASURED_SEEING = select.needs_measured_seeing(config["template"])
REFCAT = product("refcat.parquet") if config["refcat"] else []
DETRENDED = product("post_isr") if instruments.is_raw(config["instrument"]) else None


# Nothing is left to calibrate against anything.
TRUSTED = {"wcs", "zero_point"} <= set(config["calexp"]["trust"])
JOINT_VISITS = plan.joint_visits(config["calexp"]["joint_visits"]) if REFCAT and not TRUSTED else []
JOINTCAL = [product(f"jointcal/{name}.parquet") for name in ("camera", "stars")] if JOINT_VISITS else []


wildcard_constraints:
    visit=r"\d+",
    tract=r"\d+",
    patch=r"\d+_\d+",
    band=r"[A-Za-z0-9.+-]+",


def images_of(visit):
    """The images of a visit that calibration starts from: detrended ones where the frames are raw."""
    return [f"{DETRENDED}/{visit}"] if DETRENDED else plan.images[visit]


def images(wildcards):
    return images_of(int(wildcards.visit))


def frames(imagetype, band=""):
    return plan.calibrations.get((imagetype, band), [])


def master(imagetype, band=""):
    """The folder of a master's detectors; none where there are no frames to make it of."""
    folder = f"calib/{imagetype}/{band}" if band else f"calib/{imagetype}"
    return product(folder) if frames(imagetype, band) else []


def reference_visit(wildcards):
    """Sources of the visit that this one is calibrated against where there is no reference catalogue."""
    visit = None if REFCAT or TRUSTED else plan.reference_visits[int(wildcards.visit)]
    return [] if visit is None else product(f"src/{visit}.parquet")


@functools.cache
def measured_selection(path):
    return planning.template_visits(tables.read("selection", path))


def template_visits(tract, patch, band):
    """Visits of a template coadd; by header seeing while the measured seeing is not there yet in a dry run."""
    key = int(tract), patch, band
    if not MEASURED_SEEING or (workflow.dryrun and not os.path.exists(product("selection.parquet"))):
        return plan.template.get(key, [])
    return measured_selection(checkpoints.select_template.get().output.selection).get(key, [])


def coadd_warps(kind):
    def warps(wildcards):
        visits = template_visits(wildcards.tract, wildcards.patch, wildcards.band)
        return [product(f"{kind}/{wildcards.tract}/{visit}") for visit in visits]

    return warps


def model_summaries(wildcards):
    """Summaries of the visits whose seeing decides the PSF that warps are matched to."""
    if config["template"]["model_fwhm"]:
        return []
    band = plan.bands[int(wildcards.visit)]
    keys = [key for key in plan.template if key[0] == int(wildcards.tract) and key[2] == band]
    visits = sorted({visit for key in keys for visit in template_visits(*key)})
    return [product(f"visit_summary/{visit}.parquet") for visit in visits]


def template_coadds(wildcards):
    patches = plan.template_patches(int(wildcards.visit))
    return [product(f"coadd/template/{tract}/{patch}/{band}.fits") for tract, patch, band in patches]


def patch_sources(kind):
    def sources(wildcards):
        visits = plan.science_visits(int(wildcards.tract), wildcards.patch)
        return [product(f"{kind}/{visit}.parquet") for visit in visits]

    return sources


def visit_objects(wildcards):
    return [product(f"dia_object/{tract}/{patch}.parquet") for tract, patch in plan.patches[int(wildcards.visit)]]


def tract_geometry(wildcards):
    return asdict(plan.skymap.tracts[int(wildcards.tract)])


if MEASURED_SEEING and not os.path.exists(product("selection.parquet")):
    logger.info("template: planned with header seeing where headers have it, with all visits else; measured in the run")

if DETRENDED:
    for band in sorted(set(plan.bands.values())):
        if not frames("flat", band):
            logger.warning(f"isr: no flat frame in band {band}; its images are not flat-fielded")
