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
    script:
        "../scripts/jointcal.py"


rule calexp:
    input:
        images=images,
        refcat=REFCAT,
        jointcal=JOINTCAL,
        reference_visit=reference_visit,
    output:
        calexps=directory(product("calexp/{visit}")),
        sources=product("src/{visit}.parquet"),
        summary=product("visit_summary/{visit}.parquet"),
    log:
        log_of("calexp/{visit}"),
    conda:
        "../envs/diaflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        exposures=exposures,
        calexp=config["calexp"],
        instrument=config["instrument"],
        detrended=DETRENDED,
        metadata=config["metadata"],
        compress=config["storage"]["compress"],
        pixels=PIXELS,
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
    script:
        "../scripts/visit_summary.py"
