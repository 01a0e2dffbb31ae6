# Calexps of a visit resampled onto the patches of a tract, as they are and matched to one PSF.


rule warp:
    input:
        calexps=product("calexp/{visit}"),
        skymap=ancient(product("skymap.json")),
    output:
        warps=directory(product("warp/{tract}/{visit}")),
    params:
        tract=tract_geometry,
    log:
        log_of("warp/{tract}/{visit}"),
    threads: 1
    resources:
        mem_mb=2000,
    conda:
        "../envs/diaflow.yaml"
    script:
        "../scripts/warp.py"


rule warp_matched:
    input:
        warps=product("warp/{tract}/{visit}"),
        summaries=model_summaries,
    output:
        warps=directory(product("warp_matched/{tract}/{visit}")),
    params:
        model_fwhm=config["template"]["model_fwhm"],
        psf_size=config["calexp"]["psf_size"],
    log:
        log_of("warp_matched/{tract}/{visit}"),
    threads: 1
    resources:
        mem_mb=2000,
    conda:
        "../envs/diaflow.yaml"
    script:
        "../scripts/warp_matched.py"
