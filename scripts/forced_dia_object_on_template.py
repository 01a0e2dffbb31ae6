"""Measure the DIAObjects of a patch, and the user's positions that it owns, on its template in a band."""

import logging

from diaflow.run import job

from diaflow.forced.dia_object_on_template import NAME, forced_photometry
from diaflow.forced.positions import Positions
from diaflow.refcat.positions import at
from diaflow.sky.skymap.maps import SkyMap
from diaflow.store import tables


def main(snakemake):
    objects = tables.read("dia_object", snakemake.input.dia_objects, ["diaObjectId", "ra", "dec"])
    parts = [Positions.of(objects, "diaObjectId")]
    for path in snakemake.input.positions:
        chosen = at(tables.read("position", path), snakemake.params.mjd)
        tract, patch = SkyMap.from_dict(snakemake.params.skymap).owner(chosen["ra"], chosen["dec"])
        mine = (tract == int(snakemake.wildcards.tract)) & (patch == snakemake.wildcards.patch)
        parts.append(Positions.of(chosen[mine], "positionId"))
    table = forced_photometry(Positions.joined(parts), snakemake.input.template)
    tables.write(NAME, table, snakemake.output.forced)
    logging.info("%d positions", len(table))


if __name__ == "__main__":
    job.run(main, snakemake)
