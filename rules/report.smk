# The page users look at, colour pictures of the coadds, and the comparison with the truth of a simulated survey.


rule picture:
    input:
        coadds=tract_coadds,
        objects=tract_objects,
    output:
        directory(product("pictures/{kind}/{tract}")),
    log:
        log_of("picture/{kind}/{tract}"),
    wildcard_constraints:
        kind="|".join(COADDS),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        code=CODE.digest("picture"),
    script:
        "../scripts/picture.py"


rule report:
    input:
        **{name: product(f"tables/{name}.parquet") for name in TABLES},
        validation=product("validation.json") if SIMULATED else [],
        templates=sorted({coadd for visit in plan.science for coadd in template_coadds(visit)}),
        pictures=PICTURES,
        objects=product("tables/object.parquet") if config["objects"] else [],
    output:
        page=product("report/index.html"),
    log:
        log_of("report"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=2000,
    params:
        code=CODE.digest("report"),
    script:
        "../scripts/report.py"


if SIMULATED:

    rule validate:
        input:
            **{name: product(f"tables/{name}.parquet") for name in TABLES},
            forced=[product(f"tables/{name}.parquet") for name in AT_POSITIONS],
            objects=f"{SURVEY}/truth_object.parquet",
            fluxes=f"{SURVEY}/truth_flux.parquet",
            truth_images=f"{SURVEY}/truth_image.parquet",
            catalogue=[product(f"tables/{name}.parquet") for name in EXTRA_TABLES if config["objects"]],
        output:
            figures=product("validation.json"),
            text=product("validation.txt"),
            scores=product("scores.json"),
        log:
            log_of("validate"),
        conda:
            "../envs/diaflow.yaml"
        resources:
            mem_mb=2000,
        params:
            threshold=config["detect"]["threshold"],
            radius=config["associate"]["radius"],
            code=CODE.digest("validate"),
        script:
            "../scripts/validate.py"
