# DIASources of all visits to DIAObjects, one job per patch.


rule associate:
    input:
        dia_sources=patch_sources("dia_source"),
        skymap=ancient(product("skymap.json")),
    output:
        dia_objects=product("dia_object/{tract}/{patch}.parquet"),
        links=product("dia_link/{tract}/{patch}.parquet"),
    params:
        associate=config["associate"],
        tract=tract_geometry,
    log:
        log_of("associate/{tract}/{patch}"),
    resources:
        mem_mb=2000,
    conda:
        "../envs/diaflow.yaml"
    script:
        "../scripts/associate.py"
