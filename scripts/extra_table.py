"""Collect a table that not every run has."""

from diaflow.run import job

from diaflow.store import collect


def main(snakemake):
    collect.extra(snakemake.wildcards.table, snakemake.input, snakemake.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
