"""Collect the forced photometry of a variant into the table that users open."""

from diaflow.run import job

from diaflow.store import collect


def main(snakemake):
    collect.forced(snakemake.wildcards.table, snakemake.input, snakemake.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
