"""Measure what is on the templates on the difference images of visits."""

import logging
from functools import partial

from diaflow.run import job, parallel

from diaflow.forced.template_on_diffim import NAME, forced_photometry, in_band
from diaflow.image.exposure import Exposure
from diaflow.store import tables


def measure(row, objects, diffims):
    """Forced photometry on one detector; `row` is that of its difference in "diffim_summary"."""
    difference = Exposure.read(diffims[row["visit"]] / f"{row['detector']}.fits")
    return forced_photometry(difference, in_band(objects[row["visit"]], row["band"]))


def read_objects(paths):
    """What is on the templates of some patches."""
    return tables.concatenate("object", [tables.read("object", path) for path in paths])


def main(snakemake):
    diffims = job.by_visit(snakemake.input.diffims)
    objects = {visit: read_objects(snakemake.input.get(f"objects_{visit}", [])) for visit in diffims}
    summaries = [tables.read("diffim_summary", path) for path in snakemake.input.summaries]
    rows = tables.concatenate("diffim_summary", summaries)
    measure_row = partial(measure, objects=objects, diffims=diffims)
    parts = parallel.each(measure_row, rows[rows["status"] == "ok"], snakemake.threads)
    table = tables.concatenate(NAME, parts)
    tables.write_visits(NAME, table, snakemake.output.forced)
    logging.info("%d rows", len(table))


if __name__ == "__main__":
    job.run(main, snakemake)
