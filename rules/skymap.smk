# Tracts, patches and which images touch them; the visits of each template patch.


rule skymap:
    input:
        exposures=product("exposures.parquet"),
    output:
        skymap=product("skymap.json"),
        overlaps=product("overlaps.parquet"),
    params:
        skymap=config["skymap"],
    log:
        log_of("skymap"),
    resources:
        mem_mb=1000,
    conda:
        "../envs/diaflow.yaml"
    script:
        "../scripts/skymap.py"


checkpoint select_template:
    input:
        exposures=product("exposures.parquet"),
        overlaps=product("overlaps.parquet"),
        summary=product("visit_summary.parquet"),
    output:
        selection=product("selection.parquet"),
    params:
        template=config["template"],
    log:
        log_of("select_template"),
    resources:
        mem_mb=1000,
    conda:
        "../envs/diaflow.yaml"
    script:
        "../scripts/select_template.py"
