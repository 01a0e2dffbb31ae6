# diaflow: calibrated exposures -> template -> difference images -> what changed -> light curves.
# First what all rules share (names, the plan of the run, visits that share jobs), then the rules in order of the data.

from snakemake.utils import min_version

min_version("9.0")

if "images" not in config:

    configfile: workflow.source_path("config.yaml")


include: "rules/paths.smk"
include: "rules/inputs.smk"
include: "rules/code.smk"
include: "rules/batches.smk"
include: "rules/simulate.smk"
include: "rules/ingest.smk"
include: "rules/isr.smk"
include: "rules/refcat.smk"
include: "rules/calexp.smk"
include: "rules/skymap.smk"
include: "rules/warp.smk"
include: "rules/coadd.smk"
include: "rules/object.smk"
include: "rules/diffim.smk"
include: "rules/associate.smk"
include: "rules/forced.smk"
include: "rules/tables.smk"
include: "rules/lightcurves.smk"
include: "rules/report.smk"
include: "rules/snakemake_9_27.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        [product(f"tables/{name}.parquet") for name in [*TABLES, *EXTRA_TABLES]],
        [product(f"lightcurves/{name}") for name in config["lightcurves"]["formats"]],
        product("lightcurves/ades") if config["lightcurves"]["ades"] else [],
        product("report/index.html"),
