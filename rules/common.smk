# Data IDs, paths and the input functions of all rules.

import functools
import os
import re
from dataclasses import asdict

from snakemake import script as running  # rules use the name script
from snakemake.exceptions import WorkflowError
from snakemake.logging import logger
from snakemake.scheduling.job_scheduler import JobScheduler

from diaflow.errors import InputError
from diaflow.instruments import maps
from diaflow.refcat import convert, formats
from diaflow.run import plan as planning
from diaflow.run import select
from diaflow.run.config import method_options, of_chosen_methods, validated
from diaflow.sky import refraction
from diaflow.store import tables


def product(path):
    """The path of a product of this run."""
    return f"results/{config['run']}/{path}"


def log_of(path):
    """The path of a job's log."""
    return f"logs/{config['run']}/{path}.log"


TABLES = ["visit", "source", "dia_source", "dia_object", "dia_forced_source"]

try:
    config = of_chosen_methods(validated(config))
    plan = planning.make(config, product("exposures.parquet"), product("visit_summary.parquet"))
    planning.check_selection(plan)
    refraction.check(config["template"], plan.bands.values())
    if config["refcat"]:
        convert.check(config["refcat"], plan.bands.values())
        path = config["refcat"]["path"]
        CATALOGUE = path if config["images"] == "simulated" else formats.paths(path)
except InputError as error:
    raise WorkflowError(str(error))

SIMULATED = config["images"] == "simulated"
SELECTION = ["visits", "mjd", "guard", "fwhm", "seeing", "best", "quantile", "min_visits"]
# Without a guard it does not matter to the template what is differenced.
GUARDED = {"visits": [], "mjd": None} if config["template"]["guard"] is None else config["science"]
MEASURED_SEEING = select.needs_measured_seeing(config["template"])
REFCAT = product("refcat.parquet") if config["refcat"] else []
INSTRUMENT = {key: value for key, value in maps.load(config["instrument"]).items() if key != "folder"}
PIXELS = {key: INSTRUMENT[key] for key in ("hdu", "masks", "variance", "raw", "pointing")}
DETRENDED = product("post_isr") if INSTRUMENT["raw"] is not None else None


# Nothing is left to calibrate against anything.
TRUSTED = {"wcs", "zero_point"} <= set(config["calexp"]["trust"])
JOINT_VISITS = plan.joint_visits(config["calexp"]["joint_visits"]) if REFCAT and not TRUSTED else []
JOINTCAL = [product(f"jointcal/{name}.parquet") for name in ("camera", "stars")] if JOINT_VISITS else []


wildcard_constraints:
    visit=r"\d+",
    tract=r"\d+",
    patch=r"\d+_\d+",
    band=r"[A-Za-z0-9.+-]+",


ANY_VISIT = {"": ["{visit}"]}
SCIENCE = set(plan.science)


def batches(alike=lambda visit: None):
    """The visits that share a job, by the ending of the name of its rule; one rule for any visit by default.

    They have their band in common, and what `alike` says of a visit.  Their first one gives the name.  Outputs cannot
    be functions of wildcards, so a batch has a rule of its own that names its products.
    """
    if config["visits_per_job"] == 1:
        return ANY_VISIT
    keys = {visit: (plan.bands[visit], alike(visit)) for visit in plan.visits}
    return {f"_{visits[0]}": visits for visits in planning.batches(keys, config["visits_per_job"])}


def visits_of(wildcards, visits):
    return visits if visits != ["{visit}"] else [int(wildcards.visit)]


def of_visits(get, visits):
    """Input or parameter of a job of some visits: the list of what `get` lists for each."""
    return lambda wildcards: [item for visit in visits_of(wildcards, visits) for item in get(visit)]


def of_visits_by_name(name, get, visits):
    """Input of a job of some visits: what `get` lists for each, under names that end with the visit."""
    return unpack(lambda wildcards: {f"{name}_{visit}": get(visit) for visit in visits_of(wildcards, visits)})


def of_one_visit(get, visits):
    """Input of a job of some visits for all of which `get` gives the same."""
    return lambda wildcards: get(visits_of(wildcards, visits)[0])


def images_of(visit):
    """The images of a visit that calibration starts from: detrended ones where the frames are raw."""
    return [f"{DETRENDED}/{visit}"] if DETRENDED else plan.images[visit]


def frames(imagetype, band=""):
    return plan.calibrations.get((imagetype, band), [])


