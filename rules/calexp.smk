# Single-frame calibration, one job per visit.


rule jointcal:
    input:
        images=[path for visit in JOINT_VISITS for path in images_of(visit)],
        refcat=REFCAT,
    output:
        camera=product("jointcal/camera.parquet"),
        stars=product("jointcal/stars.parquet"),
    log:
        log_of("jointcal"),
    conda:
        "../envs/diaflow.yaml"
    threads: 8
    resources:
        mem_mb=lambda wildcards, threads: 1000 * threads,
    params:
        exposures=plan.rows(*JOINT_VISITS),
        calexp=config["calexp"],
        instrument=config["instrument"],
        detrended=DETRENDED,
        metadata=config["metadata"],
        pixels=PIXELS,
        code=CODE.digest("jointcal"),
    script:
        "../scripts/jointcal.py"


# A rule for each batch of visits, named after its first visit (calexp_17), or one for any visit, as
# rules/batches.smk says.
for name, visits in batches("calexp", alike=REFERENCE_VISITS.get).items():

    rule:
        name:
            name
        input:
            images=of_visits(images_of, visits),
            refcat=REFCAT,
            jointcal=JOINTCAL,
            reference_visit=of_one_visit(reference_sources, visits),
        output:
            calexps=[directory(product(f"calexp/{visit}")) for visit in visits],
            sources=[product(f"src/{visit}.parquet") for visit in visits],
            summaries=[product(f"visit_summary/{visit}.parquet") for visit in visits],
        log:
            log_of(f"calexp/{visits[0]}"),
        conda:
            "../envs/diaflow.yaml"
        threads: 1
        resources:
            mem_mb=2000,
        params:
            exposures=of_visits(plan.rows, visits),
            calexp=config["calexp"],
            instrument=config["instrument"],
            detrended=DETRENDED,
            metadata=config["metadata"],
            compress=config["storage"]["compress"],
            pixels=PIXELS,
            code=CODE.digest("calexp"),
        script:
            "../scripts/calexp.py"


rule visit_summary:
    input:
        [product(f"visit_summary/{visit}.parquet") for visit in plan.visits],
    output:
        summary=product("visit_summary.parquet"),
    log:
        log_of("visit_summary"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=1000,
    params:
        code=CODE.digest("visit_summary"),
    script:
        "../scripts/visit_summary.py"
