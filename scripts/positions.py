"""Read a table of positions of the user's: where to measure, or what is known to be there."""

import logging

from diaflow.run import job

from diaflow.refcat import positions
from diaflow.store import tables


def main(snakemake):
    table = positions.convert(snakemake.input, snakemake.params.positions, snakemake.params.section)
    tables.write("position", table, snakemake.output.positions)
    logging.info("%d positions", len(table))


if __name__ == "__main__":
    job.run(main, snakemake)
