"""Compare the run on the built-in survey with its truth."""

import json
from pathlib import Path

from diaflow.run import job

from diaflow.store import files, tables
from diaflow.validate import scorecard, scores
from diaflow.validate.comparison import Comparison
from diaflow.validate.static_sky import StaticSky


def main(snakemake):
    truth = snakemake.input.objects, snakemake.input.fluxes, snakemake.input.truth_images
    threshold, radius = snakemake.params.threshold, snakemake.params.radius
    run = Comparison.read(*truth, Path(snakemake.output.figures).parent, threshold)
    forced = {"dia_forced_source": run.forced}
    forced |= {Path(path).stem: tables.read(Path(path).stem, path) for path in snakemake.input.forced}
    sky = StaticSky.read(run.objects, run.products) if snakemake.input.catalogue else None
    figures, card = scores.validate(run), scorecard.score(run, threshold, radius, forced, sky)
    files.write_text(scores.text(figures) + card.text(), snakemake.output.text)
    files.write_text(json.dumps(figures, indent=1) + "\n", snakemake.output.figures)
    files.write_text(json.dumps(card.as_dict(), indent=1) + "\n", snakemake.output.scores)


if __name__ == "__main__":
    job.run(main, snakemake)
