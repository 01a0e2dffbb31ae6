"""Measure fluxes at the user's positions on the calexps of visits."""

import logging
from functools import partial

from diaflow.run import job, parallel

from diaflow.forced.calexp import forced_photometry
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.refcat.positions import at
from diaflow.store import tables


def measure(row, chosen, calexps, aperture):
    """Forced photometry on one detector; `row` is that of its calexp in "visit_summary"."""
    exposure = Exposure.read(calexps[row["visit"]] / f"{row['detector']}.fits")
    positions = Positions.of(at(chosen, row["mjd"]), "positionId")
    return forced_photometry(exposure, positions, aperture, float(row["aperture_correction"]))


def main(snakemake):
    rows = tables.concatenate("visit_summary", [tables.read("visit_summary", p) for p in snakemake.input.summaries])
    measure_row = partial(
        measure,
        chosen=tables.read("position", snakemake.input.positions[0]),
        calexps=job.by_visit(snakemake.input.calexps),
        aperture=snakemake.params.aperture,
    )
    parts = parallel.each(measure_row, rows[rows["status"] == "ok"], snakemake.threads)
    forced_sources = tables.concatenate("forced_source", parts)
    tables.write_visits("forced_source", forced_sources, snakemake.output.forced)
    logging.info("%d forced sources", len(forced_sources))


if __name__ == "__main__":
    job.run(main, snakemake)
