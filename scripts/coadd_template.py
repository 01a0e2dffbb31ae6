"""Combine the warps of the selected visits into the template of one patch and band."""

import logging
from pathlib import Path

from diaflow import coadd, job
from diaflow.skymap.tract import Tract


def main(snakemake):
    patch, band = snakemake.wildcards.patch, snakemake.wildcards.band
    pairs = [(Path(d) / f"{patch}.fits", Path(m) / f"{patch}.fits") for d, m in zip(snakemake.input.warps, snakemake.input.matched)]
    warps, matched = zip(*[pair for pair in pairs if pair[0].exists()]) or ((), ())
    wcs, shape = Tract(**snakemake.params.tract).patch_wcs(patch)
    template = coadd.coadd(warps, matched, snakemake.params.method, wcs, shape)
    template.metadata |= {"tract": int(snakemake.wildcards.tract), "patch": patch, "band": band}
    template.write(snakemake.output.coadd)
    logging.info("%d visits", len(warps))


if __name__ == "__main__":
    job.run(main, snakemake)
