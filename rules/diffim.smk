# Difference images of a visit and the sources on them.


# A rule for each batch of visits, named after its first visit (diffim_17), or one for any visit, as
# rules/batches.smk says.
for name, visits in batches("diffim", alike=SCIENCE.__contains__).items():

    rule:
        name:
            name
        input:
            of_visits_by_name("templates", template_coadds, visits),
            calexps=[product(f"calexp/{visit}") for visit in visits],
            sources=[product(f"src/{visit}.parquet") for visit in visits],
            summaries=[product(f"visit_summary/{visit}.parquet") for visit in visits],
        output:
            diffims=[directory(product(f"diffim/{visit}")) for visit in visits],
            dia_sources=[product(f"dia_source/{visit}.parquet") for visit in visits],
            summaries=[product(f"diffim_summary/{visit}.parquet") for visit in visits],
        log:
            log_of(f"diffim/{visits[0]}"),
        conda:
            "../envs/diaflow.yaml"
        threads: 1
        resources:
            mem_mb=2000,
        params:
            subtract=config["subtract"],
            detect=config["detect"],
            compress=config["storage"]["compress"],
            code=CODE.digest("diffim"),
        script:
            "../scripts/diffim.py"
