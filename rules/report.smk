# The page users look at, and the comparison with the truth of a simulated survey.


rule report:
    input:
        **{name: product(f"tables/{name}.parquet") for name in TABLES},
        validation=product("validation.json") if SIMULATED else [],
    output:
        page=product("report/index.html"),
    params:
        products=product(""),
    log:
        log_of("report"),
    resources:
        mem_mb=2000,
    conda:
        "../envs/diaflow.yaml"
    script:
        "../scripts/report.py"


if SIMULATED:

    rule validate:
        input:
            **{name: product(f"tables/{name}.parquet") for name in TABLES},
            objects="demo/truth_object.parquet",
            fluxes="demo/truth_flux.parquet",
        output:
            figures=product("validation.json"),
            text=product("validation.txt"),
        params:
            survey=config["simulate"],
            products=product(""),
        log:
            log_of("validate"),
        resources:
            mem_mb=2000,
        conda:
            "../envs/diaflow.yaml"
        script:
            "../scripts/validate.py"
