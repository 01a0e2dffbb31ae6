"""Calibrate the detectors of one visit: pixels in nJy, PSF, WCS, zero point and source catalogue."""

import logging
from functools import partial
from pathlib import Path

import numpy as np

from diaflow import calexp, instruments, job, parallel, refcat, tables
from diaflow.errors import BadData


def calibrate(row, instrument, config, refcat_config, reference_visit, folder):
    """Write the calexp of one detector; return its sources and summary."""
    try:
        image, header = instruments.read_image(row, instrument)
        radius = (np.hypot(row["nx"], row["ny"]) / 2 * row["pixel_scale"] + config["max_offset"]) / 3600
        stars = refcat.read(refcat_config, row["band"], row["ra"], row["dec"], radius) if refcat_config else None
        exposure, sources, summary = calexp.calibrate(image, header, row, stars, config, reference_visit)
    except BadData as error:
        logging.warning("visit %d detector %d failed: %s", row["visit"], row["detector"], error)
        return tables.empty("source"), calexp.failed(row, str(error))
    exposure.write(folder / f"{row['detector']}.fits")
    return sources, summary


def main(snakemake):
    folder = Path(snakemake.output.calexps)
    folder.mkdir(parents=True, exist_ok=True)
    rows = tables.read("exposure", snakemake.input.exposures)
    rows = rows[(rows["visit"] == int(snakemake.wildcards.visit)) & (rows["status"] == "ok")]
    reference = snakemake.input.reference_visit
    one = partial(
        calibrate,
        instrument=snakemake.params.instrument,
        config=snakemake.params.calexp,
        refcat_config=snakemake.params.refcat,
        reference_visit=tables.read("source", reference) if reference else None,
        folder=folder,
    )
    sources, summaries = zip(*parallel.each(one, rows, snakemake.threads))
    tables.write("source", tables.concatenate("source", sources), snakemake.output.sources)
    summary = tables.concatenate("visit_summary", summaries)
    tables.write("visit_summary", summary, snakemake.output.summary)
    logging.info("%d of %d detectors calibrated", (summary["status"] == "ok").sum(), len(summary))


if __name__ == "__main__":
    job.run(main, snakemake)
