"""Lay the tract and its patches over the images and list which images touch which patches."""

import logging

from diaflow.run import job, methods, plan

from diaflow.sky.overlaps import lay_out
from diaflow.store import tables


def main(snakemake):
    exposures = tables.read("exposure", snakemake.input.exposures)
    config = snakemake.params.skymap
    sky, overlaps = lay_out(config, exposures, methods.load("sky.skymap", config["type"]), plan.MARGIN_ARCSEC)
    sky.write(snakemake.output.skymap)
    tables.write("overlap", overlaps, snakemake.output.overlaps)
    logging.info("%d tracts, %d overlaps of images and patches", len(sky.tracts), len(overlaps))


if __name__ == "__main__":
    job.run(main, snakemake)
