"""Combine the warps of the selected visits into the template of one patch and band."""

import logging
from pathlib import Path

from diaflow.run import job, methods

from diaflow.coadd import combine
from diaflow.errors import BadData
from diaflow.sky.skymap.tract import Tract


def main(snakemake):
    patch, given = snakemake.wildcards.patch, snakemake.input
    method = methods.load("coadd", snakemake.params.method)
    warps = [Path(folder, f"{patch}.fits") for folder in given.warps]
    matched = [Path(folder, f"{patch}.fits") for folder in given.matched]
    reached = [warp.exists() and match.exists() for warp, match in zip(warps, matched)]
    warps, matched = ([path for path, there in zip(paths, reached) if there] for paths in (warps, matched))
    try:
        template = combine.combine_warps(warps, matched, method.combine, **snakemake.params.options)
    except BadData as error:
        template = combine.failed(*Tract(**snakemake.params.tract).patch_wcs(patch), str(error))
    template.metadata |= {"tract": int(snakemake.wildcards.tract), "patch": patch, "band": snakemake.wildcards.band}
    template.write(snakemake.output.coadd)
    logging.info("%d of %d visits reach the patch", len(warps), len(reached))


if __name__ == "__main__":
    job.run(main, snakemake)
