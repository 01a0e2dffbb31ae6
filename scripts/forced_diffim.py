"""Measure the PSF flux of every DIAObject on the difference images of one visit."""

import logging
from functools import partial
from pathlib import Path

from diaflow import forced, job, parallel, tables
from diaflow.exposure import Exposure


def measure(row, objects, calexps, diffims):
    """Forced photometry on one detector."""
    difference = Exposure.read(Path(diffims) / f"{row['detector']}.fits")
    science = Exposure.read(Path(calexps) / f"{row['detector']}.fits")
    return forced.photometry(difference, science, objects["ra"], objects["dec"], objects["diaObjectId"])


def main(snakemake):
    columns = ["diaObjectId", "ra", "dec"]
    parts = [tables.read("dia_object", path, columns) for path in snakemake.input.dia_objects]
    objects = tables.concatenate("dia_object", parts)
    rows = tables.read("diffim_summary", snakemake.input.summary)
    one = partial(measure, objects=objects, calexps=snakemake.input.calexps, diffims=snakemake.input.diffims)
    parts = parallel.each(one, rows[rows["status"] == "ok"], snakemake.threads)
    forced_sources = tables.concatenate("dia_forced_source", parts)
    tables.write("dia_forced_source", forced_sources, snakemake.output.forced)
    logging.info("%d forced sources", len(forced_sources))


if __name__ == "__main__":
    job.run(main, snakemake)
