# The built-in survey: images, reference catalogue and truth tables.


if SIMULATED:

    rule simulate:
        output:
            images=plan.exposures["path"].tolist(),
            refcat=f"{SURVEY}/refcat.parquet",
            objects=f"{SURVEY}/truth_object.parquet",
            fluxes=f"{SURVEY}/truth_flux.parquet",
            truth_images=f"{SURVEY}/truth_image.parquet",
        log:
            log_of("simulate"),
        conda:
            "../envs/diaflow.yaml"
        threads: 64
        resources:
            mem_mb=2000,
        params:
            survey=config["simulate"],
            code=CODE.digest("simulate"),
        script:
            "../scripts/simulate.py"
