"""Measure the PSF flux of every DIAObject on the difference images of visits."""

import logging
from functools import partial

from diaflow.run import job, parallel

from diaflow.forced.diffim import forced_photometry
from diaflow.image.exposure import Exposure
from diaflow.store import tables


def measure(row, objects, calexps, diffims):
    """Forced photometry on one detector; `row` is that of its difference in "diffim_summary"."""
    visit, name = row["visit"], f"{row['detector']}.fits"
    difference, science = (Exposure.read(folders[visit] / name) for folders in (diffims, calexps))
    positions = (objects[visit][column] for column in ("ra", "dec", "diaObjectId"))
    return forced_photometry(difference, science, *positions, row["science_variance_factor"])


def read_objects(paths):
    """Identifiers and positions of the DIAObjects of some patches."""
    columns = ["diaObjectId", "ra", "dec"]
    return tables.concatenate("dia_object", [tables.read("dia_object", path, columns) for path in paths])


def main(snakemake):
    calexps, diffims = job.by_visit(snakemake.input.calexps), job.by_visit(snakemake.input.diffims)
    objects = {visit: read_objects(snakemake.input[f"dia_objects_{visit}"]) for visit in calexps}
    summaries = [tables.read("diffim_summary", path) for path in snakemake.input.summaries]
    rows = tables.concatenate("diffim_summary", summaries)
    measure_row = partial(measure, objects=objects, calexps=calexps, diffims=diffims)
    parts = parallel.each(measure_row, rows[rows["status"] == "ok"], snakemake.threads)
    forced_sources = tables.concatenate("dia_forced_source", parts)
    tables.write_visits("dia_forced_source", forced_sources, snakemake.output.forced)
    logging.info("%d forced sources", len(forced_sources))


if __name__ == "__main__":
    job.run(main, snakemake)
