"""Calibrate the detectors of a visit, or of several: pixels in nJy, PSF, WCS, zero point and source catalogue."""

import logging
from functools import partial

from diaflow.run import job, parallel

from diaflow.calibrate import calexp, jointcal
from diaflow.errors import BadData
from diaflow.isr import image_files
from diaflow.refcat.store import stars_around
from diaflow.store import tables


def calibrate(row, instrument, detrended, config, catalogue, joint, reference_visit, folders, compress):
    """Write the calexp of one detector; return its sources and summary."""
    try:
        pixels = image_files.read_pixels(row, instrument, detrended)
        stars = stars_around(catalogue, row, config["max_offset"]) if catalogue else None
        distortion = None
        if joint:
            distortion = jointcal.distortion_of(joint[0], row["detector"])
            stars = jointcal.refined(stars, joint[1], row["band"])
        exposure, sources, summary = calexp.calibrate(pixels, row, stars, config, reference_visit, distortion)
    except BadData as error:
        logging.warning("visit %d detector %d failed: %s", row["visit"], row["detector"], error)
        return tables.empty("source"), calexp.failed(row, error)
    exposure.write(folders[row["visit"]] / f"{row['detector']}.fits", compress)
    return sources, summary


def main(snakemake):
    folders = job.folders(snakemake.output.calexps)
    rows = tables.from_rows("exposure", snakemake.params.exposures)
    reference = snakemake.input.reference_visit
    joint = [tables.read(name, path) for name, path in zip(("camera", "joint_star"), snakemake.input.jointcal)]
    calibrate_row = partial(
        calibrate,
        instrument=snakemake.params.instrument,
        detrended=snakemake.params.detrended,
        config=snakemake.params.calexp,
        catalogue=snakemake.input.refcat,
        joint=joint,
        reference_visit=tables.read("source", reference) if reference else None,
        folders=folders,
        compress=snakemake.params.compress,
    )
    sources, summaries = zip(*parallel.each(calibrate_row, rows, snakemake.threads))
    tables.write_visits("source", tables.concatenate("source", sources), snakemake.output.sources)
    summary = tables.concatenate("visit_summary", summaries)
    tables.write_visits("visit_summary", summary, snakemake.output.summaries)
    logging.info("%d of %d detectors calibrated", (summary["status"] == "ok").sum(), len(summary))


if __name__ == "__main__":
    job.run(main, snakemake)
