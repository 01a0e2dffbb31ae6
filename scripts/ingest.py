"""Read the image headers into the exposure table."""

import logging

from diaflow.run import job, plan

from diaflow.store import tables


def main(snakemake):
    config = snakemake.params.config
    exposures = plan.ingest(config)
    tables.write("exposure", exposures, snakemake.output.exposures, note=plan.ingest_digest(config))
    logging.info("%d images, %d usable", len(exposures), (exposures["status"] == "ok").sum())


if __name__ == "__main__":
    job.run(main, snakemake)
