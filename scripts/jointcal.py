"""Distortion of the camera and refined reference stars from the first visits."""

import logging
from functools import partial

from diaflow.run import job, parallel

from diaflow.calibrate import jointcal
from diaflow.errors import BadData
from diaflow.isr import image_files
from diaflow.refcat.store import stars_around
from diaflow.store import tables


def observe(row, instrument, detrended, config, catalogue):
    """The reference stars on one detector image, or None where they cannot be measured."""
    try:
        pixels = image_files.read_pixels(row, instrument, detrended)
        stars = stars_around(catalogue, row, config["max_offset"])
        return jointcal.observe(pixels, row, stars, config)
    except BadData as error:
        logging.warning("visit %d detector %d left out: %s", row["visit"], row["detector"], error)
        return None


def main(snakemake):
    rows = tables.from_rows("exposure", snakemake.params.exposures)
    config = snakemake.params.calexp
    read = {"instrument": snakemake.params.instrument, "detrended": snakemake.params.detrended}
    observe_row = partial(observe, **read, config=config, catalogue=snakemake.input.refcat)
    images = [image for image in parallel.each(observe_row, rows, snakemake.threads) if image is not None]
    camera, stars = jointcal.solve(images, config["sip_order"])
    tables.write("camera", camera, snakemake.output.camera)
    tables.write("joint_star", stars, snakemake.output.stars)
    logging.info("%d of %d images, %d stars", len(images), len(rows), len(set(stars["id"])))


if __name__ == "__main__":
    job.run(main, snakemake)