def master(imagetype, band=""):
    """The folder of a master's detectors; none where there are no frames to make it of."""
    folder = f"calib/{imagetype}/{band}" if band else f"calib/{imagetype}"
    return product(folder) if frames(imagetype, band) else []


# The visit that each is calibrated against where there is no reference catalogue.
REFERENCE_VISITS = {} if REFCAT or TRUSTED else plan.reference_visits


def reference_sources(visit):
    reference = REFERENCE_VISITS.get(visit)
    return [] if reference is None else product(f"src/{reference}.parquet")


@functools.cache
def measured_selection(path):
    return planning.template_visits(tables.read("selection", path))


def template_visits(tract, patch, band):
    """Visits of a template coadd; a dry run takes the planned ones where the run waits for the measured seeing."""
    key = int(tract), patch, band
    if not MEASURED_SEEING or workflow.dryrun:
        return plan.template.get(key, [])
    return measured_selection(checkpoints.select_template.get().output.selection).get(key, [])


def coadd_warps(kind):
    def warps(wildcards):
        visits = template_visits(wildcards.tract, wildcards.patch, wildcards.band)
        return [product(f"{kind}/{wildcards.tract}/{visit}") for visit in visits]

    return warps


@functools.cache
def model_summaries_of(tract, band):
    keys = [key for key in plan.template if key[0] == tract and key[2] == band]
    visits = sorted({visit for key in keys for visit in template_visits(*key)})
    return [product(f"visit_summary/{visit}.parquet") for visit in visits]


def model_summaries(visits):
    """Summaries of the visits whose seeing decides the PSF that warps are matched to."""

    def summaries(wildcards):
        if config["template"]["model_fwhm"]:
            return []
        return model_summaries_of(int(wildcards.tract), plan.bands[visits_of(wildcards, visits)[0]])

    return summaries


def template_coadds(visit):
    patches = plan.template_patches(visit)
    return [product(f"coadd/template/{tract}/{patch}/{band}.fits") for tract, patch, band in patches]


def patch_sources(kind):
    def sources(wildcards):
        visits = plan.science_visits.get((int(wildcards.tract), wildcards.patch), [])
        return [product(f"{kind}/{visit}.parquet") for visit in visits]

    return sources


def visit_objects(visit):
    return [product(f"dia_object/{tract}/{patch}.parquet") for tract, patch in plan.patches[visit]]


# Rules get what they use of the exposure table and the sky map as parameters: those files are made anew for every new
# image, and rules that depend on them would run for every visit (or, if `ancient`, miss other changes).
TRACTS = {tract.id: asdict(tract) for tract in plan.skymap.tracts.values()}


def tract_geometry(wildcards):
    return TRACTS[int(wildcards.tract)]


def sky_around(wildcards):
    return plan.sky_around(int(wildcards.tract))


SEEING = {
    "header": "template: planned with the header seeing of visits that are not measured yet; the run measures it",
    "none": "template: planned with all visits, the seeing of some is unknown; the run measures it and selects",
}
if plan.seeing in SEEING:
    logger.info(SEEING[plan.seeing])

if DETRENDED:
    for band in sorted(set(plan.bands.values())):
        if not frames("flat", band):
            logger.warning(f"isr: no flat frame in band {band}; its images are not flat-fielded")


def read_once(get_source):
    """Snakemake 9.27 reads its script anew for every job that it plans, though it runs a copy made at the first time.

    The names of our scripts have no wildcards: one reading of each saves a tenth of a large dry run.
    """
    sources = {}

    def of_script(path, sourcecache, basedir=None, wildcards=None, params=None):
        key = sourcecache, str(path), str(basedir)
        if key not in sources:
            sources[key] = get_source(path, sourcecache, basedir, wildcards, params)
        return sources[key]

    return of_script


running.get_source = read_once(running.get_source)


def only_where_limited(look_again):
    """Snakemake 9.27 looks at all jobs that are ready again a second after it did, and once more for each that ended.

    Late in a run it does nothing else.  A job that ends makes it look in any case; without one there is a reason only
    where the number of jobs per second was the limit.
    """

    def of_scheduler(scheduler, delay):
        if scheduler.job_rate_limiter.get_free_jobs() == 0:
            look_again(scheduler, delay)

    return of_scheduler


JobScheduler._schedule_reevalutation = only_where_limited(JobScheduler._schedule_reevalutation)
