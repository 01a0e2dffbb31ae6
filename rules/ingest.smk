# Exposure table from image headers.


rule ingest:
    input:
        plan.files,
    output:
        exposures=product("exposures.parquet"),
    log:
        log_of("ingest"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=1000,
    params:
        config={
            key: config[key]
            for key in ("images", "instrument", "metadata", "bands", "detectors", "simulate", "skymap")
        },
        instrument=INSTRUMENT,
    script:
        "../scripts/ingest.py"
