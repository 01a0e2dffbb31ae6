"""Colour pictures of the coadds of one tract."""

from collections import defaultdict
from pathlib import Path

from diaflow.run import job

from diaflow.report import colour


def main(snakemake):
    coadds = defaultdict(dict)
    for path in map(Path, snakemake.input.coadds):
        coadds[path.parent.name][path.stem] = path
    colour.write_tract(coadds, snakemake.output[0])


if __name__ == "__main__":
    job.run(main, snakemake)
