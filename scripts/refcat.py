"""Sort the reference catalogue on the sky."""

import logging

from diaflow.run import job

from diaflow.refcat.convert import convert


def main(snakemake):
    n_rows = convert(snakemake.input, snakemake.params.refcat, snakemake.output.refcat)
    logging.info("%d rows", n_rows)


if __name__ == "__main__":
    job.run(main, snakemake)
