# Calexps of a visit resampled onto the patches of a tract, as they are and matched to one PSF.

kept = directory if config["storage"]["keep_warps"] else lambda path: temp(directory(path))


rule warp:
    input:
        calexps=product("calexp/{visit}"),
    output:
        warps=kept(product("warp/{tract}/{visit}")),
    log:
        log_of("warp/{tract}/{visit}"),
    conda:
        "../envs/diaflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        tract=tract_geometry,
    script:
        "../scripts/warp.py"


rule warp_matched:
    input:
        warps=product("warp/{tract}/{visit}"),
        summaries=model_summaries,
    output:
        warps=kept(product("warp_matched/{tract}/{visit}")),
    log:
        log_of("warp_matched/{tract}/{visit}"),
    conda:
        "../envs/diaflow.yaml"
    threads: 1
    resources:
        mem_mb=2000,
    params:
        model_fwhm=config["template"]["model_fwhm"],
        tract=tract_geometry,
        psf_size=config["calexp"]["psf_size"],
    script:
        "../scripts/warp_matched.py"
