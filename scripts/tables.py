"""Collect what the run has made into the tables that users open."""

from functools import partial

from diaflow.run import job

from diaflow.associate import known
from diaflow.forced import epochs
from diaflow.store import collect, tables


def main(snakemake):
    parts, out, quiet = snakemake.input, snakemake.output, snakemake.params.quiet
    collect.visits(parts.exposures, [parts.visit_summary], parts.diffim_summaries, out.visit)
    collect.sources(parts.sources, out.source)
    of_known = [tables.read("position", path) for path in parts.known]
    names = partial(known.columns, known=of_known[0], radius=snakemake.params.radius) if of_known else None
    collect.dia_sources(parts.dia_sources, parts.links, out.dia_source, names)
    collect.dia_objects(parts.dia_objects, out.dia_object, names)
    baselines = epochs.baselines(parts.forced, tables.read("dia_object", out.dia_object), quiet) if quiet else None
    collect.dia_forced_sources(parts.forced, out.dia_forced_source, baselines)


if __name__ == "__main__":
    job.run(main, snakemake)
