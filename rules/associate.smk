# DIASources of all visits to DIAObjects, one job per patch.


rule associate:
    input:
        dia_sources=patch_sources,
    output:
        dia_objects=product("dia_object/{tract}/{patch}.parquet"),
        links=product("dia_link/{tract}/{patch}.parquet"),
    log:
        log_of("associate/{tract}/{patch}"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        associate=config["associate"],
        skymap=sky_around,
        code=CODE.digest("associate"),
    script:
        "../scripts/associate.py"
