"""Subtract the template from the calexps of visits and detect what is left."""

import logging
from functools import partial

from diaflow.run import job, methods, parallel

from diaflow.coadd import template
from diaflow.detect import streaks
from diaflow.diasource import detection, quality
from diaflow.errors import BadData, Kind
from diaflow.image.exposure import Exposure
from diaflow.store import tables
from diaflow.subtract.subtraction import subtract


def difference(row, templates, sources, algorithm, config, calexps, diffims, compress):
    """Write difference and matched template of one detector; return its DIASources and summary."""
    visit, detector = row["visit"], row["detector"]
    try:
        if row["status"] != "ok":
            raise BadData("no calexp", Kind.NO_CALEXP)
        science = Exposure.read(calexps[visit] / f"{detector}.fits")
        static = template.assemble(templates[visit], science.wcs, science.shape, science.metadata.get("mjd"))
        stars = sources[(sources["visit"] == visit) & (sources["detector"] == detector)]
        result = subtract(science, static, stars, algorithm, config["subtract"])
        streaks.mark(result.exposure)
        dia_sources = detection.dia_sources(result, science, config["detect"])
        summary = quality.summary_row(result, science, stars, dia_sources)
    except BadData as error:
        logging.warning("visit %d detector %d failed: %s", visit, detector, error)
        return tables.empty("dia_source"), quality.failed(row, error)
    result.exposure.write(diffims[visit] / f"{detector}.fits", compress)
    result.matched_template.write(diffims[visit] / f"{detector}_template.fits", compress)
    return dia_sources, summary


def main(snakemake):
    inputs, params = snakemake.input, snakemake.params
    calexps = job.by_visit(inputs.calexps)
    rows = tables.concatenate("visit_summary", [tables.read("visit_summary", path) for path in inputs.summaries])
    subtract_row = partial(
        difference,
        templates={visit: inputs[f"templates_{visit}"] for visit in calexps},
        sources=tables.concatenate("source", [tables.read("source", path) for path in inputs.sources]),
        algorithm=methods.load("subtract", params.subtract["algorithm"]).subtract,
        config={"subtract": params.subtract, "detect": params.detect},
        calexps=calexps,
        diffims=job.folders(snakemake.output.diffims),
        compress=params.compress,
    )
    dia_sources, summaries = zip(*parallel.each(subtract_row, rows, snakemake.threads))
    dia_sources = tables.concatenate("dia_source", dia_sources)
    tables.write_visits("dia_source", dia_sources, snakemake.output.dia_sources)
    tables.write_visits("diffim_summary", tables.concatenate("diffim_summary", summaries), snakemake.output.summaries)
    logging.info("%d DIASources, %d unflagged", len(dia_sources), (~dia_sources["pixelFlags"]).sum())


if __name__ == "__main__":
    job.run(main, snakemake)
