"""Measure the DIASources of a visit on the templates that have them."""

import logging

from diaflow.run import job

from diaflow.forced.dia_source_on_template import NAME, forced_photometry
from diaflow.sky.skymap.maps import SkyMap
from diaflow.store import tables


def main(snakemake):
    sources = tables.read("dia_source", snakemake.input.dia_sources)
    sky = SkyMap.from_dict(snakemake.params.skymap)
    table = forced_photometry(sources, snakemake.input.templates, sky)
    tables.write(NAME, table, snakemake.output.forced)
    logging.info("%d rows of %d DIASources", len(table), len(sources))


if __name__ == "__main__":
    job.run(main, snakemake)
