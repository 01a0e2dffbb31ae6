"""Collect what the run has made into the tables that users open."""

from diaflow.run import job

from diaflow.store import collect


def main(snakemake):
    parts, tables = snakemake.input, snakemake.output
    collect.visits(parts.exposures, [parts.visit_summary], parts.diffim_summaries, tables.visit)
    collect.sources(parts.sources, tables.source)
    collect.dia_sources(parts.dia_sources, parts.links, tables.dia_source)
    collect.dia_objects(parts.dia_objects, parts.forced, tables.dia_object)
    collect.dia_forced_sources(parts.forced, tables.dia_forced_source)


if __name__ == "__main__":
    job.run(main, snakemake)
