"""Compare the run on the built-in survey with its truth."""

import json
from pathlib import Path

from diaflow.run import job

from diaflow.store import files
from diaflow.validate import scores


def main(snakemake):
    truth = snakemake.input.objects, snakemake.input.fluxes, snakemake.input.truth_images
    figures = scores.validate(*truth, Path(snakemake.output.figures).parent)
    files.write_text(scores.text(figures), snakemake.output.text)
    files.write_text(json.dumps(figures, indent=1) + "\n", snakemake.output.figures)


if __name__ == "__main__":
    job.run(main, snakemake)
