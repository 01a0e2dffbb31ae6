"""Read the user's positions."""

import logging

from diaflow.run import job

from diaflow.forced import catalogue
from diaflow.store import tables


def main(snakemake):
    positions = catalogue.convert(snakemake.input, snakemake.params.positions)
    tables.write("position", positions, snakemake.output.positions)
    logging.info("%d positions", len(positions))


if __name__ == "__main__":
    job.run(main, snakemake)
