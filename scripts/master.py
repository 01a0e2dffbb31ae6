"""Make the master bias, dark or flat of every detector from its calibration frames."""

import logging
from functools import partial
from pathlib import Path

from diaflow.run import job, parallel

from diaflow.errors import BadData
from diaflow.isr import image_files, masters
from diaflow.store import tables


def make(detector, rows, imagetype, instrument, config, bias, dark, folder):
    """Write the master of one detector, or why there is none."""
    path = folder / f"{detector}.fits"
    rows = rows[rows["detector"] == detector]
    try:
        bias, dark = (image_files.read(Path(master) / path.name) if master else None for master in (bias, dark))
        noise = masters.known_read_noise(bias)
        frames = masters.read(rows, instrument, config["overscan_order"], noise)
        master = masters.make(imagetype, frames, config["reject"], bias, dark)
    except BadData as error:
        logging.warning("detector %d failed: %s", detector, error)
        return image_files.write_failed(BadData(f"master {imagetype}: {error}", error.kind), path)
    logging.info("detector %d: %s", detector, ", ".join(f"{key} {value}" for key, value in master.metadata.items()))
    return master.write(path)


def main(snakemake):
    rows = tables.from_rows("exposure", snakemake.params.exposures)
    make_master = partial(
        make,
        rows=rows,
        imagetype=snakemake.params.imagetype,
        instrument=snakemake.params.instrument,
        config=snakemake.params.isr,
        bias=snakemake.input.get("bias"),
        dark=snakemake.input.get("dark"),
        folder=Path(snakemake.output.masters),
    )
    parallel.each(make_master, snakemake.params.detectors, snakemake.threads)


if __name__ == "__main__":
    job.run(main, snakemake)
