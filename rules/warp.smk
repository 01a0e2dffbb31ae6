# Calexps of a visit resampled onto the patches of a tract, as they are and matched to one PSF.

kept = directory if config["storage"]["keep_warps"] else lambda path: temp(directory(path))

TEMPLATE_VISITS = {visit for visits in plan.template.values() for visit in visits}


def warped_alike(visit):
    """Visits of a batch are all warped, onto the same tracts."""
    return visit in TEMPLATE_VISITS, *dict.fromkeys(tract for tract, patch in plan.patches[visit])


# Where visits are selected by their measured seeing, batches would warp those that are not.
WARPED = ANY_VISIT if MEASURED_SEEING else batches(alike=warped_alike)


for batch, visits in WARPED.items():

    rule:
        name:
            f"warp{batch}"
        input:
            calexps=[product(f"calexp/{visit}") for visit in visits],
        output:
            warps=[kept(product(f"warp/{{tract}}/{visit}")) for visit in visits],
        log:
            log_of(f"warp/{{tract}}/{visits[0]}"),
        conda:
            "../envs/diaflow.yaml"
        threads: 1
        resources:
            mem_mb=2000,
        params:
            tract=tract_geometry,
        script:
            "../scripts/warp.py"


for batch, visits in WARPED.items():

    rule:
        name:
            f"warp_matched{batch}"
        input:
            warps=[product(f"warp/{{tract}}/{visit}") for visit in visits],
            summaries=model_summaries(visits),
        output:
            warps=[kept(product(f"warp_matched/{{tract}}/{visit}")) for visit in visits],
        log:
            log_of(f"warp_matched/{{tract}}/{visits[0]}"),
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
