"""Collect the summaries of all visits into one table."""

from diaflow.run import job

from diaflow.store import tables


def main(snakemake):
    parts = [tables.read("visit_summary", path) for path in snakemake.input]
    tables.write("visit_summary", tables.concatenate("visit_summary", parts), snakemake.output.summary)


if __name__ == "__main__":
    job.run(main, snakemake)
