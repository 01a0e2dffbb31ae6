"""Link the DIASources of a night that move."""

import logging

from diaflow.run import job

from diaflow.associate import tracklets
from diaflow.associate.patches import usable
from diaflow.store import tables


def main(snakemake):
    parts = [tables.read("dia_source", path) for path in snakemake.input.dia_sources]
    sources, config = tables.concatenate("dia_source", parts), snakemake.params.associate
    found, links = tracklets.link(sources, usable(sources, config), config)
    tables.write("tracklet", found, snakemake.output.tracklets)
    tables.write("tracklet_link", links, snakemake.output.links)
    logging.info("%d tracklets of %d DIASources", len(found), len(links))


if __name__ == "__main__":
    job.run(main, snakemake)
