# DIASources of all visits to DIAObjects, one job per patch; before that, those of a night that move to tracklets.


rule tracklet:
    input:
        dia_sources=lambda wildcards: [
            product(f"dia_source/{visit}.parquet") for visit in plan.nights[int(wildcards.visit)]
        ],
    output:
        tracklets=product("tracklet/{visit}.parquet"),
        links=product("tracklet_link/{visit}.parquet"),
    log:
        log_of("tracklet/{visit}"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=1000,
    params:
        associate={
            key: config["associate"][key]
            for key in ("radius", "bands", "min_snr", "flags", "max_rate", "tracklet_members")
        },
        code=CODE.digest("tracklet"),
    script:
        "../scripts/tracklet.py"


rule associate:
    input:
        dia_sources=patch_sources,
        moving=moving_sources,
    output:
        dia_objects=product("dia_object/{tract}/{patch}.parquet"),
        links=product("dia_link/{tract}/{patch}.parquet"),
    log:
        log_of("associate/{tract}/{patch}"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        associate={
            key: value
            for key, value in config["associate"].items()
            if key not in ("max_rate", "tracklet_members", "tracklet_objects", "known")
        },
        skymap=sky_around,
        code=CODE.digest("associate"),
    script:
        "../scripts/associate.py"
