"""Combine the warps of the selected visits into the template, or the deep coadd, of one patch and band."""

import logging
from pathlib import Path

from diaflow.run import job, methods

from diaflow.coadd import combine
from diaflow.errors import BadData
from diaflow.sky.skymap.tract import Tract


def main(snakemake):
    patch, folders = snakemake.wildcards.patch, zip(snakemake.input.warps, snakemake.input.matched)
    method = methods.load("coadd", snakemake.params.method)
    pairs = [(Path(warps, f"{patch}.fits"), Path(matched, f"{patch}.fits")) for warps, matched in folders]
    reaching = [pair for pair in pairs if all(path.exists() for path in pair)]
    try:
        warps, matched = [warp for warp, _ in reaching], [match for _, match in reaching]
        coadd = combine.combine_warps(warps, matched, method.combine, **snakemake.params.options)
    except BadData as error:
        coadd = combine.failed(*Tract(**snakemake.params.tract).patch_wcs(patch), error)
    coadd.metadata |= {"tract": int(snakemake.wildcards.tract), "patch": patch, "band": snakemake.wildcards.band}
    coadd.write(snakemake.output.coadd)
    logging.info("%d of %d visits reach the patch", len(reaching), len(pairs))


if __name__ == "__main__":
    job.run(main, snakemake)
