# Calexps of a visit resampled onto the patches of a tract, as they are and matched to one PSF.

warp_folder = directory if config["storage"]["keep_warps"] else lambda path: temp(directory(path))

COADD_VISITS = {visit for planned in COADDS.values() for visits in planned.values() for visit in visits}


def warped_alike(visit):
    """Visits of a batch are all warped, onto the same tracts."""
    return visit in COADD_VISITS, *dict.fromkeys(tract for tract, patch in plan.patches[visit])


# Where visits are selected by their measured seeing, batches would warp those that are not.
WARPED_TOGETHER = 1 if MEASURED else config["visits_per_job"]


def model_summaries(visits):
    """Input of a job of some visits: summaries of those whose seeing decides the PSF that the warps are matched to."""

    def summaries(wildcards):
        if config["template"]["model_fwhm"]:
            return []
        return warped_summaries(int(wildcards.tract), plan.bands[visits_of(wildcards, visits)[0]])

    return summaries


# A rule for each batch of visits, named after its first visit (warp_17), or one for any visit, as
# rules/batches.smk says.
for name, visits in batches("warp", alike=warped_alike, size=WARPED_TOGETHER).items():

    rule:
        name:
            name
        input:
            calexps=[product(f"calexp/{visit}") for visit in visits],
        output:
            warps=[warp_folder(product(f"warp/{{tract}}/{visit}")) for visit in visits],
        log:
            log_of(f"warp/{{tract}}/{visits[0]}"),
        conda:
            "../envs/diaflow.yaml"
        threads: 1
        resources:
            mem_mb=2000,
        params:
            tract=tract_geometry,
            code=CODE.digest("warp"),
        script:
            "../scripts/warp.py"


# A rule for each batch of visits, named after its first visit (warp_matched_17), or one for any visit, as
# rules/batches.smk says.
for name, visits in batches("warp_matched", alike=warped_alike, size=WARPED_TOGETHER).items():

    rule:
        name:
            name
        input:
            warps=[product(f"warp/{{tract}}/{visit}") for visit in visits],
            summaries=model_summaries(visits),
        output:
            warps=[warp_folder(product(f"warp_matched/{{tract}}/{visit}")) for visit in visits],
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
            code=CODE.digest("warp_matched"),
        script:
            "../scripts/warp_matched.py"
