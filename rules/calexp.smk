# Single-frame calibration, one job per visit.


rule calexp:
    input:
        images=images,
        exposures=ancient(product("exposures.parquet")),
        refcat=REFCAT,
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
        calexp=config["calexp"],
        refcat=config["refcat"],
        instrument=config["instrument"],
        metadata=config["metadata"],
        detectors=config["detectors"],
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
