# Light curves for other programs, one job for each format of the configuration.


if FORMATS := config["lightcurves"]["formats"]:

    rule lightcurves:
        input:
            dia_objects=product("tables/dia_object.parquet"),
            dia_forced_sources=product("tables/dia_forced_source.parquet"),
        output:
            folder=directory(product("lightcurves/{format}")),
        log:
            log_of("lightcurves/{format}"),
        wildcard_constraints:
            format="|".join(FORMATS),
        conda:
            "../envs/diaflow.yaml"
        resources:
            mem_mb=2000,
        params:
            flagged=config["lightcurves"]["flagged"],
            options=lambda wildcards: method_options(config, "lightcurves", wildcards.format),
            code=lambda wildcards: CODE.digest("lightcurves", lightcurves=wildcards.format),
        script:
            "../scripts/lightcurves.py"


if config["lightcurves"]["ades"]:

    rule ades:
        input:
            dia_sources=product("tables/dia_source.parquet"),
            visits=product("tables/visit.parquet"),
        output:
            folder=directory(product("lightcurves/ades")),
        log:
            log_of("lightcurves/ades"),
        conda:
            "../envs/diaflow.yaml"
        resources:
            mem_mb=2000,
        params:
            about=config["lightcurves"]["ades"],
            code=CODE.digest("ades"),
        script:
            "../scripts/ades.py"
