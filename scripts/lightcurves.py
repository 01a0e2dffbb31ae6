"""Write the light curves of all DIAObjects in one format."""

import logging
from pathlib import Path

from diaflow.run import job, methods

from diaflow.lightcurves import curves


def main(snakemake):
    tables, params, folder = snakemake.input, snakemake.params, Path(snakemake.output.folder)
    written = methods.load("lightcurves", snakemake.wildcards.format)
    keep = {"keep": True, "drop": False, "auto": written.HAS_FLAGS}[params.flagged]
    light_curves = curves.read(tables.dia_objects, tables.dia_forced_sources, keep)
    folder.mkdir(parents=True, exist_ok=True)
    written.write(light_curves, folder, params.options)
    said = light_curves.metadata()
    logging.info("%(points)d points of %(objects)d objects, %(objects_without_points)d of them without any", said)


if __name__ == "__main__":
    job.run(main, snakemake)
