"""Convolve the warps of visits so that all have the same PSF."""

import logging
from functools import partial
from pathlib import Path

from diaflow.run import job, parallel

from diaflow.errors import BadData
from diaflow.image.exposure import Exposure
from diaflow.psfmatch.homogeneous import broadest, homogenise, model_psf, model_size
from diaflow.store import tables


def match(path, model, folders):
    """Write the matched version of one warp, unless the warp has no PSF anywhere."""
    try:
        homogenise(Exposure.read(path), model).write(folders[int(path.parent.name)] / path.name)
    except BadData as error:
        logging.warning("%s: %s", path, error)


def main(snakemake):
    folders = job.folders(snakemake.output.warps)
    paths = [path for folder in snakemake.input.warps for path in sorted(Path(folder).glob("*.fits"))]
    fwhm, size = snakemake.params.model_fwhm, snakemake.params.psf_size
    if fwhm is None:
        rows = [tables.read("visit_summary", path) for path in snakemake.input.summaries]
        fwhm, largest = broadest(tables.concatenate("visit_summary", rows), snakemake.params.tract["pixel_scale"])
        size = size or largest
    model = model_psf(fwhm, (size or model_size(fwhm)) | 1)
    parallel.each(partial(match, model=model, folders=folders), paths, snakemake.threads)
    logging.info("%d warps matched to FWHM %.2f pixel", len(paths), fwhm)


if __name__ == "__main__":
    job.run(main, snakemake)
