"""Say, and draw, which tracts and patches have images."""

from pathlib import Path

from diaflow.run import job

from diaflow.report import sky_map
from diaflow.sky.skymap.maps import load_skymap
from diaflow.store import files, tables


def main(snakemake):
    sky = load_skymap(snakemake.input.skymap)
    overlaps = sky_map.select(tables.read("overlap", snakemake.input.overlaps), visits=[], bands=[], tracts=[])
    exposures = tables.read("exposure", snakemake.input.exposures)
    files.write_text(sky_map.text(sky, overlaps), snakemake.output.text)
    Path(snakemake.output.picture).write_bytes(sky_map.picture(sky, overlaps, exposures))


if __name__ == "__main__":
    job.run(main, snakemake)
