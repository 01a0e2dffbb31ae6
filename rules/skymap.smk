# Tracts, patches and which images touch them; the visits of each template patch.


rule skymap:
    input:
        exposures=product("exposures.parquet"),
    output:
        skymap=product("skymap.json"),
        overlaps=product("overlaps.parquet"),
    log:
        log_of("skymap"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=1000,
    params:
        skymap=config["skymap"],
        code=CODE.digest("skymap"),
    script:
        "../scripts/skymap.py"


rule select_template:
    input:
        exposures=product("exposures.parquet"),
        overlaps=product("overlaps.parquet"),
        summary=product("visit_summary.parquet"),
    output:
        selection=SELECTED["template"],
    log:
        log_of("select_template"),
    conda:
        "../envs/diaflow.yaml"
    resources:
        mem_mb=1000,
    params:
        section="template",
        coadd={key: config["template"][key] for key in [*SELECTION, "guard"]},
        science=GUARDED,
        code=CODE.digest("select_template"),
    script:
        "../scripts/select_template.py"


if config["objects"]:

    use rule select_template as select_deep with:
        output:
            selection=SELECTED["deep"],
        log:
            log_of("select_deep"),
        params:
            section="deep",
            coadd={key: config["deep"][key] for key in SELECTION},
            science={"visits": [], "mjd": None},
            code=CODE.digest("select_template"),


# Checkpoints, and only where the graph depends on what they find: Snakemake loses track of running groups of jobs when
# a checkpoint ends.  The keyword `checkpoint` does the same as these lines, but would need the rule a second time: what
# inherits with `use rule` is never a checkpoint.
for kind in MEASURED:
    selecting = getattr(rules, f"select_{kind}").rule
    selecting.is_checkpoint = True
    checkpoints.register(selecting)
