"""Map where the calibrated images of each band are, how many visits there are and how deep."""

import logging

from diaflow.run import job

from diaflow.sky import coverage
from diaflow.store import tables


def main(snakemake):
    summary = tables.read("visit_summary", snakemake.input.summary)
    for band, moc, depth in zip(snakemake.params.bands, snakemake.output.mocs, snakemake.output.depths):
        pixel, n_visits, mag = coverage.coverage(summary[summary["band"] == band])
        coverage.write_moc(moc, pixel)
        coverage.write_map(depth, pixel, n_visits, mag)
        logging.info("band %s: %d cells", band, len(pixel))


if __name__ == "__main__":
    job.run(main, snakemake)
