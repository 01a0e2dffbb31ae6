"""Compare the run on the built-in survey with its truth."""

import json
from pathlib import Path

from diaflow import job, validate


def main(snakemake):
    products = Path(snakemake.output.figures).parent
    figures = validate.validate(snakemake.params.survey, snakemake.input.objects, snakemake.input.fluxes, products)
    Path(snakemake.output.text).write_text(validate.text(figures))
    Path(snakemake.output.figures).write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    job.run(main, snakemake)
