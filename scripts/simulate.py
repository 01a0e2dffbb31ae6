"""Make the built-in survey: images, reference catalogue and truth tables."""

from functools import partial
from pathlib import Path

from diaflow.run import job, parallel

from astropy.io import fits

from diaflow.image.exposure_file import write_fits
from diaflow.simulate import pixels, truth
from diaflow.simulate.sky import Survey


def write_image(path, survey):
    visit, detector = (int(part) for part in Path(path).stem.split("_"))
    image, header = pixels.render(survey, visit, detector)
    write_fits([fits.PrimaryHDU(image, header)], path)


def main(snakemake):
    survey = Survey.make(snakemake.params.survey)
    parallel.each(partial(write_image, survey=survey), snakemake.output.images, snakemake.threads)
    truth.write_refcat(survey, snakemake.output.refcat)
    truth.write_truth(survey, Path(snakemake.output.objects).parent)


if __name__ == "__main__":
    job.run(main, snakemake)
