"""Group the DIASources of all visits on one patch into DIAObjects."""

import logging

from diaflow.run import job, methods

import numpy as np

from diaflow.associate.patches import columns, in_outer_box, patch_objects
from diaflow.sky.skymap.maps import SkyMap
from diaflow.store import tables


def main(snakemake):
    sky = SkyMap.from_dict(snakemake.params.skymap)
    tract, patch = int(snakemake.wildcards.tract), snakemake.wildcards.patch
    config = snakemake.params.associate
    only = columns(config)
    parts = (tables.read("dia_source", path, only) for path in snakemake.input.dia_sources)
    near = [part[in_outer_box(part, sky.tracts[tract], patch)] for part in parts]
    sources = np.concatenate([tables.empty("dia_source")[only], *near])
    for path in snakemake.input.moving:
        sources = sources[~np.isin(sources["diaSourceId"], tables.read("tracklet_link", path)["diaSourceId"])]
    algorithm = methods.load("associate", config["algorithm"]).associate
    dia_objects, links = patch_objects(sources, sky, tract, patch, algorithm, config)
    tables.write("dia_object", dia_objects, snakemake.output.dia_objects)
    tables.write("dia_link", links, snakemake.output.links)
    left_out = int((links["diaObjectId"] == 0).sum())
    logging.info("%d DIAObjects from %d DIASources", len(dia_objects), len(links) - left_out)
    if left_out:
        logging.info("%d DIASources are of ambiguous objects and have none", left_out)


if __name__ == "__main__":
    job.run(main, snakemake)
