# The tables that users open.


rule tables:
    input:
        exposures=product("exposures.parquet"),
        visit_summary=product("visit_summary.parquet"),
        diffim_summaries=[product(f"diffim_summary/{visit}.parquet") for visit in plan.science],
        sources=[product(f"src/{visit}.parquet") for visit in plan.visits],
        dia_sources=[product(f"dia_source/{visit}.parquet") for visit in plan.science],
        dia_objects=[product(f"dia_object/{tract}/{patch}.parquet") for tract, patch in plan.science_patches()],
        links=[product(f"dia_link/{tract}/{patch}.parquet") for tract, patch in plan.science_patches()],
        forced=forced_parts("diffim"),
        selection=product("selection.parquet"),
        known=positions_of("known"),
        tracklet_links=[product(f"tracklet_link/{first}.parquet") for first in NIGHTS],
    output:
        **{name: product(f"tables/{name}.parquet") for name in TABLES},
    log:
        log_of("tables"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        quiet=config["forced"]["quiet"],
        radius=config["associate"]["radius"] if "known" in POSITIONS else None,
        code=CODE.digest("tables"),
    script:
        "../scripts/tables.py"


rule extra_table:
    input:
        lambda wildcards: EXTRA_TABLES[wildcards.table],
    output:
        product("tables/{table}.parquet"),
    log:
        log_of("extra_table/{table}"),
    wildcard_constraints:
        table="|".join(EXTRA_TABLES) or "none",
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        code=CODE.digest("extra_table"),
    script:
        "../scripts/extra_table.py"
