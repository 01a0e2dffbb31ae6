"""Measure fluxes of objects, and at the user's positions, on the calexps of visits."""

import logging
from functools import partial

from diaflow.run import job, parallel

from diaflow.forced.calexp import forced_photometry
from diaflow.forced.positions import Positions
from diaflow.image.exposure import Exposure
from diaflow.refcat.positions import at
from diaflow.store import tables


def measure(row, objects, chosen, calexps, aperture):
    """Forced photometry on one detector; `row` is that of its calexp in "visit_summary"."""
    exposure = Exposure.read(calexps[row["visit"]] / f"{row['detector']}.fits")
    positions = Positions.joined(
        [*objects[row["visit"]], *(Positions.of(at(table, row["mjd"]), "positionId") for table in chosen)]
    )
    return forced_photometry(exposure, positions, aperture, float(row["aperture_correction"]))


def read_objects(paths):
    """The positions of the objects that some patches own, patch by patch."""
    parts = [tables.read("object", path, ["objectId", "ra", "dec", "detect_isPrimary"]) for path in paths]
    return [Positions.of(part[part["detect_isPrimary"]], "objectId") for part in parts]


def main(snakemake):
    rows = tables.concatenate("visit_summary", [tables.read("visit_summary", p) for p in snakemake.input.summaries])
    calexps = job.by_visit(snakemake.input.calexps)
    measure_row = partial(
        measure,
        objects={visit: read_objects(snakemake.input.get(f"objects_{visit}", [])) for visit in calexps},
        chosen=[tables.read("position", path) for path in snakemake.input.positions],
        calexps=calexps,
        aperture=snakemake.params.aperture,
    )
    parts = parallel.each(measure_row, rows[rows["status"] == "ok"], snakemake.threads)
    forced_sources = tables.concatenate("forced_source", parts)
    tables.write_visits("forced_source", forced_sources, snakemake.output.forced)
    logging.info("%d forced sources", len(forced_sources))


if __name__ == "__main__":
    job.run(main, snakemake)
