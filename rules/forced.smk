# PSF photometry of every DIAObject on every difference image that contains it.


# A rule for each batch of visits, named after its first visit (forced_diffim_17), or one for any visit, as
# rules/batches.smk says.
for name, visits in batches("forced_diffim", alike=SCIENCE.__contains__).items():

    rule:
        name:
            name
        input:
            of_visits_by_name("dia_objects", visit_objects, visits),
            calexps=[product(f"calexp/{visit}") for visit in visits],
            diffims=[product(f"diffim/{visit}") for visit in visits],
            summaries=[product(f"diffim_summary/{visit}.parquet") for visit in visits],
        output:
            forced=[product(f"forced/diffim/{visit}.parquet") for visit in visits],
        log:
            log_of(f"forced_diffim/{visits[0]}"),
        conda:
            "../envs/diaflow.yaml"
        threads: 1
        resources:
            mem_mb=1500,
        params:
            code=CODE.digest("forced_diffim"),
        script:
            "../scripts/forced_diffim.py"
