"""Convolve the warps of one visit so that all have the same PSF."""

import logging
from functools import partial
from pathlib import Path

from diaflow import job, parallel, psfmatch, tables
from diaflow.errors import BadData
from diaflow.exposure import Exposure


def match(path, model, folder):
    """Write the matched version of one warp, unless the warp has no PSF anywhere."""
    try:
        psfmatch.homogenise(Exposure.read(path), model).write(folder / path.name)
    except BadData as error:
        logging.warning("%s: %s", path, error)


def broadest(summaries):
    """Largest seeing of the usable detectors [arcsec]."""
    rows = tables.concatenate("visit_summary", [tables.read("visit_summary", path) for path in summaries])
    seeing = rows["seeing"][rows["status"] == "ok"]
    return float(max(seeing[seeing > 0], default=0))


def main(snakemake):
    folder = Path(snakemake.output.warps)
    folder.mkdir(parents=True, exist_ok=True)
    paths = sorted(Path(snakemake.input.warps).glob("*.fits"))
    fwhm = snakemake.params.model_fwhm or broadest(snakemake.input.summaries) / snakemake.params.tract["pixel_scale"]
    model = psfmatch.model_psf(fwhm, snakemake.params.psf_size)
    parallel.each(partial(match, model=model, folder=folder), paths, snakemake.threads)
    logging.info("%d warps matched to FWHM %.2f pixel", len(paths), fwhm)


if __name__ == "__main__":
    job.run(main, snakemake)
