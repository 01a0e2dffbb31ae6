# Difference images of a visit and the sources on them.


rule diffim:
    input:
        calexps=product("calexp/{visit}"),
        sources=product("src/{visit}.parquet"),
        summary=product("visit_summary/{visit}.parquet"),
        templates=template_coadds,
    output:
        diffims=directory(product("diffim/{visit}")),
        dia_sources=product("dia_source/{visit}.parquet"),
        summary=product("diffim_summary/{visit}.parquet"),
    log:
        log_of("diffim/{visit}"),
    conda:
        "../envs/diaflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        subtract=config["subtract"],
        detect=config["detect"],
        compress=config["storage"]["compress"],
    script:
        "../scripts/diffim.py"
