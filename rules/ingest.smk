# Exposure table from image headers.


rule ingest:
    input:
        plan.exposures["path"].tolist(),
    output:
        exposures=product("exposures.parquet"),
    params:
        config={key: config[key] for key in ("images", "instrument", "metadata", "bands", "detectors", "simulate")},
    log:
        log_of("ingest"),
    resources:
        mem_mb=1000,
    conda:
        "../envs/diaflow.yaml"
    script:
        "../scripts/ingest.py"
