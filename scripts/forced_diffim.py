"""Measure the PSF flux of every DIAObject, and at the user's positions, on the difference images of visits."""

import logging
from functools import partial

from diaflow.run import job, parallel

from diaflow.forced.diffim import forced_photometry
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.refcat.positions import at
from diaflow.store import tables


def measure(row, objects, chosen, calexps, diffims):
    """Forced photometry on one detector; `row` is that of its difference in "diffim_summary"."""
    visit, name = row["visit"], f"{row['detector']}.fits"
    difference, science = (Exposure.read(folders[visit] / name) for folders in (diffims, calexps))
    template = Exposure.read(diffims[visit] / f"{row['detector']}_template.fits")
    positions = Positions.joined(
        [objects[visit], *(Positions.of(at(table, row["mjd"]), "positionId") for table in chosen)]
    )
    factors = row["science_variance_factor"], row["template_noise"]
    return forced_photometry(difference, science, template.variance, positions, *factors)


def read_objects(paths):
    """The positions of the DIAObjects of some patches."""
    columns = ["diaObjectId", "ra", "dec"]
    table = tables.concatenate("dia_object", [tables.read("dia_object", path, columns) for path in paths])
    return Positions.of(table, "diaObjectId")


def main(snakemake):
    calexps, diffims = job.by_visit(snakemake.input.calexps), job.by_visit(snakemake.input.diffims)
    objects = {visit: read_objects(snakemake.input[f"dia_objects_{visit}"]) for visit in calexps}
    chosen = [tables.read("position", path) for path in snakemake.input.positions]
    summaries = [tables.read("diffim_summary", path) for path in snakemake.input.summaries]
    rows = tables.concatenate("diffim_summary", summaries)
    measure_row = partial(measure, objects=objects, chosen=chosen, calexps=calexps, diffims=diffims)
    parts = parallel.each(measure_row, rows[rows["status"] == "ok"], snakemake.threads)
    forced_sources = tables.concatenate("dia_forced_source", parts)
    tables.write_visits("dia_forced_source", forced_sources, snakemake.output.forced)
    logging.info("%d forced sources", len(forced_sources))


if __name__ == "__main__":
    job.run(main, snakemake)
