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
        code=CODE.digest("tables"),
    script:
        "../scripts/tables.py"


for variant, name in FORCED_TABLES.items():

    rule:
        name:
            f"forced_{variant}_table"
        input:
            forced_parts(variant),
        output:
            product(f"tables/{name}.parquet"),
        log:
            log_of(f"forced_{variant}_table"),
        conda:
            "../envs/diaflow.yaml"
        resources:
            mem_mb=2000,
        params:
            table=name,
            code=CODE.digest("forced_table"),
        script:
            "../scripts/forced_table.py"
