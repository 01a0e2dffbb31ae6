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
    planning.check_selection(plan, config["objects"])
    # The kinds of coadds of this run, with the planned visits of each.
    COADDS = {"template": plan.template} | ({"deep": plan.deep} if config["objects"] else {})
    for kind in COADDS:
        refraction.check(config[kind], plan.bands.values(), kind)
    bands.check(config["lightcurves"], (plan.bands[visit] for visit in plan.science))
    if config["lightcurves"]["ades"] and not config["associate"]["max_rate"]:
        raise InputError("lightcurves.ades: there are no tracklets without associate.max_rate")
    if config["refcat"]:
        convert.check(config["refcat"], plan.bands.values())
        path = config["refcat"]["path"]
        CATALOGUE = path if config["images"] == "simulated" else formats.paths(path)
    request.check(config["forced"], config["objects"])
    for key, asked in (
        ("coadds", "deep" in config["pictures"]["coadds"]),
        ("detections", config["pictures"]["detections"]),
    ):
        if asked and not config["objects"]:
            raise InputError(f"pictures.{key}: there are no deep coadds and no Objects without objects: true")
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


# --- coadds, templates and deep ones: which visits, and what is made of them ---

SELECTION = ["visits", "mjd", "fwhm", "seeing", "best", "quantile", "min_visits"]
SELECTED = {"template": product("selection.parquet"), "deep": product("selection_deep.parquet")}
# Those whose visits are selected by their measured seeing.
MEASURED = [kind for kind in COADDS if select.needs_measured_seeing(config[kind])]
# Without a guard it does not matter to the template what is differenced.
GUARDED = {"visits": [], "mjd": None} if config["template"]["guard"] is None else config["science"]


@functools.cache
def measured_selection(path):
    return select.selected(tables.read("selection", path))


def coadd_visits(kind, tract, patch, band):
    """Visits of a coadd; a dry run takes the planned ones where the run waits for the measured seeing."""
    key = int(tract), patch, band
    if kind not in MEASURED or workflow.dryrun:
        return COADDS[kind].get(key, [])
    selection = getattr(checkpoints, f"select_{kind}").get().output.selection
    return measured_selection(selection).get(key, [])


def coadd_warps(kind, folder):
    """Input of a coadd: the warps of its visits."""

    def warps(wildcards):
        visits = coadd_visits(kind, wildcards.tract, wildcards.patch, wildcards.band)
        return [product(f"{folder}/{wildcards.tract}/{visit}") for visit in visits]

    return warps


@functools.cache
def warped_summaries(tract, band):
    """Summaries of all visits of a tract and band that go into coadds."""
    keys = [(kind, *key) for kind, planned in COADDS.items() for key in planned if key[0] == tract and key[2] == band]
    visits = sorted({visit for key in keys for visit in coadd_visits(*key)})
    return [product(f"visit_summary/{visit}.parquet") for visit in visits]


def coadds_of_patch(kind, bands):
    """Input of a job of a patch: its coadds in all bands."""

    def coadds(wildcards):
        tract, patch = int(wildcards.tract), wildcards.patch
        return [product(f"coadd/{kind}/{tract}/{patch}/{band}.fits") for band in bands.get((tract, patch), [])]

    return coadds


def template_coadds(visit):
    """The template under a visit."""
    patches = plan.template_patches(visit)
    return [product(f"coadd/template/{tract}/{patch}/{band}.fits") for tract, patch, band in patches]


def mean_mjd(visits):
    """The mean date of some visits."""
    return sum(plan.dates[visit] for visit in visits) / max(len(visits), 1)


def patch_mjd(kind, bands):
    """Parameter of a job of a patch: the mean date of the visits of its coadds."""

    def mjd(wildcards):
        tract, patch = int(wildcards.tract), wildcards.patch
        return mean_mjd([v for band in bands.get((tract, patch), []) for v in coadd_visits(kind, tract, patch, band)])

    return mjd


def visit_patches(folder, bands, visit):
    """The tables in a folder of all patches that a visit touches and that have coadds."""
    return [
        product(f"{folder}/{tract}/{patch}.parquet") for tract, patch in plan.patches[visit] if (tract, patch) in bands
    ]


# --- colour pictures ---

PICTURES = sorted(
    {product(f"pictures/{kind}/{tract}") for kind in config["pictures"]["coadds"] for tract, *_ in COADDS[kind]}
)


def tract_coadds(wildcards):
    """The coadds of a kind on a tract."""
    keys = sorted(key for key in COADDS[wildcards.kind] if key[0] == int(wildcards.tract))
    return [product(f"coadd/{wildcards.kind}/{tract}/{patch}/{band}.fits") for tract, patch, band in keys]


def tract_objects(wildcards):
    """The Objects that are ringed in the pictures of a tract; none where they are not asked for."""
    keys = sorted(plan.deep_bands) if config["pictures"]["detections"] else []
    return [product(f"object/{tract}/{patch}.parquet") for tract, patch in keys if tract == int(wildcards.tract)]


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
    return mean_mjd(coadd_visits("template", wildcards.tract, wildcards.patch, wildcards.band))


def calexp_objects(visit):
    """The objects of all patches that a visit touches; none where no objects are asked for."""
    return visit_patches("object", plan.deep_bands, visit)


def template_objects(visit):
    """What is on the templates of all patches that a visit touches."""
    return visit_patches("template_object", plan.template_bands, visit)


def forced_parts(variant):
    """The products of a variant of forced photometry."""
    if variant == "dia_object_on_template":
        keys = [(*patch, band) for patch in plan.science_patches() for band in sorted(set(plan.bands.values()))]
        return [
            product(f"forced/{variant}/{t}/{p}/{band}.parquet") for t, p, band in keys if (t, p, band) in plan.template
        ]
    return [product(f"forced/{variant}/{visit}.parquet") for visit in FORCED[variant]]


# --- tables that not every run has: their parts ---

FORCED_TABLES = {request.TABLES[variant]: forced_parts(variant) for variant in FORCED if variant != "diffim"}
EXTRA_TABLES = dict(FORCED_TABLES)
# What is judged at positions of the user's.
AT_POSITIONS = FORCED_TABLES if "positions" in POSITIONS else {}
if config["objects"]:
    EXTRA_TABLES["object"] = [product(f"object/{tract}/{patch}.parquet") for tract, patch in plan.deep_bands]
if NIGHTS:
    EXTRA_TABLES["tracklet"] = [product(f"tracklet/{first}.parquet") for first in NIGHTS]


# --- what a user should know before the run ---

SEEING = {
    "header": "planned with the header seeing of visits that are not measured yet; the run measures it",
    "none": "planned with all visits, the seeing of some is unknown; the run measures it and selects",
}
for kind, seeing in (("template", plan.seeing), ("deep", plan.deep_seeing)):
    if seeing in SEEING:
        logger.info(f"{kind}: {SEEING[seeing]}")
        logger.info(
            f"{kind}: measured seeing is the full width at half maximum, a tenth below what earlier versions gave"
        )

if DETRENDED:
    for band in sorted(set(plan.bands.values())):
        if not frames("flat", band):
            logger.warning(f"isr: no flat frame in band {band}; its images are not flat-fielded")
