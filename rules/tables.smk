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
        forced=[product(f"forced/diffim/{visit}.parquet") for visit in plan.science],
        selection=product("selection.parquet"),
    output:
        **{name: product(f"tables/{name}.parquet") for name in TABLES},
    log:
        log_of("tables"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        code=CODE.digest("tables"),
    script:
        "../scripts/tables.py"
