"""Make the built-in survey: images, reference catalogue and truth tables."""

from functools import partial
from pathlib import Path

from diaflow.run import job, parallel

from diaflow.simulate import pixels, truth
from diaflow.simulate.sky import Survey


def write_image(path, survey):
    visit, detector = (int(part) for part in Path(path).stem.split("_"))
    pixels.write(survey, visit, detector, path)


def main(snakemake):
    survey = Survey.make(snakemake.params.survey)
    parallel.each(partial(write_image, survey=survey), snakemake.output.images, snakemake.threads)
    truth.write_refcat(survey, snakemake.output.refcat)
    truth.write_truth(survey, Path(snakemake.output.objects).parent)


if __name__ == "__main__":
    job.run(main, snakemake)
