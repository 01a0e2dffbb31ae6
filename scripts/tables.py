"""Collect what the run has made into the tables that users open."""

from diaflow.run import job
from diaflow.store import collect


def main(snakemake):
    given, made = snakemake.input, snakemake.output
    collect.visits(given.exposures, [given.visit_summary], given.diffim_summaries, made.visit)
    collect.sources(given.sources, made.source)
    collect.dia_sources(given.dia_sources, given.links, made.dia_source)
    collect.dia_objects(given.dia_objects, made.dia_object)
    collect.dia_forced_sources(given.forced, made.dia_forced_source)


if __name__ == "__main__":
    job.run(main, snakemake)
