# The reference catalogue, sorted on the sky.


if config["refcat"]:

    rule refcat:
        input:
            CATALOGUE,
        output:
            refcat=REFCAT,
        log:
            log_of("refcat"),
        conda:
            "../envs/diaflow.yaml"
        resources:
            mem_mb=1000,
        params:
            refcat={key: value for key, value in config["refcat"].items() if key != "path"},
            code=CODE.digest("refcat"),
        script:
            "../scripts/refcat.py"
