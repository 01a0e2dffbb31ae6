"""Subtract the template from the calexps of one visit and detect what is left."""

import logging
from functools import partial
from pathlib import Path

from diaflow import detect, job, parallel, subtract, tables, template
from diaflow.detect import quality
from diaflow.errors import BadData
from diaflow.exposure import Exposure


def difference(row, snakemake, sources):
    """Write difference and matched template of one detector; return its DIASources and summary."""
    visit, detector = row["visit"], row["detector"]
    try:
        if row["status"] != "ok":
            raise BadData("no calexp")
        science = Exposure.read(Path(snakemake.input.calexps) / f"{detector}.fits")
        static = template.assemble(snakemake.input.templates, science.wcs, science.shape, science.metadata.get("mjd"))
        stars = sources[sources["detector"] == detector]
        diffim, matched, summary = subtract.subtract(science, static, stars, snakemake.params.subtract)
        dia_sources = detect.dia_sources(diffim, science, matched, snakemake.params.detect)
        summary |= quality.metrics(diffim, science, matched, stars, dia_sources)
    except BadData as error:
        logging.warning("visit %d detector %d failed: %s", visit, detector, error)
        return tables.empty("dia_source"), subtract.failed(row, str(error))
    folder = Path(snakemake.output.diffims)
    compress = snakemake.params.compress
    diffim.write(folder / f"{detector}.fits", compress)
    matched.write(folder / f"{detector}_template.fits", compress)
    return dia_sources, subtract.summary_row(diffim, dia_sources, summary)


def main(snakemake):
    Path(snakemake.output.diffims).mkdir(parents=True, exist_ok=True)
    rows = tables.read("visit_summary", snakemake.input.summary)
    one = partial(difference, snakemake=snakemake, sources=tables.read("source", snakemake.input.sources))
    dia_sources, summaries = zip(*parallel.each(one, rows, snakemake.threads))
    dia_sources = tables.concatenate("dia_source", dia_sources)
    tables.write("dia_source", dia_sources, snakemake.output.dia_sources)
    tables.write("diffim_summary", tables.concatenate("diffim_summary", summaries), snakemake.output.summary)
    logging.info("%d DIASources, %d unflagged", len(dia_sources), (~dia_sources["pixelFlags"]).sum())


if __name__ == "__main__":
    job.run(main, snakemake)
