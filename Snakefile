# diaflow: calibrated exposures -> template -> difference images -> what changed -> light curves.
# The rules are included in the order of the data; rules/common.smk holds data IDs, paths and input functions.

from snakemake.utils import min_version

min_version("9.0")

if "images" not in config:

    configfile: workflow.source_path("config.yaml")


include: "rules/common.smk"
include: "rules/simulate.smk"
include: "rules/ingest.smk"
include: "rules/isr.smk"
include: "rules/refcat.smk"
include: "rules/calexp.smk"
include: "rules/skymap.smk"
include: "rules/warp.smk"
include: "rules/coadd.smk"
include: "rules/diffim.smk"
include: "rules/associate.smk"
include: "rules/forced.smk"
include: "rules/tables.smk"
include: "rules/report.smk"
include: "rules/batches.smk"


localrules:
    all,


rule all:
    default_target: True
    input:
        [product(f"tables/{name}.parquet") for name in TABLES],
        product("report/index.html"),
