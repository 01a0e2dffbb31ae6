"""Write the light curves of all DIAObjects in one format."""

import logging
from pathlib import Path

from diaflow.run import job, methods

from diaflow.lightcurves import curves
from diaflow.store.files import write_text


def main(snakemake):
    tables, params, folder = snakemake.input, snakemake.params, Path(snakemake.output.folder)
    written = methods.load("lightcurves", snakemake.wildcards.format)
    keep = {"keep": True, "drop": False, "auto": written.HAS_FLAGS}[params.flagged]
    light_curves = curves.read(tables.dia_objects, tables.dia_forced_sources, keep)
    folder.mkdir(parents=True, exist_ok=True)
    written.write(light_curves, folder, params.options)
    write_text(curves.summary(light_curves), folder / "metadata.json")
    logging.info("%d points of %d objects", len(light_curves.points), len(light_curves.objects))


if __name__ == "__main__":
    job.run(main, snakemake)
