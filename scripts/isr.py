"""Remove the instrument signature from the raw frames of visits: assembled, without bias and dark, flat-fielded."""

import logging
from functools import partial
from pathlib import Path

from diaflow.run import job, parallel

from diaflow.errors import BadData
from diaflow.instruments import headers
from diaflow.instruments.images import read_raw
from diaflow.isr import image_files, masters, signature
from diaflow.isr.assemble import assemble
from diaflow.sky.wcs import header_wcs
from diaflow.store import tables


def detrend(row, instrument, config, masters_of, folders):
    """Write the detrended image of one detector, or why there is none."""
    path = folders[row["visit"]] / f"{row['detector']}.fits"
    try:
        bias, dark, flat = (image_files.read(Path(master) / path.name) if master else None for master in masters_of)
        raw = read_raw(row, instrument)
        frame = assemble(raw, row, config["overscan_order"], masters.known_read_noise(bias))
        exposure = signature.remove(frame, bias, dark, flat)
        exposure.wcs = header_wcs(headers.read(row, instrument))
    except BadData as error:
        logging.warning("visit %d detector %d failed: %s", row["visit"], row["detector"], error)
        return image_files.write_failed(error, path)
    exposure.metadata |= {name: row[name] for name in ("visit", "detector", "band", "mjd", "exptime")}
    noise = exposure.metadata["noise_model"], exposure.metadata["noise_excess"]
    logging.info("detector %d: noise %s, sky variance %.3f of the predicted", row["detector"], *noise)
    return exposure.write(path)


def main(snakemake):
    rows = tables.from_rows("exposure", snakemake.params.exposures)
    detrend_row = partial(
        detrend,
        instrument=snakemake.params.instrument,
        config=snakemake.params.isr,
        masters_of=[snakemake.input.bias, snakemake.input.dark, snakemake.input.flat],
        folders=job.folders(snakemake.output.detrended),
    )
    parallel.each(detrend_row, rows, snakemake.threads)


if __name__ == "__main__":
    job.run(main, snakemake)
