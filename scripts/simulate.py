"""Make the built-in survey: images, reference catalogue and truth tables."""

from functools import partial
from pathlib import Path

from diaflow import job, parallel, simulate
from diaflow.exposure import write_fits


def write_image(path, survey):
    visit, detector = (int(part) for part in Path(path).stem.split("_"))
    image, header = simulate.render(survey, visit, detector)
    write_fits([simulate.image_hdu(image, header)], path)


def main(snakemake):
    survey = simulate.survey(snakemake.params.survey)
    parallel.each(partial(write_image, survey=survey), snakemake.output.images, snakemake.threads)
    simulate.write_refcat(survey, snakemake.output.refcat)
    simulate.write_truth(survey, Path(snakemake.output.objects).parent)


if __name__ == "__main__":
    job.run(main, snakemake)
