# The built-in survey: images, reference catalogue and truth tables.


if SIMULATED:

    rule simulate:
        output:
            images=plan.exposures["path"].tolist(),
            refcat="demo/refcat.parquet",
            objects="demo/truth_object.parquet",
            fluxes="demo/truth_flux.parquet",
        params:
            survey=config["simulate"],
        log:
            log_of("simulate"),
        threads: 64
        resources:
            mem_mb=2000,
        conda:
            "../envs/diaflow.yaml"
        script:
            "../scripts/simulate.py"
