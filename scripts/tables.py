"""Collect what the run has made into the tables that users open."""

from functools import partial

from diaflow.run import job

import numpy as np

from diaflow.associate import known, tracklets
from diaflow.forced import epochs
from diaflow.store import collect, tables


def main(snakemake):
    parts, out, params = snakemake.input, snakemake.output, snakemake.params
    collect.visits(parts.exposures, [parts.visit_summary], parts.diffim_summaries, out.visit)
    collect.sources(parts.sources, out.source)
    names = [partial(known.columns, known=tables.read("position", path), radius=params.radius) for path in parts.known]
    moving = [tables.read("tracklet_link", path) for path in parts.tracklet_links]
    links = [partial(tracklets.columns, links=np.concatenate(moving))] if moving else []
    collect.dia_sources(parts.dia_sources, parts.links, out.dia_source, *names, *links)
    collect.dia_objects(parts.dia_objects, parts.forced, out.dia_object, *names)
    objects = tables.read("dia_object", out.dia_object)
    baselines = [epochs.baselines(parts.forced, objects, params.quiet)] if params.quiet else []
    collect.dia_forced_sources(parts.forced, out.dia_forced_source, *baselines)


if __name__ == "__main__":
    job.run(main, snakemake)
