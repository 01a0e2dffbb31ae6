# Coadds of the static sky, one patch and band at a time: the template, and the deep one that objects are found on.


rule coadd_template:
    input:
        warps=coadd_warps("template", "warp"),
        matched=coadd_warps("template", "warp_matched"),
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
        code=CODE.digest("coadd_template", coadd=config["template"]["method"]),
    script:
        "../scripts/coadd_template.py"


if config["objects"]:

    use rule coadd_template as coadd_deep with:
        input:
            warps=coadd_warps("deep", "warp"),
            matched=coadd_warps("deep", "warp_matched"),
        output:
            coadd=product("coadd/deep/{tract}/{patch}/{band}.fits"),
        log:
            log_of("coadd_deep/{tract}/{patch}/{band}"),
        params:
            method=config["deep"]["method"],
            options=method_options(config, "deep"),
            tract=tract_geometry,
            code=CODE.digest("coadd_template", coadd=config["deep"]["method"]),
