# The catalogue of the static sky: objects of the coadds of a patch in all bands, deep ones or templates.


rule template_object:
    input:
        coadds=coadds_of_patch("template", plan.template_bands),
        refcat=REFCAT,
    output:
        objects=product("template_object/{tract}/{patch}.parquet"),
    log:
        log_of("template_object/{tract}/{patch}"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        priority=config["deep"]["priority"],
        skymap=sky_around,
        mjd=patch_mjd("template", plan.template_bands),
        code=CODE.digest("object"),
    script:
        "../scripts/object.py"


if config["objects"]:

    use rule template_object as object with:
        input:
            coadds=coadds_of_patch("deep", plan.deep_bands),
            refcat=REFCAT,
        output:
            objects=product("object/{tract}/{patch}.parquet"),
        log:
            log_of("object/{tract}/{patch}"),
        params:
            priority=config["deep"]["priority"],
            skymap=sky_around,
            mjd=patch_mjd("deep", plan.deep_bands),
            code=CODE.digest("object"),
