"""Subtract the template from the calexps of visits and detect what is left."""

import logging
from functools import partial

from diaflow.run import job, methods, parallel

from diaflow.coadd import template
from diaflow.diasource import detection, quality
from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.store import tables
from diaflow.subtract.subtraction import subtract
from diaflow.subtract.summary import failed, summary_row


def difference(row, snakemake, algorithm, calexps, diffims, sources):
    """Write difference and matched template of one detector; return its DIASources and summary."""
    visit, detector = row["visit"], row["detector"]
    try:
        if row["status"] != "ok":
            raise BadData("no calexp")
        science = Exposure.read(calexps[visit] / f"{detector}.fits")
        templates = snakemake.input[f"templates_{visit}"]
        static = template.assemble(templates, science.wcs, science.shape, science.metadata.get("mjd"))
        stars = sources[(sources["visit"] == visit) & (sources["detector"] == detector)]
        diffim, matched, summary = subtract(science, static, stars, algorithm, snakemake.params.subtract)
        dia_sources = detection.dia_sources(diffim, science, matched, snakemake.params.detect)
        summary |= quality.metrics(diffim, science, matched, stars, dia_sources)
    except BadData as error:
        logging.warning("visit %d detector %d failed: %s", visit, detector, error)
        return tables.empty("dia_source"), failed(row, str(error))
    compress = snakemake.params.compress
    diffim.write(diffims[visit] / f"{detector}.fits", compress)
    matched.write(diffims[visit] / f"{detector}_template.fits", compress)
    return dia_sources, summary_row(diffim, dia_sources, summary)


def main(snakemake):
    calexps, diffims = job.by_visit(snakemake.input.calexps), job.folders(snakemake.output.diffims)
    rows, sources = (
        tables.concatenate(name, [tables.read(name, path) for path in paths])
        for name, paths in (("visit_summary", snakemake.input.summaries), ("source", snakemake.input.sources))
    )
    algorithm = methods.load("subtract", snakemake.params.subtract["algorithm"]).subtract
    one = partial(
        difference, snakemake=snakemake, algorithm=algorithm, calexps=calexps, diffims=diffims, sources=sources
    )
    dia_sources, summaries = zip(*parallel.each(one, rows, snakemake.threads))
    dia_sources = tables.concatenate("dia_source", dia_sources)
    tables.write_visits("dia_source", dia_sources, snakemake.output.dia_sources)
    tables.write_visits("diffim_summary", tables.concatenate("diffim_summary", summaries), snakemake.output.summaries)
    logging.info("%d DIASources, %d unflagged", len(dia_sources), (~dia_sources["pixelFlags"]).sum())


if __name__ == "__main__":
    job.run(main, snakemake)
