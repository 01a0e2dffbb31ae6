"""Detect, deblend and measure the objects of a patch on its coadds in all bands."""

import logging
from pathlib import Path

from diaflow.run import job

from diaflow.catalogue.objects import NAME, patch_objects, ranked
from diaflow.sky.skymap.maps import SkyMap
from diaflow.store import tables


def main(snakemake):
    paths = {Path(path).stem: path for path in snakemake.input.coadds}
    coadds = {band: paths[band] for band in ranked(list(paths), snakemake.params.priority)}
    where = SkyMap.from_dict(snakemake.params.skymap), int(snakemake.wildcards.tract), snakemake.wildcards.patch
    refcat = snakemake.input.refcat or None
    objects = patch_objects(coadds, *where, refcat, snakemake.params.mjd)
    tables.write(NAME, objects, snakemake.output.objects)
    skipped = (objects["deblend_skipped"] & (objects["deblend_nChild"] > 0)).sum()
    logging.info("%d rows, %d primary, %d blends not parted", len(objects), objects["detect_isPrimary"].sum(), skipped)


if __name__ == "__main__":
    job.run(main, snakemake)
