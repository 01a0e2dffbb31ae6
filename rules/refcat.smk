# The reference catalogue, sorted on the sky, and tables of positions of the user's.


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


for name, (section, entry, files) in POSITIONS.items():

    rule:
        name:
            name
        input:
            files,
        output:
            positions=product(f"{name}.parquet"),
        log:
            log_of(name),
        conda:
            "../envs/diaflow.yaml"
        resources:
            mem_mb=1000,
        params:
            positions={key: value for key, value in entry.items() if key != "path"},
            section=section,
            code=CODE.digest("positions"),
        script:
            "../scripts/positions.py"
