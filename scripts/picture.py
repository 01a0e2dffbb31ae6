"""Colour pictures of the coadds of one tract."""

from collections import defaultdict
from pathlib import Path

from diaflow.run import job

from diaflow.report import colour
from diaflow.store import tables


def main(snakemake):
    coadds = defaultdict(dict)
    for path in map(Path, snakemake.input.coadds):
        coadds[path.parent.name][path.stem] = path
    objects = {Path(path).stem: tables.read("object", path) for path in snakemake.input.objects}
    colour.write_tract(coadds, snakemake.output[0], objects)


if __name__ == "__main__":
    job.run(main, snakemake)
