"""Compare the run on the built-in survey with its truth."""

import json
from pathlib import Path

from diaflow import files, job, validate


def main(snakemake):
    products = Path(snakemake.output.figures).parent
    figures = validate.validate(snakemake.params.survey, snakemake.input.objects, snakemake.input.fluxes, products)
    files.write_text(validate.text(figures), snakemake.output.text)
    files.write_text(json.dumps(figures, indent=1) + "\n", snakemake.output.figures)


if __name__ == "__main__":
    job.run(main, snakemake)
