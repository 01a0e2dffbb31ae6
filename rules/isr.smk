# Raw frames: master bias, dark and flat from calibration frames, and what they leave of each visit.


if DETRENDED:

    rule master_bias:
        input:
            frames=frames("bias"),
        output:
            masters=directory(product("calib/bias")),
        log:
            log_of("master_bias"),
        conda:
            "../envs/diaflow.yaml"
        threads: 1
        resources:
            mem_mb=2000,
        params:
            imagetype="bias",
            exposures=plan.calibration_rows("bias"),
            isr=config["isr"],
            instrument=config["instrument"],
            metadata=config["metadata"],
            detectors=plan.detectors,
            pixels=PIXELS,
            code=CODE.digest("master"),
        script:
            "../scripts/master.py"

    use rule master_bias as master_dark with:
        input:
            frames=frames("dark"),
            bias=master("bias"),
        output:
            masters=directory(product("calib/dark")),
        log:
            log_of("master_dark"),
        params:
            imagetype="dark",
            exposures=plan.calibration_rows("dark"),

    use rule master_bias as master_flat with:
        input:
            frames=lambda wildcards: frames("flat", wildcards.band),
            bias=master("bias"),
            dark=master("dark"),
        output:
            masters=directory(product("calib/flat/{band}")),
        log:
            log_of("master_flat/{band}"),
        params:
            imagetype="flat",
            exposures=lambda wildcards: plan.calibration_rows("flat", wildcards.band),

    # A rule for each batch of visits, named after its first visit (isr_17), or one for any visit, as
    # rules/batches.smk says.
    for name, visits in batches("isr").items():

        rule:
            name:
                name
            input:
                images=of_visits(plan.images.get, visits),
                bias=master("bias"),
                dark=master("dark"),
                flat=of_one_visit(lambda visit: master("flat", plan.bands[visit]), visits),
            output:
                detrended=[directory(product(f"post_isr/{visit}")) for visit in visits],
            log:
                log_of(f"isr/{visits[0]}"),
            conda:
                "../envs/diaflow.yaml"
            threads: 1
            resources:
                mem_mb=2000,
            params:
                exposures=of_visits(plan.rows, visits),
                isr=config["isr"],
                instrument=config["instrument"],
                metadata=config["metadata"],
                pixels=PIXELS,
                code=CODE.digest("isr"),
            script:
                "../scripts/isr.py"
