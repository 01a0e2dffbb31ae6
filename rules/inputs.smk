# The plan of the run, and what goes into the jobs of a visit, of a patch and of the whole run.

import functools
from dataclasses import asdict

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from diaflow.errors import InputError
from diaflow.forced import request
from diaflow.instruments import maps
from diaflow.lightcurves import bands
from diaflow.refcat import convert, formats, positions
from diaflow.run import plan as planning
from diaflow.run import select
from diaflow.run.config import method_options, of_chosen_methods, read, validated
from diaflow.simulate import pointing
from diaflow.sky import refraction
from diaflow.store import tables

# Snakemake reads YAML 1.1, in which 0012 is 10: here the files are read again, as they are written.  Those of the command
# line stand first in its list and count last.  A workflow that uses this one as a module gives its own configuration.
ON_COMMAND_LINE = len(workflow.overwrite_configfiles)
CONFIGFILES = workflow.configfiles[ON_COMMAND_LINE:] + workflow.configfiles[:ON_COMMAND_LINE]

try:
    if not workflow.modifier.skip_configfile:
        config = read(CONFIGFILES, workflow.config_settings.config)
    config = of_chosen_methods(validated(config))
    plan = planning.make(config, product("exposures.parquet"), product("visit_summary.parquet"))
    planning.check_selection(plan)
    refraction.check(config["template"], plan.bands.values())
    bands.check(config["lightcurves"], (plan.bands[visit] for visit in plan.science))
    if config["lightcurves"]["ades"] and not config["associate"]["max_rate"]:
        raise InputError("lightcurves.ades: there are no tracklets without associate.max_rate")
    if config["refcat"]:
        convert.check(config["refcat"], plan.bands.values())
        path = config["refcat"]["path"]
        CATALOGUE = path if config["images"] == "simulated" else formats.paths(path)
    request.check(config["forced"])
    # Tables of the user's: product, section of the configuration that describes it, and its files.
    POSITIONS = {}
    for name, section, entry in (
        ("positions", "forced.positions", config["forced"]["positions"]),
        ("known", "associate.known", config["associate"]["known"]),
    ):
        if entry:
            positions.check(entry, section)
            POSITIONS[name] = section, entry, formats.paths(entry["path"], f"{section}.path")
except InputError as error:
    raise WorkflowError(str(error))

SIMULATED = config["images"] == "simulated"
SURVEY = pointing.folder(config["simulate"])
INSTRUMENT = {key: value for key, value in maps.load(config["instrument"]).items() if key != "folder"}
PIXELS = {key: INSTRUMENT[key] for key in ("hdu", "masks", "variance", "raw", "pointing")}
DETRENDED = product("post_isr") if INSTRUMENT["raw"] is not None else None
SCIENCE = set(plan.science)


# --- calibration: each image against the catalogue, or without one against another visit ---

REFCAT = product("refcat.parquet") if config["refcat"] else []
# Nothing is left to calibrate against anything.
TRUSTED = {"wcs", "zero_point"} <= set(config["calexp"]["trust"])
JOINT_VISITS = plan.joint_visits(config["calexp"]["joint_visits"]) if REFCAT and not TRUSTED else []
JOINTCAL = [product(f"jointcal/{name}.parquet") for name in ("camera", "stars")] if JOINT_VISITS else []
REFERENCE_VISITS = {} if REFCAT or TRUSTED else plan.reference_visits


def frames(imagetype, band=""):
    """The calibration frames of a kind."""
    return plan.calibrations.get((imagetype, band), [])


def master(imagetype, band=""):
    """The folder of a master's detectors; none where there are no frames to make it of."""
    folder = f"calib/{imagetype}/{band}" if band else f"calib/{imagetype}"
    return product(folder) if frames(imagetype, band) else []


def images_of(visit):
    """The images of a visit that calibration starts from: detrended ones where the frames are raw."""
    return [f"{DETRENDED}/{visit}"] if DETRENDED else plan.images[visit]


def reference_sources(visit):
    """The sources that a visit is calibrated against where there is no reference catalogue."""
    reference = REFERENCE_VISITS.get(visit)
    return [] if reference is None else product(f"src/{reference}.parquet")


def positions_of(name):
    """The product of a table of the user's; none where there is no table."""
    return [product(f"{name}.parquet")] if name in POSITIONS else []


# --- the sky ---

# Rules get what they use of the exposure table and the sky map as parameters: those files are made anew for every new
# image, and rules that depend on them would run for every visit (or, if `ancient`, miss other changes).

TRACTS = {tract.id: asdict(tract) for tract in plan.skymap.tracts.values()}


def tract_geometry(wildcards):
    """The tract of a job."""
    return TRACTS[int(wildcards.tract)]


