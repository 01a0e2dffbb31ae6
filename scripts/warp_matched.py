"""Convolve the warps of visits so that all have the same PSF."""

import logging
from functools import partial
from pathlib import Path

from diaflow.run import job, parallel

from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.psfmatch.homogeneous import homogenise, model_psf
from diaflow.store import tables


def match(path, model, folders):
    """Write the matched version of one warp, unless the warp has no PSF anywhere."""
    try:
        homogenise(Exposure.read(path), model).write(folders[int(path.parent.name)] / path.name)
    except BadData as error:
        logging.warning("%s: %s", path, error)


def broadest(summaries):
    """Largest seeing of the usable detectors [arcsec]."""
    rows = tables.concatenate("visit_summary", [tables.read("visit_summary", path) for path in summaries])
    seeing = rows["seeing"][rows["status"] == "ok"]
    return float(max(seeing[seeing > 0], default=0))


def main(snakemake):
    folders = job.folders(snakemake.output.warps)
    paths = [path for folder in snakemake.input.warps for path in sorted(Path(folder).glob("*.fits"))]
    fwhm = snakemake.params.model_fwhm or broadest(snakemake.input.summaries) / snakemake.params.tract["pixel_scale"]
    model = model_psf(fwhm, snakemake.params.psf_size)
    parallel.each(partial(match, model=model, folders=folders), paths, snakemake.threads)
    logging.info("%d warps matched to FWHM %.2f pixel", len(paths), fwhm)


if __name__ == "__main__":
    job.run(main, snakemake)
