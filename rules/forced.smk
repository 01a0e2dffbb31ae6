# PSF photometry of every DIAObject on every difference image that contains it.


rule forced_diffim:
    input:
        calexps=product("calexp/{visit}"),
        diffims=product("diffim/{visit}"),
        summary=product("diffim_summary/{visit}.parquet"),
        dia_objects=visit_objects,
    output:
        forced=product("forced/diffim/{visit}.parquet"),
    log:
        log_of("forced_diffim/{visit}"),
    conda:
        "../envs/diaflow.yaml"
    threads: 1
    resources:
        mem_mb=1500,
    script:
        "../scripts/forced_diffim.py"