@functools.cache
def sky_around_tracts(*tracts):
    return plan.sky_around(*tracts)


def sky_around(wildcards):
    """The tract of a job and its neighbours."""
    return sky_around_tracts(int(wildcards.tract))


# --- the template: which visits, and what is made of them ---

MEASURED_SEEING = select.needs_measured_seeing(config["template"])
SELECTION = ["visits", "mjd", "guard", "fwhm", "seeing", "best", "quantile", "min_visits"]
# Without a guard it does not matter to the template what is differenced.
GUARDED = {"visits": [], "mjd": None} if config["template"]["guard"] is None else config["science"]


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
    """Input of a template coadd: the warps of its visits."""

    def warps(wildcards):
        visits = template_visits(wildcards.tract, wildcards.patch, wildcards.band)
        return [product(f"{kind}/{wildcards.tract}/{visit}") for visit in visits]

    return warps


@functools.cache
def template_summaries(tract, band):
    """Summaries of all template visits of a tract and band."""
    keys = [key for key in plan.template if key[0] == tract and key[2] == band]
    visits = sorted({visit for key in keys for visit in template_visits(*key)})
    return [product(f"visit_summary/{visit}.parquet") for visit in visits]


def template_coadds(visit):
    """The template under a visit."""
    patches = plan.template_patches(visit)
    return [product(f"coadd/template/{tract}/{patch}/{band}.fits") for tract, patch, band in patches]


# --- what is found on the differences ---


def patch_sources(wildcards):
    """The DIASources of all visits that touch a patch."""
    visits = plan.science_visits.get((int(wildcards.tract), wildcards.patch), [])
    return [product(f"dia_source/{visit}.parquet") for visit in visits]


# The nights in which what moves is linked, by their first visits; and that of each visit.
NIGHTS = plan.nights if config["associate"]["max_rate"] else {}
NIGHT_OF = {visit: first for first, visits in NIGHTS.items() for visit in visits}


def moving_sources(wildcards):
    """The links of the sources on a patch to tracklets, where these keep them from DIAObjects."""
    if config["associate"]["tracklet_objects"]:
        return []
    visits = plan.science_visits.get((int(wildcards.tract), wildcards.patch), [])
    nights = sorted({NIGHT_OF[visit] for visit in visits if visit in NIGHT_OF})
    return [product(f"tracklet_link/{first}.parquet") for first in nights]


def visit_objects(visit):
    """The DIAObjects of all patches that a visit touches."""
    return [product(f"dia_object/{tract}/{patch}.parquet") for tract, patch in plan.patches[visit]]


def sky_of_visit(wildcards):
    """The sky map around the tracts that a visit touches."""
    return sky_around_tracts(*sorted({tract for tract, _ in plan.patches[int(wildcards.visit)]}))


# --- forced photometry ---

# The visits of each variant.
FORCED = {
    variant: request.visits(plan.visits if variant == "calexp" else plan.science, config["forced"]["visits"])
    for variant in config["forced"]["variants"]
}


def template_mjd(wildcards):
    """The mean date of the visits of a template."""
    visits = template_visits(wildcards.tract, wildcards.patch, wildcards.band)
    return sum(plan.dates[visit] for visit in visits) / max(len(visits), 1)


def forced_parts(variant):
    """The products of a variant of forced photometry."""
    if variant == "dia_object_on_template":
        keys = [(*patch, band) for patch in plan.science_patches() for band in sorted(set(plan.bands.values()))]
        return [
            product(f"forced/{variant}/{t}/{p}/{band}.parquet") for t, p, band in keys if (t, p, band) in plan.template
        ]
    return [product(f"forced/{variant}/{visit}.parquet") for visit in FORCED[variant]]


# --- tables that not every run has: their parts ---

EXTRA_TABLES = {request.TABLES[variant]: forced_parts(variant) for variant in FORCED if variant != "diffim"}
if NIGHTS:
    EXTRA_TABLES["tracklet"] = [product(f"tracklet/{first}.parquet") for first in NIGHTS]


# --- what a user should know before the run ---

SEEING = {
    "header": "template: planned with the header seeing of visits that are not measured yet; the run measures it",
    "none": "template: planned with all visits, the seeing of some is unknown; the run measures it and selects",
}
if plan.seeing in SEEING:
    logger.info(SEEING[plan.seeing])
    logger.info("template: measured seeing is the full width at half maximum, a tenth below what earlier versions gave")

if DETRENDED:
    for band in sorted(set(plan.bands.values())):
        if not frames("flat", band):
            logger.warning(f"isr: no flat frame in band {band}; its images are not flat-fielded")
