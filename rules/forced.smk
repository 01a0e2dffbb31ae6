# PSF photometry at known positions, whether or not anything was detected there: a rule for each variant.

# A rule for each batch of visits, named after its first visit (forced_diffim_17), or one for any visit, as
# rules/batches.smk says.
for name, visits in batches("forced_diffim", alike=FORCED["diffim"].__contains__).items():

    rule:
        name:
            name
        input:
            of_visits_by_name("dia_objects", visit_objects, visits),
            positions=positions_of("positions"),
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


for name, visits in batches("forced_calexp", alike=FORCED.get("calexp", []).__contains__).items():

    rule:
        name:
            name
        input:
            of_visits_by_name("objects", calexp_objects, visits),
            positions=positions_of("positions"),
            calexps=[product(f"calexp/{visit}") for visit in visits],
            summaries=[product(f"visit_summary/{visit}.parquet") for visit in visits],
        output:
            forced=[product(f"forced/calexp/{visit}.parquet") for visit in visits],
        log:
            log_of(f"forced_calexp/{visits[0]}"),
        conda:
            "../envs/diaflow.yaml"
        threads: 1
        resources:
            mem_mb=1500,
        params:
            aperture=config["calexp"]["aperture"],
            code=CODE.digest("forced_calexp"),
        script:
            "../scripts/forced_calexp.py"


for name, visits in batches(
    "forced_template_on_diffim", alike=FORCED.get("template_on_diffim", []).__contains__
).items():

    rule:
        name:
            name
        input:
            of_visits_by_name("objects", template_objects, visits),
            diffims=[product(f"diffim/{visit}") for visit in visits],
            summaries=[product(f"diffim_summary/{visit}.parquet") for visit in visits],
        output:
            forced=[product(f"forced/template_on_diffim/{visit}.parquet") for visit in visits],
        log:
            log_of(f"forced_template_on_diffim/{visits[0]}"),
        conda:
            "../envs/diaflow.yaml"
        threads: 1
        resources:
            mem_mb=1500,
        params:
            code=CODE.digest("forced_template_on_diffim"),
        script:
            "../scripts/forced_template_on_diffim.py"


rule forced_dia_source_on_template:
    input:
        dia_sources=product("dia_source/{visit}.parquet"),
        templates=lambda wildcards: template_coadds(int(wildcards.visit)),
    output:
        forced=product("forced/dia_source_on_template/{visit}.parquet"),
    log:
        log_of("forced_dia_source_on_template/{visit}"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=1500,
    params:
        skymap=sky_of_visit,
        code=CODE.digest("forced_dia_source_on_template"),
    script:
        "../scripts/forced_dia_source_on_template.py"


rule forced_dia_object_on_template:
    input:
        positions=positions_of("positions"),
        dia_objects=product("dia_object/{tract}/{patch}.parquet"),
        template=product("coadd/template/{tract}/{patch}/{band}.fits"),
    output:
        forced=product("forced/dia_object_on_template/{tract}/{patch}/{band}.parquet"),
    log:
        log_of("forced_dia_object_on_template/{tract}/{patch}/{band}"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=1500,
    params:
        skymap=sky_around,
        mjd=template_mjd if "positions" in POSITIONS else None,
        code=CODE.digest("forced_dia_object_on_template"),
    script:
        "../scripts/forced_dia_object_on_template.py"
