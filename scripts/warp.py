"""Resample the calexps of visits onto the patches of a tract."""

import logging
from functools import partial
from pathlib import Path

from diaflow.run import job, parallel

from diaflow import warp
from diaflow.image.exposure import Exposure
from diaflow.sky.skymap.tract import Tract


def warp_patch(patch, calexps, tract, folder):
    """Write the warp of the visit on one patch; tell whether it has any pixel."""
    exposure = warp.visit_on_patch(calexps, *tract.patch_wcs(patch))
    if exposure is None:
        return False
    exposure.metadata |= {"tract": tract.id, "patch": patch}
    exposure.write(folder / f"{patch}.fits")
    return True


def main(snakemake):
    tract = Tract(**snakemake.params.tract)
    for visit, folder in zip(snakemake.input.calexps, map(Path, snakemake.output.warps)):
        folder.mkdir(parents=True, exist_ok=True)
        calexps = [Exposure.read(path) for path in sorted(Path(visit).glob("[0-9]*.fits"))]
        warp_calexps = partial(warp_patch, calexps=calexps, tract=tract, folder=folder)
        reached = parallel.each(warp_calexps, tract.patches(), snakemake.threads)
        logging.info("%d calexps on %d patches", len(calexps), sum(reached))


if __name__ == "__main__":
    job.run(main, snakemake)
