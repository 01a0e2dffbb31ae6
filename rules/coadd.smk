# The template of the static sky, one patch and band at a time.


rule coadd_template:
    input:
        warps=coadd_warps("warp"),
        matched=coadd_warps("warp_matched"),
    output:
        coadd=product("coadd/template/{tract}/{patch}/{band}.fits"),
    log:
        log_of("coadd_template/{tract}/{patch}/{band}"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        method=config["template"]["method"],
        options=method_options(config, "template"),
        tract=tract_geometry,
        code=CODE.digest("coadd_template"),
    script:
        "../scripts/coadd_template.py"
